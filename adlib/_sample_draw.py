"""What the drawn sample sets share: coordinates, soft edges, clouds of noise, and the camera that takes the photograph.

A scene is linear light, (3, S, S) float64, with three samples for two pixels each way; edges are softened by formula.
All arithmetic is float64 although eight bits leave the camera: the last bit of a cosine differs between processors,
and in float32 that would change a pixel here and there, and with it the picture's hash and the split of the normals.
"""

from __future__ import annotations

import functools
import itertools
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

SIDE = 256  # pixels of a finished picture, each way
S = 3 * SIDE // 2  # samples of a scene, each way

Rng = np.random.Generator


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a part.  strength: 0 just visible when pointed at … 1 plain to see.  rng: where and how."""

    kind: str
    strength: float
    rng: Rng

    def size(self, subtle: float, plain: float) -> float:
        """A measure between the two, by strength."""
        return subtle + (plain - subtle) * self.strength


def grid() -> tuple[np.ndarray, np.ndarray]:
    """x (1, S) and y (S, 1) of the samples, in pixels of the finished picture, from its upper left corner."""
    at = (np.arange(S) + 0.5) * (SIDE / S)
    return at[None, :], at[:, None]


def turned(x: np.ndarray, y: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The same points in axes turned by so many degrees."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return c * x + s * y, c * y - s * x


def colour(code: str) -> np.ndarray:
    """'#rrggbb' as linear light (3, 1, 1); the camera's curve is a square root, so this is its square."""
    return ((np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255) ** 2)[:, None, None]


def inside(distance: np.ndarray, soft: float = 1.0) -> np.ndarray:
    """Share of a shape in [0, 1] from the signed distance to its edge (negative inside), fading over `soft` pixels."""
    share = np.clip(0.5 - distance / soft, 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def mix(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Lays one colour (3, S, S) or (3, 1, 1) over another where `share` (S, S) says so."""
    return below + (above - below) * share


def total(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Their sum, in order."""
    return functools.reduce(np.add, parts)


def bump(distance: np.ndarray, radius: float) -> np.ndarray:
    """1 in the middle, 0 at `radius` and beyond, smooth; needs no exponential."""
    left = np.clip(1.0 - (distance / radius) ** 2, 0.0, None)
    return left * left


@functools.cache
def _spread(cells: int, samples: int) -> np.ndarray:
    """(samples, cells + 3) weights of cubic B-splines: rows of noise cells to smooth noise."""
    at = (np.arange(samples) + 0.5) * (cells / samples)
    first = np.floor(at).astype(int)
    t = at - first
    weights = np.zeros((samples, cells + 3))
    parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    for k, part in enumerate(parts):
        weights[np.arange(samples), first + k] = part / 6
    return weights


def clouds(rng: Rng, across: int, down: int = 0, *, closed: bool = False) -> np.ndarray:
    """Smooth noise (S, S) with a spread of about 1, of `across` x `down` cells (square without `down`).

    closed: the right edge goes on at the left one, for noise around a circle.
    """
    down = down or across
    cells = rng.standard_normal((down + 3, across + 3))
    if closed:
        cells[:, -3:] = cells[:, :3]
    return 2.0 * (_spread(down, S) @ cells @ _spread(across, S).T)


def stroke(x: np.ndarray, y: np.ndarray, points: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance to a line through `points` (n, 2), and how far along the nearest place lies, 0…1.  Both (S, S).

    x, y: as `grid` gives them, perhaps shifted.  Beyond `reach` pixels the distance is just `reach`.
    """
    (left, top), (right, bottom) = points.min(axis=0) - reach, points.max(axis=0) + reach
    box = (slice(*np.searchsorted(y[:, 0], (top, bottom))), slice(*np.searchsorted(x[0], (left, right))))
    distance, along = np.full((S, S), reach), np.zeros((S, S))
    px, py = x[:, box[1]], y[box[0]]
    nearest = np.full((len(py), px.shape[1]), reach * reach)
    place = np.zeros_like(nearest)
    for i, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(points)):
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((px - x0) * dx + (py - y0) * dy) / (dx * dx + dy * dy + 1e-12), 0.0, 1.0)
        square = (px - x0 - t * dx) ** 2 + (py - y0 - t * dy) ** 2
        closer = square < nearest
        nearest[closer] = square[closer]
        place[closer] = (i + t[closer]) / (len(points) - 1)
    distance[box], along[box] = np.sqrt(nearest), place
    return distance, along


def wander(rng: Rng, start: tuple[float, float], degrees: float, length: float, bend: float, n: int = 10) -> np.ndarray:
    """Points (n, 2) of a line that starts somewhere and bends gently.  bend: degrees from end to end, roughly."""
    turns = np.deg2rad(degrees + bend * np.linspace(-0.5, 0.5, n - 1) + rng.normal(0, abs(bend) / 8 + 1, n - 1))
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / (n - 1))
    return np.concatenate([[start], np.array(start) + np.cumsum(steps, axis=0)])


# --- the camera -------------------------------------------------------------------------------------------------------


def _smooth(light: np.ndarray, sigma: float) -> np.ndarray:
    """Slight defocus of (3, H, W), by a few shifted copies."""
    near = np.exp(-0.5 * (np.arange(3) / sigma) ** 2)
    w0, w1, w2 = near / (near[0] + 2 * near[1] + 2 * near[2])
    p = np.pad(light, ((0, 0), (2, 2), (2, 2)), mode="edge")
    p = w0 * p[:, 2:-2] + w1 * (p[:, 1:-3] + p[:, 3:-1]) + w2 * (p[:, :-4] + p[:, 4:])
    return np.asarray(w0 * p[..., 2:-2] + w1 * (p[..., 1:-3] + p[..., 3:-1]) + w2 * (p[..., :-4] + p[..., 4:]))


def _shrunk(scene: np.ndarray) -> np.ndarray:
    """Three rows of samples become two rows of pixels, each the mean of what falls on it."""
    pixels = np.empty((3, SIDE, scene.shape[2]))
    pixels[:, 0::2] = (2.0 * scene[:, 0::3] + scene[:, 1::3]) / 3.0
    pixels[:, 1::2] = (scene[:, 1::3] + 2.0 * scene[:, 2::3]) / 3.0
    return pixels


def exposed(scene: np.ndarray, rng: Rng) -> np.ndarray:
    """What falls on the sensor, (3, SIDE, SIDE): lens, light falloff, exposure and tint of the day; no noise yet."""
    light = _smooth(_shrunk(_shrunk(scene).swapaxes(1, 2)).swapaxes(1, 2), rng.uniform(0.45, 0.75))
    at = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    x, y = at[None, :], at[:, None]
    tilt, direction = rng.uniform(0.0, 0.16), rng.uniform(0.0, 2 * np.pi)
    falloff = 1.0 - rng.uniform(0.25, 0.45) * (x * x + y * y) + tilt * (np.cos(direction) * x + np.sin(direction) * y)
    tint = rng.normal(1.0, 0.009, (3, 1, 1))
    return light * (rng.normal(1.0, 0.03) * falloff) * tint


def developed(light: np.ndarray, rng: Rng) -> np.ndarray:
    """The picture: sensor noise that grows with the light, then the tone curve.  (SIDE, SIDE, 3) uint8."""
    light = np.maximum(light, 0.0)
    grain = rng.standard_normal((1, SIDE, SIDE)) * 0.8 + rng.standard_normal((3, SIDE, SIDE)) * 0.6
    noisy = light + grain * np.sqrt(0.00022 * light + 0.000006)
    return np.round(255.0 * np.sqrt(np.clip(noisy, 0.0, 1.0))).astype(np.uint8).transpose(1, 2, 0)


def changed(flawed: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Where a flaw shows, (SIDE, SIDE) bool: two exposures of one part, with and without it, differ to the eye.

    Specks under 8 pixels are dropped and holes closed: a mask is a region that a person would outline, and AU-PRO counts
    each region as one.
    """
    from scipy import ndimage

    eye = np.abs(np.sqrt(np.maximum(flawed, 0.0)) - np.sqrt(np.maximum(sound, 0.0))).max(axis=0)
    seen = np.pad(eye > 5.0 / 255.0, 4)
    disk = np.hypot(*np.mgrid[-2:3, -2:3]) < 2.3
    seen = ndimage.binary_fill_holes(ndimage.binary_closing(seen, disk))[4:-4, 4:-4]
    regions, _ = ndimage.label(seen, np.ones((3, 3)))
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= 8)[regions])


# --- the file ---------------------------------------------------------------------------------------------------------


def png(pixels: np.ndarray) -> bytes:
    """A PNG of (H, W, 3) or (H, W) uint8, stored without compression.

    Compressors differ between builds of zlib, and other bytes would be another content hash, so another split of the
    normals.  Photographs with grain would shrink by a third only, for ten times the work.
    """
    height, width = pixels.shape[:2]
    kind = 2 if pixels.ndim == 3 else 0
    rows = np.zeros((height, 1 + width * (3 if kind else 1)), np.uint8)  # a leading 0 a row: no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    blocks = [raw[i : i + 65535] for i in range(0, len(raw), 65535)]
    stream = b"\x78\x01"
    for i, block in enumerate(blocks):
        stream += struct.pack("<BHH", i == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
    stream += struct.pack(">I", zlib.adler32(raw))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)),
        (b"IDAT", stream),
        (b"IEND", b""),
    )
    chunks = [
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
