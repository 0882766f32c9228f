"""The backbones that ship with adlib: a small network of 3x3 convolutions, trained on pictures made by formula.

It stands behind the name "offline" with the same stages as a ResNet, so that the app finds defects from the first minute
without a download.  "offline_pure" is the same network with weights that no teacher helped to find.  How both were made is
told in assets/weights/README.md; `training/` makes them again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from adlib import states, weights

STRIDES = (4, 8, 16)
FILES = {
    name: Path(__file__).resolve().parents[1] / "assets" / "weights" / f"{name}.safetensors"
    for name in weights.BUILT_IN
}


@dataclass(frozen=True)
class Form:
    """What a file of weights decides beside the weights.  A file says it, so that its hash stands for all of it.

    stem, widths: channels after the first convolution, and of the maps of each stage.
    channels: what each stage answers with, by a last 1x1 convolution; None for the stage's own maps.
    padding: what every 3x3 convolution sees beyond the border, "zeros" or the cells inside mirrored, "reflect".
    """

    stem: int = 32
    widths: tuple[int, ...] = (64, 128, 256)
    channels: tuple[int, ...] | None = None
    padding: str = "zeros"


def conv3x3(given: int, made: int, stride: int, padding: str, bias: bool = True) -> nn.Conv2d:
    """What maps are convolved with, once `BORDERS` has continued them."""
    return nn.Conv2d(given, made, 3, stride, padding=1 if padding == "zeros" else 0, bias=bias)


def mirrored(x: Tensor) -> Tensor:
    """x (B, C, h, w) with one more cell on each side: the second one inside, or the only one there is.

    Of a picture, which has three channels, torch's own `pad` takes as long as the convolution after it.
    """
    b, c, h, w = x.shape
    if c > 4 and min(h, w) > 1:
        return F.pad(x, (1, 1, 1, 1), mode="reflect")
    whole = x.new_empty(b, h + 2, w + 2, c).permute(0, 3, 1, 2)
    whole[:, :, 1:-1, 1:-1] = x
    row, column = min(1, h - 1), min(1, w - 1)
    whole[:, :, 1:-1, 0], whole[:, :, 1:-1, -1] = x[..., column], x[..., w - 1 - column]
    whole[:, :, 0], whole[:, :, -1] = whole[:, :, 1 + row], whole[:, :, h - row]
    return whole


def unchanged(x: Tensor) -> Tensor:
    return x


BORDERS = {"zeros": unchanged, "reflect": mirrored}  # by `Form.padding`; convolutions add zeros themselves
Maker = Callable[[int, int, int, str], nn.Module]


class Block(nn.Module):
    """Two convolutions and a way past them (He et al. 2016)."""

    def __init__(self, width: int, padding: str, conv: Maker) -> None:
        super().__init__()
        self.border, self.relu = BORDERS[padding], nn.ReLU(inplace=True)
        self.first, self.second = conv(width, width, 1, padding), conv(width, width, 1, padding)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.first(self.border(x)))
        return F.relu(self.second(self.border(y)) + x, inplace=True)


class OfflineNet(nn.Module):
    """x (B, 3, H, W), standardised → the maps (B, C, h, w) of the stages asked for, low to high.

    conv: makes every 3x3 convolution; training passes one that normalises, whose folded twin ships.
    """

    def __init__(self, stages: tuple[int, ...], form: Form, conv: Maker = conv3x3) -> None:
        super().__init__()
        self.stages, self.form = stages, form
        self.border = BORDERS[form.padding]
        self.stem, self.relu = conv(3, form.stem, 2, form.padding), nn.ReLU(inplace=True)
        self.down, self.blocks, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.relus = nn.ModuleList()  # one a place: `folding.fused` tells by it what follows which convolution
        given = form.stem
        for stage in range(max(stages) + 1):
            made = form.widths[stage]
            self.down.append(conv(given, made, 2, form.padding))
            self.relus.append(nn.ReLU(inplace=True))
            self.blocks.append(Block(made, form.padding, conv))
            self.heads.append(nn.Conv2d(made, form.channels[stage], 1) if form.channels else nn.Identity())
            given = made

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.relu(self.stem(self.border(x)))
        maps = []
        parts = zip(self.down, self.relus, self.blocks, self.heads, strict=True)
        for stage, (down, relu, block, head) in enumerate(parts):
            x = block(relu(down(self.border(x))))
            if stage in self.stages:
                maps.append(head(x))
        return maps


def form(name: str) -> Form:
    """Of a file that ships.  Raises DataError when it is damaged."""
    file = FILES[name]
    shapes, said = states.shapes(file), weights.about(file)
    try:
        stem, *widths = (shapes[f"{part}.weight"][0] for part in ("stem", "down.0", "down.1", "down.2"))
    except (KeyError, IndexError) as error:
        raise weights.damaged(file, error) from None
    heads = tuple(shapes[f"heads.{stage}.weight"][0] for stage in range(3) if f"heads.{stage}.weight" in shapes)
    return Form(stem, tuple(widths), heads or None, said.get("padding", "zeros"))


def channels(name: str) -> tuple[int, ...]:
    """Of each stage, as the file has them."""
    found = form(name)
    return found.channels or found.widths


def skeleton(name: str, stages: tuple[int, ...], device: str) -> OfflineNet:
    """The network without weights, cut after its last stage."""
    return OfflineNet(stages, form(name)).to(device)


def load(name: str, stages: tuple[int, ...]) -> OfflineNet:
    """The network with its weights, cut after its last stage.  Raises DataError when the file is damaged."""
    net = OfflineNet(stages, form(name))
    net.load_state_dict(states.read(FILES[name], net.state_dict()))
    return net
