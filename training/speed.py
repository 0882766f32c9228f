"""How fast the built-in backbone is beside another one: in turn, so that a busy machine slows both."""

from __future__ import annotations

import time
from statistics import median

import torch

from adlib import features
from adlib.contract import Backbone


def ratios(other: str, side: int, rounds: int) -> dict[tuple[str, int], tuple[float, float]]:
    """{(precision, pictures at once): (ms a picture of ours, how many times as long the other takes)}, medians.

    other: a name whose stages at strides 4, 8 and 16 are run, and nothing beyond.
    """
    found = {}
    for precision in ("fp32", "bf16"):
        ours, theirs = (
            features.extractor(features.resolve(Backbone(name, precision=precision), "early"))
            for name in ("offline", other)
        )
        for count in (1, 4, 16):
            x = torch.rand(count, 3, side, side)
            took: dict[str, list[float]] = {"ours": [], "theirs": []}
            for _ in range(rounds + 2):
                for name, extractor in (("ours", ours), ("theirs", theirs)):
                    begun = time.perf_counter()
                    extractor(x)
                    took[name].append((time.perf_counter() - begun) / count)
            quick = median(took["ours"][2:])  # the first two warm up
            ratio = median(b / a for a, b in zip(took["ours"][2:], took["theirs"][2:], strict=True))
            found[precision, count] = (1000 * quick, ratio)
    return found
