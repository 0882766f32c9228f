"""Six ways to teach a network that the classes of normals lie apart: losses on an embedding.

x: (B, D) embeddings, w: (classes, D) a vector for each class, y: (B,) the true classes.  z: (B, classes) logits, from
which the cross-entropy is computed; theta is the angle between x and a class's vector.

    softmax      z = w x + b
    l2           the same, of x scaled to length alpha, picture by picture
    arcface      s cos(theta + m) for the true class, s cos(theta) for the others     Deng et al. 2019, arXiv:1801.07698
    cosface      s (cos(theta) - m), s cos(theta)                                     Wang et al. 2018, arXiv:1801.09414
    sphereface   |x| (cos(theta) + (phi(theta) - cos(theta)) / (1 + annealing))       Liu et al. 2017, arXiv:1704.08063
    center       softmax, and weight / 2 |x - c_y|² to the centre of its class        Wen et al. 2016, ECCV

l2: Ranjan et al. 2017, arXiv:1703.09507.  Everything here is defined, with its slope, at cos(theta) = -1 and 1 as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOSSES = ("softmax", "l2", "arcface", "cosface", "sphereface", "center")
SCALES = {"l2": 16.0, "arcface": 30.0, "cosface": 30.0}  # alpha of the one, s of the others
MARGINS = {"arcface": 0.5, "cosface": 0.4, "sphereface": 4.0}
SOFT = ("softmax", "l2")  # take a picture that is part one class, part another; a margin is for one true class
EDGE = 1e-7  # the root of 1 - cos² has no slope at its ends
CENTRE_WEIGHT, CENTRE_RATE = 0.003, 0.5  # of the paper
ANNEALED = 1658  # iterations after which `annealing` has come down to 5


def cosines(x: Tensor, w: Tensor) -> Tensor:
    """(B, classes); 0 for a vector of zeros."""
    return F.normalize(x, dim=1) @ F.normalize(w, dim=1).T


def _with_true(z: Tensor, true: Tensor, y: Tensor) -> Tensor:
    """The logits with those of the true classes replaced.  true: (B, classes)."""
    return torch.where(F.one_hot(y, z.shape[1]).bool(), true, z)


def arcface(cos: Tensor, y: Tensor, scale: float = 30.0, margin: float = 0.5) -> Tensor:
    """(B, classes) logits.  Beyond theta = pi - m, where cos(theta + m) would rise again, cos(theta) - m sin(m) goes on
    falling.

    >>> arcface(torch.tensor([[0.5, 0.5]]), torch.tensor([0])).round(decimals=4)
    tensor([[ 0.7079, 15.0000]])
    """
    c = cos.clamp(-1 + EDGE, 1 - EDGE)
    turned = c * math.cos(margin) - (1 - c * c).sqrt() * math.sin(margin)
    true = torch.where(c > math.cos(math.pi - margin), turned, c - margin * math.sin(margin))
    return scale * _with_true(cos, true, y)


def cosface(cos: Tensor, y: Tensor, scale: float = 30.0, margin: float = 0.4) -> Tensor:
    """(B, classes) logits.

    >>> cosface(torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
    tensor([[ 3., 15.]])
    """
    return scale * _with_true(cos, cos - margin, y)


def phi(cos: Tensor, margin: int = 4) -> Tensor:
    """(-1)^k cos(m theta) - 2k with k = floor(m theta / pi): falls without a jump from 1 at 0° to 1 - 2m at 180°.

    cos(m theta) is a polynomial of cos(theta), which has a slope everywhere.
    """
    before, now = torch.ones_like(cos), cos
    for _ in range(margin - 1):
        before, now = now, 2 * cos * now - before
    k = (margin * torch.acos(cos.detach().clamp(-1, 1)) / math.pi).floor().clamp(max=margin - 1)
    return (1 - 2 * (k % 2)) * now - 2 * k


def sphereface(x: Tensor, w: Tensor, y: Tensor, annealing: float, margin: int = 4) -> Tensor:
    """(B, classes) logits.  annealing: how much plain softmax is mixed in; 0 for the margin alone."""
    cos = cosines(x, w)
    true = cos + (phi(cos, margin) - cos) / (1 + annealing)
    return x.norm(dim=1, keepdim=True) * _with_true(cos, true, y)


def annealing(iteration: float) -> float:
    """From 1000 at the start down to 5.

    >>> annealing(0), round(annealing(100), 2), annealing(5000)
    (1000.0, 76.92, 5.0)
    """
    return max(5.0, 1000.0 / (1.0 + 0.12 * iteration))


def on_sphere(x: Tensor, alpha: float) -> Tensor:
    """Every row scaled to length alpha by itself; a row of zeros stays one."""
    return alpha * F.normalize(x, dim=1)


def moved_centres(centres: Tensor, x: Tensor, y: Tensor, rate: float = CENTRE_RATE) -> Tensor:
    """(classes, D): each centre moved towards the embeddings of its class, by `rate` of their summed distance over one
    more than their number; a class that is absent stays where it is."""
    members = F.one_hot(y, len(centres)).to(x).T  # (classes, B)
    n = members.sum(1, keepdim=True)
    return centres + rate * (members @ x - n * centres) / (1 + n)


@dataclass(frozen=True)
class Kind:
    """Which loss, and its numbers.  scale, margin: 0 = the usual ones."""

    loss: str
    scale: float = 0.0
    margin: float = 0.0

    @property
    def s(self) -> float:
        return self.scale or SCALES.get(self.loss, 1.0)

    @property
    def m(self) -> float:
        return self.margin or MARGINS.get(self.loss, 0.0)

    @property
    def alpha(self) -> float:
        """Length of every embedding, 0 when it is left to the network."""
        return self.s if self.loss == "l2" else 0.0


class Head(nn.Module):
    """A vector for each class, needed in training alone.  (B, D) embeddings and (B,) classes → (B,) losses."""

    centres: Tensor

    def __init__(self, kind: Kind, classes: int, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.empty(classes, width))
        nn.init.xavier_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(classes)) if kind.loss in ("softmax", "l2", "center") else None
        self.register_buffer("centres", torch.zeros(classes, width))

    def logits(self, x: Tensor, y: Tensor, done: float) -> Tensor:
        """done: share of the training that is behind; SphereFace's annealing has ended after two thirds of it."""
        if self.kind.loss == "arcface":
            return arcface(cosines(x, self.weight), y, self.kind.s, self.kind.m)
        if self.kind.loss == "cosface":
            return cosface(cosines(x, self.weight), y, self.kind.s, self.kind.m)
        if self.kind.loss == "sphereface":
            return sphereface(x, self.weight, y, annealing(1.5 * done * ANNEALED), max(1, round(self.kind.m)))
        return F.linear(x, self.weight, self.bias)

    def forward(self, x: Tensor, y: Tensor, done: float = 1.0) -> Tensor:
        found = F.cross_entropy(self.logits(x, y, done), y, reduction="none")
        if self.kind.loss == "center":
            found = found + CENTRE_WEIGHT / 2 * (x - self.centres[y]).square().sum(1)
        return found

    def follow(self, x: Tensor, y: Tensor) -> None:
        """Moves the centres after a step; the losses without centres have nothing to move."""
        if self.kind.loss == "center":
            self.centres.copy_(moved_centres(self.centres, x.detach(), y))
