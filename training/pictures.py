"""Pictures by formula: textures given colour, shapes, light, depth and a camera's faults.  No photograph goes in.

`picture(seed, index)` answers the same picture on every machine and in any order.  A picture is a scene (a surface, dead
leaves, a lit relief, a part in a regular layout) seen through a camera (blur, gamma, sensor noise, JPEG).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from training.textures import KINDS, Grey, Rng, lattice

Colour = np.ndarray  # (side, side, 3) float32, roughly in [0, 1]


def picture(seed: int, index: int, side: int) -> np.ndarray:
    """The picture of that number: (side, side, 3) uint8."""
    rng = np.random.default_rng((seed, index))
    scene = SCENES[rng.choice(len(SCENES), p=SHARES)]
    return camera(rng, scene(rng, side))


# --- scenes -----------------------------------------------------------------------------------------------------------


def surface(rng: Rng, side: int) -> Colour:
    """One material, or two blended by a third."""
    image = dressed(rng, side)
    if rng.random() < 0.6:
        share = texture(rng, side)[..., None]
        image = image * (1 - share) + dressed(rng, side) * share
    return image


def leaves(rng: Rng, side: int) -> Colour:
    """Dead leaves (Matheron 1968): shapes that hide each other, sizes by a power law, each with stuff and shade of its own."""
    image = dressed(rng, side)
    stuffs = [dressed(rng, side) for _ in range(int(rng.integers(2, 5)))]
    count = int(math.exp(rng.uniform(math.log(3), math.log(120))))
    by_power = rng.random() < 0.5
    sizes = 0.5 * side * (np.sort(rng.power(2.2, count))[::-1] if by_power else rng.random(count) ** 3)
    for size in sizes:
        place(rng, image, stuffs[rng.integers(len(stuffs))], rng.uniform(0, side, 2), 2 + size)
    return image


def relief(rng: Rng, side: int) -> Colour:
    """A height lit from one side, with highlights and a shadow (Lambert, Blinn-Phong)."""
    height = texture(rng, side)
    if rng.random() < 0.5:
        height = np.maximum(height * rng.uniform(0, 0.6), bumps(rng, side))
    height = ndimage.gaussian_filter(height, rng.uniform(0.5, 3)) * rng.uniform(2, 14)
    return lit(rng, height, dressed(rng, side))


def layout(rng: Rng, side: int) -> Colour:
    """A part as a factory sees it: the same shape again and again in rows or on a circle, a little off now and then."""
    image, stuff = dressed(rng, side, calm=True), dressed(rng, side, calm=True)
    seed, jitter = int(rng.integers(1 << 30)), rng.choice([0.0, rng.uniform(0, 2)])
    if rng.random() < 0.6:
        pitch = rng.uniform(side / 9, side / 2)
        spots = [(y, x) for y in np.arange(pitch / 2, side, pitch) for x in np.arange(pitch / 2, side, pitch)]
    else:
        count, radius, middle = (
            int(rng.integers(3, 16)),
            rng.uniform(side / 6, side / 2),
            rng.uniform(0.4, 0.6, 2) * side,
        )
        angles = np.arange(count) * 2 * math.pi / count
        spots = [(middle[0] + radius * math.sin(a), middle[1] + radius * math.cos(a)) for a in angles]
        pitch = min(2 * math.pi * radius / count, side / 2)
    size, lost = pitch * rng.uniform(0.2, 0.55), rng.choice([0.0, 0.08])
    for spot in spots:
        if rng.random() >= lost:
            place(np.random.default_rng(seed), image, stuff, np.array(spot) + rng.normal(0, 1, 2) * jitter, size)
    return image


SCENES: tuple[Callable[[Rng, int], Colour], ...] = (surface, leaves, relief, layout)
SHARES = (0.25, 0.4, 0.17, 0.18)


# --- what scenes are made of ------------------------------------------------------------------------------------------


def texture(rng: Rng, side: int) -> Grey:
    return KINDS[rng.integers(len(KINDS))](rng, side)


def dressed(rng: Rng, side: int, calm: bool = False) -> Colour:
    """A texture with colours: along a palette of a few, or three textures mixed into three channels."""
    if rng.random() < 0.25:
        mix = rng.normal(0, 0.35, (3, 3)).astype(np.float32)
        fields = np.stack([texture(rng, side) for _ in range(2)] + [lattice(rng, side, 3)], -1) - 0.5
        return fields @ mix + rng.uniform(0, 1, 3).astype(np.float32)
    knots = rng.uniform(0, 1, (int(rng.integers(2, 6)), 3))
    middle = knots.mean(0)
    contrast = rng.uniform(0.03, 0.4) if calm or rng.random() < 0.4 else rng.uniform(0.4, 1)
    knots = middle + (knots - middle) * contrast
    if rng.random() < 0.35:  # colours of one hue, as most materials have
        knots = knots.mean(1, keepdims=True) * rng.uniform(0.6, 1.4, 3)
    value = texture(rng, side)
    places = np.linspace(0, 1, len(knots))
    return np.stack([np.interp(value, places, knots[:, c]) for c in range(3)], -1).astype(np.float32)


def outline(rng: Rng, size: float) -> list[tuple[float, float]]:
    """Corners (x, y) of a disc, ring sector, polygon, star, capsule or blob about the origin, reaching about `size` far."""
    kind, turn = rng.integers(5), rng.uniform(0, 2 * math.pi)
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    radius = np.ones_like(angles)
    if kind == 1:
        angles = np.linspace(0, 2 * math.pi, int(rng.integers(3, 9)), endpoint=False)
        radius = np.ones_like(angles)
    elif kind == 2:
        angles = np.linspace(0, 2 * math.pi, 2 * int(rng.integers(3, 10)), endpoint=False)
        radius = np.where(np.arange(len(angles)) % 2, rng.uniform(0.3, 0.9), 1.0)
    elif kind == 3:
        radius = 1 + sum(rng.normal(0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in range(2, 6))
    elif kind == 4:
        angles = np.array([-1, 1, 3, 5]) * math.pi / 4
        radius = np.ones(4)
    x, y = radius * np.cos(angles) * size, radius * np.sin(angles) * size * rng.uniform(0.25, 1)
    return list(zip(x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn), strict=True))


def place(rng: Rng, image: Colour, stuff: Colour, spot: np.ndarray, size: float) -> None:
    """Puts one shape of `stuff` onto the image, in place: soft or sharp rim, shading, maybe a shadow and an edge."""
    side = len(image)
    reach = 1.5 * size + 8
    top, left = (int(max(0, math.floor(c - reach))) for c in spot)
    bottom, right = (int(min(side, math.ceil(c + reach))) for c in spot)
    if bottom - top < 2 or right - left < 2:
        return
    corners = [(x + spot[1] - left, y + spot[0] - top) for x, y in outline(rng, size)]
    sheet = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(sheet).polygon(corners, fill=255)
    mask = ndimage.gaussian_filter(np.asarray(sheet, np.float32) / 255, rng.choice([0.5, 0.7, rng.uniform(0.5, 3)]))
    part = image[top:bottom, left:right]
    if rng.random() < 0.4:
        shade = ndimage.shift(ndimage.gaussian_filter(mask, rng.uniform(1, 6)), rng.uniform(-6, 6, 2), order=1)
        part *= 1 - rng.uniform(0.1, 0.7) * shade[..., None]
    face = stuff[top:bottom, left:right] * rng.uniform(0.5, 1.3) + rng.normal(0, 0.2, 3).astype(np.float32)
    if rng.random() < 0.5:  # a round body: brighter towards the light
        depth = ndimage.gaussian_filter(mask, 0.15 * size + 0.5)
        gy, gx = np.gradient(depth)
        angle = rng.uniform(0, 2 * math.pi)
        face = face + (rng.uniform(0, 2.5) * size / 6 * (gx * math.cos(angle) + gy * math.sin(angle)))[..., None]
    if rng.random() < 0.2:
        rim = np.abs(mask - ndimage.gaussian_filter(mask, 1.2))
        face = face + (rng.uniform(-2, 2) * rim)[..., None]
    part += mask[..., None] * (face - part)


def bumps(rng: Rng, side: int) -> Grey:
    """Domes, holes and steps for a relief."""
    sheet = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(sheet)
    for _ in range(int(rng.integers(1, 12))):
        x, y = rng.uniform(0, side, 2)
        draw.polygon(
            [(x + a, y + b) for a, b in outline(rng, rng.uniform(4, side / 3))], fill=int(rng.integers(0, 256))
        )
    return ndimage.gaussian_filter(np.asarray(sheet, np.float32) / 255, rng.uniform(0.7, 6))


def lit(rng: Rng, height: Grey, albedo: Colour) -> Colour:
    """Lambert's cosine, a highlight and a floor of ambient light."""
    gy, gx = np.gradient(height)
    normal = np.stack([-gx, -gy, np.ones_like(gx)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    angle, rise = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 1.3)
    light = np.array([math.cos(angle) * math.cos(rise), math.sin(angle) * math.cos(rise), math.sin(rise)])
    halfway = light + np.array([0, 0, 1])
    diffuse = np.maximum(normal @ light, 0)
    facing = np.maximum(normal @ (halfway / np.linalg.norm(halfway)), 0)
    shine = facing ** rng.uniform(5, 80) * rng.choice([0, rng.uniform(0, 1)])
    ambient = rng.uniform(0.1, 0.5)
    return (albedo * (ambient + (1.2 - ambient) * diffuse[..., None]) + shine[..., None]).astype(np.float32)


def camera(rng: Rng, image: Colour) -> np.ndarray:
    """Uneven light, exposure, blur, sensor noise, grey or colour, JPEG: (side, side, 3) uint8."""
    side = len(image)
    if rng.random() < 0.4:
        image = image * (1 + rng.uniform(-0.6, 0.6) * (lattice(rng, side, 2) - 0.5))[..., None]
    image = np.clip(image, 0, 1) ** rng.uniform(0.6, 1.6)
    if rng.random() < 0.4:
        image = ndimage.gaussian_filter(image, (s := rng.uniform(0.3, 1.8), s, 0))
    if rng.random() < 0.25:
        image = np.repeat(image @ np.full((3, 1), 1 / 3, np.float32), 3, axis=2)
    if rng.random() < 0.5:
        grain = rng.standard_normal(image.shape if rng.random() < 0.5 else (side, side, 1))
        image = image + grain * np.sqrt(rng.uniform(0, 0.02) ** 2 + rng.uniform(0, 0.002) * np.clip(image, 0, 1))
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.3:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(35, 96)))
        pixels = np.asarray(Image.open(file).convert("RGB"))
    return pixels
