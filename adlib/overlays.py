"""Heatmaps as pixels: one colour table, one scale for every picture, and a PNG that explains itself.

Maps arrive as ratios, multiples of the value that held-out normals stay below, so that a colour means the same on every
picture and a good part stays calm.  Charts are in `plots`; where the ratio comes from, in `thresholds`.
"""

from __future__ import annotations

import io
import time
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from adlib.images import Picture

VMAX = 2.0  # the scale ends at twice the threshold
# Ten anchors of the colour map "inferno" (matplotlib, CC0): lightness rises steadily, also for colour-blind eyes.
_STOPS = "000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4"
_INK = "#101418"
_WIDEST = 20_000  # pixels; a legend's picture is never wider


@cache
def inferno() -> np.ndarray:
    """(256, 3) uint8, from black over red to pale yellow.  Read-only, since it is shared."""
    stops = np.array([list(bytes.fromhex(stop)) for stop in _STOPS.split()])
    places = np.linspace(0, len(stops) - 1, 256)
    table = np.stack([np.interp(places, range(len(stops)), channel) for channel in stops.T], axis=1)
    made = np.rint(table).astype(np.uint8)
    made.setflags(write=False)
    return made


def heat_only(ratio: np.ndarray, vmax: float = VMAX) -> np.ndarray:
    """ratio: (H, W), 1 = the threshold.  Returns (H, W, 3) uint8 RGB; 0 and below is black, `vmax` and above the top."""
    return inferno()[_levels(ratio, vmax)]


def overlay(
    image: np.ndarray, ratio: np.ndarray, opacity: float = 0.6, outline: bool = True, vmax: float = VMAX
) -> np.ndarray:
    """The picture with its heat on top, (H, W, 3) uint8 RGB.

    image: (H, W, 3) uint8 RGB.  ratio: (H, W), 1 = the threshold.  opacity: of the heat at and above 1x, in [0, 1].
    Below 1x the heat fades with the fourth power of the ratio: normal textures often lie at 0.6 to 0.8 of the line all over,
    and shall look as they are.
    outline: a white line on black around everything above 1x, visible on any ground.
    Raises ValueError for another shape or dtype, or a ratio that is not finite.
    """
    if image.dtype != np.uint8 or image.shape != (*ratio.shape, 3):
        raise ValueError(
            f"the picture is {image.dtype} {image.shape}, the map {ratio.shape}; (H, W, 3) uint8 is needed"
        )
    levels = _levels(ratio, vmax)
    steps = np.arange(256) / 255 * vmax
    alpha = np.rint(255 * opacity * np.clip(steps, 0, 1) ** 4).astype(np.uint16)  # (256,) weight of each level
    heat = inferno().astype(np.uint16) * alpha[:, None]
    # A row at a time holds one row of 16-bit numbers and not a whole picture of 50 megapixels.
    mixed = np.empty_like(image)
    for row in range(len(image)):
        level = levels[row]
        mixed[row] = (image[row] * (255 - alpha[level])[:, None] + heat[level] + 127) // 255
    if outline:
        _draw_outline(mixed, ratio > 1)
    return mixed


def _levels(ratio: np.ndarray, vmax: float) -> np.ndarray:
    """(H, W) uint8 rows of the colour table."""
    if ratio.ndim != 2 or not np.isfinite(ratio).all():
        raise ValueError(f"the map has shape {ratio.shape} or holds a value that is not finite")
    return np.rint(np.clip(ratio, 0, vmax) * (255 / vmax)).astype(np.uint8)


def _draw_outline(image: np.ndarray, region: np.ndarray) -> None:
    """Draws into the picture, about 2 white on 4 black pixels in one of 700 pixels, thinner in small ones."""
    from scipy import ndimage

    if not region.any():
        return
    white = max(1, round(min(region.shape) / 350))
    reach = 2 * white + 1
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    part = tuple(slice(max(0, at[0] - reach), at[-1] + reach + 1) for at in (rows, columns))
    inside, square = region[part], np.ones((3, 3), dtype=bool)
    # Outside the picture counts as calm, so that a region at the rim is closed and a fully alarming picture has a frame.
    line = inside & ~ndimage.binary_erosion(inside, square, iterations=white)
    image[part][ndimage.binary_dilation(line, square, iterations=max(1, white // 2 + white % 2))] = 0
    image[part][line] = 255


# --- a picture to take away -------------------------------------------------------------------------------------------


def legend_png(image: np.ndarray, lines: Iterable[str] = (), vmax: float = VMAX) -> bytes:
    """PNG bytes: the overlay, under it the colour scale with the threshold marked, and lines of text.

    image: (H, W, 3) uint8 RGB, as `overlay` or `heat_only` made it; its pixels are kept as they are.
    lines: model, date, score, verdict.  In English: Pillow's own font knows little else, and what it cannot draw becomes
    the nearest plain letter or "?".  Long lines are broken.
    """
    height, width = image.shape[:2]
    wide = min(max(width, 360), _WIDEST)
    size = max(13, min(round(wide / 40), 40))  # of the text, in pixels
    font = ImageFont.load_default(size)
    text = [part for line in lines for part in _broken(_drawable(line), font, wide - 2 * size)]
    step, bar = round(size * 1.5), size
    below = size + bar + 2 * step + step * len(text) + size // 2
    sheet = Image.new("RGB", (max(wide, width), height + below), "white")
    sheet.paste(Image.fromarray(image), ((sheet.width - width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    _draw_scale(sheet, draw, font, (size, height + size, wide - 2 * size, bar), vmax)
    for i, line in enumerate(text):
        draw.text((size, height + size + bar + 2 * step + i * step), line, fill=_INK, font=font)
    out = io.BytesIO()
    sheet.save(out, "PNG", compress_level=4)
    return out.getvalue()


class Judged(Protocol):
    """What a picture's sheet tells; `workflow.look` returns one."""

    @property
    def picture(self) -> Picture: ...
    @property
    def score(self) -> float: ...
    @property
    def ratio(self) -> float: ...
    @property
    def alarm(self) -> bool: ...
    @property
    def heat(self) -> np.ndarray | None: ...


def heatmap_png(look: Judged, model: str, opacity: float = 0.6, date: str = "") -> bytes:
    """PNG bytes of a judged picture with its heat, the legend, the verdict, the model's name and the date.

    date: as it shall read; "" = today.  Without a map the picture stands alone.
    """
    photo = look.picture.image
    if photo.mode != "RGB":  # grey with more than 8 bits, in 0..1
        photo = Image.fromarray((np.asarray(photo).clip(0, 1) * 255).astype(np.uint8)).convert("RGB")
    image = np.asarray(photo if look.heat is None else photo.resize(look.heat.shape[::-1]))
    image = image if look.heat is None else overlay(image, look.heat, opacity)
    verdict = "ALARM" if look.alarm else "normal"
    told = f"{verdict}: {look.ratio:.2f}x the threshold (score {look.score:.4g})"
    return legend_png(image, [told, f"{model} - {date or time.strftime('%Y-%m-%d')}"])


def _draw_scale(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    box: tuple[int, int, int, int],
    vmax: float,
) -> None:
    """The bar from 0 to `vmax` in box (left, top, width, height), a mark at the threshold, and numbers under it."""
    left, top, width, height = box
    row = inferno()[np.linspace(0, 255, width).astype(np.uint8)]
    sheet.paste(Image.fromarray(np.repeat(row[None], height, axis=0)), (left, top))
    draw.rectangle((left, top, left + width - 1, top + height - 1), outline=_INK)
    numbers = top + height + height // 4
    ends = (
        ("la", 0.0, "0"),
        ("ma", 0.25, f"{vmax / 4:g}x"),
        ("ma", 0.75, f"{vmax * 0.75:g}x"),
        ("ra", 1.0, f">= {vmax:g}x"),
    )
    for anchor, share, label in ends:
        draw.text((left + share * (width - 1), numbers), label, fill=_INK, font=font, anchor=anchor)
    at, reach = left + (width - 1) / vmax, max(1, height // 8)
    draw.rectangle((at - 2 * reach, top - reach, at + 2 * reach, top + height + reach), fill="black")
    draw.rectangle((at - reach, top, at + reach, top + height), fill="white")
    draw.text((at, numbers), "1x", fill=_INK, font=font, anchor="ma")
    draw.text((at, numbers + round(height * 1.2)), "threshold", fill=_INK, font=font, anchor="ma")


def _drawable(line: str) -> str:
    """The line in printable ASCII: all that the built-in font is sure to hold.  At most 300 characters."""
    plain = "".join(_ASCII.get(letter, letter) for letter in line[:300])
    letters = unicodedata.normalize("NFKD", plain)
    kept = (letter for letter in letters if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in kept)


_ASCII = {
    "×": "x",
    "≥": ">=",
    "≤": "<=",
    "–": "-",
    "—": "-",
    "·": "-",
    "…": "...",
    "’": "'",
    "µ": "u",
    "\n": " ",
    "\t": " ",
}


def _broken(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The line in pieces that fit into `width` pixels, at spaces where there are some."""
    pieces = []
    while font.getlength(line) > width:
        fits = max(1, next(n for n in range(len(line), 0, -1) if n == 1 or font.getlength(line[:n]) <= width))
        at = line.rfind(" ", 1, fits + 1)
        cut = at if at > fits // 2 else fits
        pieces.append(line[:cut])
        line = line[cut:].lstrip()
    return [*pieces, line]
