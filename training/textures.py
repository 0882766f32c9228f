"""Grey textures by formula: each function answers (side, side) float32, roughly in [0, 1], all of its choices drawn from `rng`.

They are the stuff that `training.pictures` dresses shapes with.  None of them knows colour, light or camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage, spatial

Rng = np.random.Generator
Grey = np.ndarray  # (side, side) float32


def spectral(rng: Rng, side: int) -> Grey:
    """Noise whose amplitude falls as 1/f^a, along one direction more than the other."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    angle, stretch = rng.uniform(0, math.pi), rng.choice([1.0, 1.0, rng.uniform(1, 8)])
    u = fx * math.cos(angle) + fy * math.sin(angle)
    v = (fy * math.cos(angle) - fx * math.sin(angle)) * stretch
    radius = np.hypot(u, v) + 1 / side
    waves = rng.standard_normal((2, *radius.shape))
    return unit(np.fft.irfft2((waves[0] + 1j * waves[1]) * radius ** -rng.uniform(0.4, 2.2), s=(side, side)))


def octaves(rng: Rng, side: int) -> Grey:
    """Smooth lattice noise of several octaves (Perlin 1985): plain, as billows, or as ridges."""
    field, kind = np.zeros((side, side), np.float32), rng.integers(3)
    cells, gain = int(rng.integers(2, 12)), rng.uniform(0.35, 0.75)
    for k in range(int(rng.integers(1, 6))):
        noise = lattice(rng, side, min(cells << k, side)) * 2 - 1
        field += gain**k * (noise, np.abs(noise), 1 - np.abs(noise))[kind]
    return unit(field)


def band(rng: Rng, side: int) -> Grey:
    """Noise of one narrow band of wavelengths, as from one level of a wavelet pyramid."""
    wide = rng.uniform(0.7, 8)
    noise = rng.standard_normal((side, side)).astype(np.float32)
    return unit(
        ndimage.gaussian_filter(noise, wide, mode="wrap") - ndimage.gaussian_filter(noise, 2 * wide, mode="wrap")
    )


def grating(rng: Rng, side: int) -> Grey:
    """Waves in one or two directions, soft or hard, their phase bent by noise now and then."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = rng.choice([0.0, rng.uniform(0, 12)]) * lattice(rng, side, int(rng.integers(2, 8)))
    field, sharp = np.zeros((side, side), np.float32), rng.choice([1.0, rng.uniform(1, 20)])
    for _ in range(int(rng.integers(1, 3))):
        angle, length = rng.uniform(0, math.pi), math.exp(rng.uniform(math.log(3), math.log(60)))
        phase = (x * math.cos(angle) + y * math.sin(angle) + bend) * 2 * math.pi / length + rng.uniform(0, 6.3)
        field += np.tanh(sharp * np.sin(phase)) / math.tanh(sharp)
    return unit(field)


def weave(rng: Rng, side: int) -> Grey:
    """Warp and weft: threads as half-round ridges, over and under by a pattern that repeats."""
    y, x = turned(rng, side, small=True)
    pitch, ratio = rng.uniform(4, 20), rng.uniform(0.7, 1.4)
    over = rng.random((int(rng.integers(2, 5)),) * 2) < 0.5
    u, v = x / pitch, y / (pitch * ratio)
    warp, weft = np.abs(np.sin(math.pi * u)), np.abs(np.sin(math.pi * v))
    above = over[np.floor(v).astype(int) % len(over), np.floor(u).astype(int) % len(over)]
    strand = 0.15 * np.sin(2 * math.pi * (u + v) * rng.integers(2, 6))
    shift = rng.uniform(-0.4, 0.4)
    return unit(np.where(above, warp * (0.6 + 0.4 * weft) + shift, weft * (0.6 + 0.4 * warp)) + strand)


def brushed(rng: Rng, side: int) -> Grey:
    """Fine scratches of one direction or around one centre, as on turned and ground metal."""
    y, x = turned(rng, side)
    if rng.random() < 0.35:
        cy, cx = rng.uniform(0, side, 2)
        across, along = np.hypot(y - cy, x - cx), np.arctan2(y - cy, x - cx) * side / 6
    else:
        across, along = y, x
    streaks = ndimage.gaussian_filter1d(rng.standard_normal((512, 64)), rng.uniform(0.3, 1.5), axis=0, mode="wrap")
    long = rng.uniform(0.01, 0.15)
    field = ndimage.map_coordinates(streaks, [across * rng.uniform(0.5, 1.5), along * long], order=1, mode="grid-wrap")
    return unit(field + rng.uniform(0, 2) * lattice(rng, side, 3))


def tiles(rng: Rng, side: int) -> Grey:
    """Bricks, tiles and chequers: one height each, with joints between them."""
    y, x = turned(rng, side)
    high, wide = rng.uniform(6, 60), rng.uniform(6, 60)
    row = np.floor(y / high)
    u = x / wide + rng.choice([0.0, 0.5]) * (row % 2)
    column = np.floor(u)
    table = rng.random((64, 64)).astype(np.float32)
    face = table[row.astype(int) % 64, column.astype(int) % 64] * rng.uniform(0, 1)
    rim = np.minimum(np.minimum(y % high, high - y % high), wide * np.minimum(u % 1, 1 - u % 1))
    joint = np.clip(rim / rng.uniform(0.5, 4), 0, 1)
    return unit(face + joint * rng.uniform(-1, 1) + 0.1 * lattice(rng, side, 32))


def cells(rng: Rng, side: int) -> Grey:
    """Voronoi cells: flat faces, distances to the nearest seed, or the walls between (Worley 1996)."""
    seeds = rng.uniform(-8, side + 8, (int(math.exp(rng.uniform(math.log(8), math.log(600)))), 2))
    seeds *= 1, rng.uniform(0.5, 1)
    y, x = np.mgrid[:side, :side]
    far, index = spatial.cKDTree(seeds).query(np.stack([y.ravel(), x.ravel()], 1), k=2)
    near, wall = far[:, 0], far[:, 1] - far[:, 0]
    kind = rng.integers(4)
    flat = rng.random(len(seeds))[index[:, 0]]
    field = (near, np.minimum(wall, rng.uniform(1, 12)), flat, flat - (wall < rng.uniform(0.6, 3)))[kind]
    return unit(field.reshape(side, side))


def fern(rng: Rng, side: int) -> Grey:
    """A fractal of an iterated function system: where the chaos game lands (Barnsley 1988)."""
    count = int(rng.integers(2, 6))
    maps = rng.uniform(-1, 1, (count, 2, 3))
    for part in maps:  # contracting, so that the points stay in a bounded set
        part[:, :2] *= rng.uniform(0.4, 0.9) / max(np.linalg.norm(part[:, :2], 2), 1e-3)
    share = np.abs([np.linalg.det(part[:, :2]) for part in maps]) + 0.02
    points = rng.uniform(-1, 1, (4000, 2))
    hits = np.zeros((side, side), np.float32)
    low = high = np.zeros(2)
    for k in range(30):
        which = rng.choice(count, len(points), p=share / share.sum())
        points = np.einsum("nij,nj->ni", maps[which, :, :2], points) + maps[which, :, 2]
        if k == 8:
            low, high = points.min(0), points.max(0)
        if k >= 8:
            spot = ((points - low) / (high - low + 1e-6) * (side - 1)).astype(int).clip(0, side - 1)
            np.add.at(hits, (spot[:, 0], spot[:, 1]), 1)
    return unit(np.log1p(hits)) if rng.random() < 0.6 else unit(ndimage.gaussian_filter(np.minimum(hits, 3), 0.7))


def print_(rng: Rng, side: int) -> Grey:
    """Printed matter: lines of glyphs, bars and dots in one or more sizes."""
    sheet = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(sheet)
    signs = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789abcdefghkmnpqrstuxyz.,:-/+%#&()"
    y = rng.uniform(-10, 10)
    while y < side:
        size = int(rng.integers(7, 40))
        kind = rng.random()
        if kind < 0.7:
            line = "".join(rng.choice(list(signs), int(rng.integers(2, 40))))
            draw.text((rng.uniform(-10, side / 3), y), line, fill=255, font=ImageFont.load_default(size=size))
        elif kind < 0.85:
            x = rng.uniform(0, side / 3)
            while x < side:
                wide = float(rng.integers(1, 5))
                draw.rectangle((x, y, x + wide, y + size), fill=255)
                x += wide + float(rng.integers(1, 6))
        y += size * rng.uniform(1, 2)
    angle = float(rng.choice([0, 0, 90, rng.uniform(-20, 20)]))
    return np.asarray(sheet.rotate(angle, Image.Resampling.BILINEAR), np.float32) / 255


def specks(rng: Rng, side: int) -> Grey:
    """Grains, drops and fibres strewn over a plane, all of a kind."""
    field = np.zeros((side, side), np.float32)
    for _ in range(int(rng.integers(1, 3))):
        sheet = Image.new("L", (side, side), 0)
        draw = ImageDraw.Draw(sheet)
        small, long = rng.uniform(0.5, 5), rng.choice([0.0, rng.uniform(3, 40)])
        for _ in range(int(math.exp(rng.uniform(math.log(5), math.log(400))))):
            (x, y), angle = rng.uniform(0, side, 2), rng.uniform(0, math.pi)
            reach = small * rng.uniform(0.5, 1.5)
            tone = int(rng.integers(60, 256))
            if long:
                dx, dy = long * math.cos(angle), long * math.sin(angle)
                draw.line((x, y, x + dx, y + dy), fill=tone, width=max(1, round(reach / 2)))
            else:
                draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=tone)
        field = np.maximum(field, ndimage.gaussian_filter(np.asarray(sheet, np.float32) / 255, rng.uniform(0.3, 1.5)))
    return field


def rings(rng: Rng, side: int) -> Grey:
    """Wood, marble and contour lines: waves of a smooth height."""
    height = octaves(rng, side) * rng.uniform(1, 8) + lattice(rng, side, 2) * rng.uniform(0, 6)
    _, x = turned(rng, side)
    wave = np.sin(2 * math.pi * (height + x / side * rng.uniform(0, 6)))
    return unit(wave if rng.random() < 0.5 else np.abs(wave) ** rng.uniform(0.2, 1))


def smooth(rng: Rng, side: int) -> Grey:
    """Next to nothing: a flat face, a ramp or a soft cloud, as most of an inspected part is."""
    _, x = turned(rng, side)
    field = 0.5 + (x / side - 0.5) * rng.uniform(0, 1) + 0.4 * (lattice(rng, side, 3) - 0.5)
    return np.clip(field, 0, 1).astype(np.float32)


KINDS: tuple[Callable[[Rng, int], Grey], ...] = (
    spectral, octaves, band, grating, weave, brushed, tiles, cells, fern, print_, specks, rings, smooth,
)  # fmt: skip


# --- helpers ----------------------------------------------------------------------------------------------------------


def unit(field: np.ndarray) -> Grey:
    """Shifted and scaled so that nearly all values lie in [0, 1]; the rest is cut off."""
    low, high = np.percentile(field[::2, ::2], (0.5, 99.5))
    return np.clip((field - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def lattice(rng: Rng, side: int, count: int) -> Grey:
    """Values in [0, 1] drawn on a grid of count x count and joined smoothly."""
    knots = Image.fromarray(rng.random((count + 3, count + 3)).astype(np.float32))
    return np.asarray(knots.resize((side, side), Image.Resampling.BICUBIC, box=(1, 1, count + 2, count + 2))).clip(0, 1)


def turned(rng: Rng, side: int, small: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (y, x) in pixels of a plane turned by any angle: mostly by none, or by a little."""
    angle = rng.choice([0.0, rng.uniform(-0.1, 0.1), rng.uniform(0, math.pi)], p=[0.4, 0.3, 0.3])
    angle = math.copysign(min(abs(angle), 0.8), angle) if small else angle
    y, x = np.mgrid[:side, :side].astype(np.float32) - side / 2
    shift = rng.uniform(0, 50, 2) + side
    return x * math.sin(angle) + y * math.cos(angle) + shift[0], x * math.cos(angle) - y * math.sin(angle) + shift[1]
