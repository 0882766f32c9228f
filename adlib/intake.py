"""Pictures in: every file is looked at once, goes to disk at once under its content hash, and is noted in dataset.json.

Where files come from is left to `sources`, what they are for to `datasets`.  The doors of both are named here, so that
pages and the command line need this module alone to fill a data set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import operator
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from adlib import datasets, store
from adlib.contract import DataError, Sentence, Tick, say, silent
from adlib.images import FORMATS, SUFFIXES, Picture, read
from adlib.items import Item, Refused, clean_name
from adlib.sources import MAX_FILE, MAX_FILES, MAX_TOTAL, from_file, from_folder, from_uploads, from_zip

__all__ = [
    "FORMATS", "MAX_FILE", "MAX_FILES", "MAX_TOTAL", "SUFFIXES", "Item", "Refused", "Taken",
    "allowed_folder", "clean_name", "from_file", "from_folder", "from_uploads", "from_zip", "take",
]  # fmt: skip

_ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp"}
_DECODERS = 2  # pictures decoded at once: each may take some hundred megabytes
_AHEAD = 4  # files in memory at once
_NOTHING = Image.new("L", (1, 1))  # in place of pixels that nobody needs any more


class _File(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def data(self) -> bytes | Path: ...


@dataclass
class Taken:
    """What became of the files that were given.

    added: pictures and masks that are in the data set now and were not before.  refused: the others, with the reason.
    notes: (name, what was done to the picture), the rarest notes first.  layout: what the folders' names told.
    """

    added: int = 0
    refused: list[Refused] = field(default_factory=list)
    notes: list[tuple[str, Sentence]] = field(default_factory=list)
    layout: Sentence = field(default_factory=lambda: say("No picture was taken in."))


def allowed_folder(path: str) -> Path:
    """The folder on this server that a visitor asks for, when it lies in the one that the operator has opened.

    path: absolute, or within ADLIB_DATA.  Links and .. are resolved before it is judged.  Raises DataError.
    """
    opened = os.environ.get("ADLIB_DATA")
    if not opened:
        raise DataError("No folder of this server is open to the browser. Its operator can open one with ADLIB_DATA.")
    root = Path(opened).expanduser().resolve()
    try:
        asked = (root / path.strip()).resolve()
        inside = asked.is_relative_to(root) and asked.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a circle of links
        inside = False
    if not inside:  # one answer for all: nobody learns what lies elsewhere
        raise DataError("There is no folder '{folder}' in the opened folder of this server.", folder=clean_name(path))
    return asked


def take(
    dataset: store.Dataset,
    items: Iterable[_File | Refused],
    tick: Tick = silent,
    in_place: bool = False,
    total: int = 0,
) -> Taken:
    """Adds files to a data set, one by one: reads, checks, hashes, writes and lets go of each.  Saves at the end.

    items: from one of the doors, or Items made otherwise; asked for as they are needed.
    total: how many there will be, for the progress, when that is known; 0: it is not.
    in_place: pictures that lie on disk stay where they are, and only their path is noted (command line).
    Can be called again: files add up, roles are guessed anew for folders that nobody has corrected, and a file that is
    there already under the same name is refused.  Raises DataError when the disk is full, and whatever `tick` raises;
    nothing of this call is kept then.
    """
    meta, taken = dataset.meta, Taken()
    known = {(picture["digest"], picture["name"]) for picture in meta["pictures"]}
    expected, done = total or operator.length_hint(items, 0), 0
    pictures: list[dict[str, Any]] = []
    written: list[Path] = []
    try:
        (dataset.folder / "pictures").mkdir(parents=True, exist_ok=True)
        for made in _read_ahead(items):
            done += 1
            tick(done / max(expected, done) if expected else done / (done + 100), "looked at {n} files", n=done)
            if isinstance(made, Refused):
                taken.refused.append(made)
                continue
            if (made.digest, made.name) in known:
                taken.refused.append(Refused(made.name, say("Already in this data set.")))
                continue
            known.add((made.digest, made.name))
            pictures.append(_kept(dataset, made, in_place, written))
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # only when nothing else is in them
            (dataset.folder / "pictures").rmdir()
            dataset.folder.rmdir()
        if isinstance(error, OSError):
            raise DataError(
                "The pictures could not be written ({why}). Is the disk full?", why=error.strerror
            ) from None
        raise
    meta["pictures"] = meta["pictures"] + pictures
    meta["refused"] = meta["refused"] + [{"name": one.name, "reason": one.reason.as_json()} for one in taken.refused]
    taken.added = len(pictures)
    taken.layout = datasets.assign_roles(dataset)
    taken.notes = _notes(dataset, pictures)
    taken.refused += _refused_since(dataset, pictures)
    dataset.save()
    tick(1.0, "took in {n} files", n=taken.added)
    return taken


# --- one file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """A file that was read: what is noted of it, and its bytes until they are on disk."""

    name: str
    digest: str
    data: bytes
    source: Path | None
    picture: Picture


def _read_ahead(items: Iterable[_File | Refused]) -> Iterator[_Read | Refused]:
    """Files in their order, decoded on a few threads a few files ahead: never many at once."""
    waiting: deque[Future[_Read | Refused]] = deque()
    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="intake") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(_looked_at, item))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _looked_at(item: _File | Refused) -> _Read | Refused:
    """Decodes the whole picture, since a cut-off file shows only at its end; small where its format allows that."""
    if isinstance(item, Refused):
        return item
    name = clean_name(item.name)
    source = item.data if isinstance(item.data, Path) else None
    try:
        data = item.data if isinstance(item.data, bytes) else item.data.read_bytes()
        picture = read(data, least=64)
    except DataError as error:
        return Refused(name, error.sentence)
    except OSError as error:
        return Refused(name, say("The file cannot be opened ({why}).", why=type(error).__name__))
    return _Read(name, hashlib.sha256(data).hexdigest(), data, source, dataclasses.replace(picture, image=_NOTHING))


def _kept(dataset: store.Dataset, made: _Read, in_place: bool, written: list[Path]) -> dict[str, Any]:
    """Puts a picture on disk, unless its bytes are there, and says what dataset.json notes of it."""
    if in_place and made.source is not None:
        file = str(made.source.resolve())
    else:
        file = f"pictures/{made.digest}{_ENDINGS[made.picture.format]}"
        if not (dataset.folder / file).exists():
            written.append(dataset.folder / file)
            store.write_bytes(dataset.folder / file, made.data)
    return {
        "digest": made.digest,
        "file": file,
        "name": made.name,
        "width": made.picture.width,
        "height": made.picture.height,
        "bytes": len(made.data),
        "peak": made.picture.peak,
        "notes": [note.as_json() for note in made.picture.notes],
    }


# --- what is told -----------------------------------------------------------------------------------------------------


def _notes(dataset: store.Dataset, pictures: list[dict[str, Any]]) -> list[tuple[str, Sentence]]:
    """Rarest first: a thousand grey pictures shall not hide the one that was turned.  Masks are not spoken of."""
    told = [
        (picture["name"], Sentence.from_json(note))
        for picture in pictures
        for note in picture["notes"]
        if datasets.role_of(dataset, picture["name"]).role != "mask"
    ]
    often = Counter(note.template for _, note in told)
    return sorted(told, key=lambda one: often[one[1].template])


def _refused_since(dataset: store.Dataset, pictures: list[dict[str, Any]]) -> list[Refused]:
    """Copies, leaks and masks that fit nothing, among what was just added: these show only in the whole set."""
    mine = {picture["name"] for picture in pictures}
    stored = len(dataset.meta["refused"])
    return [one for one in datasets.samples(dataset)[1][stored:] if one.name in mine]
