"""Labelled sets for the experiments: scikit-learn's digits, files of numbers, class folders, data sets of the workspace.

Every source becomes `experiments.Classes`: pictures in memory, small and of one size, divided into train and test.  A
source that does not say which pictures are tests is divided by content, so that copies fall on the same side.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adlib import arrays, datasets, intake, store
from adlib.contract import DataError, Sample, Tick, silent
from adlib.experiments import Classes, load
from adlib.frames import to_pixels
from adlib.images import Picture, read
from adlib.items import clean_name, is_hidden, is_picture

TEST_SHARE = 0.3  # of each class, where nobody says which pictures are tests
SMALL = 64  # pictures of one size with no side beyond this stay as they are
MOST_BYTES = 4 << 30
DIGIT_SIDE = 28  # scikit-learn's 8x8, enlarged to MNIST's size
_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}

_Row = tuple[str, str, str, np.ndarray]  # split or "", class, digest, (H, W, 3) uint8


@dataclass(frozen=True)
class Outline:
    """What a labelled set holds.  counts: {split: {class: pictures}}, both splits there.  shape: (height, width)."""

    counts: dict[str, dict[str, int]]
    shape: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        return sorted(self.counts["train"])


def outline_of(classes: Classes) -> Outline:
    """Of pictures that have been read."""
    counts = {
        split: {str(name): int(n) for name, n in zip(*np.unique(labels, return_counts=True), strict=True)}
        for split, labels in classes.labels.items()
    }
    return Outline(counts, tuple(int(n) for n in classes.pixels["train"].shape[1:3]))


def digits() -> Classes:
    """scikit-learn's handwritten digits, 8x8 enlarged to 28x28; every fourth picture of a digit is a test.

    Source: sklearn.datasets.load_digits (UCI, Alpaydin and Kaynak 1998), which comes with the package.
    """
    from sklearn.datasets import load_digits

    pictures, classes = load_digits(return_X_y=True)
    once = np.sort(np.unique(pictures, axis=0, return_index=True)[1])  # a picture that is there twice is taken once
    side = (DIGIT_SIDE, DIGIT_SIDE)
    found: dict[str, tuple[list[np.ndarray], list[str]]] = {"train": ([], []), "test": ([], [])}
    for digit in range(10):
        for i, place in enumerate(once[classes[once] == digit]):
            small = (pictures[place].reshape(8, 8) * (255 / 16)).round().astype(np.uint8)
            pixels, labels = found["test" if i % 4 == 3 else "train"]
            large = Image.fromarray(small).resize(side, Image.Resampling.BICUBIC)
            pixels.append(np.asarray(large.convert("RGB")))
            labels.append(str(digit))
    return Classes(
        {split: np.stack(pixels) for split, (pixels, _) in found.items()},
        {split: np.array(labels) for split, (_, labels) in found.items()},
    )


def from_path(path: Path, side: int = SMALL, tick: Tick = silent, *, links: bool = True) -> Classes:
    """MNIST or CIFAR-10 as published, or a folder or zip of train/<class>/ and test/<class>/, or of <class>/ alone.

    side: pictures of several sizes, or larger than SMALL, become squares of so many pixels.
    links: follow links that lead out of the folder; not for a folder that a visitor names.
    Raises DataError when there are fewer than two classes, or nothing to read.
    """
    if not path.exists():
        raise DataError("'{path}' does not exist. Give a folder, a zip or a .npz file.", path=str(path))
    if arrays.is_known(path):
        return _checked(load("mnist", path), path.name)  # the name only matters where the file holds nothing
    return _divided(_small(_of_folders(path, links, tick), side, path.name), path.name)


def outline(path: Path, side: int = SMALL) -> Outline:
    """What `from_path` will hold, by the names in it and its first picture alone; copies are counted, too.

    No classes where the names tell none.  Raises DataError for a file of numbers that is damaged.
    """
    if arrays.is_known(path):
        counts: dict[str, dict[str, int]] = {"train": {}, "test": {}}
        shape: tuple[int, ...] = (side, side)
        for stack in arrays.stacks(path):
            shape = stack.pixels.shape[1:3]
            for label, n in zip(*np.unique(stack.labels, return_counts=True), strict=True):
                kind = stack.kind(int(label))
                counts[stack.split][kind] = counts[stack.split].get(kind, 0) + int(n)
        return Outline(counts, shape)
    places = [place for name in _names(path) if (place := _place(clean_name(name))) is not None]
    return Outline(_counted(places), _shape(_first(path), side) if places else (side, side))


def outline_of_dataset(dataset: store.Dataset, side: int = SMALL) -> Outline:
    """What `from_dataset` will hold, as `outline`."""
    good, told = _normals(dataset)
    places = [(sample.split if told else "", sample.kind) for sample in good]
    first = read(good[0].path, white=dataset.meta["white"]) if good else None
    return Outline(_counted(places), _shape(first, side))


def _counted(places: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Pictures by split and class, divided as `_divided` does.  places: (split or "", class) of each."""
    seen = Counter(places)
    told = {kind for split, kind in seen if split == "train"}
    if told and told <= {kind for split, kind in seen if split == "test"}:
        return {split: {kind: seen[split, kind] for kind in sorted(told)} for split in ("train", "test")}
    every: Counter[str] = Counter()
    for (_, kind), n in seen.items():
        every[kind] += n
    tests = {kind: max(1, round(TEST_SHARE * n)) for kind, n in sorted(every.items())}
    return {"train": {kind: every[kind] - n for kind, n in tests.items()}, "test": tests}


def _shape(first: Picture | None, side: int) -> tuple[int, ...]:
    small = first is not None and max(first.width, first.height) <= SMALL
    return (first.height, first.width) if first is not None and small else (side, side)


def _first(path: Path) -> Picture | None:
    """The first picture that can be read."""
    for item in intake.from_folder(path) if path.is_dir() else intake.from_file(path):
        if isinstance(item, intake.Item):
            with suppress(DataError):
                return read(item.data)
    return None


def _names(path: Path) -> Iterator[str]:
    if path.is_dir():
        yield from (file.relative_to(path).as_posix() for file in path.rglob("*") if is_picture(file.name))
    elif zipfile.is_zipfile(path):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as members:
            yield from (
                f"{path.stem}/{name}" for name in members.namelist() if is_picture(name) and not is_hidden(name)
            )


def from_dataset(dataset: store.Dataset, side: int = SMALL, tick: Tick = silent) -> Classes:
    """The classes of normals of a data set of the workspace; its defects are left out.  As `from_path`.

    The set's own normal tests are the tests where every class has some; else each class is divided by content.
    """
    good, told = _normals(dataset)

    def rows() -> Iterator[tuple[str, str, str, Picture]]:
        for i, sample in enumerate(good):
            tick(i / len(good), "read {n} of {total} pictures", n=i, total=len(good))
            picture = read(sample.path, white=dataset.meta["white"], least=side)
            yield sample.split if told else "", sample.kind, sample.digest, picture

    return _divided(_small(rows(), side, dataset.title), dataset.title)


def _normals(dataset: store.Dataset) -> tuple[list[Sample], bool]:
    """The normals, and whether the set's own division into train and test is kept."""
    found, _ = datasets.samples(dataset)
    good = [s for s in found if s.label == 0]
    of_tests = {s.kind for s in good if s.split == "test"}
    return good, bool(of_tests) and {s.kind for s in good if s.split == "train"} <= of_tests


# --- folders ----------------------------------------------------------------------------------------------------------


def _of_folders(path: Path, links: bool, tick: Tick) -> Iterator[tuple[str, str, str, Picture]]:
    """Pictures with what their folders say: .../train/<class>/... or .../<class>/<file>.  What cannot be read is left out."""
    for i, item in enumerate(intake.from_folder(path, links=links) if path.is_dir() else intake.from_file(path)):
        tick(i / (i + 1000), "read {n} pictures", n=i)
        told = _place(item.name)
        if not isinstance(item, intake.Item) or told is None:
            continue
        data = item.data if isinstance(item.data, bytes) else item.data.read_bytes()
        try:
            picture = read(data)
        except DataError:
            continue
        yield *told, hashlib.sha256(data).hexdigest(), picture


def _place(name: str) -> tuple[str, str] | None:
    """(split or "", class) by a picture's folders; None where they name no class."""
    parts = name.split("/")[:-1]
    place = next((n for n, part in enumerate(parts) if part.lower() in _SPLITS), None)
    if place is None:
        return ("", parts[-1]) if parts else None
    return (_SPLITS[parts[place].lower()], parts[place + 1]) if place + 1 < len(parts) else None


def _small(rows: Iterable[tuple[str, str, str, Picture]], side: int, name: str) -> list[_Row]:
    """All pictures at one size.  Those that are already small and alike stay as they are."""
    made: list[_Row] = []
    kept: set[tuple[int, int]] = set()
    taken = 0
    for split, kind, digest, picture in rows:
        fits = max(picture.width, picture.height) <= SMALL
        pixels = picture.rgb() if fits else _square(picture, side)
        kept.add((picture.width, picture.height) if fits else (side, 0))
        taken += pixels.nbytes
        if taken > MOST_BYTES:
            raise DataError(
                "The pictures of '{name}' take more than {limit} GB in memory. Choose a smaller size, or fewer pictures.",
                name=name, limit=MOST_BYTES >> 30,
            )  # fmt: skip
        made.append((split, kind, digest, np.ascontiguousarray(pixels)))
    if len(kept) > 1:
        made = [(split, kind, digest, _resized(pixels, side)) for split, kind, digest, pixels in made]
    return made


def _square(picture: Picture, side: int) -> np.ndarray:
    return (255 * to_pixels(picture, side)[0].transpose(1, 2, 0)).round().astype(np.uint8)


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    if pixels.shape[:2] == (side, side):
        return pixels
    return _square(Picture(Image.fromarray(pixels), pixels.shape[1], pixels.shape[0], (), None, "PNG"), side)


def _divided(rows: list[_Row], name: str) -> Classes:
    """Train and test.  Where a class has no test of its own, the lowest 30 % of its pictures by content become tests."""
    told = {kind for split, kind, _, _ in rows if split == "train"}
    tested = {kind for split, kind, _, _ in rows if split == "test"}
    if told and told <= tested:
        chosen = [(split, kind, pixels) for split, kind, _, pixels in rows if split and kind in told]
    else:
        chosen = []
        by_kind: dict[str, list[_Row]] = defaultdict(list)
        for row in rows:
            by_kind[row[1]].append(row)
        for kind, members in by_kind.items():
            found = {digest: pixels for _, _, digest, pixels in members}  # a copy counts once
            ordered = sorted(found, key=datasets.share)
            tests = max(1, round(TEST_SHARE * len(ordered)))
            chosen += [("test" if i < tests else "train", kind, found[digest]) for i, digest in enumerate(ordered)]
    parts = {split: [row for row in chosen if row[0] == split] for split in ("train", "test")}
    if not all(parts.values()):
        raise DataError(_FEW, name=name, n=len({row[1] for row in rows}))
    made = Classes(
        {split: np.stack([row[2] for row in part]) for split, part in parts.items()},
        {split: np.array([row[1] for row in part]) for split, part in parts.items()},
    )
    return _checked(made, name)


_FEW = "'{name}' holds {n} classes of at least two pictures. An experiment needs two classes: one folder for each."


def _checked(made: Classes, name: str) -> Classes:
    both = set(made.labels["train"].tolist()) & set(made.labels["test"].tolist())
    if len(both) < 2:
        raise DataError(_FEW, name=name, n=len(both))
    return made
