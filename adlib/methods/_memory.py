"""A memory of normals: a bounded sample of a stream, its coreset, and exact nearest neighbours in it."""

from __future__ import annotations

import functools
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

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


# --- nearest neighbours -----------------------------------------------------------------------------------------------

BLOCK = 32  # bank rows whose best is found together
ROWS_AT_ONCE = 20_480  # bank rows, a multiple of BLOCK, that are compared with
QUERIES_AT_ONCE = 512  # so many queries by one thread: 20 MB of products in bf16
SPARE = 3  # candidates beyond k that are measured exactly, since a product in float32 rounds a little
SPARE_COARSE = 5  # and in bf16 rounds more
MORE = 64  # candidates for the queries of which those did not decide
FEW = 16  # doubtful queries that are settled one by one
ROUNDED = 2.0**-8  # most that a number changes when it becomes bf16, as a share of itself


class Bank:
    """Rows to be found again, exactly.

    Products only propose candidates; their distances are then measured row by row.  Where the processor multiplies bf16
    much faster than float32, bf16 proposes, and a bound on its error tells whether any row that was not measured could
    be nearer; the few queries where that cannot be excluded get more candidates, and the last of them are searched again
    in float32.
    """

    def __init__(self, rows: Tensor, coarse: bool | None = None) -> None:
        """rows: (M, D) float32.  coarse: let bf16 propose; None: where that is faster."""
        self.rows = rows
        self._centre = rows.mean(0)  # products round less near 0
        self._half = rows.new_empty(len(rows))  # |r|²/2 of the centred rows
        self._coarse: Tensor | None = None
        self._spare: dict[torch.dtype, deque[Tensor]] = defaultdict(deque)
        if fast_bf16(rows.device) if coarse is None else coarse:
            self._coarse = rows.new_ones(
                len(rows), rows.shape[1] + 6, dtype=torch.bfloat16
            )  # (-r, |r|²/2 in three, 1, 1, 1)
        self._longest = self._worst = 0.0  # max |r|, max |r - bf16(r)|
        for start in range(0, len(rows), 4096):
            part = slice(start, min(start + 4096, len(rows)))
            centred = rows[part] - self._centre
            self._half[part] = half = 0.5 * centred.square().sum(1)
            if self._coarse is not None:
                rounded = centred.bfloat16()
                self._coarse[part, :-6], self._coarse[part, -6:-3] = -rounded, _in_three(half)
                self._longest = max(self._longest, float(centred.norm(dim=1).max()))
                self._worst = max(self._worst, float((centred - rounded.float()).norm(dim=1).max()))

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """queries: (Q, D) → Euclidean distances (Q, k) in ascending order, and the rows they belong to (Q, k).

        k is at most M.  A query that is in the bank has distance exactly 0.
        """
        search = self._search if self._coarse is None else self._search_coarse
        distances = queries.new_empty(len(queries), k)
        found = torch.empty(len(queries), k, dtype=torch.long, device=queries.device)

        def work(part: slice) -> None:
            distances[part], found[part] = search(queries[part], k)

        if queries.device.type == "cpu":  # each part on one thread, several parts at once
            for _ in in_slices(len(queries), QUERIES_AT_ONCE, work):
                pass
        else:
            for start in range(0, len(queries), QUERIES_AT_ONCE):
                work(slice(start, start + QUERIES_AT_ONCE))
        return distances, found

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        q = (queries - self._centre).T  # (D, Q)
        best = _Best(min(k + SPARE, len(self.rows)))
        for part in self._parts():
            with self._room(part, queries) as (near, products):
                # |r-c|²/2 - (q-c)·r, which differs from |q-r|²/2 by what all rows share: smaller is nearer
                torch.addmm(self._half[part, None], self.rows[part], q, alpha=-1, out=products)
                best.add(near, part.start)
        return self._measured(queries, best.rows, k)

    def _search_coarse(self, queries: Tensor, k: int, spare: int = SPARE_COARSE) -> tuple[Tensor, Tensor]:
        assert self._coarse is not None
        q = queries - self._centre
        rounded, length = q.bfloat16(), q.norm(dim=1)
        # How wrong a product in bf16 can be: the rounding of rows and queries, and sums in float32.
        wrong = (q - rounded.float()).norm(dim=1) * self._longest + rounded.float().norm(dim=1) * self._worst
        wrong += (length + self._longest).square() * (q.shape[1] * 2.0**-23)
        ones = rounded.new_ones(len(q), 3)
        asked = torch.cat([rounded, ones, _in_three(0.5 * length.square() + wrong)], dim=1).T.contiguous()  # (D + 6, Q)
        best = _Best(min(k + spare, len(self.rows)))
        for part in self._parts():
            with self._room(part, rounded) as (near, products):
                torch.mm(self._coarse[part], asked, out=products)  # |q-r|²/2, and up to 2 * wrong more
                blocks = best.add(near.view(torch.int16), part.start)  # numbers from 0 up are ordered as their bits are
                if part.stop < len(self.rows):
                    continue
                distances, found = self._measured(queries, best.rows, k)
                doubtful = self._doubtful(best, distances, wrong)
                if part.start == 0 and doubtful.sum() <= FEW:  # the products of all rows are still there
                    self._settle(queries, near, blocks.view(torch.bfloat16), wrong, distances, found, doubtful)
        if doubtful.any():
            again = self._search if spare >= MORE else functools.partial(self._search_coarse, spare=MORE)
            distances[doubtful], found[doubtful] = again(queries[doubtful], k)
        return distances, found

    def _doubtful(self, best: _Best, distances: Tensor, wrong: Tensor) -> Tensor:
        """(Q,) bool: whether a row that was not measured could be nearer than the last of those that were."""
        if best.wanted == len(self.rows):
            return torch.zeros(len(distances), dtype=torch.bool)
        # No other row has a product below the largest of the candidates', so none is nearer than this:
        least = best.values.view(torch.bfloat16).amax(1).float() * (1 - ROUNDED) - 2 * wrong
        return distances[:, -1].square() / 2 > least

    def _settle(
        self,
        queries: Tensor,
        near: Tensor,
        blocks: Tensor,
        wrong: Tensor,
        distances: Tensor,
        found: Tensor,
        doubtful: Tensor,
    ) -> None:
        """Measures, for each doubtful query, all rows that could be nearer; it stays doubtful when they are too many.

        near: (slots, Q) products with all rows.  blocks: (slots / BLOCK, Q), the least of each block.
        """
        inside = torch.arange(BLOCK)
        for i in doubtful.nonzero()[:, 0].tolist():
            limit = (distances[i, -1].square() / 2 + 2 * wrong[i]) / (1 - ROUNDED)
            rows = ((blocks[:, i].float() <= limit).nonzero() * BLOCK + inside).flatten()
            rows = rows[near[rows, i].float() <= limit]
            if len(rows) <= MORE:
                nearest, of = self._measured(queries[i : i + 1], rows[None], distances.shape[1])
                distances[i], found[i], doubtful[i] = nearest[0], of[0], False

    def _parts(self) -> Iterator[slice]:
        m = len(self.rows)
        step = -(-m // -(-m // ROWS_AT_ONCE))
        return (slice(start, min(start + step, m)) for start in range(0, m, step))

    @contextmanager
    def _room(self, part: slice, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Space for the products of some rows with some queries: (slots, Q), and of it what the products fill.

        It is kept for the next search: to get so much afresh from the system takes longer than to fill it.
        """
        n, size = part.stop - part.start, QUERIES_AT_ONCE * ROWS_AT_ONCE
        spare = self._spare[like.dtype]
        whole = (
            spare.pop() if spare else like.new_empty(min(size, -(-len(self.rows) // BLOCK) * BLOCK * QUERIES_AT_ONCE))
        )
        try:
            near = whole[: -(-n // BLOCK) * BLOCK * len(like)].view(-1, len(like))
            near[n:] = torch.inf
            yield near, near[:n]
        finally:
            spare.append(whole)

    def _measured(self, queries: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest among (Q, R) candidates."""
        distances = torch.linalg.vector_norm(self.rows[candidates].sub_(queries[:, None]), dim=2)
        nearest, order = distances.sort(dim=1)
        return nearest[:, :k], candidates.gather(1, order[:, :k])


class _Best:
    """The columns' `wanted` smallest values, of matrices that come one after the other.  values, rows: (Q, wanted).

    The wanted best lie in the wanted blocks with the best bests: two small searches in place of a large one.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.values = self.rows = torch.empty(0)

    def add(self, near: Tensor, start: int) -> Tensor:
        """near: (slots, Q), slots a multiple of BLOCK.  start: the number of its first row.

        Returns (slots / BLOCK, Q), the least of each block.
        """
        queries = torch.arange(near.shape[1], device=near.device)[:, None]
        blocks = near.view(-1, BLOCK, near.shape[1]).amin(1)  # (slots / BLOCK, Q)
        best = blocks.topk(min(self.wanted, len(blocks)), 0, largest=False, sorted=False).indices.T  # (Q, R)
        rows = (best[:, :, None] * BLOCK + torch.arange(BLOCK, device=near.device)).flatten(1)  # (Q, R * BLOCK)
        values = near.take(rows * near.shape[1] + queries)
        rows = rows + start
        if self.rows.numel():
            values, rows = torch.cat([self.values, values], 1), torch.cat([self.rows, rows], 1)
        self.values, place = values.topk(self.wanted, 1, largest=False, sorted=False)
        self.rows = rows.gather(1, place)
        return blocks


def _in_three(x: Tensor) -> Tensor:
    """(N,) float32 → (N, 3) bf16 whose sums are as exact as float32."""
    high = x.bfloat16()
    middle = (x - high.float()).bfloat16()
    return torch.stack([high, middle, (x - high.float() - middle.float()).bfloat16()], dim=1)


def fast_bf16(device: torch.device) -> bool:
    """Whether this processor has instructions for products of bf16; a GPU is fast enough without."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in known)
