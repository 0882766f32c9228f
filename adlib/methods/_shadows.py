"""Shorter forms of rows, in which no two look farther apart than they are: what a search can exclude rows by."""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLE = 2048  # rows on which axes are found and tried
KEEPING = 80  # multiplications that take as long as to write down and look at one product
MEASURING = 750  # multiplications that take as long as to find and measure one number of a row


class Shadow:
    """Rows in a form that is cheaper to multiply with, in which no two look farther apart than they are.

    f(x) is x itself, or what p axes A see of it and the length of what they do not see: (A'x, √(|x|² - |A'x|²)).
    As |A| ≤ 1, what is not seen of two rows adds x'(I - AA')y to their product: at most the product of these two lengths
    (Cauchy-Schwarz).  So x·y ≤ f(x)·f(y), and |x - y|² ≥ |x|² + |y|² - 2 f(x)·f(y).
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
    spread = seen.T @ seen
    if not spread.isfinite().all():
        return None
    axes = axes @ torch.linalg.eigh(spread).eigenvectors.flip(1)  # the most telling first
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
