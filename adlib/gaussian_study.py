"""Does the chi-square law hold for these normals?  Expected against realised false-alarm rate over 1 to 5 σ.

The experiment of table IV in Rippel et al. 2020 (arXiv:2005.14140) on a person's own normals: with and without
augmentation, with all features, those of PCA 99 % and those of NPCA 1 %.  Each normal is judged by Gaussians that were
fitted without it, in folds; augmented copies of it stay out with it, and are never judged themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adlib import datasets, features, lines, regions, store
from adlib.batches import FOLDS, Batches, share, train_normals
from adlib.contract import Backbone, DataError, Sample, Tick, silent
from adlib.methods._moments import Stream
from adlib.methods._pooling import pooled
from adlib.methods.gaussian import principal

SIGMAS = (1, 2, 3, 4, 5)
EXPECTED = tuple(math.erfc(sigma / math.sqrt(2)) for sigma in SIGMAS)  # 31.7 %, 4.55 %, 0.27 %, ...
REDUCTIONS = {"none": 0.0, "pca": 0.99, "npca": 0.99}  # NPCA 1 % drops the directions with 99 % of the variance
ROUNDS = 4  # augmented copies of each normal; the paper takes 100
MOST = 200  # normals
LEAST = 10


def study(run: store.Run, tick: Tick = silent) -> dict[str, Any]:
    """What `studies` keeps with the run.

    expected: rates at SIGMAS.  rows: for each level, reduction and with or without augmentation: dimension and shrinkage
    (means over folds), and `over`, how many of n normals lay beyond the chi-square line of each sigma.
    Raises DataError when the normals are gone or fewer than LEAST, or the run has no backbone.
    """
    card = run.card
    if not card["backbone"]:
        raise DataError("This study needs a run with a network.")
    found, _ = datasets.samples(store.Dataset.open(card["dataset"]))
    normals = sorted(train_normals(found), key=lambda s: share(s.digest))[:MOST]
    if len(normals) < LEAST:
        raise DataError("This study needs at least {least} normals; there are {n}.", least=LEAST, n=len(normals))
    backbone = Backbone(**{**card["backbone"], "stages": tuple(card["backbone"]["stages"])})
    plain, altered = embedded(normals, backbone, card, tick)
    fold = np.argsort(np.argsort([share(s.digest) for s in normals])) % FOLDS
    made = {
        "n": len(normals),
        "rounds": ROUNDS,
        "sigmas": SIGMAS,
        "expected": EXPECTED,
        "rows": [
            {"level": stage, **row}
            for i, stage in enumerate(backbone.stages)
            for row in of_level(plain[i], altered[i], fold, tick, 0.6 + 0.4 * i / len(plain))
        ],
    }
    tick(1.0, "compared {n} normals with the chi-square law", n=len(normals))
    return made


def embedded(
    normals: Sequence[Sample], backbone: Backbone, card: dict[str, Any], tick: Tick
) -> tuple[list[Tensor], list[Tensor]]:
    """For each level (N, k) of the pictures, and (N, ROUNDS, k) of their augmented copies; float64."""
    look = features.extractor(backbone)
    chance = torch.Generator().manual_seed(card["seed"])
    plain: list[list[Tensor]] = []
    altered: list[list[Tensor]] = []
    done = 0
    region = regions.from_json(card.get("region"))
    for batch in Batches(normals, card["size"], card["letterbox"], card["white"], 8, region):
        plain.append([rows.cpu().double() for rows in pooled(look(batch.pixels))])
        copies = [pooled(look(augmented(batch.pixels, chance))) for _ in range(ROUNDS)]
        altered.append([torch.stack([rows.cpu().double() for rows in level], 1) for level in zip(*copies, strict=True)])
        done += len(batch.pixels)
        tick(0.6 * done / len(normals), "reading normal pictures: {done} of {n}", done=done, n=len(normals))
    joined = ([torch.cat(level) for level in zip(*parts, strict=True)] for parts in (plain, altered))
    return next(joined), next(joined)


def of_level(
    plain: Tensor, altered: Tensor, fold: np.ndarray, tick: Tick = silent, done: float = 0.0
) -> list[dict[str, Any]]:
    """plain: (N, k).  altered: (N, R, k).  fold: (N,) which normals are judged together."""
    rows = []
    for with_copies in (False, True):
        for reduction, part in REDUCTIONS.items():
            over, dimensions, shrinkages = np.zeros(len(SIGMAS), dtype=int), [], []
            for one in np.unique(fold):
                tick(done, "comparing with the chi-square law")
                away, dimension, rho = _judged(plain, altered, fold == one, with_copies, reduction, part)
                places = [lines.chi_square(alpha, dimension, rho, 0).value for alpha in EXPECTED]
                over += (away[:, None] > np.array(places)).sum(axis=0)
                dimensions.append(dimension)
                shrinkages.append(rho)
            rows.append(
                {
                    "augmented": with_copies, "reduction": reduction, "dimension": float(np.mean(dimensions)),
                    "shrinkage": float(np.mean(shrinkages)), "over": over.tolist(),
                }
            )  # fmt: skip
    return rows


def _judged(
    plain: Tensor, altered: Tensor, out: np.ndarray, with_copies: bool, reduction: str, part: float
) -> tuple[np.ndarray, int, float]:
    """Distances of the normals that were kept out, (n,), from a Gaussian of the others; its dimension and shrinkage."""
    kept = torch.from_numpy(~out)
    rows = plain[kept]
    if with_copies:
        rows = torch.cat([rows, altered[kept].flatten(0, 1)])
    whole = Stream()
    whole.add(rows)
    mean, away, stream = whole.mean(), plain[torch.from_numpy(out)] - whole.mean(), whole
    if reduction != "none":
        basis = principal(whole, part, tail=reduction == "npca")
        stream = Stream()
        stream.add((rows - mean) @ basis)
        away = away @ basis
    shrunk = stream.shrunk()
    lower = torch.linalg.cholesky(shrunk.covariance)
    return (
        torch.linalg.solve_triangular(lower, away.T, upper=False).norm(dim=0).numpy(),
        len(lower),
        shrunk.shrinkage,
    )


# --- augmentation -----------------------------------------------------------------------------------------------------


def augmented(pixels: Tensor, chance: torch.Generator) -> Tensor:
    """(B, 3, H, W) in [0, 1], half of the pictures changed: light, noise, blur, and a small shift, turn and scale.

    After the paper's list, without its flips and quarter turns, which a fixed camera never sees.
    """
    changed = [_changed(one, chance) if _draw(chance) < 0.5 else one for one in pixels]
    return torch.stack(changed).clamp(0, 1)


def _draw(chance: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=chance))


def _changed(one: Tensor, chance: torch.Generator) -> Tensor:
    """(3, H, W).  Each change by itself, as likely as in the paper."""
    if _draw(chance) < 0.3:
        middle = one.mean()
        one = (one - middle) * (1 + _draw(chance, -0.1, 0.2)) + middle + _draw(chance, -0.1, 0.2)
    if _draw(chance) < 0.3:
        one = one + _draw(chance, 0.01, 0.03) * torch.randn(one.shape, generator=chance)
    if _draw(chance) < 0.2:
        one = F.avg_pool2d(F.pad(one[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
    if _draw(chance) < 0.2:
        angle = math.radians(_draw(chance, -15, 15))
        scale, x, y = 1 / _draw(chance, 0.95, 1.1), _draw(chance, -0.1, 0.1), _draw(chance, -0.1, 0.1)
        turn = torch.tensor(
            [
                [scale * math.cos(angle), -math.sin(angle) * scale, x],
                [scale * math.sin(angle), scale * math.cos(angle), y],
            ]
        )
        grid = F.affine_grid(turn[None], [1, *one.shape], align_corners=False)
        one = F.grid_sample(one[None], grid, padding_mode="reflection", align_corners=False)[0]
    return one
