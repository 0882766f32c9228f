"""Two networks against each other: a generator that draws normals from chance, and a critic that tells them from real ones.

    adversarial    a DCGAN's step: the discriminator gives a probability            (arXiv:1511.06434)
    wasserstein    a WGAN's step: the critic's slope is held at 1 by a penalty       (arXiv:1704.00028)

The generator that scores is a running mean of the one that learns, which sways from step to step.  No layer uses statistics
of the batch: where DCGAN normalises over the batch, here each picture is normalised by itself, so that training and test are
the same function and a critic's penalty is one of single pictures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib.contract import Cost, Prediction, Tick, setting
from adlib.maps import upsample_blur
from adlib.methods._drawing import Drawing
from adlib.methods._networks import DENSE_SIDE, halvings, in_rows, seen, traced
from adlib.methods._residual import SCORES, one_number, residual
from adlib.methods._state import learned
from adlib.methods._training import Plan, Step, fit_bytes, steps_of

BATCH = 32
# How far from black and white a generator's mean is kept, and how strongly its layers move it.
CALM, EAGER = (0.01, 1.0), (0.05, 4.0)  # CALM, a generator that draws from chance stood still for five epochs
FOLLOWED = 0.998  # share of the running mean that a step keeps

# --- settings ---------------------------------------------------------------------------------------------------------


def code_setting(default: int = 16) -> Any:
    return setting(
        default,
        low=1,
        high=1024,
        label="Width of the code",
        help="Random numbers that the generator draws a picture from.",
    )


def rate_setting(default: float = 0.0005) -> Any:
    return setting(
        default, low=0.000001, high=0.1, label="Learning rate", help="Step length of Adam, for each network."
    )


def summary_setting() -> Any:
    return setting(
        "auto", choices=SCORES, label="Score",
        help="Sum or mean of the residual, its largest value, or the mean of its top share; auto takes the mean for grey "
        "pictures of at most 32 pixels, else the top share.",
    )  # fmt: skip


def reach_setting() -> Any:
    return setting(
        1.0, low=0.1, high=1000.0, label="Reach of the code",
        help="A picture's code may be no longer than so many times a usual random one; from far outside, anything can be "
        "drawn.",
    )  # fmt: skip


def weight_setting(default: float) -> Any:
    return setting(
        default, low=0.0, high=1.0, label="Weight of the features",
        help="Share of the score that compares what the discriminator sees in both pictures; the rest compares pixels.",
    )  # fmt: skip


# --- networks ---------------------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """z (B, code) → (B, channels, side, side) in [0, 1].  It begins with drawing the mean of the normals.

    start: CALM, or EAGER to leave that mean early.
    """

    mean: Tensor

    def __init__(self, channels: int, side: int, code: int, width: int, start: tuple[float, float] = CALM) -> None:
        super().__init__()
        self.code = code
        self.edge, self.gain = start
        self.register_buffer("mean", torch.zeros(channels, side, side))
        times = halvings(side)
        cells, deep = side >> times, width << (times - 1)
        layers: list[nn.Module] = [nn.Linear(code, deep * cells * cells), nn.Unflatten(1, (deep, cells, cells))]
        for i in reversed(range(times)):
            given, made = width << i, (width << (i - 1) if i else channels)
            layers += [nn.GroupNorm(1, given), nn.ReLU(), nn.ConvTranspose2d(given, made, 4, 2, 1)]
        self.layers = nn.Sequential(*layers)
        started(self)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(torch.logit(self.mean, eps=self.edge) + self.gain * self.layers(z))


class Encoder(nn.Module):
    """(B, channels, side, side) in [0, 1] → z (B, code), without a bound."""

    def __init__(self, channels: int, side: int, code: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(down(channels, side, width), nn.Linear(units(side, width), code))
        started(self)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(2 * x - 1))


class Discriminator(nn.Module):
    """(B, channels, side, side) in [0, 1] → (B,): larger = more like a normal.  Also a critic: nothing bounds it."""

    def __init__(self, channels: int, side: int, width: int) -> None:
        super().__init__()
        self.body = down(channels, side, width)
        self.head = nn.Linear(units(side, width), 1)
        started(self)

    def features(self, x: Tensor) -> Tensor:
        """(B, units): what its last layer judges by."""
        return cast(Tensor, self.body(2 * x - 1))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(x))).squeeze(1)


def down(channels: int, side: int, width: int) -> nn.Sequential:
    """(B, channels, side, side) → (B, units(side, width)); without a norm behind the first convolution."""
    layers: list[nn.Module] = []
    for i in range(halvings(side)):
        given, made = (width << (i - 1) if i else channels), width << i
        layers += [nn.Conv2d(given, made, 4, 2, 1), *([nn.GroupNorm(1, made)] if i else []), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten())


def units(side: int, width: int) -> int:
    times = halvings(side)
    return (width << (times - 1)) * (side >> times) ** 2


def started(network: nn.Module) -> None:
    """DCGAN's first weights: N(0, 0.02²) for all convolutions and linear layers, no offsets."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


# --- steps ------------------------------------------------------------------------------------------------------------


def adam(network: nn.Module, rate: float, beta: float = 0.5, beta2: float = 0.999) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=rate, betas=(beta, beta2), fused=True)


def descended(loss: Tensor, optimiser: torch.optim.Optimizer) -> Tensor:
    """One step down the loss; returns it.  The gradients of other networks that the loss went through are dropped."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return loss.detach()


def follow(steady: nn.Module, learner: nn.Module, steps: int) -> None:
    """Moves the running mean `steady` towards `learner`; quickly at first.  steps: done so far, from 0."""
    keep = min(FOLLOWED, (1 + steps) / (10 + steps))
    with torch.no_grad():
        pairs = zip(steady.parameters(), learner.parameters(), strict=True)
        for mean, value in pairs:
            mean.lerp_(value, 1 - keep)


def normal(rows: int, code: int, chance: torch.Generator) -> Tensor:
    """(rows, code) draws from N(0, 1), where the generator of chance lives."""
    return torch.randn(rows, code, generator=chance, device=chance.device)


def within(z: Tensor, reach: float) -> Tensor:
    """(B, code): codes longer than `reach` times √code, the usual length of N(0, 1), cut to that length."""
    longest = reach * math.sqrt(z.shape[1])
    return z * (longest / z.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)


def real_loss(logits: Tensor) -> Tensor:
    """Cross entropy of logits that ought to say "real": also the generator's loss on its own pictures."""
    return F.softplus(-logits).mean()


def fake_loss(logits: Tensor) -> Tensor:
    return F.softplus(logits).mean()


def adversarial(
    generator: Generator, discriminator: Discriminator, rate: float, chance: torch.Generator, noise: float = 0.0
) -> Step:
    """generator: the running mean, which is what is kept.  noise: on all that the discriminator sees, as a share of white."""
    learner = copy.deepcopy(generator).requires_grad_(True)
    to_draw, to_tell = adam(learner, rate), adam(discriminator, rate)
    done = 0

    def shown(x: Tensor) -> Tensor:
        return x + noise * torch.randn(x.shape, generator=chance, device=x.device) if noise else x

    def step(x: Tensor) -> dict[str, Tensor]:
        nonlocal done
        fake = learner(normal(len(x), learner.code, chance))
        real, false = discriminator(torch.cat([shown(x), shown(fake.detach())])).split(len(x))
        told = descended(real_loss(real) + fake_loss(false), to_tell)
        with frozen(discriminator):
            drawn = descended(real_loss(discriminator(shown(fake))), to_draw)
        follow(generator, learner, done)
        done += 1
        return {"generator": drawn, "discriminator": told}

    return step


def wasserstein(
    generator: Generator, critic: Discriminator, rate: float, chance: torch.Generator, every: int, weight: float = 10.0
) -> Step:
    """A step of the critic; after each `every` of them one of the generator.  weight: of the gradient penalty.

    Its loss "distance" is the critic's estimate of how far the drawn pictures are from the real ones.
    """
    learner = copy.deepcopy(generator).requires_grad_(True)
    to_draw, to_tell = adam(learner, rate, 0.0, 0.9), adam(critic, rate, 0.0, 0.9)
    done = 0
    drawn: Tensor | None = None

    def step(x: Tensor) -> dict[str, Tensor]:
        nonlocal done, drawn
        with torch.no_grad():
            fake = learner(normal(len(x), learner.code, chance))
        real, false = critic(torch.cat([x, fake])).split(len(x))
        distance = real.mean() - false.mean()
        descended(weight * gradient_penalty(critic, x, fake, chance) - distance, to_tell)
        if drawn is None or (done + 1) % every == 0:
            with frozen(critic):
                drawn = descended(-critic(learner(normal(len(x), learner.code, chance))).mean(), to_draw)
            follow(generator, learner, done // every)
        done += 1
        return {"distance": distance.detach(), "generator": drawn}

    return step


def continued(tick: Tick, done: int, epochs: int) -> Tick:
    """A tick for a second training that counts its epochs on from `done`, of `epochs` in all."""

    def inner(fraction: float, message: str, /, **numbers: Any) -> None:
        tick(fraction, message, **numbers | {"epoch": numbers["epoch"] + done, "epochs": epochs})

    return inner


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, chance: torch.Generator) -> Tensor:
    """Mean of (‖∇ critic(x̂)‖₂ - 1)², x̂ anywhere on the lines between real and fake pictures.  (B, …) each → ()."""
    share = torch.rand(len(real), *[1] * (real.ndim - 1), generator=chance, device=real.device)
    between = torch.lerp(real, fake, share).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(1).square().sum(1).add(1e-12).sqrt() - 1).square().mean()


class frozen:
    """Inside, a network's weights ask for no gradient, which saves a third of a step that only goes through it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __enter__(self) -> None:
        self.network.requires_grad_(False)

    def __exit__(self, *problem: object) -> None:
        self.network.requires_grad_(True)


# --- the way in and out -----------------------------------------------------------------------------------------------


class Adversarial(Drawing):
    """A method of several networks, all inside the one module that `_net` makes; it trains for all its epochs.

    `_traced` must be a module whose forward uses every layer once, beginning with a picture.
    """

    BATCH: ClassVar[int] = BATCH
    PASSES: ClassVar[float] = 11.0  # multiply-adds of a step in those of one forward pass of one picture
    HELD: ClassVar[float] = 3.0  # times the layers' values that a step holds at once
    weight: float
    summary: str
    share: float
    sigma: float

    def _look(self, net: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: (B, C, s, s) → the same drawn again, how far the features of both are apart (B,), the code (B, D).

        Without gradients; B is always ROWS.
        """
        raise NotImplementedError

    def _drawn(self, network: Any, x: Tensor) -> Tensor:
        return self._look(network, x)[0]

    def _residual(self) -> str:
        return "l1"

    def score(self, pixels: Tensor) -> Prediction:
        """(1 - weight) of the residual's one number, and `weight` of how far the features are apart."""
        net, (channels, side, _) = learned(self, "network_"), learned(self, "shape_")
        size = (pixels.shape[-2], pixels.shape[-1])

        def work(some: Tensor) -> tuple[Tensor, ...]:
            x = seen(some, channels, side)
            drawn, apart, code = self._look(net, x)
            return residual(x, drawn, self._residual()), apart, code

        grid, apart, code = in_rows(pixels, work)
        heat = upsample_blur(grid, size, self.sigma * max(size) / side)
        summary = self.summary
        if summary == "auto":
            summary = "mean" if channels == 1 and side <= DENSE_SIDE else "top"
        scores = (1 - self.weight) * one_number(grid, heat, summary, self.share) + self.weight * apart
        return Prediction(scores.numpy(), heat.numpy(), code.numpy())

    def _plan(self) -> Plan:
        return Plan(self.epochs, batch=self.BATCH, seed=self.seed)

    def cost(self, n: int, height: int, width: int) -> Cost:
        side = self._side(height, width, False)
        weights, made, operations = traced(lambda: self._traced(3, side, False), 3, side, side)
        n, plan = min(n, self.max_pictures), self._plan()
        fit = fit_bytes(plan, n, 3 * side * side, 3 * height * width, weights, int(self.HELD * made))
        return Cost(fit, weights, self.PASSES * operations * min(plan.batch, n) * steps_of(n, plan))
