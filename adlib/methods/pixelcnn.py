"""PixelCNN: the exact probability of a picture, pixel by pixel, each given all those before it."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass
from typing import ClassVar, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from adlib.contract import Images, Prediction, Tick, setting, silent
from adlib.maps import upsample_blur
from adlib.methods._drawing import (
    Drawing,
    epochs_setting,
    patience_setting,
    pictures_setting,
    rate_setting,
    share_setting,
    sigma_setting,
    size_setting,
    state_of,
)  # fmt: skip
from adlib.methods._networks import device, in_rows, seen
from adlib.methods._reading import part
from adlib.methods._residual import one_number
from adlib.methods._state import learned
from adlib.methods._training import descend, train

FIRST = 7  # side of the first window
SCORES = ("likelihood", "corrected", "top")
SMALL = 16  # side of the picture that stands for an embedding


class Masked(nn.Conv2d):
    """A convolution that looks only at what comes before: rows above, pixels to the left, earlier colours of the pixel.

    Features belong to the colours in turn (feature i to colour i % colours).  now: whether a feature of the same pixel
    and colour may be looked at; it may not in the first layer, where that is the value to be predicted.
    """

    def __init__(self, given: int, made: int, side: int, colours: int, now: bool) -> None:
        super().__init__(given, made, side, padding=side // 2)
        self.looks = (given, made, side, colours, now)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * before(*self.looks, self.weight.device), self.bias)


@functools.lru_cache(maxsize=64)
def before(given: int, made: int, side: int, colours: int, now: bool, place: torch.device) -> Tensor:
    """(made, given, side, side): 1 where a masked convolution may look."""
    mask = torch.ones(made, given, side, side)
    mask[:, :, side // 2, side // 2 + 1 :] = 0
    mask[:, :, side // 2 + 1 :] = 0
    of_made, of_given = torch.arange(made)[:, None] % colours, torch.arange(given)[None] % colours
    mask[:, :, side // 2, side // 2] = (of_given <= of_made if now else of_given < of_made).float()
    return mask.to(place)


class Block(nn.Module):
    """Residual: 1×1 to half the features, 3×3, 1×1 back."""

    def __init__(self, features: int, colours: int) -> None:
        super().__init__()
        half = features // 2
        self.layers = nn.Sequential(
            nn.ReLU(), Masked(features, half, 1, colours, True),
            nn.ReLU(), Masked(half, half, 3, colours, True),
            nn.ReLU(), Masked(half, features, 1, colours, True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x + self.layers(x))


class Net(nn.Module):
    """(B, C, s, s) in [0, 1], cut into `levels` steps → logits (B, levels, C, s, s) of each value, given those before."""

    def __init__(self, colours: int, levels: int, features: int, blocks: int) -> None:
        super().__init__()
        self.colours, self.levels = colours, levels
        features = 2 * colours * max(1, round(features / (2 * colours)))  # whole groups, halved too
        self.layers = nn.Sequential(
            Masked(colours, features, FIRST, colours, False),
            *(Block(features, colours) for _ in range(blocks)),
            nn.ReLU(), Masked(features, features, 1, colours, True),
            nn.ReLU(), Masked(features, levels * colours, 1, colours, True),
        )  # fmt: skip

    def steps(self, x: Tensor) -> Tensor:
        """The picture as whole numbers 0…levels - 1."""
        return (x * self.levels).long().clamp(0, self.levels - 1)

    def forward(self, x: Tensor) -> Tensor:
        given = self.steps(x).float() / (self.levels - 1) * 2 - 1
        b, _, height, width = x.shape
        return cast(Tensor, self.layers(given)).view(b, self.levels, self.colours, height, width)

    def expected(self, x: Tensor) -> Tensor:
        """(B, C, s, s) in [0, 1]: the mean of what may stand at each place, given all that really stands before it."""
        centres = (torch.arange(self.levels, device=x.device) + 0.5) / self.levels
        return torch.einsum("blchw,l->bchw", self(x).softmax(1), centres)

    def bits(self, x: Tensor) -> Tensor:
        """(B, C, s, s): -log2 p of each value, given all those before it.  Their sum is -log2 p of the picture."""
        return F.cross_entropy(self(x), self.steps(x), reduction="none") / math.log(2)


def png_bits(steps: np.ndarray) -> float:
    """Bits that PNG takes for a picture.  steps: (C, s, s) whole numbers below 256."""
    out = io.BytesIO()
    pixels = steps[0] if len(steps) == 1 else steps.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(out, "PNG", compress_level=9)
    return 8.0 * out.tell()


@dataclass
class PixelCNN(Drawing):
    """-log p of a picture in bits a value, exact for the picture as it is cut into levels.

    Its paradox: a picture that is simpler than the normals is often *more* probable than they are, however strange it is.
    The corrected score takes that into account: what the picture costs beyond its size as PNG.
    Source: van den Oord et al. 2016, arXiv:1601.06759; the correction is Serrà et al. 2020, arXiv:1909.11480.
    """

    METHOD: ClassVar[str] = "PixelCNN"

    size: int = size_setting(28, 64)
    levels: int = setting(
        16, low=2, high=256, label="Grey levels",
        help="Steps that each value is cut into; 256 are exact for 8 bits, fewer learn faster.",
    )  # fmt: skip
    features: int = setting(32, low=4, high=256, label="Features", help="Channels of each layer.")
    blocks: int = setting(4, low=1, high=15, label="Blocks", help="Layers in depth; each one sees a pixel further.")
    summary: str = setting(
        "likelihood", choices=SCORES, label="Score",
        help="Bits a value (likelihood), the same less the picture's size as PNG (corrected), or the mean of the top share "
        "of the heatmap.",
    )  # fmt: skip
    share: float = share_setting()
    sigma: float = sigma_setting()
    epochs: int = epochs_setting(30)
    patience: int = patience_setting()
    rate: float = rate_setting()
    max_pictures: int = pictures_setting()
    seed: int = 0

    # --- the fit ---

    def _net(self, channels: int, side: int, dense: bool) -> Net:
        return Net(channels, self.levels, self.features, self.blocks)

    def _side(self, height: int, width: int, dense: bool) -> int:
        return max(8, min(self.size, max(height, width)))

    def _drawn(self, network: Net, x: Tensor) -> Tensor:
        return network.expected(x)  # at each pixel, given those before it

    def _more(self, side: int) -> int:
        return self.levels * 3 * side * side

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        net, pictures, shape = self._begin(normals, part(tick, 0.0, 0.05))
        net.to(device())

        def bits(x: Tensor) -> Tensor:
            return net.bits(x).flatten(1).mean(1)

        step = descend(net, lambda x: bits(x).mean(), self.rate)
        train(net, pictures, self._plan(), step, bits, net.expected, part(tick, 0.05, 1.0))
        return self.restore(state_of(net, shape))

    # --- scoring ---

    def score(self, pixels: Tensor) -> Prediction:
        net, (channels, side, _) = learned(self, "network_"), learned(self, "shape_")
        size = (pixels.shape[-2], pixels.shape[-1])

        def work(some: Tensor) -> tuple[Tensor, Tensor]:
            x = seen(some, channels, side)
            return net.bits(x).sum(1), net.steps(x)

        grid, steps = in_rows(pixels, work)
        heat = upsample_blur(grid, size, self.sigma * max(size) / side)
        # It has no code; the picture itself stands for it.
        small = F.adaptive_avg_pool2d(steps.float(), min(SMALL, side)).flatten(1).numpy()
        if self.summary == "top":
            return Prediction(one_number(grid, heat, "top", self.share).numpy(), heat.numpy(), small)
        scores = one_number(grid, heat, "mean", 1.0).numpy() / np.float32(channels)
        if self.summary == "corrected":
            sizes = [png_bits(one) / one.size for one in steps.to(torch.uint8).numpy()]
            scores = scores - np.array(sizes, np.float32)
        return Prediction(scores, heat.numpy(), small)
