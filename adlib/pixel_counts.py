"""Pixel AUROC and AU-PRO in constant memory: maps and masks are counted picture by picture, and no pixel is kept.

Part of `metrics`, which everyone imports; on its own page because it is an algorithm of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_BITS = 20  # sign, 8 of exponent, 11 of mantissa: neighbouring bins differ by at most 1 part in 2048
_COARSER = 6  # bits fewer for a single picture: 5 of mantissa, 1 part in 32


class OnePicture(NamedTuple):
    """What one picture adds to the curves, in coarse bins: (K,) each, for redrawing pictures (`intervals`).

    bins: uint16, rising with the value.  normal, defect: pixels in each.  found: sum of 1 / size of the region.
    """

    bins: np.ndarray
    normal: np.ndarray
    defect: np.ndarray
    found: np.ndarray
    regions: int


class PixelCounts:
    """Pixel AUROC and AU-PRO over any number of maps in 24 MB, and a few kB a picture for their intervals.

    Values are counted in 2^20 bins that keep their order: a float32's top 20 bits, after the median of the first map is
    taken off, so that a large common offset costs no resolution.  Values in one bin count as tied; they differ by less
    than 0.05 % of their distance from that median.  `tied()` bounds what this can do to the AUROC.
    """

    def __init__(self) -> None:
        self.pictures = self.regions = self.normal_pixels = self.defect_pixels = 0
        self._origin: float | None = None
        self._normal = np.zeros(1 << _BITS, dtype=np.int64)
        self._defect = np.zeros(1 << _BITS, dtype=np.int64)
        self._weight = np.zeros(1 << _BITS)  # 1 / size of the region that a defect's pixel belongs to
        self.single: list[OnePicture] = []

    def add(self, map: np.ndarray, mask: np.ndarray | None = None, counted: np.ndarray | None = None) -> None:
        """map: (H, W), any size and dtype, larger = more anomalous.  mask: (H, W), non-zero = defect; None = none.

        counted: (H, W) bool, the pixels that take part (a region of interest); None = all.

        Pictures without a defect count too: their pixels are false alarms when they lie above the line.
        Raises ValueError for another shape or a value that is not finite.
        """
        values = np.asarray(map)
        defect = np.zeros(values.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        if values.ndim != 2 or defect.shape != values.shape:
            raise ValueError(f"the map has shape {values.shape} and the mask {defect.shape}; both must be (H, W)")
        if not np.isfinite(values).all():
            raise ValueError("the map holds a value that is not finite")
        self.pictures += 1
        if counted is not None:
            defect = defect & counted
        if values.size == 0 or not (counted is None or counted.any()):
            return
        bins = self._bins(values)
        coarse = bins >> _COARSER
        low, high = int(bins.min()), int(bins.max()) + 1
        bins -= low
        part, span = slice(low, high), high - low
        taking_part = bins.ravel() if counted is None else bins[counted]
        self._normal[part] += np.bincount(taking_part, minlength=span)
        self.normal_pixels += taking_part.size
        share, count = np.zeros(0), 0
        if defect.any():
            share, count = _shares(defect)
            bad = np.bincount(bins[defect], minlength=span)
            self._normal[part] -= bad
            self._defect[part] += bad
            self._weight[part] += np.bincount(bins[defect], weights=share, minlength=span)
            self.normal_pixels -= len(share)
            self.defect_pixels += len(share)
            self.regions += count
        if counted is not None:
            coarse, defect = coarse[counted], defect[counted]
        self.single.append(_one(coarse, defect, share, count))

    def _bins(self, values: np.ndarray) -> np.ndarray:
        """(H, W) int64 bins in [0, 2^20), in the order of the values."""
        if self._origin is None:
            self._origin = float(np.median(values))
        largest = np.finfo(np.float32).max
        shifted = np.clip(values.astype(np.float64) - self._origin, -largest, largest).astype(np.float32)
        pattern = (shifted + np.float32(0)).view(np.int32)  # + 0: -0.0 and 0.0 are one value
        # Read as integers, positive floats keep their order and negative ones reverse it.
        ordered = np.where(pattern < 0, ~(pattern & 0x7FFFFFFF), pattern)
        return (ordered >> (32 - _BITS)).astype(np.int64) + (1 << (_BITS - 1))

    def auroc(self) -> float | None:
        """Chance that a defect's pixel lies above a normal one.  None without pixels of both kinds."""
        if not self.normal_pixels or not self.defect_pixels:
            return None
        below = np.cumsum(self._normal) - self._normal / 2
        return float(np.sum(self._defect * below) / self.defect_pixels / self.normal_pixels)

    def tied(self) -> float:
        """Share of pairs (defect's pixel, normal pixel) in one bin; the AUROC is exact to half of it."""
        if not self.normal_pixels or not self.defect_pixels:
            return 0.0
        return float(np.sum(self._defect / self.defect_pixels * self._normal) / self.normal_pixels)

    def aupro(self, limit: float = 0.3) -> float | None:
        """Mean share of a defect's region that is found, over false-alarm rates up to `limit`, divided by it.

        Regions are 8-connected and weigh alike, however large.  The curve is cut exactly at `limit`, between two points
        where need be.  A constant map gives limit / 2, a perfect one 1.  None without a region or without normal pixels.
        Source: Bergmann et al. 2021, doi:10.1007/s11263-020-01400-4.
        """
        if not 0 < limit <= 1:
            raise ValueError(f"the limit lies in (0, 1], got {limit}")
        if not self.regions or not self.normal_pixels:
            return None
        used = np.flatnonzero((self._normal > 0) | (self._defect > 0))[::-1]  # highest first
        rate = np.append(0, np.cumsum(self._normal[used]) / self.normal_pixels)
        found = np.append(0, np.cumsum(self._weight[used]) / self.regions)
        last = int(np.searchsorted(rate, limit, side="right"))  # the first point beyond the limit
        if last < len(rate):
            share = (limit - rate[last - 1]) / (rate[last] - rate[last - 1])
            cut = found[last - 1] + share * (found[last] - found[last - 1])
            rate, found = np.append(rate[:last], limit), np.append(found[:last], cut)
        return min(
            1.0, float(np.sum(np.diff(rate) * (found[1:] + found[:-1]) / 2) / limit)
        )  # sums of 1/size may round up


def _shares(defect: np.ndarray) -> tuple[np.ndarray, int]:
    """1 / size of its region for each of the D defective pixels, (D,), and how many regions there are."""
    from scipy import ndimage

    # Pixels that touch by a corner are one region.
    regions, count = ndimage.label(defect, structure=np.ones((3, 3)))
    inside = regions[defect]
    return 1 / np.bincount(inside)[inside], count


def _one(coarse: np.ndarray, defect: np.ndarray, share: np.ndarray, regions: int) -> OnePicture:
    """coarse: bins of the pixels that count, in any shape.  defect: the same, bool.  share: (D,) of the defective ones."""
    size = 1 << (_BITS - _COARSER)
    everything = np.bincount(coarse.ravel(), minlength=size)
    used = np.flatnonzero(everything)
    if not regions:
        none = np.zeros(len(used), dtype=np.float32)
        return OnePicture(used.astype(np.uint16), everything[used].astype(np.float32), none, none, 0)
    bad, found = np.bincount(coarse[defect], minlength=size), np.bincount(coarse[defect], weights=share, minlength=size)
    sums = [values[used].astype(np.float32) for values in (everything - bad, bad, found)]
    return OnePicture(used.astype(np.uint16), sums[0], sums[1], sums[2], regions)
