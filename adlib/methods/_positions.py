"""A Gaussian at each of P positions: running moments, whitening factors, and distances from the mean.

Large arrays are taken once and written in place: fresh memory costs more here than the arithmetic.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from adlib.contract import DataError, Tick, silent
from adlib.threads import in_slices

TOGETHER = 32  # pictures added to the moments at once: each pass goes through all P covariances
POSITIONS = 64  # worked on at once by one thread: their covariances stay in its cache
ROWS = 4  # pictures whitened at once, always exactly so many: the same products for a picture alone and in any batch
AT_ONCE = 512  # positions whitened at once by one thread
# A factor is kept as so many strips of columns, each only as long as it is not 0: 5/8 or 3/4 of the memory.  Two strips are
# faster where the products themselves cost little.
STRIPS = {torch.float32: 4, torch.bfloat16: 2}
PICTURES = 16  # whitened at once in bf16


class Moments:
    """Running mean and covariance of vectors at P positions.

    Sums are taken about the mean of the first pictures: about 0, float32 would lose the variance of a channel whose mean
    is large.
    """

    def __init__(self, pictures: int, like: Tensor) -> None:
        """pictures: how many there will be, at most.  like: (B, P, C), any of them."""
        _, p, c = like.shape
        self.n = 0
        self.sum = like.new_zeros(p, c)
        self.outer = like.new_zeros(p, c, c)
        self._shift: Tensor | None = None  # (P, 1, C)
        self._waiting = like.new_empty(p, min(pictures, TOGETHER), c)
        self._filled = 0

    def add(self, x: Tensor) -> None:
        """x: (B, P, C)."""
        while len(x):
            some = x[: self._waiting.shape[1] - self._filled]
            self._waiting[:, self._filled : self._filled + len(some)] = some.transpose(0, 1)
            self._filled += len(some)
            x = x[len(some) :]
            if self._filled == self._waiting.shape[1]:
                self._flush()

    def _flush(self) -> None:
        if not self._filled:
            return
        x = self._waiting[:, : self._filled]  # (P, B, C)
        if self._shift is None:
            self._shift = x.mean(1, keepdim=True)
        x -= self._shift
        self.sum += x.sum(1)
        self.n += self._filled
        self._filled = 0
        if x.device.type != "cpu":
            self.outer.baddbmm_(x.mT, x)
            return
        given, outer = x.numpy(), self.outer.numpy()

        def multiply(part: slice) -> None:  # numpy: two thirds of torch's time for many small products
            outer[part] += given[part].transpose(0, 2, 1) @ given[part]

        for _ in in_slices(len(x), POSITIONS, multiply):
            pass

    def mean(self) -> Tensor:
        """(P, C), μ."""
        self._flush()
        assert self._shift is not None
        return self._shift[:, 0] + self.sum / self.n

    def covariance(self) -> Tensor:
        """(P, C, C), with n - 1 in the denominator.  Takes the place of the sums: nothing can be added afterwards."""
        self._flush()
        mean = self.sum / self.n
        self.outer.baddbmm_(mean[:, :, None], mean[:, None, :], alpha=-self.n)
        return self.outer.div_(self.n - 1)


def whitening(covariance: Tensor, epsilon: float, tick: Tick = silent) -> Tensor:
    """(P, C, C) covariances → the transposed inverse factors (L⁻¹)ᵀ of S = covariance + εI = L Lᵀ, in the same memory.

    Raises DataError when one of them cannot be factorised.
    """
    p, c, _ = covariance.shape
    unit = torch.eye(c, dtype=torch.float64, device=covariance.device)

    def factorise(part: slice) -> None:
        s = covariance[part].double() + epsilon * unit  # float64: small eigenvalues decide the distance
        lower, failed = torch.linalg.cholesky_ex(s)
        if failed.any():
            raise DataError(
                "PaDiM cannot invert the covariance of {n} positions. Raise 'Regularisation' (now {epsilon:g}).",
                n=int((failed != 0).sum()), epsilon=epsilon,
            )  # fmt: skip
        covariance[part] = torch.linalg.solve_triangular(lower, unit.expand_as(lower), upper=False).mT

    for done in in_slices(p, POSITIONS if covariance.device.type == "cpu" else p, factorise):
        tick(done / p, "factorising covariances: {done} of {p} positions", done=done, p=p)
    return covariance


# --- factors and distances --------------------------------------------------------------------------------------------


def strips_of(c: int, strips: int) -> list[tuple[int, int]]:
    """(rows, columns) of each strip of a (C, C) upper triangle: as many rows as reach down to its last column."""
    ends = [c * i // strips for i in range(strips + 1)]
    return [(end, end - start) for start, end in pairwise(ends) if end > start]


def length(c: int, dtype: torch.dtype) -> int:
    """L, values of one factor in all its strips."""
    return sum(rows * columns for rows, columns in strips_of(c, STRIPS[dtype]))


def packed(factor: Tensor, dtype: torch.dtype) -> Tensor:
    """(P, C, C) upper triangles → (P * L,): the first strip of all positions, then the second of all, and so on."""
    p, c, _ = factor.shape
    made = factor.new_empty(p * length(c, dtype), dtype=dtype)
    for strip in unpacked(made, p, c):
        rows, columns = strip.shape[1:]
        strip.copy_(factor[:, :rows, rows - columns : rows])
    return made


def unpacked(factor: Tensor, p: int, c: int) -> list[Tensor]:
    """(P * L,) → the strips (P, rows, columns) in the same memory."""
    shapes = [(p, rows, columns) for rows, columns in strips_of(c, STRIPS[factor.dtype])]
    return [part.view(shape) for part, shape in zip(factor.split(list(map(math.prod, shapes))), shapes, strict=True)]


def lengths(x: Tensor, mean: Tensor, strips: list[Tensor]) -> Tensor:
    """|L⁻¹ (x - μ)|: x (B, P, C), mean (P, C), the strips of (L⁻¹)ᵀ → (B, P)."""
    if strips[0].dtype == torch.float32 and x.device.type == "cpu":
        return _by_numpy(x, mean, strips)
    return torch.cat([_by_torch(some, mean, strips) for some in x.split(PICTURES)])


def _by_torch(x: Tensor, mean: Tensor, strips: list[Tensor]) -> Tensor:
    """In bf16 a third to a seventh of the time of float32 on a processor with tiles: half the bytes, and products that cost
    next to nothing.  The difference from the mean is taken in float32, lengths are added up in float32."""
    alone = len(x) == 1
    if alone:  # oneDNN multiplies a single row by other means than two, and other bits come out
        x = x.expand(2, -1, -1)
    rows = (x.transpose(0, 1) - mean[:, None]).to(strips[0].dtype)  # (P, B, C)
    squares = torch.zeros(rows.shape[:2], device=rows.device)
    for strip in strips:
        whitened = torch.bmm(rows[..., : strip.shape[1]], strip)
        squares += torch.linalg.vector_norm(whitened, dim=2, dtype=torch.float32).square_()
    return squares.sqrt_().T[: 1 if alone else None]


def _by_numpy(x: Tensor, mean: Tensor, strips: list[Tensor]) -> Tensor:
    """For many small products of float32 torch takes 3 times as long as numpy."""
    b, (p, c) = len(x), mean.shape
    full = -(-b // ROWS) * ROWS
    found = np.empty((p, full), np.float32)
    given, centre, by = x.numpy(), mean.numpy(), [strip.numpy() for strip in strips]

    def whiten(part: slice) -> None:
        rows = np.zeros((part.stop - part.start, full, c), np.float32)
        np.subtract(given[:, part].transpose(1, 0, 2), centre[part, None], out=rows[:, :b])
        for start in range(0, full, ROWS):  # all pictures, while the factors of these positions are near the processor
            some = rows[:, start : start + ROWS]
            whitened = [some[..., : strip.shape[1]] @ strip[part] for strip in by]
            np.sqrt(sum(np.einsum("prc,prc->pr", y, y) for y in whitened), out=found[part, start : start + ROWS])

    for _ in in_slices(p, AT_ONCE, whiten):
        pass
    return torch.from_numpy(found[:, :b]).T
