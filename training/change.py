"""Learning without a teacher what a defect is: cells that stay alike through light, noise and place, and cells drawn over.

The pictures and their defects come from formulas.  Nothing here has seen a photograph, or a network that has.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib.offline import STRIDES, Form
from training.outlines import CHANNELS, outlines
from training.student import standardised

CLEARLY = (0.06, 0.03, 0.015)  # mean change of a cell's pixels that makes it another cell, by stage
HARDLY = 1 / 15  # share of that up to which it counts as the same


class Change(nn.Module):
    """Each cell of a second view is compared with the place of the first view that it shows.

    Two questions at every stage: which of many cells is it (InfoNCE, as in DenseCL, 2011.09157, but at places that moved and
    without other cells of the same texture as wrong answers), and was something drawn over it (logistic, all cells).
    The second is what a detector asks of its features: far for a defect, near for another light and another grain.
    """

    width, warmth, cells = 64, 0.1, 16  # channels compared; temperature; cells drawn from a picture

    def __init__(self, widths: tuple[int, ...] = Form.widths, probe: Tensor | None = None) -> None:
        """probe: pictures (B, 3, H, W) in [0, 1]; with them the stages have to tell outlines, too, standardised over these."""
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, w, 1), nn.ReLU(inplace=True), nn.Conv2d(w, self.width, 1)) for w in widths
        )
        self.slope, self.start = nn.Parameter(torch.full((3,), 5.0)), nn.Parameter(torch.full((3,), -2.0))
        self.readers = nn.ModuleList()
        if probe is not None:
            self.readers.extend(nn.Conv2d(w, CHANNELS, 1) for w in widths)
            for stage, stride in enumerate(STRIDES):
                told = outlines(probe, stride)
                self.register_buffer(f"mean{stage}", told.mean((0, 2, 3), keepdim=True))
                self.register_buffer(f"std{stage}", told.std((0, 2, 3), keepdim=True) + 1e-3)

    def loss(self, student: nn.Module, x: Tensor, rng: np.random.Generator) -> Tensor:
        place = nearby(rng, len(x))
        clean = seen(x, place, x.shape[-1])
        spoilt = drawn_over(clean, defects(rng, len(x), x.shape[-1]), rng)
        change = (spoilt - clean).abs().mean(1, keepdim=True)
        views = torch.cat([nuisance(x, rng), nuisance(spoilt, rng)]).contiguous(memory_format=torch.channels_last)
        losses = []
        stages = student(standardised(views))
        for stage, (reader, maps) in enumerate(zip(self.readers, stages if self.readers else (), strict=True)):
            told = outlines(torch.cat([x, spoilt]), STRIDES[stage])
            told = (told - self.get_buffer(f"mean{stage}")) / self.get_buffer(f"std{stage}")
            losses.append(F.mse_loss(reader(maps).float(), told.clamp(-6, 6)))
        for stage, (head, maps) in enumerate(zip(self.heads, stages, strict=True)):
            one, two = head(maps).float().chunk(2)
            side = two.shape[-1]
            one = F.normalize(seen(one, place, side), dim=1)
            two = F.normalize(two, dim=1)
            inside = F.affine_grid(place, [len(x), 1, side, side], align_corners=False).abs().amax(-1) < 0.95
            moved = F.avg_pool2d(change, x.shape[-1] // side)[:, 0]
            same, other = inside & (moved < HARDLY * CLEARLY[stage]), inside & (moved > CLEARLY[stage])
            losses.append(self._which(one, two, same, other, rng) + self._changed(one, two, same, other, stage))
        return torch.stack(losses).sum() / 3

    def _which(self, one: Tensor, two: Tensor, same: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
        count, _, side, _ = one.shape
        n = min(self.cells, side * side // 4)
        at = torch.from_numpy(np.stack([rng.choice(side * side, n, replace=False) for _ in range(count)]))
        spots = at[:, None].expand(-1, self.width, -1)
        a, b = (codes.flatten(2).gather(2, spots).transpose(1, 2).flatten(0, 1) for codes in (one, two))
        same, other = (flags.flatten(1).gather(1, at).flatten() for flags in (same, other))
        picture = torch.arange(count).repeat_interleave(n)
        spared = (picture[:, None] == picture) & ~other & ~torch.eye(len(a), dtype=torch.bool)
        likeness = (a @ b.T / self.warmth).masked_fill(spared, -1e4)
        right = torch.arange(len(a))[same]
        return (F.cross_entropy(likeness[same], right) + F.cross_entropy(likeness.T[same], right)) / 2

    def _changed(self, one: Tensor, two: Tensor, same: Tensor, other: Tensor, stage: int) -> Tensor:
        answer = self.slope[stage] * (one * two).sum(1) + self.start[stage]
        losses = F.softplus(torch.where(same, -answer, answer))
        return sum(losses[cells].sum() / cells.sum().clamp_min(1) for cells in (same, other))


# --- views ------------------------------------------------------------------------------------------------------------


def nearby(rng: np.random.Generator, count: int) -> Tensor:
    """(count, 2, 3): where a second view looks, a little turned, moved and nearer or farther."""
    turn, zoom = _each(rng, -0.3, 0.3, count), torch.exp(_each(rng, -0.3, 0.15, count))
    cos, sin, move = torch.cos(turn) * zoom, torch.sin(turn) * zoom, _each(rng, -0.2, 0.2, count, 2)
    return torch.stack([torch.stack([cos, -sin, move[:, 0]], 1), torch.stack([sin, cos, move[:, 1]], 1)], 1)


def seen(x: Tensor, place: Tensor, side: int) -> Tensor:
    """x (B, C, h, w), pictures or maps, from `place`."""
    grid = F.affine_grid(place, [len(x), 1, side, side], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def nuisance(x: Tensor, rng: np.random.Generator) -> Tensor:
    """What must not matter: contrast, light, its colour and its fall over the picture, blur, noise."""
    count = len(x)
    middle = x.mean((2, 3), keepdim=True)
    x = (x - middle) * torch.exp(_each(rng, -0.5, 0.4, count, 1, 1, 1)) + middle
    x = x + _each(rng, -0.15, 0.15, count, 1, 1, 1) + _each(rng, -0.06, 0.06, count, 3, 1, 1)
    if rng.random() < 0.7:
        light = _each(rng, -0.35, 0.35, count, 1, 3, 3)
        x = x * (1 + F.interpolate(light, size=x.shape[-2:], mode="bicubic", align_corners=False))
    if rng.random() < 0.4:
        x = torch.lerp(x, F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), float(rng.uniform(0.2, 1)))
    strength = _each(rng, 0, 0.07, count, 1, 1, 1) * (_each(rng, 0, 1, count, 1, 1, 1) < 0.6)
    return (x + strength * torch.from_numpy(rng.standard_normal(x.shape, np.float32))).clamp(0, 1)


# --- defects ----------------------------------------------------------------------------------------------------------


def defects(rng: np.random.Generator, count: int, side: int) -> Tensor:
    """(count, 1, side, side) in [0, 1]: up to six spots, scratches, threads and patches a picture."""
    masks = np.zeros((count, 1, side, side), np.float32)
    for mask in masks[:, 0]:
        for _ in range(int(rng.integers(0, 7))):
            _mark(mask, rng)
    return torch.from_numpy(masks)


def _mark(mask: np.ndarray, rng: np.random.Generator) -> None:
    side = len(mask)
    radius, angle = math.exp(rng.uniform(math.log(1.5), math.log(16))), rng.uniform(0, math.pi)
    long = math.exp(rng.uniform(0, 1.6)) if rng.random() < 0.6 else 1.0
    bend = rng.uniform(-0.3, 0.3) * radius if rng.random() < 0.4 else 0.0
    y, x = rng.uniform(0, side, 2)
    reach = 1.2 * radius * long + 2
    top, left = (max(0, int(c - reach)) for c in (y, x))
    part = mask[top : int(y + reach) + 1, left : int(x + reach) + 1]
    dy, dx = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
    dy, dx = dy - y, dx - x
    along = dx * math.cos(angle) + dy * math.sin(angle)
    across = dy * math.cos(angle) - dx * math.sin(angle) + bend * (along / (2 * radius)) ** 2
    far = (along / (radius * long)) ** 2 + (across / radius * long) ** 2  # a longer one is thinner
    np.maximum(part, np.clip((1.3 - far) / 0.6, 0, 1) * rng.uniform(0.3, 1), out=part)


def drawn_over(x: Tensor, mask: Tensor, rng: np.random.Generator) -> Tensor:
    """x (B, 3, H, W) with another picture, another tone, or another place of the same picture where the mask is."""
    count, side = len(x), x.shape[-1]
    middle = x.mean((2, 3), keepdim=True)
    tone = middle + _each(rng, -0.5, 0.5, count, 1, 1, 1) + _each(rng, -0.12, 0.12, count, 3, 1, 1)
    moves = tuple(int(step) for step in rng.integers(8, side - 8, 2))
    stuffs = torch.stack([
        x[torch.from_numpy(rng.permutation(count))],
        tone + 0.3 * (x - middle),
        0.8 * x.roll(moves, (2, 3)).flip(2) + 0.2 * tone,
    ])  # fmt: skip
    stuff = stuffs[torch.from_numpy(rng.integers(len(stuffs), size=count)), torch.arange(count)]
    return torch.lerp(x, stuff.clamp(0, 1), mask)


def _each(rng: np.random.Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32))
