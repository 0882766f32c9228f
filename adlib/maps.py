"""From a coarse grid of patch scores to a heatmap as large as the picture."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

TRUNCATE = 4.0  # a Gaussian ends after so many sigmas, as in scipy.ndimage


def upsample_blur(grid: Tensor, size: int | tuple[int, int], sigma: float = 4.0) -> Tensor:
    """(B, h, w) patch scores → (B, H, W) heatmaps: bilinear to the picture's size, then a Gaussian.

    size: side of the square picture in pixels, or (H, W).  sigma: of the Gaussian, in pixels; 0 leaves it out.
    Equals `F.interpolate(mode="bilinear", align_corners=False)` followed by `scipy.ndimage.gaussian_filter` with its
    defaults: cut at 4 sigma, mirrored at the border (d c b a | a b c d | d c b a), so that a strange patch at the border
    is not darkened.  Both steps are linear and separable, so together they are one small matrix on each side of the grid:
    far cheaper than a blur at full size.  The largest value of a map never exceeds that of its grid.
    """
    height, width = (size, size) if isinstance(size, int) else size
    down = _spread(grid.shape[-2], height, sigma).to(grid)  # (H, h)
    across = _spread(grid.shape[-1], width, sigma).to(grid).T.contiguous()  # (w, W)
    maps = grid.new_empty(len(grid), height, width)
    for one, map in zip(grid, maps, strict=True):  # one by one: a batched product may round differently alone
        torch.mm(down, one @ across, out=map)
    return maps


@functools.lru_cache(maxsize=64)
def _spread(cells: int, pixels: int, sigma: float) -> Tensor:
    """(pixels, cells): what each cell of a row gives to each pixel, after interpolation and blur.  Rows add up to 1."""
    ramps = torch.eye(cells, dtype=torch.float64)[None]  # (1, cells, cells)
    matrix = F.interpolate(ramps, size=pixels, mode="linear", align_corners=False)[0].T  # (pixels, cells)
    return (_gaussian(pixels, sigma) @ matrix if sigma > 0 else matrix).float()


def _gaussian(pixels: int, sigma: float) -> Tensor:
    """(pixels, pixels) float64: a blur of one row, mirrored at both ends as often as the kernel reaches beyond."""
    reach = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    weights /= weights.sum()
    at = (torch.arange(pixels)[:, None] + offsets) % (
        2 * pixels
    )  # (pixels, 2 reach + 1), in a row and its mirror image
    at = torch.where(at < pixels, at, 2 * pixels - 1 - at)
    blur = torch.zeros(pixels, pixels, dtype=torch.float64)
    return blur.scatter_add_(1, at, weights.expand(pixels, -1).contiguous())
