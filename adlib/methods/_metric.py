"""An embedding that is trained: its network, the views it learns from, and distances in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib.contract import Batch, Images
from adlib.methods._margins import on_sphere

DISTANCES = ("cosine", "euclidean")
TURNS, SHIFTS, ZOOMS, LIGHTS = 10.0, 0.08, 0.1, 0.2  # degrees, shares of the side, factors, shares of the light
VIEWS = 8  # of a normal when it has no classes: four turns, each in its own and in other colours


# --- the network ------------------------------------------------------------------------------------------------------


class Embedder(nn.Module):
    """(B, 3, s, s) in [0, 1] → (B, width).

    The mean of each of the trunk's channels, scaled by what the untrained trunk shows for the normals, then one linear
    layer whose first weights change no distance (as far as `width` allows): training begins at the trunk's own features.
    alpha: length that every embedding is given, 0 for none.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: nn.Module, channels: int, width: int, alpha: float) -> None:
        super().__init__()
        self.trunk, self.alpha = trunk, alpha
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.reduce = nn.Linear(channels, width)
        if not self.reduce.weight.is_meta:
            nn.init.orthogonal_(self.reduce.weight)
            nn.init.zeros_(self.reduce.bias)

    def pooled(self, x: Tensor) -> Tensor:
        """(B, channels)."""
        return torch.cat([level.mean(dim=(2, 3)) for level in self.trunk(x)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.reduce((self.pooled(x) - self.shift) * self.scale)
        return on_sphere(rows, self.alpha) if self.alpha else rows

    def standardise(self, rows: Tensor) -> None:
        """rows: (N, channels) of the normals.  A channel that hardly moves counts as one that moves a little."""
        spread, size = rows.std(0, correction=0), rows.square().mean().sqrt()
        least = max(0.01 * float(spread.square().mean().sqrt()), 0.001 * float(size), 1e-6)
        self.shift.copy_(rows.mean(0))
        self.scale.copy_(1 / spread.clamp(min=least))


# --- classes ----------------------------------------------------------------------------------------------------------


class Heard:
    """Normals that are handed on, while the class of each is written down."""

    def __init__(self, normals: Images) -> None:
        self.normals = normals
        self.kinds: list[str] = []

    @property
    def size(self) -> int:
        return self.normals.size

    def __len__(self) -> int:
        return len(self.normals)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.normals:
            self.kinds += batch.kinds
            yield batch


def numbered(kinds: list[str]) -> tuple[Tensor, list[str]]:
    """(N,) numbers of the classes, and their names in alphabetical order."""
    names = sorted(set(kinds))
    at = {name: i for i, name in enumerate(names)}
    return torch.tensor([at[kind] for kind in kinds]), names


# --- views ------------------------------------------------------------------------------------------------------------


def view(x: Tensor, which: int) -> Tensor:
    """One of VIEWS of (B, C, s, s): turned by 0, 90, 180 or 270 degrees, from the fifth on in exchanged colours.

    Colours are exchanged by moving the channels on; a picture without colour becomes its negative.
    """
    turned = torch.rot90(x, which % 4, (2, 3))
    if which < 4:
        return turned
    grey = (turned == turned[:, :1]).flatten(1).all(1)[:, None, None, None]
    return torch.where(grey, 1 - turned, turned.roll(1, dims=1))


@dataclass
class Jitter:
    """Small changes that leave a picture what it is: turned, moved, enlarged, lit otherwise; mirrored if allowed.

    strength: 1 for up to 10 degrees, 8 % of the side, 10 % of the size and 20 % of the light; 0 for none.
    """

    strength: float
    mirror: bool
    chance: torch.Generator

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, s, s) in [0, 1] → the same, each picture changed by itself."""
        if not self.strength and not self.mirror:
            return x
        drawn = (2 * torch.rand(7, len(x), generator=self.chance) - 1).to(x.device)  # (7, B) in -1…1
        angle = math.radians(TURNS) * self.strength * drawn[0]
        zoom = 1 + ZOOMS * self.strength * drawn[1]
        flip = torch.where(drawn[2] < 0, -1.0, 1.0) if self.mirror else torch.ones_like(zoom)
        move = 2 * SHIFTS * self.strength * drawn[3:5]  # the picture is 2 wide
        turn = torch.stack([flip * zoom * angle.cos(), -zoom * angle.sin(), move[0]], dim=1)
        rest = torch.stack([flip * zoom * angle.sin(), zoom * angle.cos(), move[1]], dim=1)
        grid = F.affine_grid(torch.stack([turn, rest], dim=1), list(x.shape), align_corners=False)
        moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        light, contrast = (LIGHTS * self.strength * drawn[5:7])[:, :, None, None, None]
        middle = moved.mean(dim=(1, 2, 3), keepdim=True)
        return ((moved - middle) * (1 + contrast) + middle * (1 + light)).clamp(0, 1)


# --- how training goes on ---------------------------------------------------------------------------------------------


def one_cycle(done: float, rise: float = 0.25) -> float:
    """Share of the highest rate: from 1/25 up to 1 in the first quarter, down to nothing in the rest, along cosines.

    Source: Smith and Topin 2017, arXiv:1708.07120, in the form that fastai gave it.

    >>> one_cycle(0.0), one_cycle(0.25), round(one_cycle(1.0), 6)
    (0.04, 1.0, 0.0)
    """
    if done < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * done / rise)) / 2
    return (1 + math.cos(math.pi * (min(done, 1.0) - rise) / (1 - rise))) / 2


# --- distances --------------------------------------------------------------------------------------------------------


def distances(row: Tensor, bank: Tensor, measure: str) -> Tensor:
    """(N,) float64 distances of an embedding (D,) to those of the normals (N, D); 1 - cosine, or Euclidean.

    The cosine with a vector of zeros is 0.
    """
    row, bank = row.double(), bank.double()
    if measure == "cosine":
        return (1 - F.normalize(bank, dim=1) @ F.normalize(row, dim=0)).clamp(min=0)
    return (bank - row).square().sum(1).sqrt()


def voters(k: int, share: float, n: int) -> int:
    """How many of n normals are averaged: `share` of them where it is above 0, else k; at least 1, at most n.

    >>> voters(5, 0.0, 200), voters(5, 0.1, 200), voters(5, 0.0, 3), voters(1, 0.0001, 200)
    (5, 20, 3, 1)
    """
    return min(n, max(1, round(share * n) if share else k))


def least_mean(found: Tensor, k: int) -> Tensor:
    """Mean of the k smallest of (N,); k = 1 is the minimum."""
    return found.topk(k, largest=False).values.mean()
