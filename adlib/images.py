"""Any accepted file, read the same way in fit and test.

Decoding is the border to files that strangers made: sizes are checked before pixels are allocated, only five formats are
tried, and what cannot be read becomes one sentence.  How a picture comes to the network is left to `frames`, which pictures
belong to a set to `intake` and `datasets`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from adlib.contract import DataError, Sentence, say
from adlib.modes import WHITES, deep_grey, float_grey, is_deep, to_8_bits, to_rgb

MAX_PIXELS = 50_000_000
MIN_SIDE = 8  # pixels: what is smaller came here by mistake
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # Pillow would try forty, some of them through other programs
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_FOREIGN = (  # what people often bring; where the mark stands in the file, the mark, how the format is called
    (0, b"GIF8", "GIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypavi", "AVIF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
)
_OWN = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # the EXIF tag
T = TypeVar("T")
_BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    image: mode "RGB", or mode "F" in [0, 1] for grey of more than 8 bits, whose steps 8 bits would lose.
    width, height: pixels of the original, upright; `image` is smaller when it was read with `least`.
    notes: what was done to it.  peak: largest raw value of grey with more than 8 bits, else None.  format: "PNG", ….
    """

    image: Image.Image
    width: int
    height: int
    notes: tuple[Sentence, ...]
    peak: int | None
    format: str

    def rgb(self) -> np.ndarray:
        """(height, width, 3) uint8, for people to look at, in the original's pixels."""
        image = to_8_bits(self.image)
        full = (self.width, self.height)
        return np.asarray(image if image.size == full else image.resize(full, _BILINEAR))


# --- reading ----------------------------------------------------------------------------------------------------------


def read(source: Path | bytes, *, white: int | None = None, least: int | None = None) -> Picture:
    """Decodes one picture completely.

    white: raw value shown as white in grey pictures of more than 8 bits; None: 65535.
    least: a JPEG may be decoded smaller, no side below twice this many pixels.  It is several times faster, but pixels are
    not quite those of the full picture made smaller: whatever is compared must be read with the same `least`.
    Raises DataError, with the reason as a sentence, for anything that is not one whole picture within MAX_PIXELS.
    """
    return _guarded(source, lambda opened: _picture(opened, white or WHITES[-1], least))


def camera(source: Path | bytes) -> str:
    """Maker and model of the camera, as the file's EXIF data says; "" when it does not.  A stranger's text, cut short."""
    with suppress(DataError):
        return _guarded(source, _camera)
    return ""


def _camera(opened: Image.Image) -> str:
    with suppress(Exception):
        exif = opened.getexif()
        words = " ".join(str(exif.get(tag) or "").strip("\0 ") for tag in (0x010F, 0x0110)).split()
        return "".join(c for c in " ".join(dict.fromkeys(words)) if c.isprintable())[:60]
    return ""


def white_of(peaks: Iterable[int | None]) -> int | None:
    """One scaling rule for a whole set: the smallest usual white, of 8, 10, 12, 14 or 16 bits, that holds every peak.

    peaks: largest raw value of each picture, None for those of 8 bits.  Returns None when all are.

    >>> white_of([None, 800, 3000])
    4095
    """
    known = [peak for peak in peaks if peak is not None]
    return next((white for white in WHITES if white >= max(known)), WHITES[-1]) if known else None


def _guarded(source: Path | bytes, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of an opened picture; whatever goes wrong on the way becomes a DataError."""
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise DataError("The file cannot be opened ({why}).", why=type(error).__name__) from None
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise _too_many_pixels()
            if min(opened.size) < MIN_SIDE:
                raise DataError(
                    "The picture is only {width}×{height} pixels; {least} are needed.",
                    width=opened.width, height=opened.height, least=MIN_SIDE,
                )  # fmt: skip
            return use(opened)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels() from None
    except Image.UnidentifiedImageError:
        raise _foreign(data) from None
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, …
        raise _damaged() from None


def _picture(opened: Image.Image, white: int, least: int | None) -> Picture:
    notes: list[Sentence] = []
    frames = getattr(opened, "n_frames", 1)
    if frames > 1:
        notes.append(say("Only the first of {n} pictures in the file is used.", n=frames))
    if _loses_bits(opened):
        notes.append(say("16-bit colour: the upper 8 bits are used. Save as 16-bit grey to keep all of them."))
    width, height = opened.size
    if least:
        opened.draft("", (2 * least, 2 * least))
    image, orientation = _upright(opened)
    if orientation in _TURNS:
        notes.append(say("Turned upright, as its EXIF data says."))
        if orientation >= 5 and opened.format != "TIFF":  # Pillow has a TIFF's size turned already
            width, height = height, width
    peak: int | None = None
    if is_deep(image):
        image, peak = deep_grey(image, white, notes)
    elif image.mode == "F":
        image = float_grey(image)
    else:
        image = to_rgb(image, notes)
    return Picture(image, width, height, tuple(notes), peak, "JPEG" if opened.format == "MPO" else str(opened.format))


def _too_many_pixels() -> DataError:
    return DataError(
        "The picture has more than {limit} megapixels. Make it smaller, or cut it into parts.",
        limit=MAX_PIXELS // 1_000_000,
    )


def _damaged() -> DataError:
    return DataError("The picture is damaged or cut off. Copy or export it again.")


def _foreign(data: bytes) -> DataError:
    if not data:
        return DataError("The file is empty.")
    kind = next((kind for place, mark, kind in _FOREIGN if data[place : place + len(mark)] == mark), "")
    kind = kind or ("SVG" if b"<svg" in data[:1000].lower() else "")
    if kind:
        return DataError("{kind} is not read here. Save the picture as PNG or JPEG.", kind=kind)
    if data.startswith(_OWN) or data[8:12] == b"WEBP":
        return _damaged()
    return DataError(
        "This is not a PNG, JPEG, BMP, TIFF or WebP picture, whatever its name says. Save it as PNG or JPEG."
    )


def _upright(opened: Image.Image) -> tuple[Image.Image, int]:
    """The pixels as they were meant to be seen, and the EXIF orientation that said so (1: nothing was turned)."""
    if opened.format == "TIFF":  # the one format that Pillow turns by itself, forgetting then that it did
        orientation = _orientation(opened)
        opened.load()
        return opened, orientation
    opened.load()
    orientation = _orientation(opened)
    return (opened.transpose(_TURNS[orientation]) if orientation in _TURNS else opened), orientation


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # EXIF data is written by many hands; a picture is not refused for it
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _loses_bits(image: Image.Image) -> bool:
    """Whether Pillow reads only the upper byte of each channel: it has no mode for 16-bit colour."""
    many = image.mode in ("RGB", "RGBA", "RGBX", "LA", "CMYK")
    return many and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


# --- masks ------------------------------------------------------------------------------------------------------------


def raw_mask(source: Path | bytes) -> np.ndarray:
    """A mask in its own pixels, upright: (height, width) bool.

    Any value but zero is a defect, since some sets number their defects 1, 2, 3; in colour, anything that is neither
    black nor transparent.  Only in a JPEG does it take half of the brightest value: compression leaves traces at edges.
    """
    return _guarded(source, _mask)


def _mask(opened: Image.Image) -> np.ndarray:
    image = _upright(opened)[0]
    if is_deep(image) or image.mode == "F":
        return np.asarray(image) != 0
    if image.mode in ("1", "L"):
        values = np.asarray(image.convert("L"))
    else:
        colours = np.asarray(image.convert("RGBA"))
        values = colours[..., :3].max(axis=2) * (colours[..., 3] > 0)
    return values > (int(values.max()) // 2 if opened.format in ("JPEG", "MPO") else 0)
