"""Pixel median: the floor that every deep method must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from adlib.contract import Cost, DataError, Images, Prediction, Tick, setting, silent
from adlib.maps import upsample_blur
from adlib.methods._memory import Reservoir
from adlib.methods._reading import AT_ONCE, count, pixels_of
from adlib.methods._state import forget, learned, recall, take

METHOD = "Pixel median"
TO_SIGMA = 1.4826  # median absolute deviation → standard deviation, for a Gaussian
COLUMNS = 1 << 14  # values whose median is taken at once
SMALL = 8  # side in pixels of the small picture that stands for a picture among others


@dataclass
class PixelMedian:
    """Difference to the median normal at each pixel, in units of the usual deviation there.

    Median and median absolute deviation (MAD) are taken over a bounded random sample of the normals, so a few bad
    pictures among them do no harm.  Needs parts that lie in the same place under the same light.
    Source: order statistics of the pixels; 1.4826 x MAD estimates the standard deviation (Hampel 1974).
    """

    max_pictures: int = setting(
        64, low=2, high=10_000, label="Pictures sampled",
        help="At most so many normals, drawn at random, are held during the fit; this bounds its memory.",
    )  # fmt: skip
    noise: float = setting(
        0.02, low=0.001, high=1.0, label="Noise",
        help="Deviation added everywhere, as a share of white: smaller differences are taken for noise of the camera.",
    )  # fmt: skip
    sigma: float = setting(2.0, low=0.0, high=32.0, label="Blur", help="Blur of the heatmap, in pixels.")
    seed: int = 0

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        forget(self)
        n = count(normals, 2, METHOD)
        sample = Reservoir(self.max_pictures, n, torch.Generator().manual_seed(self.seed))
        for pixels in pixels_of(normals, tick, share=0.7):
            shape = pixels.shape[1:]
            for one in pixels:
                sample.add(one.reshape(1, -1).cpu())
        rows = sample.rows()  # (N, 3 * H * W)
        median, spread = torch.empty(rows.shape[1]), torch.empty(rows.shape[1])
        for start in range(0, rows.shape[1], COLUMNS):
            part = slice(start, start + COLUMNS)
            median[part] = _median(rows[:, part])
            spread[part] = TO_SIGMA * _median((rows[:, part] - median[part]).abs_())
            tick(
                0.7 + 0.3 * min(1.0, (start + COLUMNS) / rows.shape[1]),
                "comparing {n} pictures pixel by pixel",
                n=len(rows),
            )
        return self.restore({"median": median.view(shape), "spread": spread.view(shape)})

    def score(self, pixels: Tensor) -> Prediction:
        median, spread = learned(self, "median_"), learned(self, "spread_")
        if pixels.shape[1:] != median.shape:
            raise DataError(
                "This model was fitted on pictures of {fitted} pixels and got {given}. Score pictures at the size of the fit.",
                fitted="×".join(map(str, median.shape[1:])), given="×".join(map(str, pixels.shape[2:])),
            )  # fmt: skip
        residual = (pixels.cpu() - median).abs_().div_(spread + self.noise)  # (B, 3, H, W), in deviations
        heat = upsample_blur(residual.amax(1), (pixels.shape[-2], pixels.shape[-1]), self.sigma)
        small = F.adaptive_avg_pool2d(residual, min(SMALL, *pixels.shape[-2:])).flatten(1)
        return Prediction(heat.amax(dim=(1, 2)).numpy(), heat.numpy(), small.numpy())

    def state(self) -> dict[str, Tensor]:
        return recall(self, "median", "spread")

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        median, spread = take(state, METHOD, median=(3, "H", "W"), spread=(3, "H", "W"))
        self.median_, self.spread_ = median.float().cpu(), spread.float().cpu()
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        values = 3 * height * width
        held = min(n, self.max_pictures)
        fit = 4 * values * (held + 2 + min(n, AT_ONCE)) + 4 * 4 * held * min(values, COLUMNS)
        return Cost(fit_bytes=fit, state_bytes=8 * values, operations=float(values * (n + 20 * held)))


def _median(rows: Tensor) -> Tensor:
    """(N, V) → (V,): the middle value, or the mean of the two middle ones."""
    ordered = rows.sort(dim=0).values
    return (ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2]) / 2
