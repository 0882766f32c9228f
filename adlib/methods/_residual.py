"""How far a picture is from its reconstruction: a map of it, and one number.

x, y: (B, C, s, s) in [0, 1], the picture and its reconstruction; both in the same range, as SSIM's constants ask.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

MEASURES = ("l1", "l2", "ssim")
SCORES = ("auto", "sum", "mean", "max", "top")
_C1, _C2 = 0.01**2, 0.03**2  # for values in [0, 1]
_WINDOW, _SIGMA = 11, 1.5


def residual(x: Tensor, y: Tensor, measure: str) -> Tensor:
    """(B, s, s): the sum over channels of |x - y| or (x - y)², or the mean of 1 - SSIM."""
    if measure == "ssim":
        return (1 - ssim(x, y)).mean(1)
    return ((x - y).abs() if measure == "l1" else (x - y).square()).sum(1)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """(B, C, s, s): structural similarity at each pixel and channel, 1 = the same, at least -1.

    An 11×11 Gaussian window of sigma 1.5, whose weights add up to 1 at the border too; means, variances and the
    covariance all use these same weights.  Source: Wang et al. 2004, IEEE TIP 13(4).
    """
    blur = _window(x.shape[-1]).to(x)

    def mean(values: Tensor) -> Tensor:
        return blur @ values @ blur.T

    mx, my = mean(x), mean(y)
    vx = (mean(x * x) - mx * mx).clamp(min=0)
    vy = (mean(y * y) - my * my).clamp(min=0)
    both = mean(x * y) - mx * my
    return ((2 * mx * my + _C1) * (2 * both + _C2)) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))


@functools.lru_cache(maxsize=16)
def _window(side: int) -> Tensor:
    """(side, side): row i holds the window's weights about pixel i."""
    apart = torch.arange(side, dtype=torch.float64)[:, None] - torch.arange(side)
    weights = torch.exp(-0.5 * (apart / _SIGMA) ** 2) * (apart.abs() <= _WINDOW // 2)
    return (weights / weights.sum(1, keepdim=True)).float()


def one_number(grid: Tensor, smooth: Tensor, score: str, share: float) -> Tensor:
    """(B,): sum or mean of the map itself, largest value or mean of the largest share of the smoothed one.

    grid: (B, s, s).  smooth: (B, H, W).  score: one of SCORES but "auto".  share: in (0, 1].
    """
    if score == "sum":
        return grid.flatten(1).double().sum(1).float()
    if score == "mean":
        return grid.flatten(1).double().mean(1).float()
    values = smooth.flatten(1)
    k = 1 if score == "max" else max(1, round(share * values.shape[1]))
    return values.topk(k, dim=1).values.double().mean(1).float()
