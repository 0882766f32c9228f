"""The backbone that needs no download and no training: colours, contrast and oriented edges at three scales.

It stands behind the name "offline" with the same interface as a network, so that the app works anywhere from the first
minute.  Each stage sees the picture at half the resolution of the one before and answers with one vector a cell: local
means and deviations of three colour axes, and the energies of Gabor filters in six directions and two wavelengths, each
as a share of all of them, as cells in the visual cortex are normalised by their neighbours (Heeger 1992).
Roots are taken of what is never negative, so that a few strong edges do not drown weak texture in a Euclidean distance.
"""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (4, 8, 16)
ANGLES = 6
WAVELENGTHS = (3.0, 6.0)  # pixels at twice the resolution of the stage's grid
REACH = 5  # a filter is 2 * REACH + 1 pixels wide

# Luminance, red against green, blue against yellow: the axes along which the colours of pictures vary independently.
AXES = ((1 / 3, 1 / 3, 1 / 3), (0.5, -0.5, 0.0), (-0.25, -0.25, 0.5))

# Chosen by a patch nearest-neighbour on a few real sets so that no group of channels dominates the distance.
COLOUR_GAIN = 2.0  # of the two colour axes, whose range is smaller than that of luminance
ENERGY_GAIN = 0.225
QUIET = 0.01  # energy, as a share of full contrast, below which a patch counts as flat rather than as faint texture

FORMULA = (
    2  # goes up with every change to what the filter bank answers, for runs remember which one they were fitted with
)


def digest() -> str:
    """sha256 of all that decides what the filter bank answers: it has no weights file that could be hashed."""
    facts = (FORMULA, STRIDES, ANGLES, WAVELENGTHS, REACH, AXES, COLOUR_GAIN, ENERGY_GAIN, QUIET)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


class FilterBank(nn.Module):
    """pixels (B, 3, H, W) in [0, 1] → one map (B, C, H/4, W/4), (B, C, H/8, W/8) or (B, C, H/16, W/16) a stage."""

    axes: Tensor
    gabor: Tensor
    channels = (6 + ANGLES * len(WAVELENGTHS),) * len(STRIDES)
    strides = STRIDES

    def __init__(self, stages: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        self.stages = stages
        self.register_buffer("axes", torch.tensor(AXES)[:, :, None, None])
        self.register_buffer("gabor", _gabor())

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = F.conv2d(pixels, self.axes)
        maps = []
        for stage in range(max(self.stages) + 1):
            x = F.avg_pool2d(x, 2, ceil_mode=True)
            if stage in self.stages:
                maps.append(self._stage(x))
        return maps

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds for one picture: nearly all of them in the Gabor filters."""
        cells = sum((height // STRIDES[stage]) * (width // STRIDES[stage]) for stage in self.stages)
        return 9 * height * width + cells * self.gabor.numel()

    def _stage(self, x: Tensor) -> Tensor:
        """x: (B, 3, 2h, 2w), the colour axes at twice the resolution of the stage's grid → (B, C, h, w)."""
        mean = _local(F.avg_pool2d(x, 2, ceil_mode=True))
        square = _local(F.avg_pool2d(x * x, 2, ceil_mode=True))
        deviation = (square - mean * mean).clamp_min(0).add(1e-4).sqrt()  # a variance under 1e-4 is camera noise
        around = F.pad(x[:, :1], (REACH,) * 4, mode="replicate")  # so that the border is no edge
        even, odd = F.conv2d(around, self.gabor, stride=2).chunk(2, dim=1)  # (B, K, h, w) each
        energy = _local((even * even + odd * odd + 1e-8).sqrt())
        share = energy / (QUIET + energy.mean(dim=1, keepdim=True))
        luminance, colours = mean[:, :1], COLOUR_GAIN * mean[:, 1:]
        return torch.cat([luminance, colours, deviation.sqrt(), (ENERGY_GAIN * share).add(1e-4).sqrt()], dim=1)


def _local(x: Tensor) -> Tensor:
    """The mean over 3x3 cells, fewer at the border."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _gabor() -> Tensor:
    """(2 K, 1, side, side): K even filters, then their K odd twins.  Flat light gives no answer, full contrast about 1."""
    axis = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    even, odd = [], []
    for wavelength in WAVELENGTHS:
        envelope = torch.exp(-(x * x + y * y) / (2 * (0.4 * wavelength) ** 2))
        envelope /= envelope.sum()
        for k in range(ANGLES):
            angle = math.pi * k / ANGLES
            phase = 2 * math.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle))
            cosine = envelope * phase.cos()
            even.append(cosine - envelope * cosine.sum())
            odd.append(envelope * phase.sin())
    return torch.stack(even + odd)[:, None].float()
