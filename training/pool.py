"""A pool of pictures on disk, made once, and batches of crops from it that depend on seed and step alone.

Making a picture costs more than a training step spends on it, a crop costs nothing: so pictures are reused, but never
twice in the same way.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.pictures import picture

CHUNK = 50  # pictures that one process makes before it reports


def make(path: Path, count: int, side: int, seed: int, processes: int = 2) -> None:
    """Writes (count, side, side, 3) uint8 as .npy.  The bytes do not depend on the number of processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    pool = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
    starts = range(0, count, CHUNK)
    with ProcessPoolExecutor(processes) as workers:
        for start, made in zip(starts, workers.map(partial(_some, seed, side, count), starts), strict=True):
            pool[start : start + len(made)] = made
            print(f"\r{start + len(made)} of {count} pictures", end="", flush=True)
    print()
    pool.flush()
    unfinished.replace(path)


def _some(seed: int, side: int, count: int, start: int) -> np.ndarray:
    return np.stack([picture(seed, index, side) for index in range(start, min(start + CHUNK, count))])


def batch(pool: np.ndarray, rng: np.random.Generator, count: int, side: int) -> Tensor:
    """(count, 3, side, side) in [0, 1]: crops at one scale a batch, turned and mirrored, light and colours changed."""
    whole = pool.shape[1]
    take = int(rng.integers(min(side * 3 // 4, whole), min(side * 2, whole) + 1))
    crops = np.empty((count, take, take, 3), np.uint8)
    for i, index in enumerate(rng.integers(len(pool), size=count)):
        top, left = rng.integers(whole - take + 1, size=2)
        crops[i] = pool[index, top : top + take, left : left + take]
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    if take != side:
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=take > side, align_corners=False)
    if rng.random() < 0.5:
        x = x.flip(3)
    if rng.random() < 0.5:
        x = x.transpose(2, 3)
    return relit(x, rng).contiguous(memory_format=torch.channels_last)


def relit(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Other contrast and light for every picture; channels swapped or grey for some batches."""
    if rng.random() < 0.3:
        x = x[:, rng.permutation(3).copy()]
    if rng.random() < 0.2:
        x = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    contrast, light = _each(rng, 0.3, 1.5, len(x)), _each(rng, -0.25, 0.25, len(x))
    middle = x.mean((1, 2, 3), keepdim=True)
    return ((x - middle) * contrast + middle + light).clamp(0, 1)


def _each(rng: np.random.Generator, low: float, high: float, count: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))
