"""Little worlds that tests of several floors share: pictures of a part, drawn in a moment, with defects and masks."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from adlib import intake, store


def part(seed: int, *, defect: bool = False, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A grey disc on a lighter ground with a little noise: pixels (side, side, 3) uint8 and mask (side, side) bool."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    picture = np.where((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1, 0.45, 0.75) + 0.1 * x
    mask = np.zeros((side, side), bool)
    if defect:
        top, left = rng.integers(side // 4, side // 2, 2)
        mask[top : top + side // 6, left : left + side // 6] = True
        picture = np.where(mask, 0.05, picture)
    picture = picture[..., None] + rng.normal(0, 0.02, (side, side, 3))
    return (255 * picture.clip(0, 1)).astype(np.uint8), mask


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tree(normals: int = 12, good: int = 4, broken: int = 4, seed: int = 0) -> dict[str, bytes]:
    """An MVTec AD tree as {name: bytes}."""
    files = {f"train/good/{i:03}.png": png(part(seed + i)[0]) for i in range(normals)}
    files |= {f"test/good/{i:03}.png": png(part(seed + 1000 + i)[0]) for i in range(good)}
    for i in range(broken):
        pixels, mask = part(seed + 2000 + i, defect=True)
        files[f"test/spot/{i:03}.png"] = png(pixels)
        files[f"ground_truth/spot/{i:03}_mask.png"] = png(255 * mask.astype(np.uint8))
    return files


def dataset(title: str = "discs", **counts: int) -> store.Dataset:
    """A data set in the workspace, taken in as an upload would be."""
    made = store.Dataset.create(title, "upload")
    intake.take(made, intake.from_uploads(tree(**counts).items()))
    return made
