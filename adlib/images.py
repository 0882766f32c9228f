"""Pictures as numbers: read any accepted file the same way in fit and test, resize it whole, bring maps back.

Decoding is the border to files that strangers made: sizes are checked before pixels are allocated, only five formats are
tried, and what cannot be read becomes one sentence.  Which pictures belong to a set is left to `intake` and `datasets`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from adlib import regions
from adlib.contract import DataError, Sentence, say

MAX_PIXELS = 50_000_000
MIN_SIDE = 8  # pixels: what is smaller came here by mistake
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # Pillow would try forty, some of them through other programs
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_WHITES = (255, 1023, 4095, 16383, 65535)  # 8, 10, 12, 14 and 16 bits
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
_NEAREST = Image.Resampling.NEAREST


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
        image = _to_8_bits(self.image)
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
    return _guarded(source, lambda opened: _picture(opened, white or _WHITES[-1], least))


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
    return next((white for white in _WHITES if white >= max(known)), _WHITES[-1]) if known else None


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
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, …
        raise _damaged(type(error).__name__) from None


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
    if _is_deep(image):
        image, peak = _deep_grey(image, white, notes)
    elif image.mode == "F":
        image = _float_grey(image)
    else:
        image = _to_rgb(image, notes)
    return Picture(image, width, height, tuple(notes), peak, "JPEG" if opened.format == "MPO" else str(opened.format))


def _too_many_pixels() -> DataError:
    return DataError(
        "The picture has more than {limit} megapixels. Make it smaller, or cut it into parts.",
        limit=MAX_PIXELS // 1_000_000,
    )


def _damaged(why: str) -> DataError:
    return DataError("The picture is damaged or cut off ({why}). Copy or export it again.", why=why)


def _foreign(data: bytes) -> DataError:
    if not data:
        return DataError("The file is empty.")
    kind = next((kind for place, mark, kind in _FOREIGN if data[place : place + len(mark)] == mark), "")
    kind = kind or ("SVG" if b"<svg" in data[:1000].lower() else "")
    if kind:
        return DataError("{kind} is not read here. Save the picture as PNG or JPEG.", kind=kind)
    if data.startswith(_OWN) or data[8:12] == b"WEBP":
        return _damaged("UnidentifiedImageError")
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


# --- one way to see every mode ----------------------------------------------------------------------------------------


def _is_deep(image: Image.Image) -> bool:
    """Whether it holds whole numbers of more than 8 bits; only grey can, in Pillow."""
    return image.mode == "I" or image.mode.startswith("I;16")


def _deep_grey(image: Image.Image, white: int, notes: list[Sentence]) -> tuple[Image.Image, int]:
    """Whole numbers of more than 8 bits, as mode F in [0, 1], and the largest of them."""
    raw = np.asarray(image)
    low, peak = int(raw.min()), int(raw.max())
    if low < 0 or peak > _WHITES[-1]:
        raise DataError(
            "Its grey values run from {low} to {peak}; 0 to 65535 are read. Save it as 16-bit grey.", low=low, peak=peak
        )
    notes.append(say("16-bit grey, kept in full; one rule for the whole set says which value is white."))
    if peak > white:
        notes.append(say("Values above {white} are shown as white, as in the rest of the set.", white=white))
    scaled = raw.astype(np.float32)
    scaled /= white
    return Image.fromarray(np.minimum(scaled, 1.0, out=scaled)), peak


def _float_grey(image: Image.Image) -> Image.Image:
    raw = np.asarray(image)
    if not (np.isfinite(raw).all() and raw.min() >= 0 and raw.max() <= 1):
        raise DataError("Its values are floating-point numbers outside 0 to 1. Save it as 16-bit grey.")
    return image.copy()


def _to_rgb(image: Image.Image, notes: list[Sentence]) -> Image.Image:
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


def _to_8_bits(image: Image.Image) -> Image.Image:
    if image.mode != "F":
        return image
    grey = (np.asarray(image) * np.float32(255)).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


# --- to the network and back ------------------------------------------------------------------------------------------


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
    small = _to_8_bits(picture.image.resize(size, _BILINEAR, reducing_gap=2.0))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def ringed(picture: Picture, at: tuple[float, float]) -> bytes:
    """JPEG bytes of the whole picture with a ring around (x, y) in its pixels, white on black so that it shows anywhere."""
    from PIL import ImageDraw

    image = _to_8_bits(picture.image).convert("RGB")
    pen, radius = ImageDraw.Draw(image), max(image.size) * 0.11
    x, y = at
    for colour, wide in (("black", 10), ("white", 5)):
        grown = radius + wide / 2
        pen.ellipse((x - grown, y - grown, x + grown, y + grown), outline=colour, width=wide)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


# --- masks ------------------------------------------------------------------------------------------------------------


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


def raw_mask(source: Path | bytes) -> np.ndarray:
    """A mask in its own pixels, upright: (height, width) bool.

    Any value but zero is a defect, since some sets number their defects 1, 2, 3; in colour, anything that is neither
    black nor transparent.  Only in a JPEG does it take half of the brightest value: compression leaves traces at edges.
    """
    return _guarded(source, _mask)


def _mask(opened: Image.Image) -> np.ndarray:
    image = _upright(opened)[0]
    if _is_deep(image) or image.mode == "F":
        return np.asarray(image) != 0
    if image.mode in ("1", "L"):
        values = np.asarray(image.convert("L"))
    else:
        colours = np.asarray(image.convert("RGBA"))
        values = colours[..., :3].max(axis=2) * (colours[..., 3] > 0)
    return values > (int(values.max()) // 2 if opened.format in ("JPEG", "MPO") else 0)
