"""The backbone that ships with adlib: a small network of 3x3 convolutions, trained on pictures made by formula.

It stands behind the name "offline" with the same stages as a ResNet, so that the app finds defects from the first minute
without a download.  How its weights were made is told in assets/weights/README.md; `training/` makes them again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from adlib import states

STRIDES = (4, 8, 16)
STEM = 32
WIDTHS = (64, 128, 256)
FILE = Path(__file__).resolve().parents[1] / "assets" / "weights" / "offline.safetensors"

Conv = Callable[[int, int, int], nn.Module]


def conv(given: int, made: int, stride: int) -> nn.Module:
    """A 3x3 convolution with a bias."""
    return nn.Conv2d(given, made, 3, stride, padding=1)


class Block(nn.Module):
    """Two convolutions and a way past them (He et al. 2016)."""

    def __init__(self, width: int, conv: Conv) -> None:
        super().__init__()
        self.first, self.second = conv(width, width, 1), conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x), inplace=True)
        return F.relu(self.second(y) + x, inplace=True)


class OfflineNet(nn.Module):
    """x (B, 3, H, W), standardised → the maps (B, C, h, w) of the stages asked for, low to high.

    channels: what each stage answers with, by a last 1x1 convolution; None for the stage's own maps.
    conv: makes every 3x3 convolution; training passes one that normalises, whose folded twin ships.
    """

    def __init__(self, stages: tuple[int, ...], channels: tuple[int, ...] | None, conv: Conv = conv) -> None:
        super().__init__()
        self.stages = stages
        self.stem = conv(3, STEM, 2)
        self.down, self.blocks, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        given = STEM
        for stage in range(max(stages) + 1):
            made = WIDTHS[stage]
            self.down.append(conv(given, made, 2))
            self.blocks.append(Block(made, conv))
            self.heads.append(nn.Conv2d(made, channels[stage], 1) if channels else nn.Identity())
            given = made

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.stem(x), inplace=True)
        maps = []
        for stage, (down, block, head) in enumerate(zip(self.down, self.blocks, self.heads, strict=True)):
            x = block(F.relu(down(x), inplace=True))
            if stage in self.stages:
                maps.append(head(x))
        return maps


def channels() -> tuple[int, ...]:
    """Of each stage, as the file has them."""
    heads = _heads()
    return heads or WIDTHS


def skeleton(stages: tuple[int, ...], device: str) -> OfflineNet:
    """The network without weights, cut after its last stage."""
    return OfflineNet(stages, _heads()).to(device)


def load(stages: tuple[int, ...]) -> OfflineNet:
    """The network with its weights, cut after its last stage.  Raises DataError when the file is damaged."""
    net = OfflineNet(stages, _heads())
    net.load_state_dict(states.read(FILE, net.state_dict()))
    return net


def _heads() -> tuple[int, ...] | None:
    shapes = states.shapes(FILE)
    found = tuple(shapes[f"heads.{stage}.weight"][0] for stage in range(3) if f"heads.{stage}.weight" in shapes)
    return found or None
