"""f-AnoGAN: an encoder says in one pass which generated picture resembles the one looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from adlib.contract import Images, Tick, setting, silent
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
    Discriminator,
    Encoder,
    Generator,
    adam,
    code_setting,
    continued,
    descended,
    frozen,
    rate_setting,
    reach_setting,
    summary_setting,
    wasserstein,
    weight_setting,
    within,
)  # fmt: skip
from adlib.methods._networks import device
from adlib.methods._reading import part
from adlib.methods._training import Plan, mean_of, train


class Net(nn.Module):
    """Picture → code → picture.  reach: how long a code may be (`_gan.within`)."""

    def __init__(self, channels: int, side: int, code: int, width: int, reach: float) -> None:
        super().__init__()
        self.reach = reach
        self.generator = Generator(channels, side, code, width, EAGER)
        self.critic = Discriminator(channels, side, width)
        self.encoder = Encoder(channels, side, code, width)

    def code(self, x: Tensor) -> Tensor:
        return within(self.encoder(x), self.reach)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.generator(self.code(x)))


class _Traced(Net):
    """The same, with every layer used once, for `traced`."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.critic(super().forward(x)))


@dataclass
class FAnoGAN(Adversarial):
    """Squared error of G(E(x)), and of what the critic sees in it; G learned as a Wasserstein GAN, E afterwards.

    Loss of the encoder and score (izi_f): mean (x - G(E(x)))² and κ mean (f(x) - f(G(E(x))))², here as shares 1-w and w;
    w = ½ is the paper's κ = 1.  Source: Schlegl et al. 2019, Medical Image Analysis 54.  The encoder also takes a step
    with each of the generator's, so that it need not begin anew when the generator stands still.
    """

    METHOD: ClassVar[str] = "f-AnoGAN"
    PASSES: ClassVar[float] = 14.0

    size: int = size_setting(64, 128)
    code: int = code_setting()
    width: int = width_setting()
    weight: float = weight_setting(0.5)
    reach: float = reach_setting()
    critic_steps: int = setting(
        2, low=1, high=20, label="Steps of the critic", help="Steps of the critic for each one of the generator."
    )
    penalty: float = setting(
        10.0, low=0.0, high=1000.0, label="Gradient penalty", help="How strongly the critic's slope is held at 1."
    )
    summary: str = summary_setting()
    share: float = share_setting()
    sigma: float = sigma_setting()
    epochs: int = epochs_setting(40)
    encoder_epochs: int = setting(
        20, low=1, high=2000, label="Epochs of the encoder", help="Further epochs, in which the encoder alone learns."
    )
    rate: float = rate_setting()
    max_pictures: int = pictures_setting()
    seed: int = 0

    def _net(self, channels: int, side: int, dense: bool) -> Net:
        return Net(channels, side, self.code, self.width, self.reach)

    def _traced(self, channels: int, side: int, dense: bool) -> Net:
        return _Traced(channels, side, self.code, self.width, self.reach)

    def _plan(self) -> Plan:
        return Plan(self.epochs + self.encoder_epochs, batch=self.BATCH, seed=self.seed)

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        net, pictures, shape = self._begin(normals, part(tick, 0.0, 0.1))
        net.generator.mean.copy_(mean_of(pictures))
        net.to(device())
        chance = torch.Generator(device()).manual_seed(self.seed)
        against = wasserstein(net.generator, net.critic, self.rate, chance, self.critic_steps, self.penalty)
        to_encode = adam(net.encoder, self.rate)
        done = 0
        last: dict[str, Tensor] = {}

        def encoded(x: Tensor) -> Tensor:
            with frozen(net.generator), frozen(net.critic):
                drawn, felt, _ = self._misfit(net, x)
                return descended((1 - self.weight) * drawn.mean() + self.weight * felt.mean(), to_encode)

        def both(x: Tensor) -> dict[str, Tensor]:
            nonlocal done
            last.update(against(x))
            if done % self.critic_steps == 0:
                last["encoder"] = encoded(x)
            done += 1
            return dict(last)

        def alone(x: Tensor) -> dict[str, Tensor]:
            return last | {"encoder": encoded(x)}

        first, epochs = self.epochs, self.epochs + self.encoder_epochs
        plan, middle = self._plan(), 0.1 + 0.9 * first / epochs
        train(
            net,
            pictures,
            replace(plan, epochs=first),
            both,
            show=net,
            tick=continued(part(tick, 0.1, middle), 0, epochs),
        )
        net.requires_grad_(True)
        rest = continued(part(tick, middle, 1.0), first, epochs)
        train(net, pictures, replace(plan, epochs=self.encoder_epochs, seed=self.seed + 1), alone, show=net, tick=rest)
        return self.restore(state_of(net, shape))

    def _misfit(self, net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean squared difference of the pixels and of the features, (B,) each, and the picture drawn."""
        drawn = net(x)
        with torch.no_grad():
            aim = net.critic.features(x)
        felt = (aim - net.critic.features(drawn)).square().mean(1)
        return (x - drawn).square().flatten(1).mean(1), felt, drawn

    def _look(self, net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, felt, drawn = self._misfit(net, x)
        return drawn, felt, net.code(x)

    def _residual(self) -> str:
        return "l2"
