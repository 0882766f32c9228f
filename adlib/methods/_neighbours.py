"""Exact nearest neighbours in a bank of rows: a cheap product excludes most of them, and the others are measured."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from adlib.threads import in_slices, one_thread

BLOCK = 32  # bank rows whose best is found together
ROWS_AT_ONCE = 20_480  # bank rows, a multiple of BLOCK, that are compared with
QUERIES_AT_ONCE = 512  # so many queries by one thread: 20 MB of products in bf16
PAIRS_AT_ONCE = 512  # distances measured together: their rows stay in the processor's cache
SPARE = 3  # candidates beyond k where nothing else is measured, since a product in float32 rounds a little
MOST = 1 / 128  # share of the rows above which a query is crowded: to compare it with all of them takes less long
FEW = 5  # neighbours up to which some axes exclude enough


class Bank:
    """Rows to be found again, exactly.

    A product with the `Shadow` of a row tells how near that row can be to a query at most.  The rows that could be
    nearest are measured, and then all that could be nearer than those: no other row can be.  Where the rows cast no
    useful shadow, and for queries to which too many rows could be near, products with the rows themselves propose a few
    candidates more than are wanted.
    """

    def __init__(self, rows: Tensor, coarse: bool | None = None) -> None:
        """rows: (M, D) float32.  coarse: let bf16 exclude; None: where that is faster."""
        self.rows = rows
        self._centre = rows.mean(0)  # products round less near 0
        self._half = rows.new_empty(len(rows))  # |r|²/2 of the centred rows
        for start in range(0, len(rows), 4096):
            part = slice(start, start + 4096)
            self._half[part] = 0.5 * (rows[part] - self._centre).square().sum(1)
        self._spare: dict[torch.dtype, deque[Tensor]] = defaultdict(deque)
        self._shadow: Shadow | None = None
        self._coarse = fast_bf16(rows.device) if coarse is None else coarse
        if self._coarse:
            self._shadow = Shadow(rows, self._centre, torch.bfloat16)
        elif rows.device.type == "cpu":  # a GPU is fast enough without
            with one_thread():
                axes = telling_axes(rows, self._centre)
            self._shadow = None if axes is None else Shadow(rows, self._centre, torch.float32, axes)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """queries: (Q, D) → Euclidean distances (Q, k) in ascending order, and the rows they belong to (Q, k).

        k is at most M.  A query that is in the bank has distance exactly 0.
        """
        many = k > FEW and not self._coarse
        search = self._search if self._shadow is None or many else self._search_by_shadow
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
        nearest = _Nearest(self.rows, queries, k)
        for part in self._parts():
            with self._room(part, q) as (near, products):
                # |r-c|²/2 - (q-c)·r, which differs from |q-r|²/2 by what all rows share: smaller is nearer
                torch.addmm(self._half[part, None], self.rows[part], q, alpha=-1, out=products)
                nearest.add_best(near, part, k + SPARE)
        return nearest.distances, nearest.found

    def _search_by_shadow(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        assert self._shadow is not None
        asked, wrong = self._shadow.asked(queries - self._centre)
        nearest = _Nearest(self.rows, queries, k)
        crowded = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
        for part in self._parts():
            with self._room(part, asked) as (near, products):
                torch.mm(
                    self._shadow.table[part], asked, out=products
                )  # at most |q-r|²/2 + 2 * wrong, but for rounding
                blocks = nearest.add_best(near, part, k)
                last = nearest.distances[:, -1]
                limit = (last.square() / 2 + 2 * wrong) * (1 + torch.finfo(near.dtype).eps / 2)
                limit = limit.clamp_max(torch.finfo(limit.dtype).max).masked_fill(crowded | (last == 0), -1)
                crowded |= nearest.add_within(near, blocks, part, limit)
        if crowded.any():
            nearest.distances[crowded], nearest.found[crowded] = self._search(queries[crowded], k)
        return nearest.distances, nearest.found

    def _parts(self) -> Iterator[slice]:
        m = len(self.rows)
        step = -(-m // -(-m // ROWS_AT_ONCE))
        return (slice(start, min(start + step, m)) for start in range(0, m, step))

    @contextmanager
    def _room(self, part: slice, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Space for the products of some rows with (…, Q) queries: (slots, Q), and of it what the products fill.

        It is kept for the next search: to get so much afresh from the system takes longer than to fill it.
        """
        n, queries = part.stop - part.start, like.shape[1]
        size = min(ROWS_AT_ONCE, -(-len(self.rows) // BLOCK) * BLOCK) * QUERIES_AT_ONCE
        spare = self._spare[like.dtype]
        whole = spare.pop() if spare else like.new_empty(size)
        try:
            near = whole[: -(-n // BLOCK) * BLOCK * queries].view(-1, queries)
            near[n:] = torch.inf
            yield near, near[:n]
        finally:
            spare.append(whole)


class _Nearest:
    """The k nearest rows to each query, of those that were measured."""

    def __init__(self, rows: Tensor, queries: Tensor, k: int) -> None:
        self.rows, self.queries, self.k = rows, queries, k
        self.distances = queries.new_full((len(queries), k), torch.inf)  # in ascending order
        self.found = torch.zeros(len(queries), k, dtype=torch.long, device=queries.device)

    def add_best(self, near: Tensor, part: slice, wanted: int) -> Tensor:
        """Measures, for each query, the `wanted` rows with the least products, and takes them off `near`.

        near: (slots, Q), slots a multiple of BLOCK: products with the rows of the part, and infinity beyond them.
        Returns (slots / BLOCK, Q), the least of each block as it was.
        The wanted best lie in the wanted blocks with the best bests: two small searches in place of a large one.
        """
        q, wanted = near.shape[1], min(wanted, part.stop - part.start)
        bits = near.view(torch.int16) if near.dtype == torch.bfloat16 else near  # from 0 up both have the same order
        blocks = bits.view(-1, BLOCK, q).amin(1)
        best = blocks.topk(min(wanted, len(blocks)), 0, largest=False, sorted=False).indices.T  # (Q, R)
        slots = (best[:, :, None] * BLOCK + torch.arange(BLOCK, device=near.device)).flatten(1)  # (Q, R * BLOCK)
        places = slots * q + torch.arange(q, device=near.device)[:, None]
        order = bits.take(places).topk(wanted, 1, largest=False, sorted=False).indices
        found = slots.gather(1, order) + part.start
        near.view(-1)[places.gather(1, order)] = torch.inf
        self._add(torch.linalg.vector_norm(self.rows[found].sub_(self.queries[:, None]), dim=2), found)
        return blocks.view(near.dtype)

    def add_within(self, near: Tensor, blocks: Tensor, part: slice, limit: Tensor) -> Tensor:
        """Measures all rows that are left and whose products are not above the limit of their query, (Q,).

        near, part: as given to `add_best`.  blocks: (slots / BLOCK, Q), at most the least of each block.
        Returns (Q,) bool: queries with too many such rows; for these none is measured.
        """
        q, device = near.shape[1], near.device
        most = max(BLOCK, int(MOST * (part.stop - part.start)))
        within = blocks.float() <= limit
        crowded = within.sum(0) > most
        block, query = (within & ~crowded).nonzero(as_tuple=True)
        slots = block[:, None] * BLOCK + torch.arange(BLOCK, device=device)
        pair, inside = (near.view(-1).take(slots * q + query[:, None]).float() <= limit[query, None]).nonzero(
            as_tuple=True
        )
        query, rows = query[pair], slots[pair, inside] + part.start
        crowded |= torch.bincount(query, minlength=q) > most
        few = (~crowded[query]).nonzero()[:, 0]
        query, rows = query[few], rows[few]
        pairs = zip(query.split(PAIRS_AT_ONCE), rows.split(PAIRS_AT_ONCE), strict=True)
        measured = torch.cat([self._measured(i, r) for i, r in pairs])
        # From pairs to a table with a line for each query
        order = query.argsort(stable=True)
        query, rows, measured = query[order], rows[order], measured[order]
        count = torch.bincount(query, minlength=q)
        column = torch.arange(len(query), device=device) - (count.cumsum(0) - count)[query]
        distances = measured.new_full((q, int(count.max())), torch.inf)
        found = rows.new_zeros(distances.shape)
        distances[query, column], found[query, column] = measured, rows
        self._add(distances, found)
        return crowded

    def _measured(self, query: Tensor, rows: Tensor) -> Tensor:
        """(n,) distances of n pairs of a query and a row."""
        apart = self.rows.index_select(0, rows).sub_(self.queries.index_select(0, query))
        return torch.linalg.vector_norm(apart, dim=1)

    def _add(self, distances: Tensor, found: Tensor) -> None:
        """(Q, n) distances, and the rows they belong to."""
        self.distances, place = torch.cat([self.distances, distances], 1).topk(self.k, 1, largest=False)
        self.found = torch.cat([self.found, found], 1).gather(1, place)


# --- shadows ----------------------------------------------------------------------------------------------------------


class Shadow:
    """Rows in a form that is cheaper to multiply with; two of them never look farther apart than they are.

    f(x) is x itself, or what p axes A see of it and the length of what they do not see: (A'x, √(|x|² - |A'x|²)).
    Where |A| ≤ 1, what is not seen of two rows has the product x'(I - AA')y, at most the product of these two lengths
    (Cauchy-Schwarz).  So x·y ≤ f(x)·f(y), and |x-y|² ≥ |x|² + |y|² - 2 f(x)·f(y).  It is the same for |x|=|f(x)|.
    """

    def __init__(self, rows: Tensor, centre: Tensor, dtype: torch.dtype, axes: Tensor | None = None) -> None:
        """rows: (M, D).  dtype: bfloat16 or float32.  axes: A (D, p); None: f(x) = x."""
        self._dtype, self._axes = dtype, axes
        self._pieces = 3 if dtype == torch.bfloat16 else 1  # three numbers in bf16 hold one in float32
        self._longest = self._worst = 0.0  # max |r|, max |f(r) - f(r) rounded|
        width = (rows.shape[1] if axes is None else axes.shape[1] + 1) + 2 * self._pieces
        self.table = rows.new_empty(len(rows), width, dtype=dtype)  # (M, width), of -f(r), |r|²/2, 1
        for start in range(0, len(rows), 4096):
            part = slice(start, start + 4096)
            cast, rounded, length = self._cast(rows[part] - centre)
            half = self._in_pieces(length.square() / 2)
            self.table[part] = torch.cat([-rounded, half, torch.ones_like(half)], dim=1)
            self._longest = max(self._longest, float(length.max()))
            self._worst = max(self._worst, float((cast - rounded.float()).norm(dim=1).max()))

    def asked(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """queries: (Q, D), less the centre.  What to multiply `table` with, (width, Q), and `wrong`, (Q,).

        The products are at least 0, and at most |q-r|²/2 + 2 * wrong.
        """
        cast, rounded, length = self._cast(queries)
        # How wrong a product can be: the rounding of rows and queries, and sums in float32.
        wrong = (cast - rounded.float()).norm(dim=1) * self._longest + rounded.float().norm(dim=1) * self._worst
        wrong += (length + self._longest).square() * _rounding(queries)
        half = self._in_pieces(length.square() / 2 + wrong)
        return torch.cat([rounded, torch.ones_like(half), half], dim=1).T.contiguous(), wrong

    def _cast(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, D) → f(x), f(x) rounded, |x|."""
        cast = x if self._axes is None else seen_by(self._axes, x)
        return cast, cast.to(self._dtype), x.norm(dim=1)

    def _in_pieces(self, x: Tensor) -> Tensor:
        """(N,) float32 → (N, pieces), whose sums are as exact."""
        pieces: list[Tensor] = []
        for _ in range(self._pieces):
            pieces.append(x.to(self._dtype))
            x = x - pieces[-1].float()
        return torch.stack(pieces, dim=1)


def seen_by(axes: Tensor, x: Tensor) -> Tensor:
    """(N, D) → (N, p + 1): what the axes see, and the length of the rest, with all that rounding may have taken off it."""
    seen, square = x @ axes, x.square().sum(1)
    rest = (square - seen.square().sum(1)).clamp_min(0) + square * _rounding(x)
    return torch.cat([seen, rest.sqrt()[:, None]], dim=1)


def _rounding(x: Tensor) -> float:
    """More than a sum of so many products errs in float32, as a share of the two lengths."""
    return x.shape[1] * 2.0**-23


SAMPLE = 2048  # rows on which axes are found and tried
KEEPING = 80  # multiplications that take as long as to write down and look at one product
MEASURING = 750  # multiplications that take as long as to find and measure one number of a row


def telling_axes(rows: Tensor, centre: Tensor) -> Tensor | None:
    """(D, p): directions in which the rows vary most, |A| ≤ 1; None where they would not make a search faster.

    rows: (M, D).  How many there are is tried on a sample.
    Source: subspace iteration, Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithm 4.4.
    """
    m, d = rows.shape
    choices = range(29, d // 2 + 1, 32)[:8]  # with three columns more, multiples of 32
    if m < SAMPLE or not choices:
        return None
    sample = rows[torch.linspace(0, m - 1, SAMPLE, dtype=torch.float64).long()] - centre
    axes = torch.randn(d, choices[-1], generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        axes = torch.linalg.qr(sample.T @ (sample @ axes)).Q
    seen = sample @ axes
    if not seen.isfinite().all():
        return None
    axes = axes @ torch.linalg.eigh(seen.T @ seen).eigenvectors.flip(1)  # the most telling first
    wide = axes.double()
    axes = axes / (1 + 1e-5 + float((wide.T @ wide - torch.eye(len(wide.T))).norm()))  # |A| ≤ 1, however that rounded

    def distances(x: Tensor) -> Tensor:
        return torch.cdist(x[::16], x)

    # A new picture's patches lie farther from their nearest row than rows do: about as far as the third nearest.
    limit = distances(sample).kthvalue(4, dim=1, keepdim=True).values  # the first is the row itself

    def cost(p: int) -> float:
        left = (distances(seen_by(axes[:, :p], sample)) <= limit).sum(1).float().mean()  # it hardly depends on M
        return KEEPING + p + MEASURING * d * float(left) / m

    costs = {p: cost(p) for p in choices}
    best = min(choices, key=costs.__getitem__)
    return axes[:, :best].contiguous() if costs[best] < KEEPING + d else None


def fast_bf16(device: torch.device) -> bool:
    """Whether this processor has instructions for products of bf16; a GPU is fast enough without."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in known)
