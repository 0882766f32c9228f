"""Promises about reading pictures: any accepted file looks the same in fit and test, and every refusal is a sentence."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from adlib.contract import DataError
from adlib.frames import Frame, frame_of, read_mask, thumbnail, to_pixels
from adlib.images import MAX_PIXELS, raw_mask, read, white_of


def noise(height: int = 40, width: int = 60, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def saved(image: Image.Image | np.ndarray, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, format, **options)
    return buffer.getvalue()


def turned(pixels: np.ndarray, orientation: int, format: str = "PNG") -> bytes:
    """The picture's bytes with an EXIF tag that asks for turning it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(pixels, format, exif=exif)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written chunk by chunk, for what Pillow itself cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def said(picture) -> str:
    return " ".join(str(note) for note in picture.notes)


def pixels_of(picture) -> np.ndarray:
    return np.asarray(picture.image)


# --- accepted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
def test_five_formats_are_read_to_the_pixels_that_were_saved(format):
    pixels = noise()
    picture = read(saved(pixels, format, **({"lossless": True} if format == "WEBP" else {})))
    assert (picture.format, picture.width, picture.height, picture.peak) == (format, 60, 40, None)
    if format == "JPEG":
        assert abs(pixels_of(picture).mean() - pixels.mean()) < 2
    else:
        assert (pixels_of(picture) == pixels).all()
    assert picture.notes == ()


def test_a_file_and_its_bytes_are_the_same_picture(tmp_path):
    data = saved(noise())
    (tmp_path / "a.png").write_bytes(data)
    assert (pixels_of(read(tmp_path / "a.png")) == pixels_of(read(data))).all()


def test_grey_palette_and_bilevel_become_rgb_and_it_is_said():
    grey = noise(channels=1)
    picture = read(saved(grey))
    assert (pixels_of(picture) == grey[..., None]).all()
    assert "Grey" in said(picture)
    palette = Image.fromarray(noise()).quantize(8)
    picture = read(saved(palette))
    assert (pixels_of(picture) == np.asarray(palette.convert("RGB"))).all()
    assert "Palette" in said(picture)
    assert set(np.unique(pixels_of(read(saved(Image.fromarray(grey > 99)))))) == {0, 255}


def test_cmyk_is_turned_into_rgb_and_it_is_said():
    picture = read(saved(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = pixels_of(picture)[10, 10]
    assert red > 200
    assert max(green, blue) < 60
    assert "CMYK" in said(picture)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_shown_on_white(mode):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:, 10:, 3] = 255  # left half transparent black, right half solid black
    image = Image.fromarray(pixels)
    if mode == "P":
        image = Image.fromarray((np.arange(20) >= 10).astype(np.uint8)[None].repeat(20, 0), "P")
        image.putpalette([0, 0, 0] * 256)
        data = saved(image, transparency=0)
    else:
        data = saved(image.convert(mode))
    picture = read(data)
    assert (pixels_of(picture)[:, :10] == 255).all()
    assert (pixels_of(picture)[:, 10:] == 0).all()
    assert "on white" in said(picture)


def test_an_alpha_channel_that_hides_nothing_is_not_spoken_of():
    assert read(saved(Image.fromarray(noise()).convert("RGBA"))).notes == ()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_every_format_upright(format, orientation):
    """Compared with the definition: where the tag says the stored first row and first column lie."""
    upright = np.full((32, 48, 3), 128, np.uint8)
    upright[:16, :16], upright[16:, :16] = (255, 0, 0), (0, 0, 255)  # red above blue at the left
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright, 1), 7: np.rot90(upright.swapaxes(0, 1), 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    picture = read(turned(np.ascontiguousarray(stored), orientation, format))
    assert (picture.width, picture.height) == (48, 32)
    assert np.abs(pixels_of(picture).astype(int) - upright).mean() < 6
    assert ("upright" in said(picture)) == (orientation > 1)


def test_of_several_pages_or_frames_the_first_is_read_and_it_is_said():
    first, second = Image.fromarray(noise()), Image.new("RGB", (60, 40))
    for format, options in (("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        picture = read(saved(first, format, save_all=True, append_images=[second], **options))
        assert (pixels_of(picture) == np.asarray(first)).all(), format
        assert "first of 2" in said(picture)


# --- more than 8 bits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_every_step(format):
    raw = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60) + 1000
    picture = read(saved(raw, format), white=4095)
    assert (picture.image.mode, picture.peak) == ("F", 3399)
    assert len(np.unique(pixels_of(picture))) == 2400
    np.testing.assert_allclose(pixels_of(picture), raw / 4095, rtol=1e-6)
    pixels, _ = to_pixels(picture, 40)
    assert len(np.unique(pixels)) > 256
    assert (pixels[0] == pixels[1]).all()


def test_one_rule_for_a_set_keeps_a_dark_picture_dark():
    dark, light = np.full((16, 16), 300, np.uint16), np.full((16, 16), 3000, np.uint16)
    white = white_of([read(saved(raw)).peak for raw in (dark, light)])
    assert white == 4095
    means = [pixels_of(read(saved(raw), white=white)).mean() for raw in (dark, light)]
    assert means[1] / means[0] == pytest.approx(10)


def test_the_rule_is_the_smallest_usual_range_that_holds_the_largest_value():
    assert white_of([]) is None
    assert white_of([None, None]) is None
    assert [white_of([n]) for n in (0, 255, 256, 1023, 1024, 4096, 16384, 65535)] == [
        255, 255, 1023, 1023, 4095, 16383, 65535, 65535,
    ]  # fmt: skip


def test_values_above_the_sets_white_are_shown_as_white_and_it_is_said():
    picture = read(saved(np.full((16, 16), 5000, np.uint16)), white=4095)
    assert (pixels_of(picture) == 1).all()
    assert "above 4095" in said(picture)


def test_16_bit_colour_is_read_by_its_upper_bytes_and_it_is_said():
    raw = np.random.default_rng(0).integers(0, 65536, (16, 16, 3)).astype(">u2")
    picture = read(png(16, 16, 16, 2, b"".join(b"\0" + row.tobytes() for row in raw)))
    assert (pixels_of(picture) == raw >> 8).all()
    assert "upper 8 bits" in said(picture)


def test_wild_numbers_are_refused_with_their_range():
    with pytest.raises(DataError, match="run from 0 to 70000"):
        read(saved(np.array([[0, 70_000]], np.int32).repeat(16, 0).repeat(8, 1), "TIFF"))
    with pytest.raises(DataError, match="floating-point"):
        read(saved(np.full((16, 16), np.nan, np.float32), "TIFF"))
    picture = read(saved(np.full((16, 16), 0.25, np.float32), "TIFF"))
    assert to_pixels(picture, 8)[0] == pytest.approx(0.25)


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_half_a_file_is_refused_also_when_a_small_one_would_do(format):
    data = saved(noise(300, 300), format)
    for least in (None, 32):
        with pytest.raises(DataError, match="damaged or cut off"):
            read(data[: len(data) // 2], least=least)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(40), "GIF is not read here"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC is not read here"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG is not read here"),
        (b"hello, I am a text", "not a PNG, JPEG"),
        (bytes(1000), "not a PNG, JPEG"),
        (saved(noise(4, 40)), "only 40×4"),
    ],
    ids=["empty", "gif", "heic", "svg", "text", "zeros", "tiny"],
)
def test_what_is_no_picture_is_refused_with_the_reason(data, reason):
    with pytest.raises(DataError, match=reason):
        read(data)


def test_a_real_gif_is_refused_though_pillow_could_read_it():
    with pytest.raises(DataError, match="Save the picture as PNG or JPEG"):
        read(saved(Image.fromarray(noise()).quantize(8), "GIF"))


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (10_000, 9_000), (5_000, 10_001)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(width, height):
    assert width * height > MAX_PIXELS
    with pytest.raises(DataError, match="more than 50 megapixels"):
        read(png(width, height, 8, 2, b""))  # no pixels inside: decoding it would say that it is cut off


def test_a_file_that_is_gone_is_a_sentence(tmp_path):
    with pytest.raises(DataError, match="cannot be opened"):
        read(tmp_path / "gone.png")


# --- to the network and back ------------------------------------------------------------------------------------------


def test_the_whole_picture_reaches_the_network():
    """Each edge of a wide picture is still there: nothing was cropped."""
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, :30, 0], pixels[:, -30:, 1], pixels[:10, :, 2] = 255, 255, 255
    square, frame = to_pixels(read(saved(pixels)), 64)
    assert square.shape == (3, 64, 64)
    assert square.dtype == np.float32
    assert square.flags.c_contiguous
    assert frame.box == (0, 0, 64, 64)
    assert square[0, 32, 0] == square[1, 32, -1] == square[2, 0, 32] == 1
    assert 0 <= square.min() <= square.max() <= 1


def test_shrinking_averages_so_that_fine_stripes_do_not_flicker():
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    square, _ = to_pixels(read(saved(stripes)), 32)
    assert square[:, 4:-4, 4:-4] == pytest.approx(0.5, abs=0.02)


def test_letterbox_keeps_proportions_and_repeats_the_edge():
    pixels = np.full((50, 100, 3), 200, np.uint8)
    pixels[-1] = 90
    square, frame = to_pixels(read(saved(pixels)), 64, letterbox=True)
    assert frame.box == (0, 16, 64, 48)
    assert square[:, :16] == pytest.approx(200 / 255)
    assert (square[:, 48:] == square[:, 47:48]).all()


def test_8_and_16_bit_pictures_of_one_scene_look_alike():
    raw = (np.linspace(0, 1, 64)[None] * np.linspace(0.2, 1, 48)[:, None] * 65535).astype(np.uint16)
    deep, _ = to_pixels(read(saved(raw)), 32)
    flat, _ = to_pixels(read(saved((raw >> 8).astype(np.uint8))), 32)
    assert np.abs(deep - flat).max() < 2 / 255


@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize(("width", "height"), [(300, 100), (101, 333), (64, 64), (20, 31)])
def test_a_spot_in_the_map_comes_back_to_its_place_in_the_original(width, height, letterbox):
    """A bright block is found in the network's square, and its map lies on the block again."""
    pixels = np.zeros((height, width), np.uint8)
    rows, columns = slice(height // 2, height // 2 + height // 4), slice(width // 4, width // 2)
    pixels[rows, columns] = 255
    square, frame = to_pixels(read(saved(pixels)), 128, letterbox)
    back = frame.to_original(square[0])
    assert back.shape == (height, width)
    assert back.dtype == np.float32
    found = np.argwhere(back > 0.5)
    wanted = np.argwhere(pixels > 0)
    assert np.abs(found.min(0) - wanted.min(0)).max() <= 1 + max(width, height) // 128
    assert np.abs(found.max(0) - wanted.max(0)).max() <= 1 + max(width, height) // 128


def test_a_map_of_a_turned_picture_lies_upright():
    stored = np.zeros((80, 40), np.uint8)
    stored[:20] = 255  # EXIF 6: the stored first row is the right-hand side
    picture = read(turned(stored, 6))
    square, frame = to_pixels(picture, 64)
    back = frame.to_original(square[0])
    assert back.shape == (picture.height, picture.width) == (40, 80)
    assert back[:, 65:].min() > 0.9
    assert back[:, :50].max() < 0.1


def test_enlarging_a_map_equals_interpolating_between_pixel_centres():
    map = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    back = Frame(24, 24, 8, (0, 0, 8, 8)).to_original(map)
    centres = np.clip((np.arange(24) + 0.5) / 3 - 0.5, 0, 7)
    rows = np.array([np.interp(centres, np.arange(8), row) for row in map])
    wanted = np.array([np.interp(centres, np.arange(8), column) for column in rows.T]).T
    np.testing.assert_allclose(back, wanted, atol=1e-6)


def test_a_map_at_half_resolution_covers_the_same_ground():
    ramp = np.linspace(0, 255, 100).astype(np.uint8)[None].repeat(50, 0)
    square, frame = to_pixels(read(saved(ramp)), 64, letterbox=True)
    whole, half = frame.to_original(square[0]), frame.to_original(square[0, ::2, ::2])
    assert whole.shape == half.shape == (50, 100)
    assert np.abs(whole - half).max() < 0.03


def test_a_large_jpeg_read_small_looks_the_same_and_keeps_its_size():
    y, x = np.mgrid[:900, :1200]
    smooth = np.stack([x / 1200, y / 900, (x + y) / 2100], axis=-1)
    data = saved((smooth * 255).astype(np.uint8), "JPEG", quality=95)
    full, small = read(data), read(data, least=128)
    assert (small.width, small.height) == (1200, 900)
    assert small.image.width < 1200
    assert min(small.image.size) >= 128
    assert np.abs(to_pixels(full, 128)[0] - to_pixels(small, 128)[0]).max() < 0.02
    assert to_pixels(small, 128)[1].to_original(np.zeros((128, 128), np.float32)).shape == (900, 1200)
    assert small.rgb().shape == (900, 1200, 3)


# --- masks and thumbnails ---------------------------------------------------------------------------------------------


def test_any_value_but_zero_is_a_defect():
    values = np.zeros((40, 60), np.uint8)
    values[10:20, 5:25], values[30:, 40:] = 1, 7  # VisA numbers its defects
    for image in (
        Image.fromarray(values),
        Image.fromarray(values.astype(np.uint16)),
        Image.fromarray(np.stack([values * 0, values, values * 0], axis=-1)),
        Image.fromarray(values > 0),
        Image.fromarray(np.stack([values] * 3 + [(values > 0) * np.uint8(255)], axis=-1)),  # painted on glass
    ):
        assert (raw_mask(saved(image)) == (values > 0)).all(), image.mode


def test_a_jpeg_mask_does_not_take_traces_of_compression_for_defects():
    values = np.zeros((64, 64), np.uint8)
    values[20:40, 20:40] = 255
    assert (raw_mask(saved(values, "JPEG", quality=75)) == (values > 0)).all()


@pytest.mark.parametrize("letterbox", [False, True])
def test_a_mask_lies_where_its_picture_lies(tmp_path, letterbox):
    values = np.zeros((60, 120), np.uint8)
    values[20:40, 30:60] = 255
    (tmp_path / "m.png").write_bytes(saved(values))
    square, frame = to_pixels(read(saved(values)), 64, letterbox)
    for how in (letterbox, frame):
        mask = read_mask(tmp_path / "m.png", 64, how)
        assert mask.shape == (64, 64)
        assert mask.dtype == bool
        assert (mask == (square[0] > 0.5)).mean() > 0.98
    _, top, _, bottom = frame_of(120, 60, 64, letterbox).box
    assert not mask[:top].any()
    assert not mask[bottom:].any()


def test_a_thumbnail_is_a_small_jpeg_of_any_picture():
    for data in (saved(noise(300, 500)), saved(noise(300, 500, 1).astype(np.uint16) * 16)):
        with Image.open(io.BytesIO(thumbnail(read(data, white=4095), 100))) as small:
            assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (100, 60))
    with Image.open(io.BytesIO(thumbnail(read(saved(noise(30, 50))), 100))) as small:
        assert small.size == (50, 30)
