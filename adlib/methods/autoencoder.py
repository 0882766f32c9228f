"""Autoencoder: what a narrow network cannot draw again was not among the normals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, cast

import torch
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
from adlib.methods._residual import MEASURES, SCORES, one_number, residual
from adlib.methods._state import learned
from adlib.methods._training import descend, mean_of, train


class Net(nn.Module):
    """Encoder, a narrow code, decoder.  (B, C, s, s) in [0, 1] → the same, drawn again.

    Both kinds begin with drawing the mean of the normals, so that no time is spent on learning that.
    dense: pixels → half as many, at most MOST_UNITS → code → back, a sigmoid at the end: the 784–392–64 network.
    """

    mean: Tensor

    def __init__(self, channels: int, side: int, dense: bool, code: int, width: int, linear: bool = False) -> None:
        super().__init__()
        self.dense = dense
        self.register_buffer("mean", torch.zeros(channels, side, side))
        self.encoder = encoder(channels, side, dense, code, width, linear)
        self.decoder = decoder(channels, side, dense, code, width, linear)

    def code(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.encoder(x - self.mean))

    def forward(self, x: Tensor) -> Tensor:
        drawn = self.decoder(self.code(x)).view(x.shape)
        if self.dense:
            return torch.sigmoid(torch.logit(self.mean, eps=0.01) + drawn)
        return cast(Tensor, self.mean + drawn)


@dataclass
class Autoencoder(Drawing):
    """Residual of a reconstruction through a bottleneck, learned from normals alone.

    Source: the dense network of the MNIST experiments (784–392–64, Adam, squared error) and, for pictures, the
    convolutional one of Bergmann et al. 2018, arXiv:1807.02011, with its SSIM residual.  When to stop is decided by
    normals that are not learned from.
    """

    METHOD: ClassVar[str] = "Autoencoder"

    network: str = network_setting()
    size: int = size_setting(64, 256)
    code: int = setting(
        64, low=1, high=1024, label="Width of the code",
        help="Numbers that a picture has to pass through; with too many, defects are drawn again as well.",
    )  # fmt: skip
    loss: str = setting("l2", choices=MEASURES, label="Loss", help="What the network learns to make small.")
    residual: str = setting(
        "l1", choices=MEASURES, label="Residual",
        help="What the heatmap shows: absolute or squared difference, or structural dissimilarity (SSIM).",
    )  # fmt: skip
    summary: str = setting(
        "auto", choices=SCORES, label="Score",
        help="Sum or mean of the residual, its largest value, or the mean of its top share; auto takes the sum with the "
        "dense network, else the top share.",
    )  # fmt: skip
    share: float = share_setting()
    sigma: float = sigma_setting()
    width: int = width_setting()
    noise: float = noise_setting(0.5)
    epochs: int = epochs_setting(100)
    patience: int = patience_setting()
    rate: float = rate_setting()
    max_pictures: int = pictures_setting()
    seed: int = 0

    # --- the fit ---

    def _net(self, channels: int, side: int, dense: bool) -> Net:
        return Net(channels, side, dense, self.code, self.width)

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        net, pictures, shape = self._begin(normals, part(tick, 0.0, 0.1))
        net.mean.copy_(mean_of(pictures))
        net.to(device())

        chance = torch.Generator(device()).manual_seed(self.seed)

        def noisy(x: Tensor) -> Tensor:
            return x + self.noise * torch.randn(x.shape, generator=chance, device=x.device) if self.noise else x

        def loss(x: Tensor) -> Tensor:
            return residual(x, net(noisy(x)), self.loss).mean()

        def judged(x: Tensor) -> Tensor:
            return residual(x, net(x), self.loss).flatten(1).mean(1)

        train(net, pictures, self._plan(), descend(net, loss, self.rate), judged, net, part(tick, 0.1, 1.0))
        return self.restore(state_of(net, shape))

    # --- scoring ---

    def score(self, pixels: Tensor) -> Prediction:
        net, (channels, side, dense) = learned(self, "network_"), learned(self, "shape_")
        size = (pixels.shape[-2], pixels.shape[-1])
        summary = self.summary if self.summary != "auto" else "sum" if dense else "top"

        def work(some: Tensor) -> tuple[Tensor, Tensor]:
            x = seen(some, channels, side)
            return residual(x, net(x), self.residual), net.code(x)

        grid, code = in_rows(pixels, work)
        heat = upsample_blur(grid, size, self.sigma * max(size) / side)
        scores = one_number(grid, heat, summary, self.share)
        return Prediction(scores.numpy(), heat.numpy(), code.numpy())
