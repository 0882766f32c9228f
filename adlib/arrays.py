"""Data sets that come as files of numbers: MNIST and CIFAR-10, given out one by one as PNG pictures.

Every length is checked against the file before an array is made, and nothing is ever unpickled.
Names are "train/<class>/00001.png" and "test/<class>/00001.png"; `one_class` turns these into an experiment.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from adlib.contract import DataError
from adlib.items import UNREADABLE, Item, clean_name

MAX_BYTES = 512 << 20  # of one file of numbers, unpacked

_IDX = re.compile(r"(?:.*-)?(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(?:\.gz)?")
_CIFAR = re.compile(r"(?:data_batch_\d|test_batch)\.bin")
_CIFAR_NAMES = "batches.meta.txt"
_PICKLED = re.compile(r"data_batch_\d|test_batch|batches\.meta|cifar-100?-python\.tar\.gz|.*\.(?:pkl|pickle|pt|pth)")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def is_arrays(name: str) -> bool:
    """Whether a file is, by its name, one that `arrays` reads, alone or with its neighbours."""
    own = PurePosixPath(name).name
    return own.endswith(".npz") or bool(_IDX.fullmatch(own) or _CIFAR.fullmatch(own)) or own == _CIFAR_NAMES


def is_known(path: Path) -> bool:
    """Whether `arrays` finds something to read there: a file of numbers, or a folder with some."""
    files = path.iterdir() if path.is_dir() else [path]
    return any(file.is_file() and is_arrays(file.name) for file in files)


def is_pickle(name: str) -> bool:
    return bool(_PICKLED.fullmatch(PurePosixPath(name).name))


def pickled() -> DataError:
    return DataError(
        "This file is a Python pickle, which can run programs when it is opened, so it is not read. For CIFAR-10, take "
        "the binary version (cifar-10-binary) and unpack it."
    )


@dataclass(frozen=True)
class Stack:
    """The pictures of one split in one file.  pixels: (N, H, W) or (N, H, W, 3) uint8.  labels: (N,) whole numbers.

    classes: their names, () = the numbers themselves.  start: how many of the split came before, in other files.
    """

    split: str
    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = ()
    start: int = 0

    def kind(self, label: int) -> str:
        return self.classes[label] if self.classes else str(int(label))


def arrays(source: Path | bytes, name: str = "") -> Iterator[Item]:
    """The pictures of one file of numbers, or of a folder of them.

    source: MNIST's .npz as Keras has it (x_train (N, H, W) uint8, y_train, …), as a path or bytes; or the path of MNIST's
    idx files (.gz or not) or of CIFAR-10's binary version: the folder, or one of its files.
    name: what the person called it.  Raises DataError when something is missing, damaged or of another kind.
    """
    for stack in stacks(source, name):
        yield from _pictures(stack)


def stacks(source: Path | bytes, name: str = "") -> Iterator[Stack]:
    """The same as arrays, for whoever needs all of them at once.  Arguments and errors as in `arrays`."""
    if isinstance(source, bytes):
        yield from _stacks({name: source})
        return
    folder = source if source.is_dir() else source.parent
    if source.is_file() and source.suffix.lower() == ".npz":
        yield from _stacks({source.name: source})
        return
    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and not is_npz(path.name)}
    if any(is_pickle(file) for file in files) and not any(is_arrays(file) for file in files):
        raise pickled()
    yield from _stacks({file: path for file, path in files.items() if is_arrays(file)})


def is_npz(name: str) -> bool:
    return name.lower().endswith(".npz")


def from_files(files: Mapping[str, Path | bytes]) -> Iterator[Item]:
    """Pictures of files that belong together.  files: contents, or where they lie, by name."""
    for stack in _stacks(files):
        yield from _pictures(stack)


def _stacks(files: Mapping[str, Path | bytes]) -> Iterator[Stack]:
    own = {PurePosixPath(name).name: source for name, source in files.items()}
    for name, source in own.items():
        if is_npz(name):
            yield from _npz(source, name)
    yield from _idx(own)
    yield from _cifar(own)


# --- one kind of file each --------------------------------------------------------------------------------------------


def _npz(source: Path | bytes, name: str) -> Iterator[Stack]:
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as members:
            held = {info.filename.removesuffix(".npy"): info for info in members.infolist()}
            wanted = [f"{axis}_{split}" for split in ("train", "test") for axis in "xy"]
            if not {"x_train", "y_train"} <= held.keys():
                raise DataError(
                    "'{name}' holds no x_train and y_train, as MNIST's mnist.npz does.", name=clean_name(name)
                )
            found = {key: _npy(members, held[key], name) for key in wanted if key in held}
    except UNREADABLE:
        raise _damaged(name) from None
    for split in ("train", "test"):
        if f"x_{split}" in found and f"y_{split}" in found:
            yield _checked(Stack(split, found[f"x_{split}"], found[f"y_{split}"].reshape(-1)), name)


def _npy(members: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    """One array of an .npz.  Only whole numbers are read: object arrays are pickles."""
    with members.open(info) as file:
        data = file.read(MAX_BYTES + 1)
    body = io.BytesIO(data)
    version = np.lib.format.read_magic(body)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(body)
    rest = data[body.tell() :]
    if len(data) > MAX_BYTES or dtype.kind not in "ui" or fortran or len(rest) != math.prod(shape) * dtype.itemsize:
        raise _damaged(name)
    return np.frombuffer(rest, dtype).reshape(shape)


def _idx(files: Mapping[str, Path | bytes]) -> Iterator[Stack]:
    found: dict[tuple[str, str], str] = {}
    for name in sorted(files, reverse=True):  # "….gz" first, so that the same file unpacked takes its place
        if match := _IDX.fullmatch(name):
            found["train" if match["split"] == "train" else "test", match["what"]] = name
    for split in ("train", "test"):
        images, labels = found.get((split, "images")), found.get((split, "labels"))
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            raise DataError(
                "'{name}' came without its pair: MNIST has one idx file of images and one of labels. Give both.",
                name=images or labels,
            )
        stack = Stack(split, _idx_array(files[images], images), _idx_array(files[labels], labels))
        yield _checked(stack, images)


def _idx_array(source: Path | bytes, name: str) -> np.ndarray:
    """Magic 0, 0, 8 (unsigned bytes), number of axes; then each axis' length as a big-endian uint32; then the bytes."""
    data = _unpacked(source, name)
    axes = data[3] if len(data) > 4 and data[:3] == b"\0\0\x08" else 0
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", axes, 4)) if 0 < axes < 4 <= len(data) - 4 * axes else ()
    if not shape or len(data) != 4 + 4 * axes + math.prod(shape):
        raise _damaged(name)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _cifar(files: Mapping[str, Path | bytes]) -> Iterator[Stack]:
    """Records of 3073 bytes: a label, then 32×32 of red, of green, of blue."""
    names: tuple[str, ...] = CIFAR10
    if _CIFAR_NAMES in files:
        listed = _unpacked(files[_CIFAR_NAMES], _CIFAR_NAMES).decode("ascii", "replace").split()
        names = tuple(clean_name(name) for name in listed) if len(listed) == 10 else names
    seen = Counter[str]()
    for name in sorted(files):
        if not _CIFAR.fullmatch(name):
            continue
        data = _unpacked(files[name], name)
        if not data or len(data) % 3073 or max(data[::3073]) > 9:
            raise _damaged(name)
        records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
        split = "test" if name.startswith("test") else "train"
        pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        yield _checked(Stack(split, pixels, records[:, 0], names, seen[split]), name)
        seen[split] += len(records)


def _checked(stack: Stack, name: str) -> Stack:
    pixels = stack.pixels
    shaped = pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] == 3)
    if pixels.dtype != np.uint8 or not shaped or stack.labels.shape != pixels.shape[:1] or 0 in pixels.shape:
        raise _damaged(name)
    return stack


def _pictures(stack: Stack) -> Iterator[Item]:
    """As PNG, numbered within the split."""
    for i, (picture, label) in enumerate(zip(stack.pixels, stack.labels, strict=True), start=stack.start):
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=1)
        yield Item(f"{stack.split}/{stack.kind(label)}/{i:05d}.png", buffer.getvalue())


def _unpacked(source: Path | bytes, name: str) -> bytes:
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            packed = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file
            data = packed.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise _damaged(name) from None
    if len(data) > MAX_BYTES:
        raise _damaged(name)
    return data


def _damaged(name: str) -> DataError:
    return DataError("'{name}' is damaged, or holds something else than pictures of numbers.", name=clean_name(name))


# --- an experiment of them --------------------------------------------------------------------------------------------


def one_class(
    items: Iterable[Item], normal: set[str], anomaly: set[str] | None = None, limit_per_class: int | None = None
) -> Iterator[Item]:
    """Some classes are normal, others not: the items renamed to MVTec AD's layout, all else left out.

    items: named "train/<class>/…" and "test/<class>/…".  normal: classes to learn from.  anomaly: classes that are to be
    found out, None for all others.  limit_per_class: at most so many of each class and split.
    """
    seen = Counter[tuple[str, str]]()
    for item in items:
        split, kind, file = item.name.rsplit("/", 2) if item.name.count("/") >= 2 else ("", "", item.name)
        split = split.rpartition("/")[2]
        is_anomaly = kind not in normal if anomaly is None else kind in anomaly
        keep = split in ("train", "test") and (kind in normal or (is_anomaly and split == "test"))
        if not keep or (limit_per_class is not None and seen[split, kind] >= limit_per_class):
            continue
        seen[split, kind] += 1
        yield Item(f"{split}/good/{kind}-{file}" if kind in normal else f"test/{kind}/{file}", item.data)
