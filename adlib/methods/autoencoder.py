"""Autoencoder: what a narrow network cannot draw again was not among the normals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn

from adlib.contract import Cost, Images, Prediction, Tick, setting, silent
from adlib.maps import upsample_blur
from adlib.methods._networks import (
    NETWORKS,
    decoder,
    device,
    drawn_back,
    encoder,
    filled,
    in_rows,
    is_dense,
    native_side,
    seeded,
    seen,
    shape_of,
    traced,
    weights_of,
)  # fmt: skip
from adlib.methods._reading import count, part
from adlib.methods._residual import MEASURES, SCORES, one_number, residual
from adlib.methods._state import forget, learned
from adlib.methods._training import Plan, descend, fit_bytes, gather, mean_of, steps_of, train

METHOD = "Autoencoder"
NEEDS = 2


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
class Autoencoder:
    """Residual of a reconstruction through a bottleneck, learned from normals alone.

    Source: the dense network of the MNIST experiments (784–392–64, Adam, squared error) and, for pictures, the
    convolutional one of Bergmann et al. 2018, arXiv:1807.02011, with its SSIM residual.  When to stop is decided by
    normals that are not learned from.
    """

    network: str = setting(
        "auto", choices=NETWORKS, label="Network",
        help="Dense for grey pictures of at most 32 pixels, convolutional for all others; auto decides by the pictures.",
    )  # fmt: skip
    size: int = setting(
        64, low=8, high=256, label="Side of the picture",
        help="Pictures are reduced to this many pixels a side; larger sees finer defects and takes longer.",
    )  # fmt: skip
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
    share: float = setting(
        0.01, low=0.0001, high=1.0, label="Top share", help="Share of the pixels that the top score rests on."
    )
    sigma: float = setting(
        1.0, low=0.0, high=16.0, label="Blur", help="Blur of the heatmap, in pixels of the reduced picture."
    )
    width: int = setting(
        16, low=4, high=128, label="Width of the network",
        help="Channels of the first convolution; each further one has twice as many.",
    )  # fmt: skip
    noise: float = setting(
        0.5, low=0.0, high=2.0, label="Noise",
        help="Noise on the pictures it has to draw again without it, as a share of white; keeps it from copying defects.",
    )  # fmt: skip
    epochs: int = setting(
        100, low=1, high=2000, label="Epochs", help="Passes over the normals, of 20 to 100 steps each, at most."
    )
    patience: int = setting(
        10, low=0, high=500, label="Patience",
        help="Training stops after so many epochs without a better loss on held-out normals; 0 never stops early.",
    )  # fmt: skip
    rate: float = setting(0.001, low=0.00001, high=0.1, label="Learning rate", help="Step length of Adam.")
    max_pictures: int = setting(
        8000, low=2, high=100_000, label="Pictures sampled",
        help="At most so many normals, drawn at random, are held during the fit; this bounds its memory.",
    )  # fmt: skip
    seed: int = 0

    # --- the fit ---

    def _net(self, channels: int, side: int, dense: bool) -> Net:
        return Net(channels, side, dense, self.code, self.width)

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        forget(self)
        count(normals, NEEDS, METHOD)
        dense = False

        def side(height: int, width: int, grey: bool) -> int:
            nonlocal dense
            dense = is_dense(self.network, max(height, width), grey)
            return native_side(self.size, height, width, dense)

        pictures = gather(normals, side, self.max_pictures, self.seed, part(tick, 0.0, 0.1))
        shape = (pictures.shape[1], pictures.shape[2], dense)
        net = cast(Net, seeded(self.seed, lambda: self._net(*shape)))
        net.mean.copy_(mean_of(pictures))
        net.to(device())

        chance = torch.Generator(device()).manual_seed(self.seed)

        def noisy(x: Tensor) -> Tensor:
            return x + self.noise * torch.randn(x.shape, generator=chance, device=x.device) if self.noise else x

        def loss(x: Tensor) -> Tensor:
            return residual(x, net(noisy(x)), self.loss).mean()

        def judged(x: Tensor) -> Tensor:
            return residual(x, net(x), self.loss).flatten(1).mean(1)

        plan = Plan(self.epochs, patience=self.patience, seed=self.seed)
        train(net, pictures, plan, descend(net, loss, self.rate), judged, net, part(tick, 0.1, 1.0))
        return self.restore({"shape": torch.tensor([shape[0], shape[1], int(dense)]), **weights_of(net)})

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

    def reconstruct(self, pixels: Tensor) -> Tensor:
        """What the network draws in place of the pictures: (B, 3, H, W) in [0, 1].  Raises NotFitted."""
        net, (channels, side, _) = learned(self, "network_"), learned(self, "shape_")
        (drawn,) = in_rows(pixels, lambda some: (net(seen(some, channels, side)),))
        return drawn_back(drawn, (pixels.shape[-2], pixels.shape[-1]))

    # --- state and cost ---

    def state(self) -> dict[str, Tensor]:
        return {"shape": torch.tensor(learned(self, "shape_")), **weights_of(learned(self, "network_"))}

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        shape = shape_of(state, METHOD)
        self.network_, self.shape_ = filled(lambda: self._net(*shape), state, METHOD), shape
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        dense = is_dense(self.network, max(height, width), grey=False)
        side = native_side(self.size, height, width, dense)
        weights, made, operations = traced(lambda: self._net(3, side, dense), 3, side, side)
        n = min(n, self.max_pictures)
        plan = Plan(self.epochs)
        fit = fit_bytes(plan, n, 3 * side * side, 3 * height * width, weights, made)
        return Cost(fit, weights, 3.0 * operations * min(plan.batch, n) * steps_of(n, plan))
