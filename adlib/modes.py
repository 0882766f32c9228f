"""Every mode that Pillow knows, seen one way: RGB in 8 bits, or grey in [0, 1] where 8 bits would lose steps."""

from __future__ import annotations

import numpy as np
from PIL import Image

from adlib.contract import DataError, Sentence, say

WHITES = (255, 1023, 4095, 16383, 65535)  # 8, 10, 12, 14 and 16 bits


def is_deep(image: Image.Image) -> bool:
    """Whether it holds whole numbers of more than 8 bits; only grey can, in Pillow."""
    return image.mode == "I" or image.mode.startswith("I;16")


def deep_grey(image: Image.Image, white: int, notes: list[Sentence]) -> tuple[Image.Image, int]:
    """Whole numbers of more than 8 bits, as mode F in [0, 1], and the largest of them."""
    raw = np.asarray(image)
    low, peak = int(raw.min()), int(raw.max())
    if low < 0 or peak > WHITES[-1]:
        raise DataError(
            "Its grey values run from {low} to {peak}; 0 to 65535 are read. Save it as 16-bit grey.", low=low, peak=peak
        )
    notes.append(say("16-bit grey, kept in full; one rule for the whole set says which value is white."))
    if peak > white:
        notes.append(say("Values above {white} are shown as white, as in the rest of the set.", white=white))
    scaled = raw.astype(np.float32)
    scaled /= white
    return Image.fromarray(np.minimum(scaled, 1.0, out=scaled)), peak


def float_grey(image: Image.Image) -> Image.Image:
    raw = np.asarray(image)
    if not (np.isfinite(raw).all() and raw.min() >= 0 and raw.max() <= 1):
        raise DataError("Its values are floating-point numbers outside 0 to 1. Save it as 16-bit grey.")
    return image.copy()


def to_rgb(image: Image.Image, notes: list[Sentence]) -> Image.Image:
    mode = image.mode
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        if whole.getchannel("A").getextrema()[0] != 255:
            notes.append(say("Transparent parts are shown on white."))
        flat = Image.new("RGB", whole.size, "white")
        flat.paste(whole, mask=whole.getchannel("A"))
        return flat
    if mode == "P":
        notes.append(say("Palette colours are written out as RGB."))
    elif mode == "CMYK":
        notes.append(say("CMYK is turned into RGB without its colour profile."))
    elif mode in ("1", "L"):
        notes.append(say("Grey: the one channel serves as red, green and blue."))
    elif mode not in ("RGB", "RGBA", "RGBX", "LA", "PA", "YCbCr", "HSV"):
        raise DataError("Colour mode {mode} is not read here. Save the picture as RGB.", mode=mode)
    return image.convert("RGB")  # a copy also where it is RGB: `image` is tied to the file


def to_8_bits(image: Image.Image) -> Image.Image:
    if image.mode != "F":
        return image
    grey = (np.asarray(image) * np.float32(255)).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
