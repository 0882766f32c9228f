"""A memory of normals: a bounded sample of a stream, and its coreset."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from adlib.contract import Tick, silent
from adlib.threads import in_slices, one_thread

# --- a bounded sample of a stream -------------------------------------------------------------------------------------


class Reservoir:
    """At most `capacity` rows of a stream of known length, every row with the same chance to be in it.

    Each picture gives the same number of rows, drawn by `generator`; where that is not a whole number, which pictures give
    one more is chance too.  Memory is taken once.
    """

    def __init__(self, capacity: int, pictures: int, generator: torch.Generator) -> None:
        self.capacity, self.pictures, self.generator = capacity, pictures, generator
        self._rows: Tensor | None = None
        self._origins = torch.empty(0, 2, dtype=torch.int32)
        self._seen = self._filled = 0
        self._luck = torch.rand((), generator=generator, dtype=torch.float64).item()

    def add(self, rows: Tensor) -> None:
        """rows: (P, D) of the next picture; P and D are the same for all."""
        patches = len(rows)
        if self._rows is None:
            self.capacity = min(self.capacity, self.pictures * patches)
            self._rows = torch.empty(self.capacity, rows.shape[1])
            self._origins = torch.empty(self.capacity, 2, dtype=torch.int32)
        self._seen += 1
        end = (
            int(self.capacity * self._seen / self.pictures + self._luck)
            if self._seen < self.pictures
            else self.capacity
        )
        wanted = end - self._filled
        chosen = torch.arange(patches)
        if wanted < patches:
            chosen = torch.randperm(patches, generator=self.generator)[:wanted].sort().values
            rows = rows[chosen.to(rows.device)]
        self._rows[self._filled : end] = rows
        self._origins[self._filled : end, 0] = self._seen - 1
        self._origins[self._filled : end, 1] = chosen
        self._filled = end

    def rows(self) -> Tensor:
        """(N, D) float32 on the CPU, in the order of the stream."""
        assert self._rows is not None
        assert self._filled == self.capacity, "the stream was shorter than promised"
        return self._rows

    def origins(self) -> Tensor:
        """(N, 2) int32: of each row the number of its picture in the stream, and its own number in that picture."""
        return self._origins


# --- coreset ----------------------------------------------------------------------------------------------------------

REACH = 2000.0  # length of the longest row, in steps of the grid
POOL = 2048  # points looked at together: their coordinates stay in the processor's cache
CELLS = 1 << 20  # products made at once: 4 MB, which stay there too


def on_grid(points: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """(N, d) → (N, d) float32 whole numbers: centred, and scaled so that the longest row has length REACH.

    out: where to put them; None: a new array.
    All products of such rows, their sums in any order and their squared distances are whole numbers below 2^24, which
    float32 holds exactly.  So distances are the same to the bit however they are computed, equal points are at distance
    exactly 0, and ties are ties.  The error of rounding, 0.3 of a step, is far below any distance that matters.
    """
    grid = np.subtract(points, points.mean(axis=0, dtype=np.float64).astype(np.float32), out=out)
    length = max(float(np.sqrt(_squares(rows).max())) for rows in np.array_split(grid, len(grid) // 4096 + 1))
    grid *= REACH / length if length > 0 else 0.0
    return np.rint(grid, out=grid)


def _squares(rows: np.ndarray) -> np.ndarray:
    squares: np.ndarray = np.einsum("nd,nd->n", rows, rows)
    return squares


def k_centre(points: np.ndarray, wanted: int, start: int, tick: Tick = silent, pool: int = POOL) -> np.ndarray:
    """Greedy k-centre: again and again the point farthest from all that were picked.  (m,) indices, in order of picking.

    points: (N, d) float32; distances are taken `on_grid`.  start: the first pick.  m is `wanted`, or less when every
    other point lies on one that was picked.  Of equally far points the one with the smallest index is picked.

    The picks are exactly those of the plain loop that updates all N distances after each pick, but most are made inside
    a pool of the farthest points.  A point outside the pool is never farther than `bound`, the farthest of them at the
    time the pool was made, because distances only shrink; so while the pool holds a point beyond the bound, that one is
    the farthest of all.  Then all points are updated at once, by one matrix product.
    Source: Gonzalez 1985 for the greedy rule; the pool is an exact reordering of the same computation.
    """
    n = len(points)
    x = np.empty(
        (n, points.shape[1] + 1), np.float32
    )  # rows (x, 1), so that a product with (y, -|y|²/2) gives both terms
    on_grid(points, out=x[:, :-1])
    x[:, -1] = 0
    half = _squares(x) / 2  # |x|² / 2
    x[:, -1] = 1
    near = np.full(n, -np.inf, np.float32)  # max over picks y of x·y - |y|²/2, so that min |x - y|² = 2 (half - near)
    picks = [start]
    fresh = [start]  # picks that `near` has not seen yet
    while fresh:
        y = x[fresh]
        y[:, -1] = -half[fresh]

        def update(part: slice, y: np.ndarray = y) -> None:
            np.maximum(near[part], (y @ x[part].T).max(axis=0), out=near[part])

        for _ in in_slices(n, max(64, CELLS // len(fresh)), update):
            tick(len(picks) / wanted, "choosing patches for the memory: {m} of {wanted}", m=len(picks), wanted=wanted)
        with one_thread():
            fresh = _pick_in_pool(x, half, near, wanted - len(picks), pool)
        picks += fresh
        if len(fresh) < pool // 16:  # many points at much the same distance: look at more of them together
            pool = min(2 * pool, max(POOL, n // 8))
    return np.array(picks)


def _pick_in_pool(x: np.ndarray, half: np.ndarray, near: np.ndarray, most: int, pool: int) -> list[int]:
    """The next picks, at most `most`, as far as the `pool` farthest points alone decide them."""
    far = half - near  # half the squared distance to the nearest pick
    members = np.arange(len(far))
    bound, last = np.float32(0), -1  # the farthest point outside: its distance and index
    if pool < len(far):
        bound = np.partition(far, len(far) - pool - 1)[len(far) - pool - 1]
        beyond = np.flatnonzero(far > bound)
        level = np.flatnonzero(far == bound)[
            : pool - len(beyond) + 1
        ]  # the smallest indices go first; one stays outside
        last = level[-1]
        members = np.sort(np.concatenate([beyond, level[:-1]]))
    p, p_half, p_near, p_far = x[members, :-1], half[members], near[members], far[members]
    product = np.empty(len(members), np.float32)
    picks: list[int] = []
    while len(picks) < most and len(members):
        i = int(p_far.argmax())
        if p_far[i] <= 0 or p_far[i] < bound or (p_far[i] == bound and members[i] > last):
            break
        picks.append(int(members[i]))
        np.dot(p, p[i], out=product)
        product -= p_half[i]
        np.maximum(p_near, product, out=p_near)
        np.subtract(p_half, p_near, out=p_far)
    return picks


def project(rows: Tensor, dimensions: int, generator: torch.Generator) -> Tensor:
    """(N, D) → (N, d): a Gaussian random projection, which keeps distances up to a few percent.

    dimensions: d; 0, or not below D, leaves the rows as they are.  Source: Johnson and Lindenstrauss 1984.
    """
    if not 0 < dimensions < rows.shape[1]:
        return rows
    return rows @ (torch.randn(rows.shape[1], dimensions, generator=generator) / dimensions**0.5)
