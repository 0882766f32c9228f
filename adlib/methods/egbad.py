"""EGBAD: a BiGAN, whose discriminator judges pictures together with their codes, so that an encoder is learned on the way."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from adlib.contract import Images, Tick, silent
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
    EAGER,
    Adversarial,
    Encoder,
    Generator,
    adam,
    code_setting,
    descended,
    down,
    fake_loss,
    follow,
    frozen,
    normal,
    rate_setting,
    real_loss,
    started,
    summary_setting,
    units,
    weight_setting,
)  # fmt: skip
from adlib.methods._networks import device
from adlib.methods._reading import part
from adlib.methods._training import Step, mean_of, train

JOINT = 256  # units behind the code, and of the layer where picture and code meet


class PairDiscriminator(nn.Module):
    """(x, z) → (B,): larger = more like a normal with the code that the encoder gives it."""

    def __init__(self, channels: int, side: int, code: int, width: int) -> None:
        super().__init__()
        self.picture = down(channels, side, width)
        self.code = nn.Sequential(nn.Linear(code, JOINT), nn.LeakyReLU(0.2))
        self.joint = nn.Sequential(nn.Linear(units(side, width) + JOINT, JOINT), nn.LeakyReLU(0.2))
        self.head = nn.Linear(JOINT, 1)
        started(self)

    def features(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, JOINT): what the last layer judges by."""
        return cast(Tensor, self.joint(torch.cat([self.picture(2 * x - 1), self.code(z)], dim=1)))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(x, z))).squeeze(1)


class Net(nn.Module):
    """Picture → code → picture.  Generator and encoder are running means of those that learn."""

    def __init__(self, channels: int, side: int, code: int, width: int) -> None:
        super().__init__()
        self.generator = Generator(channels, side, code, width, EAGER)
        self.encoder = Encoder(channels, side, code, width)
        self.discriminator = PairDiscriminator(channels, side, code, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.generator(self.encoder(x)))


class _Traced(Net):
    """The same, with every layer used once, for `traced`."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.encoder(x)
        return cast(Tensor, self.discriminator(self.generator(z), z))


@dataclass
class EGBAD(Adversarial):
    """Difference between a picture and G(E(x)), and between what the discriminator sees in (x, E(x)) and (G(E(x)), E(x)).

    Score: (1-w) of the mean |x - G(E(x))| and w of the mean |f(x, E(x)) - f(G(E(x)), E(x))|.
    Source: Zenati et al. 2018, arXiv:1802.06222 (there sums instead of means); BiGAN: Donahue et al. 2017.
    """

    METHOD: ClassVar[str] = "EGBAD"

    size: int = size_setting(64, 128)
    code: int = code_setting()
    width: int = width_setting()
    weight: float = weight_setting(0.1)
    summary: str = summary_setting()
    share: float = share_setting()
    sigma: float = sigma_setting()
    epochs: int = epochs_setting(60)
    rate: float = rate_setting()
    max_pictures: int = pictures_setting()
    seed: int = 0

    def _net(self, channels: int, side: int, dense: bool) -> Net:
        return Net(channels, side, self.code, self.width)

    def _traced(self, channels: int, side: int, dense: bool) -> Net:
        return _Traced(channels, side, self.code, self.width)

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        net, pictures, shape = self._begin(normals, part(tick, 0.0, 0.1))
        net.generator.mean.copy_(mean_of(pictures))
        net.to(device())
        chance = torch.Generator(device()).manual_seed(self.seed)
        step = bidirectional(net, self.rate, chance)
        train(net, pictures, self._plan(), step, show=net, tick=part(tick, 0.1, 1.0))
        return self.restore(state_of(net, shape))

    def _look(self, net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = net.encoder(x)
        drawn = net.generator(z)
        felt = net.discriminator.features(x, z) - net.discriminator.features(drawn, z)  # the same code in both pairs
        return drawn, felt.abs().mean(1), z


def bidirectional(net: Net, rate: float, chance: torch.Generator) -> Step:
    """The discriminator learns to call (x, E(x)) real and (G(z), z) drawn, encoder and generator to have it the other way."""
    mapper = nn.ModuleList([copy.deepcopy(net.generator), copy.deepcopy(net.encoder)]).requires_grad_(True)
    steady = nn.ModuleList([net.generator, net.encoder])
    generator, encoder = mapper
    to_map, to_tell = adam(mapper, rate), adam(net.discriminator, rate)
    done = 0

    def step(x: Tensor) -> dict[str, Tensor]:
        nonlocal done
        z = normal(len(x), net.generator.code, chance)
        pictures, codes = torch.cat([x, generator(z)]), torch.cat([encoder(x), z])
        real, false = net.discriminator(pictures.detach(), codes.detach()).split(len(x))
        told = descended(real_loss(real) + fake_loss(false), to_tell)
        with frozen(net.discriminator):
            real, false = net.discriminator(pictures, codes).split(len(x))
            drawn, encoded = real_loss(false), fake_loss(real)
            descended(drawn + encoded, to_map)
        follow(steady, mapper, done)
        done += 1
        return {"generator": drawn.detach(), "encoder": encoded.detach(), "discriminator": told}

    return step
