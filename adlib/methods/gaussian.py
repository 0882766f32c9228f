"""Gaussian-AD: one Gaussian a level of the network for the whole picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from adlib.contract import Backbone, Cost, Explanation, Images, Prediction, Tick, setting, silent
from adlib.features import activation_bytes, extractor, macs, resolve, shapes
from adlib.methods._moments import Stream
from adlib.methods._pooling import pooled
from adlib.methods._reading import AT_ONCE, count, maps_of, part
from adlib.methods._state import forget, learned, take

METHOD = "Gaussian-AD"
NAMES = ("mean", "factor")


@dataclass
class Gaussian:
    """Sum over levels of the distance to the mean normal.  Source: Rippel et al. 2020, arXiv:2005.14140, section III.

    A level is the mean over all its positions.  Its Gaussian has the Ledoit-Wolf estimate of the covariance Σ, in
    float64; the distance is M(x) = sqrt((x-μ)ᵀ Σ⁻¹ (x-μ)).  Distances are added, not their squares, which would let the
    widest level decide alone.  All sums are streamed: memory does not grow with the number of normals.
    """

    backbone: Backbone = Backbone()
    distance: str = setting(
        "mahalanobis", choices=("mahalanobis", "sed", "l2"), label="Distance",
        help="Mahalanobis knows how channels vary together, sed (standardised Euclidean) how each varies alone, "
        "l2 neither. The last two are for comparison.",
    )  # fmt: skip
    reduction: str = setting(
        "none", choices=("none", "pca", "npca"), label="Reduction",
        help="pca keeps the directions of largest variance, npca drops them. Reads the normals a second time.",
    )  # fmt: skip
    variance: float = setting(
        0.99, low=0.01, high=0.99999, label="Share of variance",
        help="pca keeps directions up to this share of the variance; npca keeps those beyond it (0.99 is NPCA 1 %).",
    )  # fmt: skip
    seed: int = 0

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        forget(self)
        n = count(normals, 2, METHOD)
        look = extractor(resolve(self.backbone, "all"))
        reduced = self.reduction != "none"
        streams = [Stream() for _ in look.channels]
        for maps in maps_of(normals, look, tick, share=0.45 if reduced else 0.95):
            for stream, rows in zip(streams, pooled(maps), strict=True):
                stream.add(rows.cpu())
        assert n == streams[0].n, "the stream was shorter than promised"
        means = [stream.mean() for stream in streams]
        bases: list[Tensor] = []
        if reduced:
            tick(0.45, "choosing directions at {n} levels", n=len(streams))
            bases = [principal(stream, self.variance, tail=self.reduction == "npca") for stream in streams]
            streams = [Stream() for _ in look.channels]  # the covariance is estimated anew in the reduced space
            for maps in maps_of(normals, look, part(tick, 0.5, 0.95)):
                for stream, rows, mean, basis in zip(streams, pooled(maps), means, bases, strict=True):
                    stream.add((rows.cpu().double() - mean) @ basis)  # (B, r)
        state, shrinkages = {}, []
        for level, (mean, stream) in enumerate(zip(means, streams, strict=True)):
            tick(0.95 + 0.05 * level / len(streams), "inverting the covariance of level {level}", level=level + 1)
            factor, shrinkage = self._factor(stream)
            shrinkages.append(shrinkage)
            state[f"mean{level}"], state[f"factor{level}"] = mean, bases[level] @ factor if bases else factor
        state["shrinkage"] = torch.tensor(shrinkages, dtype=torch.float64)
        return self.restore(state)

    def _factor(self, stream: Stream) -> tuple[Tensor, float]:
        """(r, r), F, so that the distance is |(x-μ) F|; and the share of shrinkage in it."""
        if self.distance == "mahalanobis":
            shrunk = stream.shrunk()
            lower = torch.linalg.cholesky(shrunk.covariance)  # Σ = L Lᵀ
            unit = torch.eye(len(lower), dtype=lower.dtype)
            return torch.linalg.solve_triangular(lower, unit, upper=False).T.contiguous(), shrunk.shrinkage
        variances = stream.covariance().diagonal() * stream.n / (stream.n - 1)
        if self.distance == "l2":
            variances = torch.ones_like(variances)
        # A channel that never moved among the normals counts as one that moves a hundredth of the usual.
        deviations = variances.clamp_min(0).sqrt()
        deviations = deviations.clamp_min(0.01 * float(deviations.square().mean().sqrt()) or 1e-6)
        return torch.diag(1 / (deviations * len(deviations) ** 0.5)), 0.0  # the root of the mean over channels

    def score(self, pixels: Tensor) -> Prediction:
        vectors, distances = self._distances(pixels)
        scores = torch.stack([row.sum() for row in distances])
        return Prediction(scores.float().numpy(), embeddings=torch.cat(vectors, dim=1).numpy())

    def explain(self, pixels: Tensor) -> list[Explanation]:
        """The distance at each level: the score is their sum."""
        return [Explanation(levels=tuple(row.tolist())) for row in self._distances(pixels)[1]]

    def _distances(self, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, C) a level, and the distances (B, levels) in float64."""
        levels = learned(self, "levels_")
        vectors = [rows.cpu() for rows in pooled(learned(self, "look_")(pixels))]
        found = torch.zeros(len(pixels), len(levels), dtype=torch.float64)
        for level, (rows, (mean, factor)) in enumerate(zip(vectors, levels, strict=True)):
            for i, row in enumerate(rows):  # one by one: the same products in any batch
                found[i, level] = torch.linalg.vector_norm((row.double() - mean) @ factor)
        return vectors, found

    def state(self) -> dict[str, Tensor]:
        levels, shrinkage = learned(self, "levels_"), learned(self, "shrinkage_")
        kept = {f"{name}{i}": value for i, pair in enumerate(levels) for name, value in zip(NAMES, pair, strict=True)}
        return kept | {"shrinkage": shrinkage}

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        look = extractor(resolve(self.backbone, "all"))
        levels = []
        for i, k in enumerate(look.channels):
            mean, factor = take(state, METHOD, **{f"mean{i}": (k,), f"factor{i}": (k, "R")})
            levels.append((mean.double().cpu(), factor.double().cpu()))
        (shrinkage,) = take(state, METHOD, shrinkage=(len(levels),))
        self.look_, self.levels_, self.shrinkage_ = look, levels, shrinkage.cpu()
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        backbone = resolve(self.backbone, "all")
        channels = [c for c, _, _ in shapes(backbone, height, width)]
        kept = [c if self.reduction == "none" else min(c, n - 1) for c in channels]  # r: columns of a factor, at most
        if (
            self.reduction == "npca"
        ):  # the last of the variance lies in a fifth to two thirds of them: known after the fit
            kept = [max(1, round(0.4 * r)) for r in kept]
        sums = 8 * sum(c * c for c in channels)
        passes = 1 if self.reduction == "none" else 2
        reading = activation_bytes(backbone, height, width, min(n, AT_ONCE))
        state = 8 * sum(c * r + c for c, r in zip(channels, kept, strict=True))
        return Cost(
            fit_bytes=sums * passes + max(reading, state + 3 * 8 * max(channels) ** 2),
            state_bytes=state,
            operations=passes * n * (macs(backbone, height, width) + sums / 8.0) + 2.0 * sum(c**3 for c in channels),
        )


def principal(stream: Stream, share: float, tail: bool = False) -> Tensor:
    """(k, r): directions of the vectors as columns, by falling variance.

    Those that together carry just more than `share` of the variance; or, with `tail`, the others, one before the
    crossing included (the index of the authors' code, but never before the first).  Directions without variance are
    left out: after shrinkage nothing but the prior would be in them.
    """
    variances, directions = torch.linalg.eigh(stream.covariance())
    variances, directions = variances.flip(0).clamp_min(0), directions.flip(1)
    real = max(1, min(stream.n - 1, int((variances > 1e-12 * variances[0]).sum())))
    ratio = variances.cumsum(0) / variances.sum().clamp_min(1e-300)
    crossing = int((ratio <= share).sum())
    chosen = directions[:, max(crossing - 1, 0) : real] if tail else directions[:, : min(crossing + 1, real)]
    return (chosen if chosen.shape[1] else directions[:, real - 1 : real]).contiguous()
