"""Variational autoencoder: how improbable a picture is under a model of the normals with few hidden causes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib.contract import Images, Prediction, Tick, setting, silent
from adlib.maps import upsample_blur
from adlib.methods._drawing import (
    Drawing,
    epochs_setting,
    network_setting,
    noise_setting,
    patience_setting,
    pictures_setting,
    rate_setting,
    share_setting,
    sigma_setting,
    size_setting,
    state_of,
    width_setting,
)  # fmt: skip
from adlib.methods._networks import (
    decoder,
    device,
    encoder,
    in_rows,
    seen,
)  # fmt: skip
from adlib.methods._reading import part
from adlib.methods._residual import one_number, residual
from adlib.methods._state import forget, learned, take
from adlib.methods._training import descend, mean_of, train

DECODERS = ("bernoulli", "gaussian", "gaussian_variance")
SCORES = ("auto", "ssim", "probability", "elbo", "reconstruction", "kl", "top")
LEAST, MOST = -8.0, 2.0  # of a decoder's log s²: a deviation from 2 % of white upwards
CODE_LIMIT = 8.0  # of the encoder's |log σ²|


class Net(nn.Module):
    """x (B, C, s, s) in [0, 1] → q(z|x) = N(μ, σ²) over a code of D numbers → p(x|z) at each pixel.

    It begins with drawing the mean of the normals.  bernoulli: p is the probability of white; grey values are taken for
    shares of white, which ranks pictures but is no normalised density.  gaussian: one deviation s, learned, for all
    pixels.  gaussian_variance: the decoder says for each pixel how far it may stray.
    """

    mean: Tensor

    def __init__(self, channels: int, side: int, dense: bool, code: int, width: int, kind: str) -> None:
        super().__init__()
        self.kind, self.shape = kind, (channels, side, side)
        outputs = 2 * channels if kind == "gaussian_variance" else channels
        self.register_buffer("mean", torch.zeros(channels, side, side))
        self.log_variance = nn.Parameter(torch.tensor(-4.0))
        self.encoder = encoder(channels, side, dense, 2 * code, width)
        self.decoder = decoder(channels, side, dense, code, width)
        if outputs != channels:
            self.spread = decoder(channels, side, dense, code, width)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ², (B, D) each."""
        mean, log_variance = self.encoder(x - self.mean).chunk(2, dim=1)
        return mean, log_variance.clamp(-CODE_LIMIT, CODE_LIMIT)

    def drawn(self, z: Tensor) -> Tensor:
        """(B, C, s, s): the mean of p(x|z)."""
        change = self.decoder(z).view(-1, *self.shape)
        if self.kind == "bernoulli":
            return torch.sigmoid(torch.logit(self.mean, eps=0.01) + change)
        return cast(Tensor, self.mean + change)

    def surprise(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, s, s): -log p(x|z) of each pixel in nats, summed over channels, never below 0.

        It is counted from the least that any decoder could reach, which learning cannot change: a Gaussian density from
        the highest that log s² >= LEAST allows, and a grey value as Bernoulli from its own entropy.
        """
        change = self.decoder(z).view(-1, *self.shape)
        if self.kind == "bernoulli":
            logits = torch.logit(self.mean, eps=0.01) + change
            unavoidable = -torch.xlogy(x, x) - torch.xlogy(1 - x, 1 - x)
            found = F.binary_cross_entropy_with_logits(logits, x, reduction="none") - unavoidable
            return found.clamp(min=0).sum(1)
        log_s2 = self.log_variance if self.kind == "gaussian" else self.spread(z).view(-1, *self.shape) - 4.0
        log_s2 = log_s2.clamp(LEAST, MOST)
        off = (x - self.mean - change).square()
        return (0.5 * (off * torch.exp(-log_s2) + log_s2 - LEAST)).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction at z = μ."""
        return self.drawn(self.encode(x)[0])


class _Traced(Net):
    """The same, with every layer used once, for `traced`."""

    def forward(self, x: Tensor) -> Tensor:
        mean, _ = self.encode(x)
        return self.surprise(x, mean)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B, D) each → (B,): KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (μ² + σ² - 1 - log σ²), in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


@dataclass
class VAE(Drawing):
    """-log p of a picture under a variational autoencoder, or the bound on it.

    Source: Kingma & Welling 2014, arXiv:1312.6114; the reconstruction probability is that of An & Cho 2015.  Both parts
    of the bound are sums, over pixels and over the code.
    """

    METHOD: ClassVar[str] = "Variational autoencoder"

    network: str = network_setting()
    size: int = size_setting(64, 256)
    code: int = setting(
        32, low=1, high=512, label="Width of the code", help="Hidden causes that all normals are explained by."
    )
    likelihood: str = setting(
        "gaussian", choices=DECODERS, label="Decoder",
        help="How a pixel may stray: Bernoulli for nearly black and white pictures, Gaussian with one deviation, or with one "
        "for each pixel.",
    )  # fmt: skip
    beta: float = setting(
        1.0,
        low=0.0,
        high=100.0,
        label="Weight of the KL term",
        help="1 is the bound itself; larger keeps the code simpler.",
    )
    summary: str = setting(
        "auto", choices=SCORES, label="Score",
        help="Structural dissimilarity of the reconstruction (ssim) or its squared error (reconstruction), reconstruction "
        "probability over several draws, the negative bound (elbo), its KL term, or the mean of the heatmap's top share; auto "
        "takes ssim with the dense network, else the top share.",
    )  # fmt: skip
    draws: int = setting(
        10, low=1, high=200, label="Draws", help="Codes drawn for each picture; the same random numbers for every one."
    )
    share: float = share_setting()
    sigma: float = sigma_setting()
    width: int = width_setting()
    noise: float = noise_setting(0.0)
    epochs: int = epochs_setting(100)
    patience: int = patience_setting()
    rate: float = rate_setting()
    max_pictures: int = pictures_setting()
    seed: int = 0

    # --- the fit ---

    def _net(self, channels: int, side: int, dense: bool) -> Net:
        return Net(channels, side, dense, self.code, self.width, self.likelihood)

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        net, pictures, shape = self._begin(normals, part(tick, 0.0, 0.1))
        net.mean.copy_(mean_of(pictures))
        net.to(device())

        def bound(x: Tensor, chance: torch.Generator, noise: float) -> Tensor:
            spoiled = x + noise * torch.randn(x.shape, generator=chance, device=x.device) if noise else x
            mean, log_variance = net.encode(spoiled)
            drawn = torch.randn(mean.shape, generator=chance, device=x.device)
            z = mean + torch.exp(0.5 * log_variance) * drawn
            return net.surprise(x, z).flatten(1).sum(1) + self.beta * divergence(mean, log_variance)

        chance = torch.Generator(device()).manual_seed(self.seed)

        def judged(x: Tensor) -> Tensor:  # the same noise after every epoch, so that epochs can be compared
            return bound(x, torch.Generator(device()).manual_seed(self.seed), 0.0)

        step = descend(net, lambda x: bound(x, chance, self.noise).mean(), self.rate)
        train(net, pictures, self._plan(), step, judged, net, part(tick, 0.1, 1.0))
        noise = torch.randn(self.draws, self.code, generator=torch.Generator().manual_seed(self.seed))
        return self.restore({**state_of(net, shape), "noise": noise})

    # --- scoring ---

    def score(self, pixels: Tensor) -> Prediction:
        net, (channels, side, dense) = learned(self, "network_"), learned(self, "shape_")
        noise = learned(self, "noise_").to(device())
        summary = self.summary if self.summary != "auto" else "ssim" if dense else "top"
        size = (pixels.shape[-2], pixels.shape[-1])

        def work(some: Tensor) -> tuple[Tensor, ...]:
            x = seen(some, channels, side)
            mean, log_variance = net.encode(x)
            if summary in ("ssim", "reconstruction"):
                grid = residual(x, net.drawn(mean), "l2" if summary == "reconstruction" else "ssim")
            else:  # draw by draw, always in the same order
                codes = [mean + torch.exp(0.5 * log_variance) * one for one in noise]
                grid = torch.stack([net.surprise(x, z) for z in codes]).mean(0)
            return grid, divergence(mean, log_variance), mean

        grid, kl, code = in_rows(pixels, work)
        heat = upsample_blur(grid, size, self.sigma * max(size) / side)
        if summary == "top":
            scores = one_number(grid, heat, "top", self.share)
        else:
            total = one_number(grid, heat, "sum", 1.0)
            scores = {"elbo": total + kl, "kl": kl}.get(summary, total)
        return Prediction(scores.numpy(), heat.numpy(), code.numpy())

    # --- state ---

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "noise": learned(self, "noise_")}

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        (noise,) = take(state, self.METHOD, noise=("L", self.code))
        super().restore(state)
        self.noise_ = noise.float().cpu()
        return self

    def _traced(self, channels: int, side: int, dense: bool) -> Net:
        return _Traced(channels, side, dense, self.code, self.width, self.likelihood)
