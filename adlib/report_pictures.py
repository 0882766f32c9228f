"""Pictures of a report: photographs and heatmaps small enough to travel inside a page, and all heatmaps as one zip.

Heatmaps are those that the evaluation kept, on the one scale of `overlays`; no network is asked again.
"""

from __future__ import annotations

import base64
import io
import re
import time
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from adlib import frames, images, overlays
from adlib.contract import AdlibError, DataError
from adlib.report_facts import Facts

SIDE = 440  # pixels: 44 mm of paper at 250 dots an inch
MOST_HEATMAPS = 1000  # in one zip; mistakes go first
_HEAT_SIDE = 800  # pixels of a heatmap to take away


@dataclass(frozen=True)
class Shown:
    """A test picture to show.  photo, heat: RGB of one size, None where there is none.  nearest: (photo, name) or None."""

    photo: Image.Image | None
    heat: Image.Image | None
    nearest: tuple[Image.Image, str] | None


def shown(facts: Facts, index: int) -> Shown:
    """The picture of a line of scores, its heat on top, and the normal most like it."""
    photo = photo_of(facts, facts.rows[index], SIDE)
    heat = heat_on(photo, ratio_map(facts, index, photo.size if photo else None))
    row = facts.nearest(index)
    beside = photo_of(facts, row, SIDE) if row else None
    return Shown(photo, heat, (beside, str(row["name"])) if row and beside else None)


def photo_of(facts: Facts, row: Mapping[str, Any], side: int) -> Image.Image | None:
    """RGB, at most `side` pixels long; None when the file is not on this machine or cannot be read."""
    path = facts.path(row)
    if path is None:
        return None
    try:
        picture = images.read(path, white=facts.card.get("white"), least=side)
        return Image.open(io.BytesIO(frames.thumbnail(picture, side))).convert("RGB")
    except (AdlibError, OSError):
        return None


def ratio_map(facts: Facts, index: int, size: tuple[int, int] | None) -> np.ndarray | None:
    """(height, width) float32 in multiples of the threshold, over a photo of that size; the map's own without a photo."""
    maps, unit = facts.array("maps"), facts.calibration.map_unit
    if maps is None or not unit or index >= len(maps):
        return None
    grid = np.asarray(maps[index], dtype=np.float32) / np.float32(unit)
    if size is None:
        return grid
    return _frame(facts, size).to_original(grid)


def _frame(facts: Facts, size: tuple[int, int]) -> frames.Frame:
    """Where a picture of that size lies in the network's square."""
    return frames.frame_of(*size, facts.card["size"], facts.card["letterbox"], facts.region)


def heat_on(photo: Image.Image | None, ratio: np.ndarray | None) -> Image.Image | None:
    """The photo with its heat and the outline; the heat alone where the photo is missing."""
    if ratio is None:
        return None
    if photo is None:
        return Image.fromarray(overlays.heat_only(ratio))
    return Image.fromarray(overlays.overlay(np.asarray(photo), ratio))


def data_uri(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=82, method=3)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


# --- all heatmaps as a zip --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judged:
    """What `overlays.heatmap_png` asks of a judged picture."""

    picture: images.Picture
    score: float
    ratio: float
    alarm: bool
    heat: np.ndarray | None


def heatmaps_zip(facts: Facts, sheet: bytes) -> bytes:
    """A PNG with legend for each test, mistakes first, then by score, at most MOST_HEATMAPS; and the sheet of scores.

    Raises DataError when the run has no heatmaps.
    """
    maps = facts.array("maps")
    if maps is None or not facts.calibration.map_unit or not facts.rows:
        raise DataError(
            "There are no heatmaps in run '{run}': its method gives none, or it has not been evaluated.",
            run=facts.run.id,
        )
    first = facts.mistakes()
    wrong = set(first)
    order = [*first, *(int(i) for i in np.argsort(-facts.scores, kind="stable") if int(i) not in wrong)]
    order = order[:MOST_HEATMAPS]
    date = time.strftime("%Y-%m-%d", time.localtime(facts.card["created"]))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive, ThreadPoolExecutor(2) as pool:
        archive.writestr("scores.csv", sheet)
        for place, (i, png) in enumerate(zip(order, _drawn(pool, facts, order, date), strict=True), 1):
            archive.writestr(_file_name(facts.rows[i], place, i in wrong), png)
    return out.getvalue()


def _drawn(pool: ThreadPoolExecutor, facts: Facts, order: list[int], date: str) -> Iterator[bytes]:
    """A few at a time, so that a thousand finished pictures do not wait in memory."""
    for start in range(0, len(order), 16):
        yield from pool.map(lambda i: _png(facts, i, date), order[start : start + 16])


def _png(facts: Facts, index: int, date: str) -> bytes:
    row = facts.rows[index]
    photo = photo_of(facts, row, _HEAT_SIDE)
    ratio = ratio_map(facts, index, photo.size if photo else None)
    assert ratio is not None  # the caller has looked
    model = " - ".join(filter(None, (str(row["name"]), facts.title, facts.method, facts.backbone)))
    if photo is None:
        alarm = "ALARM" if facts.alarms[index] else "normal"
        told = f"{alarm}: {facts.ratio(index):.2f}x the threshold (score {row['score']:.4g})"
        return overlays.legend_png(overlays.heat_only(ratio), [told, f"{model} - {date}"])
    picture = images.Picture(photo, *photo.size, (), None, "PNG")
    judged = _Judged(picture, row["score"], facts.ratio(index), bool(facts.alarms[index]), ratio)
    return overlays.heatmap_png(judged, model, date=date)


def _file_name(row: Mapping[str, Any], place: int, wrong: bool) -> str:
    """A name of our own making, after the person's: letters, digits, dot, dash."""
    stem = re.sub(r"[^\w.-]+", "_", str(row["name"]).rpartition(".")[0] or str(row["name"]))[-60:]
    return f"{place:04}-{'mistake-' if wrong else ''}{stem.strip('._') or 'picture'}.png"
