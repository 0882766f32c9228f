"""A picture on its way to the network, and a map on its way back: resized whole, or the part that counts.

A frame remembers where the picture lies in the network's square.  Reading files is left to `images`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adlib import regions
from adlib.images import Picture, raw_mask
from adlib.modes import to_8_bits

_BILINEAR = Image.Resampling.BILINEAR
_NEAREST = Image.Resampling.NEAREST


@dataclass(frozen=True)
class Frame:
    """Where a picture lies in the network's square, and the way back.

    width, height: of the original, upright.  size: side of the square in pixels.
    box: left, top, right, bottom of the picture in the square; all of it unless letterboxed.
    region: the part of the picture that counts; the square shows the box around it, `crop`, and nothing else.
    """

    width: int
    height: int
    size: int
    box: tuple[int, int, int, int]
    region: regions.Region = regions.WHOLE

    @property
    def crop(self) -> regions.Box:
        """left, top, right, bottom, in the original's pixels, of what the square shows."""
        return regions.crop(self.region, self.width, self.height)

    def counted(self, side: int = 0) -> np.ndarray | None:
        """(side, side) bool: what of the square counts; None when all of it does.  side: 0 = the square's own."""
        return counted(self.region, self.box, self.size, side or self.size) if len(self.region) > 2 else None

    def to_original(self, map: np.ndarray) -> np.ndarray:
        """A map of the square in the original's own pixels.

        map: (size, size); a smaller square is taken to cover the same ground.
        Returns (height, width) float32, bilinear between pixel centres; what lay in the letterbox's margin is dropped, and
        what lies outside the region is 0.
        """
        scale = map.shape[0] / self.size
        left, top, right, bottom = (round(edge * scale) for edge in self.box)
        inside = np.ascontiguousarray(map[top : max(bottom, top + 1), left : max(right, left + 1)], np.float32)
        x0, y0, x1, y1 = self.crop
        there = np.asarray(Image.fromarray(inside).resize((x1 - x0, y1 - y0), _BILINEAR))
        if not self.region:
            return there
        whole = np.zeros((self.height, self.width), np.float32)
        whole[y0:y1, x0:x1] = there
        if len(self.region) > 2:
            whole[~regions.inside(self.region, self.width, self.height)] = 0.0
        return whole


def counted(region: regions.Region, box: regions.Box, size: int, side: int) -> np.ndarray:
    """(side, side) bool: where a square that shows the region's surroundings in `box` shows the region itself."""
    x0, y0, x1, y1 = regions.bounds(region)
    left, top, right, bottom = (edge * side / size for edge in box)
    across, down = (right - left) / (x1 - x0), (bottom - top) / (y1 - y0)  # pixels of the square, the whole picture
    corners = tuple((left + (x - x0) * across, top + (y - y0) * down) for x, y in region)
    return regions.within(corners, (0, 0, side, side))


def frame_of(
    width: int, height: int, size: int, letterbox: bool = False, region: regions.Region = regions.WHOLE
) -> Frame:
    """The frame of a picture of that size: stretched over the whole square, or centred in its own proportions."""
    if not letterbox:
        return Frame(width, height, size, (0, 0, size, size), region)
    x0, y0, x1, y1 = regions.crop(region, width, height)
    scale = size / max(x1 - x0, y1 - y0)
    w, h = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    left, top = (size - w) // 2, (size - h) // 2
    return Frame(width, height, size, (left, top, left + w, top + h), region)


def least_for(size: int, region: regions.Region = regions.WHOLE) -> int:
    """`least` for `read`, so that the region alone still has twice as many pixels as the network's square."""
    left, top, right, bottom = regions.bounds(region)
    return math.ceil(size / min(right - left, bottom - top))


def to_pixels(
    picture: Picture, size: int, letterbox: bool = False, region: regions.Region = regions.WHOLE
) -> tuple[np.ndarray, Frame]:
    """The picture, or the box around its region, as the network sees it, and its frame.

    size: side of the square in pixels.  letterbox: keep the proportions; the margin repeats the picture's edge, because
    a bar of one colour would be the most striking thing in it.
    region: what lies outside is cut off, or covered with one grey where the region is no rectangle, before anything is
    made smaller: not a bit of the result depends on it.
    Returns (3, size, size) float32 RGB in [0, 1], resized by antialiased bilinear interpolation.
    """
    frame = frame_of(picture.width, picture.height, size, letterbox, region)
    left, top, right, bottom = frame.box
    image, part = _cut(picture, frame)
    small = np.asarray(image.resize((right - left, bottom - top), _BILINEAR, box=part))
    small = np.broadcast_to(small, (3, *small.shape)) if small.ndim == 2 else small.transpose(2, 0, 1)  # (3, h, w)
    if letterbox:
        small = np.pad(small, ((0, 0), (top, size - bottom), (left, size - right)), mode="edge")
    if small.dtype == np.uint8:
        return np.multiply(small, np.float32(1 / 255), order="C", dtype=np.float32), frame
    return np.ascontiguousarray(small.clip(0.0, 1.0), np.float32), frame


def _cut(picture: Picture, frame: Frame) -> tuple[Image.Image, tuple[float, float, float, float] | None]:
    """The pixels around the region with all else covered, and which part of them is the frame's crop; None: all."""
    image = picture.image
    if not frame.region:
        return image, None
    across, down = image.width / picture.width, image.height / picture.height  # below 1 when it was read small
    x0, y0, x1, y1 = frame.crop
    edges = x0 * across, y0 * down, min(x1 * across, image.width), min(y1 * down, image.height)
    outer = math.floor(edges[0]), math.floor(edges[1]), math.ceil(edges[2]), math.ceil(edges[3])
    cut = image.crop(outer)
    if len(frame.region) > 2:
        covered = Image.fromarray(~regions.inside(frame.region, image.width, image.height, outer))
        cut.paste(0.5 if cut.mode == "F" else (128, 128, 128), (0, 0, cut.width, cut.height), covered)
    return cut, (edges[0] - outer[0], edges[1] - outer[1], edges[2] - outer[0], edges[3] - outer[1])


def thumbnail(picture: Picture, side: int = 256) -> bytes:
    """JPEG bytes of the picture, at most `side` pixels long, for a page; never enlarged."""
    scale = min(1.0, side / max(picture.image.size))
    size = (max(1, round(picture.image.width * scale)), max(1, round(picture.image.height * scale)))
    small = to_8_bits(picture.image.resize(size, _BILINEAR, reducing_gap=2.0))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def ringed(picture: Picture, at: tuple[float, float]) -> bytes:
    """JPEG bytes of the whole picture with a ring around (x, y) in its pixels, white on black so that it shows anywhere."""
    from PIL import ImageDraw

    image = to_8_bits(picture.image).convert("RGB")
    pen, radius = ImageDraw.Draw(image), max(image.size) * 0.11
    x, y = at
    for colour, wide in (("black", 10), ("white", 5)):
        grown = radius + wide / 2
        pen.ellipse((x - grown, y - grown, x + grown, y + grown), outline=colour, width=wide)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def read_mask(path: Path, size: int, frame: Frame | bool = False, region: regions.Region = regions.WHOLE) -> np.ndarray:
    """A defect mask in the network's square: (size, size) bool, True where the defect is.

    path: a picture of the same size as the one it belongs to.  frame: that picture's frame, or whether it is letterboxed;
    then region: the part of the picture that counts.
    Resized to the nearest pixel; the letterbox's margin and what lies outside the region are False.
    Raises DataError when it cannot be read.
    """
    mask = raw_mask(path)
    height, width = mask.shape
    if isinstance(frame, Frame):
        letterbox, region = frame.box != (0, 0, frame.size, frame.size), frame.region
    else:
        letterbox = frame
    here = frame_of(width, height, size, letterbox, region)
    left, top, right, bottom = here.box
    square = np.zeros((size, size), bool)
    small = Image.fromarray(mask).resize((right - left, bottom - top), _NEAREST, box=here.crop)
    square[top:bottom, left:right] = np.asarray(small)
    inside = here.counted()
    return square if inside is None else square & inside
