"""Skip-GANomaly: a U-Net draws the picture again; pixels and the discriminator's features tell what it could not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib.contract import Images, Tick, setting, silent
from adlib.methods._drawing import (
    epochs_setting,
    noise_setting,
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
    adam,
    descended,
    fake_loss,
    frozen,
    rate_setting,
    real_loss,
    started,
    summary_setting,
    weight_setting,
)  # fmt: skip
from adlib.methods._networks import device, halvings
from adlib.methods._reading import part
from adlib.methods._training import Step, mean_of, train


class UNet(nn.Module):
    """(B, C, s, s) in [0, 1] → the same, drawn again.  Every level hands its maps across to the level that draws.

    It is halved down to 4 to 8 cells a side; begins with drawing the mean of the normals.
    """

    mean: Tensor

    def __init__(self, channels: int, side: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, side, side))
        times = halvings(side)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for i in range(times):
            given, made = (width << (i - 1) if i else channels), width << i
            norm = [nn.GroupNorm(1, made)] if i else []
            self.downs.append(nn.Sequential(nn.Conv2d(given, made, 4, 2, 1), *norm, nn.LeakyReLU(0.2)))
        for i in reversed(range(times)):
            given, made = (width << i) * (1 if i == times - 1 else 2), (width << (i - 1) if i else channels)
            after = [nn.GroupNorm(1, made), nn.ReLU()] if i else []
            self.ups.append(nn.Sequential(nn.ConvTranspose2d(given, made, 4, 2, 1), *after))
        started(self)

    def levels(self, x: Tensor) -> list[Tensor]:
        """Maps (B, width · 2^i, s / 2^(i + 1), …), from fine to coarse; the last one is the bottleneck."""
        found = [self.downs[0](2 * x - 1)]
        for layer in self.downs[1:]:
            found.append(layer(found[-1]))
        return found

    def drawn(self, levels: list[Tensor]) -> Tensor:
        y = self.ups[0](levels[-1])
        for layer, across in zip(self.ups[1:], reversed(levels[:-1]), strict=True):
            y = layer(torch.cat([y, across], dim=1))
        return torch.sigmoid(torch.logit(self.mean, eps=0.01) + y)

    def forward(self, x: Tensor) -> Tensor:
        return self.drawn(self.levels(x))


class Net(nn.Module):
    def __init__(self, channels: int, side: int, width: int) -> None:
        super().__init__()
        self.generator = UNet(channels, side, width)
        self.discriminator = Discriminator(channels, side, width)

    def forward(self, x: Tensor) -> Tensor:
        """Every layer once, for `traced`."""
        judged: Tensor = self.discriminator(self.generator(x))
        return judged


@dataclass
class SkipGANomaly(Adversarial):
    """(1 - λ) of the squared residual (x - x̂)² and λ of the squared difference of the discriminator's features.

    Loss of the U-Net: 1 · cross entropy of the discriminator's answer, 50 · |x - x̂| and 1 · (f(x) - f(x̂))², each a mean,
    for pixels in [-1, 1].  Its skips let it copy a defect; noise on its input, which the paper has not, makes that harder.
    The heatmap is the residual.  Source: Akcay et al. 2019, arXiv:1901.08954.
    """

    METHOD: ClassVar[str] = "Skip-GANomaly"

    size: int = size_setting(64, 128)
    width: int = width_setting()
    noise: float = noise_setting(0.0)
    weight: float = weight_setting(0.1)
    contrast: float = setting(
        50.0, low=0.0, high=1000.0, label="Weight of the reconstruction",
        help="How much the pixels count in training, beside features and discriminator with 1 each.",
    )  # fmt: skip
    summary: str = summary_setting()
    share: float = share_setting()
    sigma: float = sigma_setting()
    epochs: int = epochs_setting(20)
    rate: float = rate_setting()
    max_pictures: int = pictures_setting()
    seed: int = 0

    # --- the fit ---

    def _net(self, channels: int, side: int, dense: bool) -> Net:
        return Net(channels, side, self.width)

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        net, pictures, shape = self._begin(normals, part(tick, 0.0, 0.1))
        net.generator.mean.copy_(mean_of(pictures))
        net.to(device())
        chance = torch.Generator(device()).manual_seed(self.seed)
        step = redrawn(net, self.rate, self.contrast, self.noise, chance)
        train(net, pictures, self._plan(), step, show=net.generator, tick=part(tick, 0.1, 1.0))
        return self.restore(state_of(net, shape))

    # --- scoring ---

    def _residual(self) -> str:
        return "l2"

    def _look(self, net: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        drawn = net.generator(x)
        here, there = net.discriminator.features(x), net.discriminator.features(drawn)
        return drawn, (here - there).square().mean(1), net.generator.levels(x)[-1].mean((2, 3))


def redrawn(net: Net, rate: float, contrast: float, noise: float, chance: torch.Generator) -> Step:
    """A step of the discriminator and one of the U-Net.  noise: on the U-Net's input, as a share of white."""
    to_draw, to_tell = adam(net.generator, rate), adam(net.discriminator, rate)

    def step(x: Tensor) -> dict[str, Tensor]:
        spoiled = x + noise * torch.randn(x.shape, generator=chance, device=x.device) if noise else x
        drawn = net.generator(spoiled)
        real, false = net.discriminator(torch.cat([x, drawn.detach()])).split(len(x))
        told = descended(real_loss(real) + fake_loss(false), to_tell)
        with frozen(net.discriminator):
            with torch.no_grad():
                wanted = net.discriminator.features(x)
            found = net.discriminator.features(drawn)
            features, answer = F.mse_loss(found, wanted), real_loss(net.discriminator.head(found))
            pixels = 2 * (x - drawn).abs().mean()
            descended(answer + contrast * pixels + features, to_draw)
        losses = {"pixels": pixels, "features": features, "generator": answer, "discriminator": told}
        return {name: value.detach() for name, value in losses.items()}

    return step
