"""AnoGAN: the generated picture nearest to the one looked at; what it cannot reach is strange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from adlib.contract import Cost, Images, Tick, setting, silent
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
    Generator,
    adversarial,
    code_setting,
    normal,
    rate_setting,
    reach_setting,
    summary_setting,
    weight_setting,
    within,
)  # fmt: skip
from adlib.methods._networks import ROWS, device
from adlib.methods._reading import part
from adlib.methods._state import forget, learned, take
from adlib.methods._training import mean_of, train

NORMS = ("l1", "l2")
DECAY, SQUARES = 0.9, 0.999  # of the means of slopes and of their squares, as in Adam
LEAST_RATE = 0.05  # of the first step length, reached evenly at the last step


class Net(nn.Module):
    def __init__(self, channels: int, side: int, code: int, width: int) -> None:
        super().__init__()
        self.generator = Generator(channels, side, code, width, EAGER)
        self.discriminator = Discriminator(channels, side, width)

    def forward(self, x: Tensor) -> Tensor:
        """Every layer once, for `traced`."""
        judged: Tensor = self.discriminator(self.generator(x.new_zeros(len(x), self.generator.code)))
        return judged


@dataclass
class AnoGAN(Adversarial):
    """Misfit of the best generated picture, found by descending on its code z for each picture anew.

    Loss of z and score: (1-λ) of the residual |x - G(z)| and λ of the difference |f(x) - f(G(z))| of what the
    discriminator judges by.  Both are means, so that λ does not depend on how many pixels and features there are.
    Source: Schlegl et al. 2017, arXiv:1703.05921.  Unlike there, z does not begin at one random place but at those of a
    fixed sample whose pictures are nearest, which saves most of the steps.
    """

    METHOD: ClassVar[str] = "AnoGAN"

    size: int = size_setting(64, 128)
    code: int = code_setting()
    width: int = width_setting()
    weight: float = weight_setting(0.1)
    norm: str = setting(
        "l1", choices=NORMS, label="Difference", help="Absolute or squared differences in loss and score."
    )
    steps: int = setting(
        200,
        low=1,
        high=5000,
        label="Search steps",
        help="Steps on the code of each picture; scoring takes as long as these.",
    )
    step_length: float = setting(
        0.05,
        low=0.0001,
        high=1.0,
        label="Step length of the search",
        help="Of Adam on the code; it falls to a twentieth.",
    )
    candidates: int = setting(
        256, low=1, high=10_000, label="Codes to begin with",
        help="So many random codes are drawn once; a search begins at those whose pictures are nearest. 1 begins anywhere.",
    )  # fmt: skip
    restarts: int = setting(2, low=1, high=16, label="Searches", help="Searches for each picture; the best one counts.")
    reach: float = reach_setting()
    summary: str = summary_setting()
    share: float = share_setting()
    sigma: float = sigma_setting()
    epochs: int = epochs_setting(40)
    rate: float = rate_setting()
    max_pictures: int = pictures_setting()
    seed: int = 0

    # --- the fit ---

    def _net(self, channels: int, side: int, dense: bool) -> Net:
        return Net(channels, side, self.code, self.width)

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        net, pictures, shape = self._begin(normals, part(tick, 0.0, 0.1))
        net.generator.mean.copy_(mean_of(pictures))
        net.to(device())
        chance = torch.Generator(device()).manual_seed(self.seed)
        starts = torch.randn(self.candidates, self.code, generator=torch.Generator().manual_seed(self.seed))
        shown = normal(16, self.code, torch.Generator(device()).manual_seed(self.seed))
        step = adversarial(net.generator, net.discriminator, self.rate, chance)
        train(
            net, pictures, self._plan(), step,
            show=lambda x: net.generator(shown[: len(x)]), tick=part(tick, 0.1, 1.0),
        )  # fmt: skip
        return self.restore({**state_of(net, shape), "starts": starts})

    # --- scoring ---

    def search(self, net: Net, x: Tensor) -> Tensor:
        """x: (B, C, s, s) → z: (B, code), that of the nearest generated picture that was found."""
        starts = learned(self, "starts_").to(x.device)
        restarts = min(self.restarts, len(starts))
        with torch.inference_mode(False), torch.no_grad():
            x = x.clone()  # one that the search may keep for its slopes
            bank = torch.cat([net.generator(some) for some in starts.split(ROWS)]).flatten(1)
            near = bank.square().sum(1) - 2 * x.flatten(1) @ bank.T  # squared distance, but for |x|²
            z = starts[near.topk(restarts, largest=False).indices].flatten(0, 1)  # (B R, code)
            wanted = x.repeat_interleave(restarts, 0)
            aim = net.discriminator.features(x).repeat_interleave(restarts, 0)
            slopes, squares = torch.zeros_like(z), torch.zeros_like(z)
            for i in range(self.steps):  # Adam, each picture by itself
                with torch.enable_grad():
                    z.requires_grad_(True)
                    (slope,) = torch.autograd.grad(self._misfit(net, wanted, aim, z).sum(), z)
                slopes = DECAY * slopes + (1 - DECAY) * slope
                squares = SQUARES * squares + (1 - SQUARES) * slope * slope
                length = self.step_length * (1 - (1 - LEAST_RATE) * i / max(1, self.steps - 1))
                root = (squares / (1 - SQUARES ** (i + 1))).sqrt()
                z = z.detach() - length / (1 - DECAY ** (i + 1)) * slopes / (root + 1e-12)
                z = within(z, self.reach)
            best = self._misfit(net, wanted, aim, z).view(len(x), restarts).argmin(1)
            return z.view(len(x), restarts, -1)[torch.arange(len(x), device=x.device), best]

    def _misfit(self, net: Net, x: Tensor, aim: Tensor, z: Tensor) -> Tensor:
        """(B,): the loss of the search."""
        drawn = net.generator(z)
        apart = self._apart(x, drawn)
        if self.weight == 0:
            return apart
        return (1 - self.weight) * apart + self.weight * self._apart(aim, net.discriminator.features(drawn))

    def _apart(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, …) each → (B,): mean difference."""
        apart = (x - y).flatten(1)
        return (apart.abs() if self.norm == "l1" else apart.square()).mean(1)

    def _look(self, net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.search(net, x)
        drawn = net.generator(z)
        apart = self._apart(net.discriminator.features(x), net.discriminator.features(drawn))
        return drawn, apart, z

    def _residual(self) -> str:
        return self.norm

    # --- state ---

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"starts": learned(self, "starts_")}

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        (starts,) = take(state, self.METHOD, starts=("K", self.code))
        super().restore(state)
        self.starts_ = starts.float().cpu()
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        told = super().cost(n, height, width)
        starts = 4 * self.candidates * self.code
        return replace(told, fit_bytes=told.fit_bytes + starts, state_bytes=told.state_bytes + starts)
