"""A region of interest: the part of a picture that counts, in fractions of its sides, so that it holds for every size.

A region is a plain tuple of corners (x, y): none = the whole picture, two = a rectangle by opposite corners, three or
more = a polygon.  Cutting and covering pictures is left to `images`, keeping the region of a data set to `curation`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from adlib.contract import DataError

Region = tuple[tuple[float, float], ...]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are outside
WHOLE: Region = ()
LEAST = 0.02  # of a side: what is smaller was drawn by mistake
MOST_CORNERS = 100


def checked(corners: Iterable[Sequence[Any]]) -> Region:
    """The region of these corners, inside the picture; rectangles upright, the whole picture as none.

    Raises DataError when it is no region: one corner, a value that is not a number, an area next to nothing.
    """
    try:
        region = tuple((float(x), float(y)) for x, y in corners)
    except (TypeError, ValueError):
        raise DataError(
            "A corner of the region is two numbers, the shares of the picture's width and height."
        ) from None
    if not region:
        return WHOLE
    if len(region) == 1 or len(region) > MOST_CORNERS or not all(math.isfinite(v) for corner in region for v in corner):
        raise DataError(
            "A region has two corners (a rectangle) or 3 to {most} (a polygon); got {n}.",
            most=MOST_CORNERS, n=len(region),
        )  # fmt: skip
    region = tuple((round(min(max(x, 0.0), 1.0), 5), round(min(max(y, 0.0), 1.0), 5)) for x, y in region)
    left, top, right, bottom = bounds(region)
    if min(right - left, bottom - top) < LEAST or _area(region) < LEAST**2:
        raise DataError("The region is smaller than {least:.0%} of the picture. Draw a larger one.", least=LEAST)
    if is_rectangle(region):
        region = ((left, top), (right, bottom))
        return WHOLE if region == ((0.0, 0.0), (1.0, 1.0)) else region
    return region


def parse(text: str) -> Region:
    """ "x0,y0,x1,y1" or more pairs, as the command line takes them.  Raises DataError.

    >>> parse("0.1,0.2,0.9,0.8")
    ((0.1, 0.2), (0.9, 0.8))
    """
    parts = text.replace(";", ",").split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) < 4 or len(numbers) % 2:
        raise DataError(
            "A region is x0,y0,x1,y1 in shares of the picture, such as 0.1,0.2,0.9,0.8; got '{got}'.", got=text[:80]
        )
    return checked(zip(numbers[::2], numbers[1::2], strict=True))


def from_json(value: Any) -> Region:
    """The region of a request or a file written earlier; None and what is missing are the whole picture."""
    return checked(value or ())


def is_rectangle(region: Region) -> bool:
    """Two corners, or four that stand upright."""
    if len(region) == 4:
        xs, ys = {x for x, _ in region}, {y for _, y in region}
        turns = all((a[0] == b[0]) != (a[1] == b[1]) for a, b in zip(region, region[1:] + region[:1], strict=True))
        return len(xs) == len(ys) == 2 and turns
    return len(region) == 2


def bounds(region: Region) -> tuple[float, float, float, float]:
    """left, top, right, bottom in fractions."""
    if not region:
        return 0.0, 0.0, 1.0, 1.0
    xs, ys = zip(*region, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def share(region: Region) -> float:
    """Of the picture's area, in (0, 1]."""
    return _area(region) if region else 1.0


def crop(region: Region, width: int, height: int) -> Box:
    """The smallest box of whole pixels around the region, at least one pixel wide and high."""
    left, top, right, bottom = bounds(region)
    x, y = min(math.floor(left * width + 1e-6), width - 1), min(math.floor(top * height + 1e-6), height - 1)
    return x, y, max(x + 1, math.ceil(right * width - 1e-6)), max(y + 1, math.ceil(bottom * height - 1e-6))


def inside(region: Region, width: int, height: int, window: Box | None = None) -> np.ndarray:
    """(height, width) bool, True for the pixels of a picture of that size whose centre lies in the region.

    window: only these pixels of it.  Read-only, since small ones are shared.
    """
    window = window or (0, 0, width, height)
    return within(tuple((x * width, y * height) for x, y in (region or ((0.0, 0.0), (1.0, 1.0)))), window)


def within(corners: Region, window: Box) -> np.ndarray:
    """As `inside`, for corners that are pixels already."""
    small = (window[2] - window[0]) * (window[3] - window[1]) <= 1 << 20
    return (_kept if small else _within)(corners, window)


def _within(corners: Region, window: Box) -> np.ndarray:
    """By the even-odd rule: a pixel is inside when an odd number of edges lie left of its centre."""
    left, top, right, bottom = window
    if len(corners) == 2:
        (x0, y0), (x1, y1) = corners
        corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    crossings = np.zeros((bottom - top, right - left + 1), np.uint8)
    rows = np.arange(top, bottom) + 0.5  # centres
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        hit = np.flatnonzero((rows >= min(y0, y1)) & (rows < max(y0, y1)))
        if len(hit):
            at = x0 + (rows[hit] - y0) * ((x1 - x0) / (y1 - y0))
            first = np.clip(np.ceil(at - 0.5).astype(int) - left, 0, right - left)  # the first centre right of the edge
            crossings[hit, first] ^= 1
    made = np.bitwise_xor.accumulate(crossings, axis=1)[:, :-1].astype(bool)
    made.setflags(write=False)
    return made


_kept = functools.lru_cache(maxsize=64)(_within)


def _area(region: Region) -> float:
    """Of a rectangle or a polygon (shoelace formula), in shares of the picture."""
    if is_rectangle(region):
        left, top, right, bottom = bounds(region)
        return (right - left) * (bottom - top)
    ends = zip(region, region[1:] + region[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in ends)) / 2
