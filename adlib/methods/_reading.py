"""Normals on their way through the network: a few pictures at a time, counted, with progress."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from adlib.contract import DataError, FeatureExtractor, Images, Tick

AT_ONCE = 8  # pictures: enough to keep the processor busy, few enough for a tick a second and a small peak of memory


def count(normals: Images, needed: int, method: str) -> int:
    """How many normals there are.  Raises DataError when they are fewer than `needed`."""
    n = len(normals)
    if n < needed:
        raise DataError(
            "{method} needs at least {needed} normal pictures, got {n}. Add more on the Data page.",
            method=method, needed=needed, n=n,
        )  # fmt: skip
    return n


def pixels_of(normals: Images, tick: Tick, share: float = 1.0) -> Iterator[Tensor]:
    """The normals as (B, 3, H, W), B at most AT_ONCE (the whole batch on a GPU).

    share: how much of the step's progress the reading is, in (0, 1].
    """
    n = len(normals)
    done = 0
    for batch in normals:
        for pixels in batch.pixels.split(max(AT_ONCE, len(batch.pixels)) if torch.cuda.is_available() else AT_ONCE):
            yield pixels
            done += len(pixels)
            tick(share * done / n, "reading normal pictures: {done} of {n}", done=done, n=n)


def maps_of(normals: Images, look: FeatureExtractor, tick: Tick, share: float = 1.0) -> Iterator[list[Tensor]]:
    """The network's maps of `pixels_of(normals)`, one (B, C, h, w) a stage."""
    for pixels in pixels_of(normals, tick, share):
        yield look(pixels)


def part(tick: Tick, start: float, end: float) -> Tick:
    """A tick for one step of several: its 0…1 is start…end of the whole."""

    def inner(fraction: float, message: str, /, **numbers: Any) -> None:
        tick(start + (end - start) * fraction, message, **numbers)

    return inner
