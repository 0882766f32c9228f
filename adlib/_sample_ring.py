"""A turned steel ring on a dark mat, under a softbox and a strip of sky.

Turning leaves grooves along the circle, so the face mirrors light in a fan across them: the two bright wedges that move
with the lamp and not with the part.  That fan is summed here over the grooves' slopes; chamfers mirror in the same way,
with slopes of their own.  Three countersunk holes tell how the ring lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adlib._sample_draw import Flaw, Rng, S, bump, clouds, colour, grid, inside, mix, stroke, wander

KINDS = ("scratch", "dent", "chip")

OUTER, INNER, GROOVE, HOLES = 106.0, 47.0, 60.0, 81.0  # radii, pixels; the last: of the circle that the holes lie on
STEPS = 2048  # directions round the circle in a table
STEEL, MAT = colour("#d3d7dc"), colour("#383a3c")


@dataclass(frozen=True)
class Lights:
    """What a mirror sees, by its slope to the right and downwards: a softbox, a cool strip and a dim room."""

    box: tuple[float, float]
    strip: tuple[float, float]

    def seen(self, right: np.ndarray, down: np.ndarray) -> np.ndarray:
        """Linear light (3, …) that steel of these slopes sends to the camera."""
        box = np.exp(-30.0 * ((right - self.box[0]) ** 2 + (down - self.box[1]) ** 2))
        strip = np.exp(-24.0 * (right - self.strip[0]) ** 2 - 90.0 * (down - self.strip[1]) ** 2)
        room = 0.17 - 0.12 * down
        warm, cool = np.array([1.0, 0.97, 0.92]), np.array([0.86, 0.95, 1.06])
        return np.stack([2.1 * box * w + (0.9 * strip + room) * c for w, c in zip(warm, cool, strict=True)])

    def round_table(self, slope: float, spread: float) -> np.ndarray:
        """(3, STEPS) light of a surface that slopes outwards by `slope`, more or less, in every direction."""
        turn = np.arange(STEPS) * (2 * np.pi / STEPS)
        slopes = np.linspace(-2.0, 2.0, 17)
        weights = np.exp(-0.5 * slopes**2)
        out = (slope + spread * slopes)[:, None]
        return np.tensordot(self.seen(out * np.cos(turn), out * np.sin(turn)), weights / weights.sum(), (1, 0))


def scene(part: Rng, flaw: Flaw | None = None) -> np.ndarray:
    """One ring as linear light (3, S, S).  part: what this ring is like.  flaw: what is wrong with it."""
    x, y = grid()
    dx, dy = x - 128.0 - part.normal(0.0, 2.2), y - 128.0 - part.normal(0.0, 2.2)
    dx, dy = dx / (zoom := part.normal(1.0, 0.006)), dy / zoom
    turn = part.uniform(0.0, 2 * np.pi)
    lights = Lights(
        (part.normal(-0.15, 0.015), part.normal(-0.21, 0.015)), (part.normal(0.30, 0.02), part.normal(0.12, 0.02))
    )
    r = np.sqrt(dx * dx + dy * dy)
    step = (np.arctan2(dy, dx) * (STEPS / (2 * np.pi))).astype(int)  # negative ones count from the table's end

    light = _mat(part, r, dx, dy)
    steel = _steel(part, lights, r, step, turn)
    holes = [(HOLES * np.cos(turn + k * 2.0944), HOLES * np.sin(turn + k * 2.0944)) for k in range(3)]
    for hx, hy in holes:
        _countersink(steel, lights, dx - hx, dy - hy)
    outside, within = r - OUTER, INNER - r
    if flaw and flaw.kind == "scratch":
        steel = _scratch(steel, dx, dy, turn, flaw)
    elif flaw and flaw.kind == "dent":
        steel = _dent(steel, lights, dx, dy, turn, flaw)
    elif flaw and flaw.kind == "chip":
        steel, outside, within = _chip(steel, outside, within, dx, dy, flaw)
    shape = inside(np.maximum(outside, within), 1.2)
    return mix(light, steel * STEEL, shape)


def _mat(part: Rng, r: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Grained rubber, with the ring's soft shadow away from the lamp."""
    grain = 1.0 + 0.16 * part.standard_normal((S, S)) + 0.10 * clouds(part, 100) + 0.05 * clouds(part, 5)
    away = np.sqrt((dx - 4.0) ** 2 + (dy - 5.0) ** 2)
    shadow = (
        inside(np.maximum(away - OUTER, INNER - away), 16.0) * 0.55
        + inside(np.maximum(r - OUTER, INNER - r), 8.0) * 0.2
    )
    return MAT * (grain * (1.0 - shadow))


def _steel(part: Rng, lights: Lights, r: np.ndarray, step: np.ndarray, turn: float) -> np.ndarray:
    """The ring as if it had no edge: face, groove and the two chamfers, each with its own fan of light."""
    fine = np.clip((r - 40.0) * (S / 70.0), 0.0, S - 1.0).astype(int)  # tool marks, finer than the camera sees
    marks = part.standard_normal(S)
    coarse = clouds(part, 2, 90)[:, 0]
    lean = (part.normal(0.0, 18.0, S) + 14.0 * coarse).astype(int)  # some marks throw the light a little to the side
    around = ((step * (S / STEPS)).astype(int) - int(turn / (2 * np.pi) * S)) % S
    streaks = clouds(part, 26, 170, closed=True).ravel()[fine * S + around]
    face = lights.round_table(0.0, 0.17).take(step + lean[fine], axis=1, mode="wrap")
    face *= 1.0 + 0.10 * marks[fine] + 0.05 * coarse[fine] + 0.055 * streaks
    flat = face.reshape(3, S * S)  # the same memory
    for slope, distance in (
        (0.42, OUTER - 5.5 - r),
        (-0.45, r - INNER - 4.5),
        (0.5, np.abs(r - GROOVE - 1.0) - 1.0),
        (-0.5, np.abs(r - GROOVE + 1.0) - 1.0),
    ):
        at = np.flatnonzero(distance < 0.5)
        bevel = lights.round_table(slope, 0.05).take(step.ravel()[at], axis=1, mode="wrap")
        bevel *= 1.0 + 0.03 * streaks.ravel()[at]
        flat[:, at] = mix(flat[:, at], bevel, inside(distance.ravel()[at], 1.0))
    return face


def _countersink(steel: np.ndarray, lights: Lights, dx: np.ndarray, dy: np.ndarray) -> None:
    """A drilled hole with a bright cone round it, drawn into `steel` where it lies."""
    rows, columns = np.flatnonzero(np.abs(dy[:, 0]) < 13.0), np.flatnonzero(np.abs(dx[0]) < 13.0)
    box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    px, py = dx[:, box[2]], dy[box[1]]
    r = np.sqrt(px * px + py * py) + 1e-9
    cone = lights.seen(-0.42 * px / r, -0.42 * py / r)
    inner = mix(cone, np.full((3, 1, 1), 0.012), inside(r - 6.2, 1.0))
    wall = mix(inner, cone * 0.3, inside(np.abs(r - 5.6) - 0.6, 1.0) * inside(-px - py, 8.0))
    steel[box] = mix(steel[box], wall, inside(r - 10.0, 1.0))


# --- what can go wrong ------------------------------------------------------------------------------------------------


def _on_face(flaw: Flaw, turn: float, margin: float) -> tuple[float, float, float]:
    """A place on the face between the holes, from the ring's middle, and its direction in degrees."""
    r = flaw.rng.uniform(GROOVE + 4.0 + margin, OUTER - 6.0 - margin)
    at = turn + np.deg2rad(120.0 * flaw.rng.integers(3) + flaw.rng.uniform(17.0, 103.0))
    return r * np.cos(at), r * np.sin(at), float(np.rad2deg(at))


def _scratch(steel: np.ndarray, dx: np.ndarray, dy: np.ndarray, turn: float, flaw: Flaw) -> np.ndarray:
    """A thin furrow across the turning marks: bright where the face is dark, dark where it shines, with a burr."""
    px, py, at = _on_face(flaw, turn, 8.0)
    heading = at + flaw.rng.uniform(-50.0, 50.0)
    length = flaw.size(15.0, 62.0)
    start = (px - 0.5 * length * np.cos(np.deg2rad(heading)), py - 0.5 * length * np.sin(np.deg2rad(heading)))
    points = wander(flaw.rng, start, heading, length, flaw.rng.uniform(-25.0, 25.0))
    distance, along = stroke(dx, dy, points, 4.0)
    burr, _ = stroke(dx - 0.9, dy - 1.0, points, 4.0)
    width = flaw.size(0.6, 0.95) * (1.0 - 0.6 * np.abs(2.0 * along - 1.0) ** 3)
    shine = steel.mean(axis=0)
    cut = np.where(shine < 0.42, 0.55 + 0.6 * shine, 0.30 * shine)
    steel = steel * (1.0 - flaw.size(0.25, 0.6) * inside(burr - width * 0.8, 1.2))
    return mix(steel, np.broadcast_to(cut, steel.shape), flaw.size(0.7, 0.95) * inside(distance - width, 0.8))


def _dent(steel: np.ndarray, lights: Lights, dx: np.ndarray, dy: np.ndarray, turn: float, flaw: Flaw) -> np.ndarray:
    """A blow: the face dips, so the grooves there mirror another part of the room."""
    radius = flaw.size(4.5, 12.0)
    px, py, at = _on_face(flaw, turn, radius * 0.7)
    c, s = np.cos(np.deg2rad(at)), np.sin(np.deg2rad(at))
    qx, qy = dx - px, dy - py
    d = np.sqrt(qx * qx + qy * qy) * (1.0 + 0.06 * clouds(flaw.rng, 12))
    dip = flaw.size(0.13, 0.26) * 4.0 * np.clip(1.0 - (d / radius) ** 2, 0.0, None) / radius
    rows, columns = np.flatnonzero((dip > 0).any(axis=1)), np.flatnonzero((dip > 0).any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    right, down = -(dip * qx)[box], -(dip * qy)[box]
    slopes = np.linspace(-0.2, 0.2, 5)
    moved = np.mean([lights.seen(right + b * c, down + b * s) for b in slopes], axis=0)
    level = np.mean([lights.seen(right * 0 + b * c, down * 0 + b * s) for b in slopes], axis=0)
    steel[:, box[0], box[1]] *= 1.0 + (moved / level - 1.0) * inside((d - radius)[box], 2.0)
    return steel


def _chip(
    steel: np.ndarray, outside: np.ndarray, within: np.ndarray, dx: np.ndarray, dy: np.ndarray, flaw: Flaw
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A piece of the edge has broken off; the break is rough and catches the light at every facet."""
    outer = flaw.rng.random() < 0.65
    edge, turn = (OUTER if outer else INNER), flaw.rng.uniform(0.0, 2 * np.pi)
    from_middle = np.sqrt((dx - edge * np.cos(turn)) ** 2 + (dy - edge * np.sin(turn)) ** 2)
    width = flaw.size(6.0, 17.0)
    rough = 0.6 * clouds(flaw.rng, 36) + 0.5 * clouds(flaw.rng, 90)
    bite = flaw.size(2.5, 9.0) * bump(from_middle, width * 1.6) * (1.0 + 0.4 * rough)
    facet = inside(
        -(outside if outer else within)
        - bite
        - flaw.size(2.0, 6.0) * bump(from_middle, width * 1.6) * (1.0 - 0.4 * rough),
        1.0,
    )
    glitter = np.clip(0.30 + 0.34 * rough + 0.16 * flaw.rng.standard_normal((S, S)), 0.03, None)
    steel = mix(steel, np.broadcast_to(glitter, steel.shape), facet * inside(from_middle - width * 1.3, 4.0))
    return (steel, outside + bite, within) if outer else (steel, outside, within + bite)
