"""PaDiM: one Gaussian at every position of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from adlib.contract import Backbone, Cost, DataError, Images, Prediction, Tick, setting, silent
from adlib.features import activation_bytes, embed, extractor, macs, resolve, shapes
from adlib.maps import upsample_blur
from adlib.methods._positions import TOGETHER, Moments, length, lengths, packed, unpacked, whitening
from adlib.methods._reading import AT_ONCE, count, part, pixels_of
from adlib.methods._state import forget, learned, recall, take

METHOD = "PaDiM"


@dataclass
class Padim:
    """Mahalanobis distance to a Gaussian at each position.  Source: Defard et al. 2020, arXiv:2011.08785, section 3.

    The early levels are resized to the finest grid by nearest neighbour and concatenated; of all channels a random
    subset, drawn once, is kept.  Means and covariances are running moments, so memory does not grow with the number of
    normals.  Distances are lengths of whitened vectors: with S = L Lᵀ, (x-μ)ᵀ S⁻¹ (x-μ) = |L⁻¹ (x-μ)|².
    """

    backbone: Backbone = Backbone()
    channels: int = setting(
        100, low=1, high=4096, label="Channels",
        help="How many channels are drawn at random, all when there are fewer. Memory grows with their square.",
    )  # fmt: skip
    epsilon: float = setting(
        0.01, low=1e-6, high=10.0, label="Regularisation",
        help="Added to every variance, so that few normals do not make the model blindly sure of itself.",
    )  # fmt: skip
    sigma: float = setting(4.0, low=0.0, high=32.0, label="Blur", help="Blur of the heatmap, in pixels.")
    seed: int = 0

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        forget(self)
        n = count(normals, 2, METHOD)
        look = extractor(resolve(self.backbone, "early"))
        total = sum(look.channels)
        chance = torch.Generator().manual_seed(self.seed)
        subset = torch.randperm(total, generator=chance)[: self.channels].sort().values  # (C,)

        moments: Moments | None = None
        for pixels in pixels_of(normals, tick, share=0.9):
            vectors = look.through(pixels, lambda maps: _vectors(maps, subset))  # (B, h, w, C)
            x = vectors.flatten(1, 2)  # (B, P, C)
            moments = moments or Moments(n, x)
            moments.add(x)
        assert moments is not None
        mean, covariance = moments.mean(), moments.covariance()
        factor = packed(whitening(covariance, self.epsilon, part(tick, 0.9, 1.0)), look.dtype)
        grid = torch.tensor(vectors.shape[1:3])
        assert n == moments.n, "the stream was shorter than promised"
        return self.restore({"subset": subset, "mean": mean, "factor": factor, "grid": grid})

    def score(self, pixels: Tensor) -> Prediction:
        look, subset, mean, strips = (learned(self, name) for name in ("look_", "subset_", "mean_", "strips_"))
        vectors = look.through(pixels, lambda maps: _vectors(maps, subset))  # (B, h, w, C)
        h, w = vectors.shape[1:3]
        if (h, w) != tuple(self.grid_.tolist()):
            raise DataError(
                "This model was fitted on a grid of {fitted} cells and the picture gives {given}. "
                "Score pictures at the size of the fit.",
                fitted="×".join(map(str, self.grid_.tolist())), given=f"{h}×{w}",
            )  # fmt: skip
        x = vectors.flatten(1, 2)  # (B, P, C)
        distances = lengths(x, mean, strips)  # (B, P)
        heat = upsample_blur(distances.view(-1, h, w), (pixels.shape[-2], pixels.shape[-1]), self.sigma)
        scores = heat.amax(dim=(1, 2))
        return Prediction(*(values.cpu().numpy() for values in (scores, heat, x.mean(1))))

    def state(self) -> dict[str, Tensor]:
        return recall(self, "subset", "mean", "factor", "grid")

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        look = extractor(resolve(self.backbone, "early"))
        subset, mean, grid = take(state, METHOD, subset="C", mean="PC", grid=(2,))
        total = sum(look.channels)
        if len(subset) != min(self.channels, total) or not ((subset >= 0) & (subset < total)).all():
            raise DataError(
                "This state of PaDiM holds {held} channels of {total}; the settings ask for {asked}.",
                held=len(subset), total=total, asked=self.channels,
            )  # fmt: skip
        # A factor stays as it was kept: in float32 also where the network runs in bf16, as in runs of former versions.
        kept = torch.bfloat16 if state.get("factor", mean).dtype == torch.bfloat16 else torch.float32
        (factor,) = take(state, METHOD, factor=(len(mean) * length(len(subset), kept),))
        self.subset_, self.grid_ = subset.long(), grid.long()
        self.mean_, self.factor_ = mean.float().contiguous().to(look.device), factor.to(look.device, kept).contiguous()
        self.strips_ = unpacked(self.factor_, *mean.shape)
        self.look_ = look
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        backbone = resolve(self.backbone, "early")
        maps = shapes(backbone, height, width)
        positions, total = maps[0][1] * maps[0][2], sum(c for c, _, _ in maps)  # P, all channels
        c = min(self.channels, total)
        waiting = 4 * min(n, TOGETHER) * positions * c
        together = min(n, AT_ONCE)
        reading = activation_bytes(backbone, height, width, together) + 4 * together * positions * c
        kept = torch.bfloat16 if backbone.precision == "bf16" else torch.float32
        state = positions * (kept.itemsize * length(c, kept) + 4 * c)
        return Cost(
            fit_bytes=4 * positions * (c * c + c) + max(waiting + reading, state),
            state_bytes=state,
            operations=n * (macs(backbone, height, width) + positions * c * c) + positions * c**3 / 1.5,
        )


def _vectors(maps: list[Tensor], subset: Tensor) -> Tensor:
    """(B, h, w, C): the channels of the subset only, resized by nearest neighbour to the first stage's grid."""
    chosen: list[Tensor] = []
    start = 0
    for one in maps:  # choosing before resizing: the other channels are never copied
        here = subset[(subset >= start) & (subset < start + one.shape[1])] - start
        start += one.shape[1]
        if len(here) or not chosen:  # the first stage gives the grid, even when none of its channels was drawn
            chosen.append(one[:, here.to(one.device)].contiguous(memory_format=torch.channels_last))
    return embed(chosen, mode="nearest").permute(0, 2, 3, 1)
