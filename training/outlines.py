"""What an outline is, by formula: targets that a network without a teacher has to read out of a disturbed picture.

Features that are told only what changed forget where; these keep it.  In the spirit of MaskFeat (2112.09133), which predicts
histograms of oriented gradients.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ANGLES = 8
CHANNELS = 2 * (ANGLES + 1) + 3


def outlines(x: Tensor, stride: int) -> Tensor:
    """x (B, 3, H, W) in [0, 1] → (B, CHANNELS, H / stride, W / stride).

    At two scales, half a cell and a quarter: how much of the gradient lies in each of eight directions (without sign, as a
    share of what lies around) and how strong it all is (logarithm); then each cell's grey and two colours against its surround.
    """
    grey = x.mean(1, keepdim=True)
    planes = torch.cat([grey, x[:, :1] - x[:, 1:2], x[:, 2:] - x[:, :2].mean(1, keepdim=True)], 1)
    found = []
    for side in (stride // 4, stride // 2):
        p = _around(F.avg_pool2d(planes, side), 1)
        gx, gy = (p[..., 1:-1, 2:] - p[..., 1:-1, :-2]) / 2, (p[..., 2:, 1:-1] - p[..., :-2, 1:-1]) / 2
        size, plane = (gx * gx + gy * gy + 1e-8).sqrt().max(1, keepdim=True)  # the plane in which it is strongest
        gx, gy = gx.gather(1, plane), gy.gather(1, plane)
        angles = (2 * math.pi / ANGLES * torch.arange(ANGLES))[:, None, None]  # of twice the direction
        along = ((gx * gx - gy * gy) * torch.cos(angles) + 2 * gx * gy * torch.sin(angles)) / size
        shares = F.avg_pool2d(F.relu(along - size / 2), stride // side)
        energy = F.avg_pool2d(_around(shares.square().sum(1, keepdim=True), 1), 3, 1)
        found += [shares / (energy.sqrt() + 0.01), (energy + 1e-5).log() / 4]
    cells = F.avg_pool2d(planes, stride)
    apart = cells - F.avg_pool2d(_around(cells, 2), 5, 1)
    found.append(apart / (F.avg_pool2d(_around(apart.square(), 2), 5, 1).sqrt() + 0.02))
    return torch.cat(found, 1)


def _around(x: Tensor, cells: int) -> Tensor:
    return F.pad(x, (cells,) * 4, mode="replicate")
