"""GANomaly: how far the code of a picture is from the code of its reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib.contract import Images, Prediction, Tick, setting, silent
from adlib.maps import upsample_blur
from adlib.methods._drawing import (
    epochs_setting,
    pictures_setting,
    share_setting,
    sigma_setting,
    size_setting,
    state_of,
    width_setting,
)  # fmt: skip
from adlib.methods._gan import (
    Adversarial,
    Discriminator,
    Generator,
    adam,
    descended,
    down,
    fake_loss,
    frozen,
    rate_setting,
    real_loss,
    started,
    units,
)  # fmt: skip
from adlib.methods._networks import DENSE_SIDE, device, in_rows, seen
from adlib.methods._reading import part
from adlib.methods._residual import one_number, residual
from adlib.methods._state import learned
from adlib.methods._training import Step, mean_of, train

SCORES = ("auto", "codes", "sum", "mean", "max", "top")


class Encoder(nn.Module):
    """(B, C, s, s) in [0, 1] → (B, code)."""

    def __init__(self, channels: int, side: int, code: int, width: int) -> None:
        super().__init__()
        self.body = down(channels, side, width)
        self.head = nn.Linear(units(side, width), code)
        started(self)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.body(2 * x - 1)))


class Redrawing(nn.Module):
    """Encoder, decoder, encoder.  x → its code z = G_E(x), the picture x̂ = G_D(z), and that one's code ẑ = E(x̂)."""

    def __init__(self, channels: int, side: int, code: int, width: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, side, code, width)
        self.decoder = Generator(channels, side, code, width)
        self.again = Encoder(channels, side, code, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code = self.encoder(x)
        drawn = self.decoder(code)
        return code, drawn, self.again(drawn)


class Net(nn.Module):
    def __init__(self, channels: int, side: int, code: int, width: int) -> None:
        super().__init__()
        self.generator = Redrawing(channels, side, code, width)
        self.discriminator = Discriminator(channels, side, width)

    def forward(self, x: Tensor) -> Tensor:
        """Every layer once, for `traced`."""
        judged: Tensor = self.discriminator(self.generator(x)[1])
        return judged


def distance(code: Tensor, again: Tensor) -> Tensor:
    """(B, D) each → (B,): ‖z - ẑ‖₁ / D."""
    return (code - again).abs().mean(1)


@dataclass
class GANomaly(Adversarial):
    """‖z - ẑ‖₁ of the code z of a picture and the code ẑ of its reconstruction, by an encoder, a decoder and an encoder.

    Loss of the three: 1 · (f(x) - f(x̂))² of the discriminator's features, 50 · |x - x̂| and 1 · (z - ẑ)², each a mean, for
    pixels in [-1, 1].  The score of the codes is the paper's, divided by their width; the heatmap is |x - x̂|.  Unlike in the
    paper's program no test picture has a say in an epoch or in the scale of the scores.  Of larger pictures the codes
    tell little, there the residual itself is the usual score (docs/decisions/0026).
    Source: Akcay et al. 2018, arXiv:1805.06725.
    """

    METHOD: ClassVar[str] = "GANomaly"

    size: int = size_setting(64, 128)
    code: int = setting(
        100, low=1, high=1024, label="Width of the code",
        help="Numbers that a picture has to pass through; with too many, defects are drawn again as well.",
    )  # fmt: skip
    width: int = width_setting()
    contrast: float = setting(
        50.0, low=0.0, high=1000.0, label="Weight of the reconstruction",
        help="How much the pixels count in training, beside codes and discriminator with 1 each.",
    )  # fmt: skip
    summary: str = setting(
        "auto", choices=SCORES, label="Score",
        help="Distance of the two codes (codes, the paper's score), sum or mean of the residual, its largest value, or the "
        "mean of its top share; auto takes the codes for grey pictures of at most 32 pixels, else the top share.",
    )  # fmt: skip
    share: float = share_setting()
    sigma: float = sigma_setting()
    epochs: int = epochs_setting(20)
    rate: float = rate_setting()
    max_pictures: int = pictures_setting()
    seed: int = 0

    # --- the fit ---

    def _net(self, channels: int, side: int, dense: bool) -> Net:
        return Net(channels, side, self.code, self.width)

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        net, pictures, shape = self._begin(normals, part(tick, 0.0, 0.1))
        net.generator.decoder.mean.copy_(mean_of(pictures))
        net.to(device())
        step = redrawn(net, self.rate, self.contrast)
        train(net, pictures, self._plan(), step, show=lambda x: self._drawn(net, x), tick=part(tick, 0.1, 1.0))
        return self.restore(state_of(net, shape))

    # --- scoring ---

    def _drawn(self, network: Any, x: Tensor) -> Tensor:
        return cast(Tensor, network.generator(x)[1])

    def score(self, pixels: Tensor) -> Prediction:
        net, (channels, side, _) = learned(self, "network_"), learned(self, "shape_")
        size = (pixels.shape[-2], pixels.shape[-1])
        summary = self.summary
        if summary == "auto":
            summary = "codes" if channels == 1 and side <= DENSE_SIDE else "top"

        def work(some: Tensor) -> tuple[Tensor, ...]:
            x = seen(some, channels, side)
            code, drawn, again = net.generator(x)
            return residual(x, drawn, "l1"), code, distance(code, again)

        grid, code, apart = in_rows(pixels, work)
        heat = upsample_blur(grid, size, self.sigma * max(size) / side)
        scores = apart if summary == "codes" else one_number(grid, heat, summary, self.share)
        return Prediction(scores.numpy(), heat.numpy(), code.numpy())


def redrawn(net: Net, rate: float, contrast: float) -> Step:
    """A step of the discriminator and one of the three others."""
    to_draw, to_tell = adam(net.generator, rate), adam(net.discriminator, rate)

    def step(x: Tensor) -> dict[str, Tensor]:
        code, drawn, again = net.generator(x)
        real, false = net.discriminator(torch.cat([x, drawn.detach()])).split(len(x))
        told = descended(real_loss(real) + fake_loss(false), to_tell)
        with frozen(net.discriminator):
            with torch.no_grad():
                wanted = net.discriminator.features(x)
            features = F.mse_loss(net.discriminator.features(drawn), wanted)
            pixels, codes = 2 * (x - drawn).abs().mean(), F.mse_loss(again, code)
            descended(features + contrast * pixels + codes, to_draw)
        found = {"pixels": pixels, "codes": codes, "features": features, "discriminator": told}
        return {name: value.detach() for name, value in found.items()}

    return step
