"""A printed paper label on a matt round tin: black, green and orange ink, text in several sizes, a logo and a bar code.

The print is drawn once, four dots a pixel, as one plate an ink.  Each part then gets the plates with its own density of
ink, place and turn, seen on the curve of the tin.  The lettering is Pillow's own built-in face, set letter by letter, so
that the spacing does not depend on which text engine is installed.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from adlib._sample_draw import Flaw, Rng, S, clouds, colour, grid, inside, mix, total, turned

KINDS = ("smear", "shifted_print", "missing_letter")

WIDTH, HEIGHT = 226, 206  # of the label, in pixels of the picture
DOTS = 4  # of the plates, a pixel
RADIUS = 205.0  # of the tin, pixels
PAPER, TIN = colour("#f3eee2"), colour("#2f5a55")
INKS = (colour("#1d1d22"), colour("#1f7a72"), colour("#e2792c"))  # black, green, orange
BARS = "2112321213112231221131232112133112212311321"  # widths of bars and gaps in turn

# plate, left, baseline, size, space between letters, text; white letters on green are holes in the green plate
LINES = (
    (0, 66.0, 43.0, 31, 1.6, "NORDLYS"),
    (0, 68.0, 56.0, 9, 1.0, "FROM THE COLD NORTH SEA"),
    (1, 17.0, 92.0, 19, 2.1, "SEA SALT FLAKES"),
    (0, 14.0, 121.0, 9, 0.2, "Harvested by hand, dried"),
    (0, 14.0, 132.0, 9, 0.2, "slowly over birch fires."),
    (0, 14.0, 143.0, 9, 0.2, "Ingredients: sea salt."),
    (0, 14.0, 154.0, 9, 0.2, "Keep dry. Store closed."),
    (0, 14.0, 192.0, 12, 0.7, "BEST BEFORE 11.2027"),
    (0, 157.0, 192.0, 12, 0.7, "LOT 4821"),
    (0, 139.0, 171.0, 9, 1.5, "5 701204 833"),
    (2, 26.0, 174.0, 14, 0.5, "250 g"),
)


def scene(part: Rng, flaw: Flaw | None = None) -> np.ndarray:
    """One labelled tin as linear light (3, S, S).  part: what this label is like.  flaw: what is wrong with it."""
    x, y = grid()
    side = (x - 128.0 - part.normal(0.0, 0.8)) / RADIUS  # (1, S) slope of the tin to the right
    u, v = turned(RADIUS * np.arcsin(side), y - 128.0, part.normal(0.0, 0.5))
    u, v = u + WIDTH / 2 + part.normal(0.0, 1.1), v + HEIGHT / 2 + part.normal(0.0, 1.1)
    lamp = part.normal(-0.28, 0.03)
    round_ = 0.66 + 0.46 * np.sqrt(1.0 - side * side) * (1.0 + 0.75 * lamp * side) - 0.15
    sheen = 1.0 / (1.0 + ((side - lamp) / 0.10) ** 2)

    fine, middling = part.standard_normal((S, S)), clouds(part, 110)
    tin = TIN * (round_ * (1.0 + 0.035 * fine + 0.03 * middling + 0.03 * clouds(part, 4))) + 0.10 * sheen
    paper = PAPER * (1.0 + 0.022 * fine + 0.011 * middling + 0.010 * clouds(part, 4))
    density = np.clip(part.normal((0.94, 0.90, 0.90), 0.025), 0.0, 1.0)
    mottle = 1.0 - 0.03 * (1.0 + clouds(part, 60)) - 0.02 * np.abs(fine)
    for plate, ink, strength in zip(_pressed(u, v, flaw), INKS, density, strict=True):
        paper *= 1.0 - (strength * mottle * plate) * (1.0 - ink)
    paper = paper * round_ + 0.018 * sheen

    edge = _outline(u, v)
    shadow = _outline(u - 1.4, v - 2.0)
    tin *= 1.0 - 0.45 * inside(shadow - 0.6, 3.5)
    paper *= 1.0 + 0.10 * inside(np.abs(edge + 0.6) - 0.4, 1.0)
    return mix(tin, paper, inside(edge, 0.8))


def _outline(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to the label's edge, with rounded corners."""
    a, b = np.abs(u - WIDTH / 2) - WIDTH / 2 + 7.0, np.abs(v - HEIGHT / 2) - HEIGHT / 2 + 7.0
    return np.sqrt(np.maximum(a, 0.0) ** 2 + np.maximum(b, 0.0) ** 2) + np.minimum(np.maximum(a, b), 0.0) - 7.0


def _pressed(u: np.ndarray, v: np.ndarray, flaw: Flaw | None) -> list[np.ndarray]:
    """Share of each ink (S, S) in [0, 1] at these places of the label."""
    kind = flaw.kind if flaw else ""
    sheet = _plates(_letter(flaw) if flaw and kind == "missing_letter" else None)
    if flaw and kind == "smear":
        sheet = _smeared(sheet, flaw)
    slipped = _slipped(flaw) if flaw and kind == "shifted_print" else {}
    pressed = []
    for number, plate in enumerate(sheet):
        right, down, degrees = slipped.get(number, (0.0, 0.0, 0.0))
        a, b = u - right, v - down
        if degrees:
            a, b = turned(a - WIDTH / 2, b - HEIGHT / 2, degrees)
            a, b = a + WIDTH / 2, b + HEIGHT / 2
        columns = np.clip((a * DOTS).astype(int), 0, WIDTH * DOTS - 1)
        rows = np.clip((b * DOTS).astype(int), 0, HEIGHT * DOTS - 1)
        pressed.append(plate.ravel()[rows * (WIDTH * DOTS) + columns] * (1.0 / 255.0))
    return pressed


# --- the print --------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _plates(missing: tuple[int, int] | None = None) -> tuple[np.ndarray, ...]:
    """Three plates (HEIGHT * DOTS, WIDTH * DOTS) uint8, 255 full ink.  missing: line and letter left out."""
    fine = 2 * DOTS  # drawn twice as fine and halved, for smooth edges

    def box(*corners: float) -> list[float]:
        return [fine * c for c in corners]

    plates = [Image.new("L", (WIDTH * fine, HEIGHT * fine), 0) for _ in INKS]
    black, green, orange = (ImageDraw.Draw(plate) for plate in plates)
    green.ellipse(box(14, 12, 58, 56), fill=255)  # the logo: hills under a low sun
    green.ellipse(box(31, 21, 45, 35), fill=0)
    orange.ellipse(box(32, 22, 44, 34), fill=255)
    green.polygon(box(17, 46, 28, 30, 35, 40, 41, 33, 55, 47, 45, 53, 36, 55, 26, 53), fill=0)
    green.polygon(box(20, 47, 28, 35.5, 35, 45, 41, 38, 50, 47), fill=255)
    black.rectangle(box(14, 64, 212, 64.8), fill=255)
    green.rectangle(box(0, 72, WIDTH, 99), fill=255)
    orange.rectangle(box(0, 101, WIDTH, 103), fill=255)
    orange.rounded_rectangle(box(14, 161, 76, 179), radius=4 * fine, fill=255)
    at = 138.0
    for i, width in enumerate(BARS):
        if i % 2 == 0:
            black.rectangle(box(at, 110, at + int(width) - 0.1, 161), fill=255)
        at += int(width)
    for number, (plate, left, base, size, space, text) in enumerate(LINES):
        gap = missing[1] if missing and missing[0] == number else None
        _set(plates[plate], (left, base, size, space), text, 0 if plate else 255, gap)
    soft = ImageFilter.BoxBlur(1)  # as wide as a sample, or fine lines would come and go
    return tuple(np.asarray(plate.reduce(2).filter(soft)) for plate in plates)


def _set(plate: Image.Image, where: tuple[float, float, int, float], text: str, ink: int, missing: int | None) -> None:
    """Sets a line letter by letter; the letter `missing` leaves its place empty."""
    fine = 2 * DOTS
    at, base, size, space = where
    font = ImageFont.load_default(size * fine)
    draw = ImageDraw.Draw(plate)
    bold = fine // 3 if size > 10 else fine // 8  # the face is a light one
    for i, letter in enumerate(text):
        if i != missing:
            draw.text((at * fine, base * fine), letter, fill=ink, font=font, anchor="ls", stroke_width=bold)
        at += font.getlength(letter) / fine + space


# --- what can go wrong ------------------------------------------------------------------------------------------------


def _letter(flaw: Flaw) -> tuple[int, int]:
    """Which line, by strength from small print to the name, and which of its letters is not there."""
    order = (3, 5, 4, 6, 7, 8, 10, 7, 2, 2, 0, 0)
    line = order[min(int(flaw.strength * len(order)), len(order) - 1)]
    letters = [i for i, letter in enumerate(LINES[line][-1]) if letter.isalnum()]
    return line, int(flaw.rng.choice(letters))


def _slipped(flaw: Flaw) -> dict[int, tuple[float, float, float]]:
    """One plate lies off its place: its number, and how far to the right, down and turned."""
    way, far = flaw.rng.uniform(0.0, 2 * np.pi), flaw.size(1.6, 6.5)
    slip = (far * np.cos(way), far * np.sin(way), flaw.rng.normal(0.0, 0.6))
    return {int(flaw.rng.integers(3)): slip}


def _smeared(sheet: tuple[np.ndarray, ...], flaw: Flaw) -> tuple[np.ndarray, ...]:
    """Wet ink was dragged along: what is printed trails off in one direction, and a little is wiped away."""
    centres = ((120, 36), (90, 52), (60, 135), (100, 188), (178, 140), (185, 188))
    cx, cy = np.array(centres[flaw.rng.integers(len(centres))]) + flaw.rng.normal(0.0, 4.0, 2)
    way = flaw.rng.choice([0.0, np.pi]) + flaw.rng.normal(0.0, 0.35)
    length, half = flaw.size(6.0, 24.0), flaw.size(9.0, 24.0)
    rows, columns = np.mgrid[0 : HEIGHT * DOTS, 0 : WIDTH * DOTS] / DOTS
    a, b = turned(columns - cx, rows - cy, float(np.rad2deg(way)))
    finger = inside(np.abs(b) - half * 0.6, half * 0.5) * inside(np.abs(a) - half * 1.5, half)
    streaks = np.clip(0.75 + 0.35 * np.sin(b * 1.9) + 0.2 * np.sin(b * 4.3 + 1.0), 0.2, 1.0)
    steps = np.linspace(0.0, 1.0, 14)
    weights = (1.0 - steps) ** 0.7 / ((1.0 - steps) ** 0.7).sum()
    smeared = []
    for plate in sheet:
        moves = [(int(DOTS * length * t * np.sin(way)), int(DOTS * length * t * np.cos(way))) for t in steps]
        trail = total(w * np.roll(plate, move, (0, 1)) for w, move in zip(weights, moves, strict=True))
        wet = np.clip(1.9 * trail, 0.0, 255.0) * streaks
        dragged = plate * (1.0 - flaw.size(0.15, 0.45)) + wet * flaw.size(0.45, 0.8)
        smeared.append(plate + (np.clip(dragged, 0.0, 255.0) - plate) * finger)
    return tuple(smeared)
