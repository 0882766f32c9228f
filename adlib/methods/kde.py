"""Kernel density estimate: how likely is such a vector among the normals?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adlib.contract import Tick, setting
from adlib.methods._classical import Arrays, Classical

STEPS = 25  # bandwidths that are compared


@dataclass
class KernelDensity(Classical):
    """-log of the mean of Gaussians of one bandwidth at the normals.  Source: Parzen 1962.

    The bandwidth is the one under which each normal is likeliest given all others.  Few dimensions are kept: with many,
    the density is a nearest neighbour in disguise.
    """

    METHOD: ClassVar[str] = "Kernel density"
    LEARNED: ClassVar = {"rows": "NK", "bandwidth": (1,)}

    dimensions: int = setting(
        32, low=0, high=4096, label="Dimensions",
        help="Keeps so many directions of largest variance among the normals; 0 keeps all channels.",
    )  # fmt: skip
    bandwidth: float = setting(
        0.0, low=0.0, high=1000.0, label="Bandwidth",
        help="Width of the Gaussian at each normal, in standard deviations of a channel; 0 lets the normals decide.",
    )  # fmt: skip

    def _learn(self, rows: np.ndarray, tick: Tick) -> Arrays:
        return {"rows": rows, "bandwidth": np.array([self.bandwidth or _likeliest(rows, tick)])}

    def _strangeness(self, row: np.ndarray, learned: Arrays) -> float:
        squares = ((learned["rows"] - row) ** 2).sum(axis=1)
        return -float(_log_density(squares, learned["bandwidth"][0], learned["rows"].shape[1]))

    def _state_bytes(self, held: int, k: int) -> int:
        return 8 * held * k


def _log_density(squares: np.ndarray, h: float, d: int) -> np.ndarray:
    """squares: (..., N) squared distances to the normals → (...)."""
    terms = -squares / (2 * h * h)
    top = terms.max(axis=-1)
    total = np.log(np.exp(terms - top[..., None]).sum(axis=-1)) + top
    density: np.ndarray = total - math.log(squares.shape[-1]) - d * math.log(h) - d / 2 * math.log(2 * math.pi)
    return density


def _likeliest(rows: np.ndarray, tick: Tick) -> float:
    """The bandwidth of the largest leave-one-out likelihood, of STEPS between a hundredth and three of the spread."""
    from sklearn.metrics import pairwise_distances

    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), 1000)).astype(int)]  # enough to choose one number
    squares = pairwise_distances(some, metric="sqeuclidean")
    others = squares[~np.eye(len(some), dtype=bool)].reshape(len(some), -1)  # (N, N - 1)
    spread = math.sqrt(others.mean() / (2 * rows.shape[1])) or 1.0
    found = []
    for step, h in enumerate(spread * np.geomspace(0.01, 3.0, STEPS)):
        tick(step / STEPS, "choosing the bandwidth: {step} of {steps}", step=step, steps=STEPS)
        found.append((float(_log_density(others, h, rows.shape[1]).mean()), h))
    return max(found)[1]
