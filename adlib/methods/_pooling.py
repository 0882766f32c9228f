"""A whole picture as one vector a level."""

from __future__ import annotations

import torch
from torch import Tensor


def pooled(maps: list[Tensor]) -> list[Tensor]:
    """(B, C, h, w) a level → (B, C) float32 a level: the mean over all positions.

    Each picture is averaged by itself: a mean over a batch may add in another order.
    """
    return [torch.stack([one.mean(dim=(1, 2)) for one in level]) for level in maps]
