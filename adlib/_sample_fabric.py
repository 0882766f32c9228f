"""A piece of chambray under a lamp: blue warp, pale weft, every thread a little different; three things can go wrong."""

from __future__ import annotations

import numpy as np

from adlib._sample_draw import (
    SIDE,
    Flaw,
    Rng,
    S,
    bump,
    clouds,
    colour,
    grid,
    inside,
    mix,
    stroke,
    total,
    turned,
    wander,
)

KINDS = ("broken_thread", "stain", "hole")

PITCH = 8.0  # pixels from thread to thread
THREADS = 64  # a family: more than fit into the picture, whatever its turn
WARP, WEFT, BEHIND = colour("#6687b3"), colour("#b9c6d6"), colour("#1c2230")


class Family:
    """Threads that run one way.  across, along: coordinates in threads; bend: who lies on top at each crossing."""

    def __init__(self, rng: Rng, across: np.ndarray, along: np.ndarray, sign: float) -> None:
        self.across, self.along = across, along
        self.index = np.floor(across).astype(int)
        self.sign = sign
        self.shift = rng.normal(0.0, 0.035, THREADS)
        self.width = np.clip(rng.normal(0.46, 0.022, THREADS), 0.38, 0.5)
        self.shade = rng.normal(1.0, 0.055, THREADS)
        self.twist = rng.uniform(0.0, 1.0, THREADS)
        self.slub = clouds(rng, 40, 9) if sign > 0 else clouds(rng, 9, 40)
        self.cut = np.zeros((S, S))  # 1 where a thread is missing

    def draw(self, fibre: np.ndarray, light: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Height of the upper side in threads (S, S), -1 where there is none, and brightness (S, S)."""
        half = self.width[self.index] * (1.0 + 0.05 * self.slub) * (1.0 - self.cut)
        local = self.across - self.index - 0.5 - self.shift[self.index]
        side = np.clip(local / np.maximum(half, 1e-3), -1.0, 1.0)
        bulge = np.sqrt(1.0 - side * side)
        crossing = np.floor(self.along)  # the n-th thread of the other family; over and under it in turn
        on = self.along - crossing
        over = self.sign * (1.0 - 2.0 * ((self.index + crossing.astype(int)) & 1))
        lift = over * 4.0 * on * (1.0 - on)
        slope = over * (1.0 - 2.0 * on)
        height = np.where(np.abs(side) < 1.0, 0.42 * lift + 0.45 * bulge, -1.0)
        ply = 2.3 * self.along + 0.8 * side + self.twist[self.index]
        ply -= np.floor(ply)
        bright = 0.50 + 0.34 * bulge + 0.20 * lift - 0.20 * light[0] * side + 0.16 * light[1] * slope
        bright += (0.36 * ply * (1.0 - ply) - 0.06) * bulge + 0.075 * fibre
        return height, bright * self.shade[self.index]


def scene(part: Rng, flaw: Flaw | None = None) -> np.ndarray:
    """One piece of cloth as linear light (3, S, S).  part: what this piece is like.  flaw: what is wrong with it."""
    x, y = grid()
    u, v = turned(x - 128.0, y - 128.0, part.normal(0.0, 1.3))
    scale = PITCH * part.normal(1.0, 0.008)
    u = (u + 1.5 * clouds(part, 4)) / scale + 32.0 + part.uniform(0.0, 2.0)
    v = (v + 1.5 * clouds(part, 4)) / scale + 32.0 + part.uniform(0.0, 2.0)
    warp, weft = Family(part, u, v, 1.0), Family(part, v, u, -1.0)
    grain = part.standard_normal((S + 6, S + 6))
    down = total(grain[k : k + S, :S] for k in range(5)) / 2.2
    over = total(grain[:S, k : k + S] for k in range(5)) / 2.2
    folds = _folds(part, x, y)
    dye = 1.0 + 0.03 * clouds(part, 6)

    where = _break(warp, weft, flaw) if flaw and flaw.kind == "broken_thread" else None
    if flaw and flaw.kind == "hole":
        _pierce(warp, weft, x, y, flaw)
    high_warp, bright_warp = warp.draw(down, (-0.6, 0.5))
    high_weft, bright_weft = weft.draw(over, (-0.5, 0.6))
    top = high_warp > high_weft
    high, low = np.maximum(high_warp, high_weft), np.minimum(high_warp, high_weft)
    bright = np.where(top, bright_warp, bright_weft)
    bright *= (0.80 + 0.20 * np.clip(high - low, 0.0, 1.0)) * (1.0 - 0.3 * np.maximum(warp.cut, weft.cut))
    cloth = mix(WEFT, WARP, top.astype(float)) * (np.maximum(bright, 0.05) ** 2 * dye * 1.2)
    cloth = mix(cloth, BEHIND, (high < -0.5).astype(float))
    if flaw and flaw.kind == "stain":
        cloth = _stain(cloth, x, y, flaw)
    if where is not None and flaw is not None:
        cloth = _loose_end(cloth, x, y, where, flaw)
    return cloth * folds


def _folds(part: Rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Soft ridges of light: the cloth never lies quite flat."""
    along, _ = turned(x - 128.0, y - 128.0, part.uniform(15.0, 75.0))
    wave = np.sin(2 * np.pi * (along / part.uniform(170.0, 260.0) + part.uniform()) + 0.5 * clouds(part, 3))
    return 1.0 + part.uniform(0.06, 0.14) * wave + 0.04 * clouds(part, 3)


# --- what can go wrong ------------------------------------------------------------------------------------------------


def _break(warp: Family, weft: Family, flaw: Flaw) -> tuple[float, float, float]:
    """One thread is torn; its neighbours lean into the gap.  Returns where, in pixels, and the thread's direction."""
    family = warp if flaw.rng.random() < 0.5 else weft
    rows, columns = flaw.rng.integers(S // 6, S - S // 6, 2)
    thread, middle = int(family.index[rows, columns]), family.along[rows, columns]
    reach = flaw.size(1.2, 5.5) * flaw.rng.uniform(0.85, 1.15)
    gap = inside(np.abs(family.along - middle) - reach, 0.8)
    family.cut = gap * (family.index == thread)
    lean = 0.22 * flaw.size(0.6, 1.0) * bump(family.along - middle, reach + 1.5)
    family.across = family.across + lean * ((family.index == thread + 1) * 1.0 - (family.index == thread - 1) * 1.0)
    return columns * SIDE / S, rows * SIDE / S, 90.0 if family is warp else 0.0


def _loose_end(
    cloth: np.ndarray, x: np.ndarray, y: np.ndarray, where: tuple[float, float, float], flaw: Flaw
) -> np.ndarray:
    """The torn end curls over the cloth and throws a small shadow."""
    cx, cy, along = where
    length = flaw.size(5.0, 34.0)
    for way in (0.0, 180.0):
        turn = np.deg2rad(along + way)
        reach = flaw.size(1.2, 5.5) * PITCH * 0.95
        start = (cx + reach * np.cos(turn), cy + reach * np.sin(turn))
        bend = flaw.rng.choice([-1, 1]) * flaw.rng.uniform(60.0, 170.0)
        points = wander(
            flaw.rng, start, along + way + 180.0 + flaw.rng.uniform(-35, 35), length * flaw.rng.uniform(0.5, 1), bend
        )
        distance, t = stroke(x, y, points, 6.0)
        shadow, _ = stroke(x - 1.8, y - 2.2, points, 6.0)
        cloth = cloth * (1.0 - 0.45 * inside(shadow - 2.2, 3.0))
        width = 2.0 - 1.3 * t
        round_ = np.clip(1.0 - (distance / width) ** 2, 0.0, 1.0)
        yarn = (WARP if along else WEFT) * 1.15 * (0.45 + 0.75 * np.sqrt(round_))
        cloth = mix(cloth, yarn, inside(distance - width, 0.8))
    return cloth


def _blob(x: np.ndarray, y: np.ndarray, rng: Rng, radius: float, rough: float) -> np.ndarray:
    """Signed distance, roughly, to the edge of an irregular spot somewhere in the picture."""
    cx, cy = rng.uniform(45.0, 211.0, 2)
    dx, dy = turned(x - cx, y - cy, rng.uniform(0.0, 180.0))
    return np.hypot(dx * rng.uniform(0.8, 1.0), dy * rng.uniform(1.0, 1.35)) - radius * (1.0 + rough * clouds(rng, 14))


def _stain(cloth: np.ndarray, x: np.ndarray, y: np.ndarray, flaw: Flaw) -> np.ndarray:
    """Something was spilt: it darkens and tints, most at the rim, and soaks along the threads."""
    distance = _blob(x, y, flaw.rng, flaw.size(9.5, 26.0) * flaw.rng.uniform(0.8, 1.2), 0.16)
    soaked = inside(distance, 5.0)
    rim = bump(distance + 3.0, 5.0)
    tint = (colour("#8a5a2e"), colour("#5d5a52"), colour("#a6824a"))[flaw.rng.integers(3)]
    strength = flaw.size(0.36, 0.66) * soaked * (1.0 + 0.12 * clouds(flaw.rng, 24)) + flaw.size(0.10, 0.22) * rim
    return cloth * (1.0 - np.clip(strength, 0.0, 0.95) * (1.0 - tint))


def _pierce(warp: Family, weft: Family, x: np.ndarray, y: np.ndarray, flaw: Flaw) -> None:
    """Threads end at the edge of a hole, each at its own length, and thin out before they end."""
    distance = _blob(x, y, flaw.rng, flaw.size(4.5, 15.0), 0.10)
    for family in (warp, weft):
        ragged = flaw.rng.normal(0.0, flaw.size(0.8, 2.6), THREADS)[family.index]
        family.cut = inside(distance + ragged, 5.0)
