"""How a network learned: loss curves and strips of pictures, kept with the run while it trains and afterwards.

A method hands both to its `tick` as numbers of their own, so that every learned network is watched in the same way:
    losses: {name: value}                  one epoch, one line of learning.jsonl
    pictures: (K, h, w, 3) uint8           now and then, one strip, learned-<epoch>.png
Neither travels on to the queue's events.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adlib import store
from adlib.contract import Tick

CURVES = "learning.jsonl"
GAP = 2  # pixels between the pictures of a strip
SMALLEST = 64  # pixels: smaller pictures are enlarged, pixel by pixel, so that a browser does not blur them


def recorded(run: store.Run, tick: Tick) -> Tick:
    """A tick that writes losses and pictures to the run's folder and passes the rest on.  Starts a new record."""
    for path in [run.folder / CURVES, *run.folder.glob("learned-*.png")]:
        path.unlink(missing_ok=True)

    def inner(fraction: float, message: str, /, **numbers: Any) -> None:
        losses, pictures = numbers.pop("losses", None), numbers.pop("pictures", None)
        epoch = int(numbers.get("epoch", 0))
        if losses:
            line = json.dumps({"epoch": epoch, **{name: float(value) for name, value in losses.items()}})
            with open(run.folder / CURVES, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        if pictures is not None:
            store.write_bytes(run.folder / f"learned-{epoch:05d}.png", strip_png(pictures))
        tick(fraction, message, **numbers)

    return inner


def strip_png(pictures: np.ndarray) -> bytes:
    """(K, h, w, 3) uint8 side by side with transparent gaps, as PNG."""
    times = max(1, -(-SMALLEST // pictures.shape[2]))
    large = pictures.repeat(times, axis=1).repeat(times, axis=2)
    k, height, width, _ = large.shape
    strip = np.zeros((height, k * (width + GAP) - GAP, 4), np.uint8)
    for i, picture in enumerate(large):
        at = i * (width + GAP)
        strip[:, at : at + width, :3] = picture
        strip[:, at : at + width, 3] = 255
    out = io.BytesIO()
    Image.fromarray(strip).save(out, "PNG")
    return out.getvalue()


def curves(run: store.Run) -> dict[str, list[float]]:
    """{"epoch": […], name of a loss: […], …} as far as it has come; empty when nothing is trained.

    A line that is still being written, or does not fit the first one, is left out.
    """
    rows: list[dict[str, Any]] = []
    with suppress(FileNotFoundError):
        for line in (run.folder / CURVES).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and (not rows or row.keys() == rows[0].keys()):
                    rows.append(row)
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def strips(run: store.Run, most: int = 4) -> list[tuple[int, Path]]:
    """(epoch, PNG) of the first strip, the last one and some between, oldest first; at most `most`."""
    found = sorted(run.folder.glob("learned-*.png"))
    if len(found) > most:
        found = [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]
    return [(int(path.stem.partition("-")[2]), path) for path in found]
