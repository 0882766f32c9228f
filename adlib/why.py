"""Why a picture got its score: the normal it resembles most, the patch that decides, the levels that add up, what was rebuilt.

A method that knows says so itself (`contract.Explains`, `contract.Reconstructs`).  For all others the nearest normal is
found by the embeddings of the run's normals, and the heatmap's peak is compared with the same position of that normal.
Normals are known by content hash: their pictures are in the run's data set, unless it was deleted or the run came from
elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from adlib import datasets, evaluation, frames, images, store
from adlib.contract import (
    DataError,
    Explains,
    Explanation,
    Nearest,
    Prediction,
    Reconstructs,
    Sample,
    Sentence,
    say,
)
from adlib.inspection import Fitted

USUAL_NORMALS = 12  # held-out normals that say what is usual at each level
Place = tuple[float, float]


@dataclass(frozen=True)
class Match:
    """A looked-at picture, or one place of it, beside the normal that is nearest.

    digest, name: the normal's.  path: its picture, None when it is not on this machine.
    distance: as the method or its embeddings measure it.  times: the same in multiples of the threshold, None where the
    two are not in one unit.  usual: in multiples of the median distance from a normal to its own nearest normal, or None.
    here, there: centres (x, y) of the two places as shares of the network's square; None for whole pictures.
    exact: the method itself named the normal and the place; else they were found by embeddings and position.
    """

    digest: str
    name: str
    path: Path | None
    distance: float
    times: float | None = None
    usual: float | None = None
    here: Place | None = None
    there: Place | None = None
    exact: bool = False


@dataclass(frozen=True)
class Level:
    """One level of the network.  distance: what it adds to the score.  share: of the score, in [0, 1].

    usual: mean distance of held-out normals at this level, None when there are none.
    """

    name: Sentence
    distance: float
    share: float
    usual: float | None = None


@dataclass(frozen=True)
class Why:
    """picture: the nearest normal of the whole picture.  place: of the place that decides, None without a heatmap.

    levels: () unless the method adds up levels.  rebuilt: (H, W, 3) uint8 in the network's square, None unless the method
    rebuilds pictures.  searched: how many normals `picture` was chosen from.  notes: what could not be told, and why.
    """

    picture: Match | None
    place: Match | None
    levels: tuple[Level, ...]
    rebuilt: np.ndarray | None
    searched: int
    notes: tuple[Sentence, ...]


def explain(fitted: Fitted, path: Path) -> Why:
    """Looks at one picture once more and says why it scores as it does.  Raises DataError when it cannot be read."""
    sample = Sample(path, None, "", None, "test", "", path.name)
    pixels = next(iter(fitted.batches([sample]))).pixels
    detector = fitted.detector
    told = detector.explain(pixels)[0] if isinstance(detector, Explains) else Explanation()
    prediction = detector.score(pixels)
    known = _Normals(fitted)
    line = fitted.calibration.threshold.value
    picture = known.named(told.picture, line)
    searched = len(known.fitted)
    if picture is None:
        picture, searched = known.by_embedding(prediction)
    place = known.named(told.place, line)
    if place is None and picture is not None and prediction.maps is not None:
        place = _same_position(picture, prediction.maps[0], fitted.calibration.map_unit)
    rebuilt = None
    if isinstance(detector, Reconstructs):
        rebuilt = _as_picture(detector.reconstruct(pixels)[0].cpu().numpy())
    levels = _levels(told.levels, known) if told.levels else ()
    notes = []
    if picture is None and place is None:
        notes.append(
            say("The normal pictures of this run are not on this machine, so none can be named as the nearest.")
        )
    elif any(match is not None and match.path is None for match in (picture, place)):
        notes.append(say("The nearest normal is known by name, but its picture is not on this machine."))
    return Why(picture, place, levels, rebuilt, searched, tuple(notes))


def _same_position(picture: Match, heat: np.ndarray, map_unit: float | None) -> Match:
    """The heatmap's peak beside the same place of the most similar normal.  heat: (H, W) in the method's unit."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    at = ((float(column) + 0.5) / heat.shape[1], (float(row) + 0.5) / heat.shape[0])
    peak = float(heat.max())
    times = peak / map_unit if map_unit else None
    return replace(picture, distance=peak, times=times, usual=None, here=at, there=at, exact=False)


def _as_picture(pixels: np.ndarray) -> np.ndarray:
    """(3, H, W) in [0, 1] → (H, W, 3) uint8."""
    return cast(np.ndarray, (255 * pixels.clip(0, 1)).round().astype(np.uint8).transpose(1, 2, 0))


# --- the run's normals ------------------------------------------------------------------------------------------------


class _Normals:
    """The run's normals, by number and by content, and where their pictures lie."""

    def __init__(self, fitted: Fitted) -> None:
        self.run = fitted
        self.rows: list[dict[str, Any]] = fitted.run.read("normals.json") or []
        self.fitted = [row for row in self.rows if row["fitted"]]
        self.paths = paths_of(fitted.run.card["dataset"])

    def _match(self, row: dict[str, Any], distance: float, **more: Any) -> Match:
        path = self.paths.get(row["digest"])
        return Match(row["digest"], row["name"], path, distance, **more)

    def named(self, nearest: Nearest | None, line: float) -> Match | None:
        """The method's own answer; None when it gave none, or names a normal that the run does not list."""
        if nearest is None or nearest.normal >= len(self.fitted):
            return None
        times = nearest.distance / line if line > 0 else None
        row = self.fitted[nearest.normal]
        return self._match(row, nearest.distance, times=times, here=nearest.here, there=nearest.there, exact=True)

    def by_embedding(self, prediction: Prediction) -> tuple[Match | None, int]:
        """The fitted normal whose embedding is nearest, and among how many it was looked for."""
        found = evaluation.explored(self.run)
        if prediction.embeddings is None or found is None:
            return None, 0
        inside = {row["digest"] for row in self.fitted}
        keep = [i for i, row in enumerate(found[0]) if row["digest"] in inside]
        if not keep or found[1].shape[1:] != prediction.embeddings.shape[1:]:
            return None, 0
        vectors = found[1][keep].astype(np.float64)  # (N, D)
        apart = np.linalg.norm(vectors - prediction.embeddings[0], axis=1)
        best = int(apart.argmin())
        usual = usual_distance(vectors)
        times = float(apart[best]) / usual if usual else None
        return self._match(found[0][keep[best]], float(apart[best]), usual=times), len(keep)

    def held_out(self) -> list[Sample]:
        """A few normals that were not fitted and whose pictures are here."""
        rows = [row for row in self.rows if not row["fitted"] and row["digest"] in self.paths][:USUAL_NORMALS]
        return [Sample(self.paths[r["digest"]], 0, r["kind"], None, "train", r["digest"], r["name"]) for r in rows]


def paths_of(dataset: str) -> dict[str, Path]:
    """Content hash → file of every picture in a data set, whatever its role; {} when the data set is not here."""
    if not store.Dataset.exists(dataset):
        return {}
    try:
        return datasets.files(store.Dataset.open(dataset))
    except DataError:
        return {}


def usual_distance(vectors: np.ndarray) -> float | None:
    """Median over normals of the distance to the nearest other one.  vectors: (N, D).  None for fewer than two."""
    if len(vectors) < 2:
        return None
    from scipy.spatial.distance import pdist, squareform

    apart = squareform(pdist(vectors))
    np.fill_diagonal(apart, np.inf)
    return float(np.median(apart.min(axis=1)))


# --- levels -----------------------------------------------------------------------------------------------------------


def _levels(distances: tuple[float, ...], known: _Normals) -> tuple[Level, ...]:
    usual = _usual_levels(known)
    total = sum(distances) or 1.0
    return tuple(
        Level(level_name(i, len(distances)), one, one / total, None if usual is None else usual[i])
        for i, one in enumerate(distances)
    )


def level_name(i: int, total: int) -> Sentence:
    """A level in plain words, by how deep it lies.  i: from 0, nearest to the pixels."""
    depth = (i + 0.5) / total
    if depth < 1 / 3:
        return say("level {n}: edges and fine texture", n=i + 1)
    if depth < 2 / 3:
        return say("level {n}: patterns and small parts", n=i + 1)
    return say("level {n}: large shapes and the whole part", n=i + 1)


def _usual_levels(known: _Normals) -> list[float] | None:
    """Mean distance of a few held-out normals at each level."""
    samples, detector = known.held_out(), known.run.detector
    if not samples or not isinstance(detector, Explains):
        return None
    rows = [told.levels for batch in known.run.batches(samples) for told in detector.explain(batch.pixels)]
    return [float(value) for value in np.mean(rows, axis=0)]


# --- crops ------------------------------------------------------------------------------------------------------------

CROP_SHARE = 0.3  # side of a crop as a share of the network's square
CROP_SIDE = 360  # pixels of a crop's longer side on the screen


def crop(fitted: Fitted, path: Path, at: Place) -> bytes:
    """JPEG of the surroundings of a place, with a ring around it; the same scale for every picture of a run.

    at: (x, y) as shares of the network's square.  Raises DataError when the picture cannot be read.
    """
    from PIL import Image

    picture = images.read(path, white=fitted.white)
    box, centre = crop_box(
        frames.frame_of(picture.width, picture.height, fitted.size, fitted.letterbox, fitted.region), at
    )
    scale = CROP_SIDE / max(box[2] - box[0], box[3] - box[1])
    side = (max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale)))
    sharp = Image.Resampling.BILINEAR if scale < 4 else Image.Resampling.NEAREST  # few pixels are shown as they are
    small = replace(picture, image=picture.image.resize(side, sharp, box=box))
    return frames.ringed(small, ((centre[0] - box[0]) * scale, (centre[1] - box[1]) * scale))


def crop_box(frame: frames.Frame, at: Place) -> tuple[tuple[float, float, float, float], Place]:
    """(left, top, right, bottom) of a crop in the original's pixels, moved to lie inside it, and the place's own (x, y)."""
    left, top, right, bottom = frame.box
    x0, y0, x1, y1 = frame.crop
    across, down = (x1 - x0) / (right - left), (y1 - y0) / (bottom - top)  # original pixels in one of the square
    x = min(max(x0 + (at[0] * frame.size - left) * across, 0.0), float(frame.width))
    y = min(max(y0 + (at[1] * frame.size - top) * down, 0.0), float(frame.height))
    wide, high = (
        min(side, CROP_SHARE * frame.size * scale) for side, scale in ((frame.width, across), (frame.height, down))
    )
    start_x = min(max(x - wide / 2, 0.0), frame.width - wide)
    start_y = min(max(y - high / 2, 0.0), frame.height - high)
    return (start_x, start_y, start_x + wide, start_y + high), (x, y)
