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

from adlib import registry
from adlib.contract import Batch, DataError, Detector, Prediction, Sample, Tick, silent
from adlib.datasets import share
from adlib.images import read, to_pixels

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
    """

    samples: Sequence[Sample]
    size: int
    letterbox: bool = False
    white: int | None = None
    batch: int = 16

    def __len__(self) -> int:
        return len(self.samples)

    def _pixels(self, sample: Sample) -> np.ndarray:
        return to_pixels(read(sample.path, white=self.white, least=self.size), self.size, self.letterbox)[0]

    def __iter__(self) -> Iterator[Batch]:
        from concurrent.futures import ThreadPoolExecutor

        import torch

        groups = [self.samples[i : i + self.batch] for i in range(0, len(self.samples), self.batch)]
        with ThreadPoolExecutor(2) as pool:
            ahead = [pool.submit(self._pixels, sample) for sample in groups[0]] if groups else []
            for i, group in enumerate(groups):
                ready = [future.result() for future in ahead]
                if i + 1 < len(groups):
                    ahead = [pool.submit(self._pixels, sample) for sample in groups[i + 1]]
                yield Batch(torch.from_numpy(np.stack(ready)), tuple(sample.kind for sample in group))


def part(tick: Tick, start: float, end: float) -> Tick:
    """A tick for one step of several: its 0…1 is start…end of the whole."""

    def inner(fraction: float, message: str, /, **numbers: Any) -> None:
        tick(start + (end - start) * min(max(fraction, 0.0), 1.0), message, **numbers)

    return inner


def predictions(detector: Detector, images: Batches, tick: Tick = silent) -> Iterator[tuple[Prediction, float]]:
    """Scores batch by batch; yields each with the seconds that scoring (not decoding) took."""
    done = 0
    for batch in images:
        start = time.perf_counter()
        prediction = detector.score(batch.pixels)
        seconds = time.perf_counter() - start
        done += len(prediction.scores)
        tick(done / max(1, len(images)), "scored {done} of {total} pictures", done=done, total=len(images))
        yield prediction, seconds
