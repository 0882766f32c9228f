"""Where the rows of a memory came from: which normal, and where in it.  Kept as whole numbers beside the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adlib.contract import DataError, Nearest
from adlib.methods._state import take

NAMES = ("origin", "grid")
BYTES = 8  # of one row's origin


@dataclass(frozen=True)
class Origin:
    """of: (M, 2) int32, number of the normal in the order of the fit and number of the patch in its grid, row by row.
    grid: (h, w) of the patches; (1, 1) when a row stands for a whole picture."""

    of: Tensor
    grid: tuple[int, int]

    def state(self) -> dict[str, Tensor]:
        return dict(zip(NAMES, (self.of, torch.tensor(self.grid, dtype=torch.int32)), strict=True))

    def nearest(self, row: int, distance: float, patch: int | None = None, grid: tuple[int, int] = (1, 1)) -> Nearest:
        """The origin of a row.  patch: number of the looked-at patch in its own grid; None: a whole picture."""
        normal, there = (int(value) for value in self.of[row])
        if patch is None:
            return Nearest(normal, distance)
        return Nearest(normal, distance, centre(patch, grid), centre(there, self.grid))


def centre(patch: int, grid: tuple[int, int]) -> tuple[float, float]:
    """(x, y) of a patch's middle as shares of the square's side."""
    h, w = grid
    return (patch % w + 0.5) / w, (patch // w + 0.5) / h


def taken(state: Mapping[str, Tensor], method: str, rows: int) -> Origin | None:
    """The origin of `rows` rows; None in a state from before origins were kept.  Raises DataError when it is damaged."""
    if not any(name in state for name in NAMES):
        return None
    of, grid = take(state, method, origin=(rows, 2), grid=(2,))
    h, w = (int(side) for side in grid)
    if of.is_floating_point() or min(h, w) < 1 or int(of.min()) < 0 or int(of[:, 1].max()) >= h * w:
        raise DataError("This state of {method} says of its rows that they come from nowhere.", method=method)
    return Origin(of.int().cpu(), (h, w))
