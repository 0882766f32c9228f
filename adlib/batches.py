"""Samples on their way to a detector: which normals do what, and pictures as batches.

Normals are divided by content hash into those to learn from and those held out for calibration.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adlib import regions, registry
from adlib.contract import Batch, DataError, Detector, Prediction, Sample, Tick, silent
from adlib.datasets import share
from adlib.frames import Frame, least_for, to_pixels
from adlib.images import read

HELD_OUT_SHARE = 0.25
CROSS_FIT_BELOW = 60  # with fewer normals, a quarter of them would promise next to nothing
FOLDS = 5


def data_hash(samples: Sequence[Sample]) -> str:
    """Identity of a set of labelled pictures: contents and labels, not names or order."""
    lines = sorted(f"{s.digest} {s.split} {s.label} {s.kind} {s.mask.name if s.mask else ''}" for s in samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def train_normals(samples: Sequence[Sample]) -> list[Sample]:
    return [s for s in samples if s.split == "train" and s.label == 0]


def labelled_tests(samples: Sequence[Sample]) -> list[Sample]:
    return [s for s in samples if s.split == "test" and s.label is not None]


# --- which normals do what --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Division:
    """fit: normals the final detector learns from.  held_out: normals it never sees, () when cross-fitted.
    folds: normals by fold when cross-fitted, else ()."""

    fit: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    folds: tuple[tuple[Sample, ...], ...]

    @property
    def calibrating(self) -> int:
        return len(self.held_out) or sum(map(len, self.folds))


def divide(normals: Sequence[Sample], method: str) -> Division:
    """Splits normals by content hash, or into folds when they are few and the method's fit is cheap.

    Raises DataError when there are fewer than the method needs plus one to hold out.
    """
    card = registry.card(method)
    least = card.needs + 1
    if len(normals) < least:
        raise DataError(
            "{method} needs at least {least} normal pictures ({needs} to learn from, 1 to hold out), got {n}. "
            "Add more on the Data page.",
            method=card.title, least=least, needs=card.needs, n=len(normals),
        )  # fmt: skip
    ordered = sorted(normals, key=lambda s: share(s.digest))
    if len(ordered) < CROSS_FIT_BELOW and card.cross_fit:
        if len(ordered) < 4 * FOLDS:  # so few that every one counts: leave one out
            folds: list[tuple[Sample, ...]] = [(sample,) for sample in ordered]
        else:
            folds = [tuple(s for s in ordered if int(share(s.digest) * FOLDS) == fold) for fold in range(FOLDS)]
        return Division(tuple(ordered), (), tuple(fold for fold in folds if fold))
    held = [s for s in ordered if share(s.digest) < HELD_OUT_SHARE] or ordered[:1]
    held = held[: len(ordered) - card.needs]
    chosen = {s.digest for s in held}
    return Division(tuple(s for s in ordered if s.digest not in chosen), tuple(held), ())


# --- pictures as batches ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batches:
    """Samples as `Images`: decoded on two threads one batch ahead, never all at once.

    size: side of the network's square in pixels.  white: the set's rule for 16-bit pictures.
    region: the part of each picture that counts; no method knows of it, since none ever sees anything else.
    """

    samples: Sequence[Sample]
    size: int
    letterbox: bool = False
    white: int | None = None
    batch: int = 16
    region: regions.Region = regions.WHOLE

    def __len__(self) -> int:
        return len(self.samples)

    def _pixels(self, sample: Sample) -> tuple[np.ndarray, Frame]:
        picture = read(sample.path, white=self.white, least=least_for(self.size, self.region))
        return to_pixels(picture, self.size, self.letterbox, self.region)

    def __iter__(self) -> Iterator[Batch]:
        for batch, _ in self.framed():
            yield batch

    def framed(self) -> Iterator[tuple[Batch, tuple[Frame, ...]]]:
        """Each batch with the frames of its pictures."""
        from concurrent.futures import ThreadPoolExecutor

        import torch

        groups = [self.samples[i : i + self.batch] for i in range(0, len(self.samples), self.batch)]
        with ThreadPoolExecutor(2) as pool:
            ahead = [pool.submit(self._pixels, sample) for sample in groups[0]] if groups else []
            for i, group in enumerate(groups):
                ready, frames = zip(*(future.result() for future in ahead), strict=True)
                if i + 1 < len(groups):
                    ahead = [pool.submit(self._pixels, sample) for sample in groups[i + 1]]
                yield Batch(torch.from_numpy(np.stack(ready)), tuple(sample.kind for sample in group)), frames


def part(tick: Tick, start: float, end: float) -> Tick:
    """A tick for one step of several: its 0…1 is start…end of the whole."""

    def inner(fraction: float, message: str, /, **numbers: Any) -> None:
        tick(start + (end - start) * min(max(fraction, 0.0), 1.0), message, **numbers)

    return inner


def predictions(detector: Detector, images: Batches, tick: Tick = silent) -> Iterator[tuple[Prediction, float]]:
    """Scores batch by batch; yields each with the seconds that scoring (not decoding) took.

    Maps are blank outside the region, so that neither calibration nor evaluation counts what lies there.
    """
    done = 0
    for batch, frames in images.framed():
        start = time.perf_counter()
        prediction = detector.score(batch.pixels)
        seconds = time.perf_counter() - start
        prediction = only_inside(prediction, frames)
        done += len(prediction.scores)
        tick(done / max(1, len(images)), "scored {done} of {total} pictures", done=done, total=len(images))
        yield prediction, seconds


def only_inside(prediction: Prediction, frames: Sequence[Frame]) -> Prediction:
    """The same scores, and maps that are blank outside a region that is no rectangle.

    frames: of the pictures, in their order.
    Blank is 0, or the lowest value inside where that lies below 0: a map's peak is never read from outside.
    """
    maps = prediction.maps
    if maps is None or not any(len(frame.region) > 2 for frame in frames):
        return prediction
    made = maps.copy()
    for map, frame in zip(made, frames, strict=True):
        inside = frame.counted(maps.shape[-1])
        if inside is not None:
            map[~inside] = min(0.0, float(map.min(where=inside, initial=np.inf)))
    return Prediction(prediction.scores, made, prediction.embeddings)
