"""One-class SVM: the smallest smooth region of the embedding that holds nearly all normals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adlib.contract import Tick, setting
from adlib.methods._classical import Arrays, Classical


@dataclass
class OneClassSVM(Classical):
    """rho - sum of alpha_i exp(-gamma |x - x_i|²) over the support vectors x_i: above 0 lies outside the region.

    Source: Schölkopf et al. 2001, "Estimating the support of a high-dimensional distribution"; fitted by scikit-learn.
    """

    METHOD: ClassVar[str] = "One-class SVM"
    LEARNED: ClassVar = {"support": "SK", "alpha": "S", "rho": (1,), "gamma": (1,)}

    nu: float = setting(
        0.05, low=0.001, high=0.999, label="Share outside",
        help="At most this share of the normals is left outside the region, and at least so many of them shape it.",
    )  # fmt: skip
    width: float = setting(
        1.0, low=0.01, high=100.0, label="Kernel width",
        help="Widens or narrows the kernel; 1 is as wide as the normals are spread on average.",
    )  # fmt: skip

    def _learn(self, rows: np.ndarray, tick: Tick) -> Arrays:
        from sklearn.svm import OneClassSVM as Fitted

        variance = float(rows.var())
        gamma = 1 / (self.width**2 * rows.shape[1] * variance) if variance > 0 else 1.0
        found = Fitted(kernel="rbf", gamma=gamma, nu=self.nu, tol=1e-6).fit(rows)
        return {
            "support": found.support_vectors_, "alpha": found.dual_coef_[0],
            "rho": np.atleast_1d(found.offset_).astype(np.float64), "gamma": np.array([gamma]),
        }  # fmt: skip

    def _strangeness(self, row: np.ndarray, learned: Arrays) -> float:
        near = np.exp(-learned["gamma"][0] * ((learned["support"] - row) ** 2).sum(axis=1))
        return float(learned["rho"][0] - learned["alpha"] @ near)

    def _state_bytes(self, held: int, k: int) -> int:
        return 8 * held * (k + 1)  # at most, when every normal is a support vector
