"""A blister pack: twelve glossy caplets under clear domes on embossed foil.  What can go wrong is a matter of logic.

Every pill, every dome and every stretch of foil may be perfect and the pack still wrong: one pill too few, one too many,
one of another product, or one that was pushed out of its pocket.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from adlib._sample_draw import Flaw, Rng, S, bump, clouds, colour, grid, inside, mix, turned

KINDS = ("missing", "extra", "wrong_colour", "misplaced")

COLUMNS, ROWS = (43.0, 99.5, 156.5, 213.0), (57.0, 128.0, 199.0)  # middles of the pockets, pixels
PILL, POCKET = (15.5, 23.0), (20.5, 28.5)  # half width and half height
CORAL, FOIL, TABLE = colour("#ea7a5f"), colour("#cdd1d4"), colour("#4d5a66")
OTHERS = ("#f0a08a", "#efc46a", "#d8574f", "#f1e6dc", "#7fb38a", "#7d9fd0")  # ever plainer to see beside coral


@dataclass(frozen=True)
class Pill:
    """Where it lies, how it is turned, what colour it has; share: 1 whole, 0.5 broken in two."""

    x: float
    y: float
    degrees: float
    tint: np.ndarray
    share: float = 1.0


def scene(part: Rng, flaw: Flaw | None = None) -> np.ndarray:
    """One pack as linear light (3, S, S).  part: what this pack is like.  flaw: what is wrong with it."""
    x, y = grid()
    u, v = turned(x - 128.0, y - 128.0, part.normal(0.0, 1.2))
    u, v = u + 128.0 + part.normal(0.0, 1.5), v + 128.0 + part.normal(0.0, 1.5)
    light = _card(part, u, v)
    pockets = [(px, py) for py in ROWS for px in COLUMNS]
    pills = [_lying(part, px, py) for px, py in pockets]
    if flaw:
        pills = _wrong(pills, flaw)
    domes = [_dome_of(part) for _ in pockets]
    for (px, py), dome in zip(pockets, domes, strict=True):
        _pocket_floor(light, u - px, v - py, dome)
    for pill in pills:
        _pill(light, u, v, pill)
    for (px, py), dome in zip(pockets, domes, strict=True):
        _dome(light, u - px, v - py, dome)
    return light


def _lying(part: Rng, x: float, y: float) -> Pill:
    """A pill in its pocket has a little room."""
    tint = CORAL * (part.normal(1.0, 0.035) * part.normal(1.0, 0.012, (3, 1, 1)))
    return Pill(x + part.normal(0.0, 0.9), y + part.normal(0.0, 0.9), part.normal(0.0, 2.6), tint)


# --- the pack ---------------------------------------------------------------------------------------------------------


def _card(part: Rng, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The table, and on it the foil card with its embossed diamonds, its waves and its printed edge."""
    table = TABLE * (1.0 + 0.05 * clouds(part, 5) + 0.05 * part.standard_normal((S, S)))
    edge = _rounded(u - 128.0, v - 128.0, 117.0, 110.0, 13.0)
    shadow = inside(_rounded(u - 131.0, v - 133.0, 117.0, 110.0, 13.0), 16.0)
    table *= 1.0 - 0.55 * shadow

    waves = clouds(part, 5)
    tilt = 0.09 * waves + 0.0016 * ((u - 128.0) * part.normal(0.6, 0.25) + (v - 128.0) * part.normal(0.9, 0.25))
    a, b = (u + v) / 5.4, (u - v) / 5.4
    a, b = a - np.floor(a) - 0.5, b - np.floor(b) - 0.5
    ridge = (a * (0.5 - np.abs(a)) + b * (0.5 - np.abs(b))) * 3.2  # slope of the little pillows towards the lamp
    shine = 0.50 - 0.9 * tilt + (0.34 + 0.20 * clouds(part, 9)) * ridge
    glints = np.clip(part.standard_normal((S, S)) - 2.4, 0.0, None) * 0.5 * np.clip(ridge, 0.0, None)
    foil = FOIL * np.clip(shine + glints, 0.06, None)
    foil = (
        foil
        * (1.0 - 0.25 * inside(np.abs(edge + 2.0) - 0.7, 1.2))
        * (1.0 + 0.35 * inside(np.abs(edge + 0.6) - 0.5, 1.0))
    )
    return mix(table, foil, inside(edge, 1.0))


def _rounded(dx: np.ndarray, dy: np.ndarray, half_width: float, half_height: float, radius: float) -> np.ndarray:
    """Signed distance to a rectangle with rounded corners."""
    over_x, over_y = np.abs(dx) - half_width + radius, np.abs(dy) - half_height + radius
    corner = np.sqrt(np.maximum(over_x, 0.0) ** 2 + np.maximum(over_y, 0.0) ** 2)
    return corner + np.minimum(np.maximum(over_x, over_y), 0.0) - radius


def _window(dx: np.ndarray, dy: np.ndarray, half: tuple[float, float], degrees: float = 0.0) -> tuple[slice, slice]:
    """The rows and columns where an oval of these half axes can be seen, its rim and shadow included."""
    c, s = abs(np.cos(np.deg2rad(degrees))), abs(np.sin(np.deg2rad(degrees)))
    wide, high = c * half[0] + s * half[1] + 7.0, s * half[0] + c * half[1] + 7.0
    middle_row, middle_column = int(np.argmin(np.abs(dy[:, S // 2]))), int(np.argmin(np.abs(dx[S // 2])))
    rows, columns = np.flatnonzero(np.abs(dy[:, middle_column]) < high), np.flatnonzero(np.abs(dx[middle_row]) < wide)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@dataclass(frozen=True)
class Dome:
    """How one pocket was formed: its size, the strength of its reflections, and where they lie."""

    size: float
    gloss: float
    lean: float


def _dome_of(part: Rng) -> Dome:
    return Dome(part.normal(1.0, 0.01), float(np.clip(part.normal(1.0, 0.15), 0.6, 1.4)), part.normal(0.0, 0.05))


def _oval(dx: np.ndarray, dy: np.ndarray, half: tuple[float, float]) -> np.ndarray:
    """Signed distance to a capsule-like oval of these half axes."""
    return _rounded(dx, dy, half[0], half[1], half[0] * 0.98)


def _pocket_floor(light: np.ndarray, dx: np.ndarray, dy: np.ndarray, dome: Dome) -> None:
    """Smooth foil under the dome, darker towards the wall that keeps the lamp out."""
    box = _window(dx, dy, POCKET)
    qx, qy = dx[box], dy[box]
    edge = _oval(qx, qy, (POCKET[0] * dome.size, POCKET[1] * dome.size))
    floor = 0.40 + 0.006 * (qx + qy) + 0.10 * bump(edge + 9.0, 14.0)
    light[:, *box] = mix(light[:, *box], FOIL * np.clip(floor, 0.1, None), 0.85 * inside(edge, 1.5))


def _dome(light: np.ndarray, dx: np.ndarray, dy: np.ndarray, dome: Dome) -> None:
    """The clear plastic on top: a moulded rim, a bright arc towards the lamp, a window's reflection and a soft return."""
    box = _window(dx, dy, POCKET)
    qx, qy = dx[box], dy[box]
    half = (POCKET[0] * dome.size, POCKET[1] * dome.size)
    edge = _oval(qx, qy, half)
    length = np.sqrt((qx / half[0]) ** 2 + (qy / half[1]) ** 2) + 1e-9
    towards = -(qx / half[0] * 0.62 + qy / half[1] * 0.78) / length + dome.lean  # 1 where the wall faces the lamp
    view = light[:, *box]
    view = view * (1.0 - 0.34 * inside(np.abs(edge) - 1.1, 1.4) * (0.7 - 0.5 * towards))
    arc = inside(np.abs(edge + 2.2) - 0.8, 1.8) * np.clip(towards, 0.0, 1.0) ** 3 * 0.75
    back = inside(np.abs(edge + 3.0) - 0.7, 2.2) * np.clip(-towards, 0.0, 1.0) ** 4 * 0.40
    lip = inside(np.abs(edge - 1.6) - 0.5, 1.2) * np.clip(-towards, 0.0, 1.0) * 0.25
    sx, sy = qx + 6.5 + 18.0 * dome.lean, qy + 11.0
    sx, sy = turned(sx, sy, 12.0)
    window = inside(_rounded(sx, sy, 2.6, 7.0, 2.2), 1.6) * (1.0 - 0.75 * inside(np.abs(sy - 0.6) - 0.45, 0.9))
    gleam = dome.gloss * (arc + back + lip + 0.42 * window) + 0.012
    light[:, *box] = view + (1.05 - np.minimum(view, 1.0)) * np.clip(gleam, 0.0, 0.95)


def _pill(light: np.ndarray, u: np.ndarray, v: np.ndarray, pill: Pill) -> None:
    """A caplet: rounded edge, gentle belly, a score line, a soft highlight and a shadow on whatever lies below."""
    box = _window(u - pill.x, v - pill.y, PILL, pill.degrees)
    qx, qy = turned(u[box] - pill.x, v[box] - pill.y, pill.degrees)
    edge = _oval(qx, qy, PILL)
    sx, sy = turned(u[box] - pill.x - 2.2, v[box] - pill.y - 2.8, pill.degrees)
    shadow = _oval(sx, sy, PILL)
    if pill.share < 1.0:  # broken across, a little ragged
        cut = qy - PILL[1] * (2.0 * pill.share - 1.0) - 0.5 * np.sin(0.5 * qx + 1.0)
        edge, shadow = np.maximum(edge, cut), np.maximum(shadow, cut - 2.0)
    view = light[:, *box]
    view = view * (1.0 - 0.55 * inside(shadow - 0.5, 7.0)) * (1.0 - 0.35 * inside(edge - 0.8, 3.0))

    depth = np.clip(-edge / 7.5, 0.0, 1.0)
    steep = (1.0 - depth) ** 2
    length = np.sqrt(qx * qx + (qy * 0.55) ** 2) + 1e-9
    lx, ly = turned(np.array(-0.55), np.array(-0.70), pill.degrees)
    nx = steep * qx / length + 0.16 * qx / PILL[0]
    ny = steep * qy * 0.55 / length + 0.14 * qy / PILL[1]
    facing = nx * lx + ny * ly
    lit = 0.66 + 0.36 * facing - 0.16 * steep
    score = inside(np.abs(qy) - 0.7, 1.4) * inside(np.abs(qx) - PILL[0] * 0.72, 3.0)
    above = inside(np.abs(qy + 1.5) - 0.5, 1.2) * inside(np.abs(qx) - PILL[0] * 0.72, 3.0)
    lit = lit * (1.0 - 0.30 * score) * (1.0 + 0.10 * above)
    gloss = 0.50 * bump(facing - 0.62, 0.30) + 0.10 * bump(facing - 0.28, 0.30)
    body = pill.tint * np.clip(lit, 0.05, None) * 1.25 + gloss
    light[:, *box] = mix(view, body, inside(edge, 1.0))


# --- what can go wrong ------------------------------------------------------------------------------------------------


def _wrong(pills: list[Pill], flaw: Flaw) -> list[Pill]:
    """The pills of a pack that is not as it should be."""
    pills, rng = list(pills), flaw.rng
    at = int(rng.integers(len(pills)))
    pill = pills[at]
    if flaw.kind == "missing":
        if flaw.strength < 0.3:  # half of it is still there
            pills[at] = dataclasses.replace(
                pill, share=0.5 + rng.uniform(-0.08, 0.08), degrees=pill.degrees + 180.0 * rng.integers(2)
            )
        else:
            del pills[at]
    elif flaw.kind == "wrong_colour":
        paint = OTHERS[min(int(flaw.strength * len(OTHERS)), len(OTHERS) - 1)]
        pills[at] = dataclasses.replace(pill, tint=colour(paint))
    elif flaw.kind == "misplaced":
        way = rng.uniform(0.0, 2 * np.pi)
        far = flaw.size(7.0, 30.0)
        x = float(np.clip(pill.x + far * np.cos(way), 30.0, 226.0))
        y = float(np.clip(pill.y + far * np.sin(way), 40.0, 216.0))
        turn = pill.degrees + rng.choice([-1, 1]) * flaw.size(14.0, 75.0)
        pills.append(dataclasses.replace(pills.pop(at), x=x, y=y, degrees=turn))
    else:
        column, row = rng.integers(3), rng.integers(2)
        x = (COLUMNS[column] + COLUMNS[column + 1]) / 2 + rng.normal(0.0, 5.0)
        y = (ROWS[row] + ROWS[row + 1]) / 2 + rng.normal(0.0, 5.0)
        share = 1.0 if flaw.strength > 0.4 else 0.5
        pills.append(Pill(float(x), float(y), rng.uniform(0.0, 180.0), CORAL * 1.0, share))
    return pills
