"""How fast a built-in backbone is beside another one: in turn, so that a busy machine slows all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import timm
import torch
from torch import Tensor

from adlib import features, offline
from adlib.contract import Backbone


@dataclass(frozen=True)
class Pace:
    """precision, count: how many pictures at once.  ms: a picture of ours takes.

    plain: how many times as long the other takes in the way timm gives it.  ready: and as adlib runs it.
    """

    precision: str
    count: int
    ms: float
    plain: float
    ready: float


def paces(ours: str, other: str, side: int, rounds: int) -> list[Pace]:
    """Medians over the rounds.  other: a name whose stages at strides 4, 8 and 16 are run, and nothing beyond."""
    found = []
    for precision in ("fp32", "bf16"):
        runs: dict[str, Callable[[Tensor], Any]] = {
            name: features.extractor(features.resolve(Backbone(name, precision=precision), "early"))
            for name in (ours, other)
        }
        runs["plain"] = _plain(other, torch.bfloat16 if precision == "bf16" else torch.float32)
        for count in (1, 4, 16):
            x = torch.rand(count, 3, side, side)
            took: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(rounds + 2):
                for name, run in runs.items():
                    begun = time.perf_counter()
                    run(x)
                    took[name].append((time.perf_counter() - begun) / count)
            mine = took[ours][2:]  # the first two warm up
            plain, ready = (
                median(b / a for a, b in zip(mine, took[name][2:], strict=True)) for name in ("plain", other)
            )
            found.append(Pace(precision, count, 1000 * median(mine), plain, ready))
    return found


def _plain(name: str, dtype: torch.dtype) -> Callable[[Tensor], list[Tensor]]:
    """The network up to the same strides as timm builds it; its weights change nothing about its pace."""
    strides = timm.create_model(name, features_only=True).feature_info.reduction()
    stages = tuple(stage for stage, stride in enumerate(strides) if stride in offline.STRIDES)
    net = timm.create_model(name, features_only=True, out_indices=stages).eval()
    net = net.to(dtype).to(memory_format=torch.channels_last)

    def run(x: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            maps: list[Tensor] = net(x.to(dtype, memory_format=torch.channels_last))
            return maps

    return run
