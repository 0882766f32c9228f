"""Local outlier factor: is the picture lonelier than the normals around it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adlib.contract import Tick, setting
from adlib.methods._classical import Arrays, Classical


@dataclass
class LocalOutlierFactor(Classical):
    """The density of x's neighbours over the density at x; about 1 among normals.  Source: Breunig et al. 2000.

    Density is 1 / the mean over the k nearest normals b of max(distance of b to its own k-th neighbour, |x - b|).
    """

    METHOD: ClassVar[str] = "Local outlier factor"
    LEARNED: ClassVar = {"rows": "NK", "reach": "N", "density": "N"}

    k: int = setting(
        20, low=1, high=200, label="Neighbours", help="How many nearest normals tell how dense it is there."
    )

    def _learn(self, rows: np.ndarray, tick: Tick) -> Arrays:
        from sklearn.neighbors import NearestNeighbors

        k = min(self.k, len(rows) - 1)
        distances, found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows).kneighbors()  # itself left out
        reach = distances[:, -1]
        return {"rows": rows, "reach": reach, "density": _density(np.maximum(distances, reach[found]))}

    def _strangeness(self, row: np.ndarray, learned: Arrays) -> float:
        squares = ((learned["rows"] - row) ** 2).sum(axis=1)
        near = np.argsort(squares, kind="stable")[: min(self.k, len(squares) - 1)]
        density = _density(np.maximum(np.sqrt(squares[near]), learned["reach"][near]))
        return float(learned["density"][near].mean() / density)

    def _state_bytes(self, held: int, k: int) -> int:
        return 8 * held * (k + 2)


def _density(distances: np.ndarray) -> np.ndarray:
    """(..., k) → (...): finite also where k normals are the same picture."""
    density: np.ndarray = 1 / (distances.mean(axis=-1) + 1e-10)
    return density
