"""Mean, covariance and Ledoit-Wolf shrinkage of a stream of vectors, in one pass and constant memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FLOOR = 1e-9  # least share of the shrinkage target: two pictures alone have a shrinkage of 0 and a singular covariance


class Shrunk(NamedTuple):
    """mean: (k,).  covariance: (k, k), as large as `sklearn.covariance.LedoitWolf().covariance_`.  shrinkage: ρ in [0, 1]."""

    mean: Tensor
    covariance: Tensor
    shrinkage: float


class Stream:
    """What has to be summed over n vectors x in k dimensions, in float64 and about the mean of the first ones."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, x: Tensor) -> None:
        """x: (B, k)."""
        x = x.double()
        if not self.n:
            self.shift = x.mean(0)
            k = x.shape[1]
            self.sum, self.outer = x.new_zeros(k), x.new_zeros(k, k)
            self.cubic, self.quartic = x.new_zeros(k), x.new_zeros(())
        y = x - self.shift
        squares = y.square().sum(1)  # |y|²
        self.n += len(y)
        self.sum += y.sum(0)
        self.outer.addmm_(y.T, y)
        self.cubic += squares @ y  # sum of |y|² y
        self.quartic += squares @ squares  # sum of |y|⁴

    def mean(self) -> Tensor:
        return self.shift + self.sum / self.n

    def covariance(self) -> Tensor:
        """(k, k), S, with n in the denominator."""
        offset = self.sum / self.n
        return self.outer / self.n - torch.outer(offset, offset)

    def fourth(self) -> float:
        """Mean of |x - mean|⁴, from the sums: with y about another point d away, |y - d|² = |y|² - 2 y·d + |d|²."""
        d = self.sum / self.n
        square, along, dd = self.outer.trace() / self.n, d @ self.outer @ d / self.n, d @ d
        return float(self.quartic / self.n - 4 * (self.cubic @ d) / self.n + 4 * along + 2 * dd * square - 3 * dd * dd)

    def shrunk(self) -> Shrunk:
        """Σ = (1 - ρ) S + ρ (tr S / k) I, with the ρ that is expected to lie nearest to the truth.

        Source: Ledoit and Wolf 2004, in the form of scikit-learn's `ledoit_wolf`.
        """
        s = self.covariance()
        k = len(s)
        target = float(s.trace()) / k
        size = float(s.square().sum())  # |S|²
        spread = (self.fourth() - size) / (k * self.n)  # how much S itself varies from sample to sample
        distance = (size - k * target**2) / k  # |S - target I|² / k
        rho = min(spread, distance) / distance if min(spread, distance) > 0 else 0.0
        s *= 1 - max(rho, FLOOR)
        s.diagonal().add_(max(rho, FLOOR) * target or 1e-12)  # or: all vectors are the same
        return Shrunk(self.mean(), s, rho)
