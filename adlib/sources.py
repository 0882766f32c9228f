"""Where pictures come from: uploads, folders, zips; one file at a time, and never unpacked to a path.

A file that cannot be taken is given out as `Refused`, and the next one follows.  What is inside the files is left to
`intake.take` and, for files of numbers, to `arrays`.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from adlib import arrays
from adlib.contract import DataError, Sentence, say
from adlib.items import UNREADABLE, Item, Refused, clean_name, is_hidden, is_picture, suffix_of, wrong_type

MAX_FILES = 100_000  # in one folder, zip or upload
MAX_FILE = 256 << 20  # bytes of one file
MAX_TOTAL = 8 << 30  # bytes of one zip, unpacked
MAX_RATIO = 100  # how far a member of a zip may swell …
_RATIO_FROM = 1 << 20  # … once it is as large as this: small empty masks shrink further, and harm nobody

_LINK = stat.S_IFLNK
Source = Iterator[Item | Refused]


# --- doors ------------------------------------------------------------------------------------------------------------


def from_uploads(files: Iterable[tuple[str, bytes | IO[bytes]]]) -> Source:
    """Files as a browser sends them: (name with its folders, contents).  Zips and files of numbers are opened.

    files: asked for one by one, so that a caller may let go of each; contents as bytes, or open for reading, which spares
    a large zip a copy in memory.
    """
    numbers: dict[str, bytes] = {}
    for i, (name, data) in enumerate(files):
        if i >= MAX_FILES:
            yield _too_many(name, MAX_FILES)
            return
        if is_hidden(name):
            continue
        if suffix_of(name) == ".zip":
            yield from from_zip(io.BytesIO(data) if isinstance(data, bytes) else data, name)
            continue
        held = data if isinstance(data, bytes) else data.read()
        if arrays.is_arrays(name):
            numbers[name] = held
        else:
            yield _sorted(name, held)
    yield from _numbers(numbers)


def from_folder(path: Path, *, links: bool = False) -> Source:
    """All files in a folder, sorted by name, then those below it.  Zips and files of numbers are opened.

    links: follow links that lead out of the folder; else they are refused, since whoever names the folder may not be
    entitled to what lies elsewhere.
    """
    root = path.resolve()
    numbers: dict[Path, dict[str, Path]] = defaultdict(dict)
    for i, file in enumerate(_walk(root, links)):
        name = file.relative_to(root).as_posix()
        if i >= MAX_FILES:
            yield _too_many(name, MAX_FILES)
            return
        if not links and not file.resolve().is_relative_to(root):
            yield Refused(clean_name(name), say("A link that leads out of the folder is not followed."))
        elif not file.is_file():
            yield Refused(clean_name(name), say("This is not a file, or a link to nothing."))
        elif suffix_of(name) == ".zip":
            yield from from_zip(file, name)
        elif arrays.is_arrays(name):
            numbers[file.parent][name] = file
        else:
            yield _sorted(name, file)
    for files in numbers.values():
        yield from _numbers(files)


def from_file(path: Path) -> Source:
    """One file: a picture, a zip, or a file of numbers (MNIST's idx and CIFAR-10's with the neighbours they need)."""
    if suffix_of(path.name) == ".zip":
        yield from from_zip(path, path.name)
    elif arrays.is_arrays(path.name):
        yield from _guarded(arrays.arrays(path), path.name)
    else:
        yield _sorted(path.name, path)


def from_zip(source: Path | IO[bytes], name: str = "") -> Source:
    """The pictures in a zip, read member by member within bounds; nothing is ever written under a member's name.

    name: what the person called the zip.  Pictures that lie in it without any folder get its name as their folder, so
    that `good.zip` and `scratch.zip` tell what they hold.
    """
    shown = clean_name(name or PurePosixPath(str(getattr(source, "name", ""))).name or "zip")
    try:
        with zipfile.ZipFile(source) as members:
            yield from _members(members, shown)
    except UNREADABLE:
        yield Refused(shown, say("The zip is damaged or cut off. Make it again."))


# --- zips -------------------------------------------------------------------------------------------------------------


def _members(zipped: zipfile.ZipFile, shown: str) -> Source:
    infos = [info for info in zipped.infolist() if not info.is_dir()]
    if len(infos) > MAX_FILES:
        yield _too_many(shown, MAX_FILES)
        return
    total = 0
    numbers: dict[str, bytes] = {}
    for done, info in enumerate(infos):
        name = _decoded(info)
        if is_hidden(name):
            continue
        refusal = _refusal(info, name)
        if refusal is not None:
            yield refusal
            continue
        try:
            with zipped.open(info) as file:
                data = file.read(MAX_FILE + 1)  # the header may lie about the size, so the reading itself is bounded
        except UNREADABLE:
            reason = say("Damaged in the zip, or packed in an unusual way. Make the zip again.")
            yield Refused(clean_name(name), reason)
            continue
        total += len(data)
        if total > MAX_TOTAL:
            reason = say(
                "Unpacked, the zip is over {limit} GB: {done} of its files were read, the rest was left. Make several zips.",
                limit=MAX_TOTAL >> 30, done=done,
            )  # fmt: skip
            yield Refused(shown, reason)
            break
        if arrays.is_arrays(name):
            numbers[name] = data
        elif len(data) > MAX_FILE:
            yield Refused(clean_name(name), _too_large())
        else:
            inside = clean_name(name)
            yield Item(inside if "/" in inside else f"{PurePosixPath(shown).stem}/{inside}", data)
    yield from _numbers(numbers)


def _decoded(info: zipfile.ZipInfo) -> str:
    """A member's name in the script that it was written in.

    Zips made by Windows in Japan (cp932) or by old macOS (UTF-8) do not say so, and zipfile then takes them for cp437.
    """
    if info.flag_bits & 0x800:
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for encoding in ("utf-8", "cp932"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return info.filename


def _refusal(info: zipfile.ZipInfo, name: str) -> Refused | None:
    """Why a member is not even unpacked; None when it may be."""
    shown = clean_name(name)
    if stat.S_IFMT(info.external_attr >> 16) == _LINK:
        return Refused(shown, say("A link in a zip is not followed."))
    if info.flag_bits & 1:
        return Refused(shown, say("Protected by a password. Make the zip again without one."))
    if suffix_of(name) in (".zip", ".npz", ".7z", ".rar", ".tar", ".gz", ".tgz", ".xz", ".bz2") and not (
        arrays.is_arrays(name) and suffix_of(name) == ".gz"
    ):
        return Refused(shown, say("An archive within a zip is not opened. Give it by itself."))
    if not is_picture(name) and not arrays.is_arrays(name):
        return _wrong(name)
    if info.file_size > MAX_FILE:
        return Refused(shown, _too_large())
    if info.file_size > max(_RATIO_FROM, MAX_RATIO * info.compress_size):
        reason = say(
            "It would swell to more than {ratio} times its size in the zip, as a zip bomb does. Give it unzipped.",
            ratio=MAX_RATIO,
        )
        return Refused(shown, reason)
    return None


# --- folders ----------------------------------------------------------------------------------------------------------


def _walk(root: Path, links: bool) -> Iterator[Path]:
    """Files and links, sorted by name; what systems leave behind is passed over.  Each folder is visited once."""
    visited = {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=links):
        linked = [] if links else [name for name in folders if os.path.islink(os.path.join(folder, name))]
        kept = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(folder, name))
            if name not in linked and not is_hidden(name) and real not in visited:
                visited.add(real)
                kept.append(name)
        folders[:] = kept
        for name in sorted((*files, *linked)):
            if not is_hidden(name):
                yield Path(folder, name)


# --- one file ---------------------------------------------------------------------------------------------------------


def _sorted(name: str, data: bytes | Path) -> Item | Refused:
    """A picture by its name and size, or its refusal."""
    if not is_picture(name):
        return _wrong(name)
    try:
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
    except OSError:
        size = 0  # `take` says what is wrong
    return Refused(clean_name(name), _too_large()) if size > MAX_FILE else Item(clean_name(name), data)


def _wrong(name: str) -> Refused:
    return Refused(clean_name(name), arrays.pickled().sentence) if arrays.is_pickle(name) else wrong_type(name)


def _numbers(files: dict[str, bytes] | dict[str, Path]) -> Source:
    if files:
        yield from _guarded(arrays.from_files(files), next(iter(files)))


def _guarded(items: Iterator[Item], name: str) -> Source:
    """Items until something is wrong with their file, which is then one refusal."""
    try:
        yield from items
    except DataError as error:
        yield Refused(clean_name(name), error.sentence)


def _too_large() -> Sentence:
    return say("The file is over {limit} MB.", limit=MAX_FILE >> 20)


def _too_many(name: str, limit: int) -> Refused:
    return Refused(
        clean_name(name), say("More than {limit} files at once: what is left is not read. Give fewer.", limit=limit)
    )
