"""The class-holdout experiment: some classes of a labelled set are normal, the rest are to be found out.

Case c holds out classes c, c+1, … (A of them, round the end) and learns from the others; the test pictures of all classes
are judged.  Each method is judged by its own score and, where it gives embeddings, by their distance to those of the
normals it learned from: the mean of the K smallest.  Nothing of the tests is seen by a fit, and no K is chosen on them.
The cases share classes, so they are not independent: look at the spread, and do not test for significance.
"""

from __future__ import annotations

import base64
import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from adlib import metrics, projections, registry
from adlib.batches import part
from adlib.contract import AdlibError, Backbone, Batch, Detector, Prediction, Tick, silent
from adlib.experiments import BATCH, Classes, Setup, Stack

DISTANCES = ("cosine", "euclidean")
NEIGHBOURS = (1, 5, 10, 20, 30)
MISTAKES = 5
PLANE = 300  # test pictures on the plane
THUMB = 64  # pixels
_ROWS = 1024  # test pictures whose distances are held at once


@dataclass(frozen=True)
class Mixed(Stack):
    """Normals of several classes; a batch carries the class of each."""

    kinds: tuple[str, ...] = ()

    def __iter__(self) -> Any:
        for i, batch in enumerate(super().__iter__()):
            yield Batch(batch.pixels, self.kinds[i * BATCH : i * BATCH + len(batch.pixels)])


@dataclass(frozen=True)
class Case:
    """number: 0 …  anomalous, normal: names of classes."""

    number: int
    anomalous: tuple[str, ...]
    normal: tuple[str, ...]


def rotations(names: Sequence[str], anomalous: int, cases: int) -> list[Case]:
    """`cases` of them: case c holds out `anomalous` classes from the c-th on, in the order of `names`, round the end.

    Raises AdlibError when no class would be left on a side.

    >>> [case.anomalous for case in rotations("abc", 2, 3)]
    [('a', 'b'), ('b', 'c'), ('c', 'a')]
    """
    n = len(names)
    if not 1 <= anomalous < n:
        raise AdlibError("Of {n} classes, 1 to {most} can be held out; {asked} were asked for.",
                         n=n, most=n - 1, asked=anomalous)  # fmt: skip
    found = []
    for c in range(min(cases, n)):
        out = tuple(names[(c + i) % n] for i in range(anomalous))
        found.append(Case(c, out, tuple(name for name in names if name not in out)))
    return found


# --- one case ---------------------------------------------------------------------------------------------------------


def one_case(
    classes: Classes,
    case: Case,
    setup: Setup,
    samples: int | None = None,
    tests: int | None = None,
    distances: Sequence[str] = DISTANCES,
    neighbours: Sequence[int] = NEIGHBOURS,
    tick: Tick = silent,
) -> dict[str, Any]:
    """Fits on the normal classes and judges the tests of all classes.  Plain values, as the case's file keeps them.

    samples: pictures of each normal class to learn from, drawn by the setup's seed, None = all; a smaller draw is part
    of a larger one.  tests: of each class, None = all.
    auroc: of the method's own score.  distances: {distance: {K: AUROC}}, {} without embeddings; K ≤ n_reference.
    boxes: {class: [least, quarter, median, three quarters, most]} of the own score divided by its mean over the normal
    tests, None where that mean is not above 0.  plane: t-SNE of some tests.  missed, false_alarms: the most confident
    mistakes, each beside its nearest normal.  `index` counts in the test pictures of the file, `nearest` in the train's.
    """
    started = time.perf_counter()
    chosen = drawn(classes.labels["train"], case.normal, samples, setup.seed)
    side = (setup.backbone or Backbone()).size if registry.uses_backbone(setup.method) else 0
    kinds = tuple(classes.labels["train"][chosen].tolist())
    normals = Mixed(classes.pixels["train"][chosen], side=side, kinds=kinds)
    judged = drawn(classes.labels["test"], (*case.normal, *case.anomalous), tests, setup.seed)
    pixels, names = classes.pixels["test"][judged], classes.labels["test"][judged]
    labels = np.isin(names, case.anomalous).astype(int)
    detector = registry.build(setup.method, setup.settings, setup.backbone, setup.seed)
    detector.fit(normals, part(tick, 0.0, 0.7))
    fit_seconds = time.perf_counter() - started
    found = predicted(detector, Stack(pixels, side=side), part(tick, 0.7, 0.9))
    known = predicted(detector, normals, part(tick, 0.9, 0.95))
    result: dict[str, Any] = {
        "case": case.number, "anomalous": list(case.anomalous), "normal": list(case.normal),
        "n_fit": len(normals), "n_test_normal": int((labels == 0).sum()), "n_test_anomaly": int(labels.sum()),
        "n_reference": 0 if known.embeddings is None else len(known.embeddings), "fit_seconds": fit_seconds,
        "auroc": metrics.auroc(labels, found.scores), "distances": {}, "plane": None,
    }  # fmt: skip
    if found.embeddings is not None and known.embeddings is not None:
        for distance in distances:
            nearest = smallest(found.embeddings, known.embeddings, distance, max(neighbours))[0]
            means = k_means(nearest, neighbours)
            result["distances"][distance] = {str(k): metrics.auroc(labels, score) for k, score in means.items()}
        tick(0.96, "placing pictures on a plane")
        some = np.sort(np.random.default_rng(setup.seed).permutation(len(names))[:PLANE])
        places = projections.tsne(found.embeddings[some], setup.seed)
        result["plane"] = {"places": np.round(places, 3).tolist(), "classes": names[some].tolist()}
    unit = float(found.scores[labels == 0].astype(np.float64).mean())
    result["unit"] = unit
    result["boxes"] = boxes(found.scores / unit, names) if unit > 0 else None
    result |= mistakes(classes, case, found, known, labels, judged, chosen, unit)
    return result | {"seconds": time.perf_counter() - started}


def drawn(labels: np.ndarray, names: Sequence[str], limit: int | None, seed: int) -> np.ndarray:
    """Sorted places of at most `limit` pictures of each class.  The draws of one seed are nested."""
    found = []
    for name in names:
        places = np.flatnonzero(labels == name)
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])  # drawn alike, whichever others are there
        found.append(np.random.default_rng([seed, key]).permutation(places)[:limit])
    return np.sort(np.concatenate(found))


def predicted(detector: Detector, images: Stack, tick: Tick = silent) -> Prediction:
    """Scores and embeddings of all pictures, without maps."""
    parts: list[Prediction] = []
    done = 0
    for batch in images:
        one = detector.score(batch.pixels)
        parts.append(Prediction(one.scores, None, one.embeddings))
        done += len(one.scores)
        tick(done / len(images), "scored {done} of {total} pictures", done=done, total=len(images))
    return Prediction.join(parts)


# --- distances --------------------------------------------------------------------------------------------------------


def smallest(rows: np.ndarray, bank: np.ndarray, distance: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest distances of each row to the bank, ascending, and which rows of the bank they are: (N, k') each.

    rows: (N, D).  bank: (M, D).  distance: one of DISTANCES.  k' = min(k, M).
    Cosine distance is 1 - cos, in [0, 2]; a row without any length has distance 1 to all.
    """
    if distance not in DISTANCES:
        raise AdlibError("There is no distance '{name}'. Known: {known}.", name=distance, known=", ".join(DISTANCES))
    a, b = np.asarray(rows, np.float64), np.asarray(bank, np.float64)
    if distance == "cosine":
        a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    k = min(k, len(b))
    near, which = np.empty((len(a), k)), np.empty((len(a), k), int)
    for start in range(0, len(a), _ROWS):
        some = a[start : start + _ROWS]
        if distance == "cosine":
            apart = 1 - some @ b.T
        else:
            squares = (some**2).sum(1)[:, None] + (b**2).sum(1) - 2 * some @ b.T
            apart = np.sqrt(np.maximum(squares, 0))
        first = np.argpartition(apart, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(first, np.argsort(np.take_along_axis(apart, first, 1), axis=1, kind="stable"), 1)
        near[start : start + _ROWS] = np.take_along_axis(apart, order, 1)
        which[start : start + _ROWS] = order
    return near, which


def k_means(nearest: np.ndarray, neighbours: Sequence[int]) -> dict[int, np.ndarray]:
    """K → (N,) mean of the K smallest.  nearest: (N, k) ascending.  A K beyond k is left out."""
    running = np.cumsum(nearest, axis=1)
    return {k: running[:, k - 1] / k for k in neighbours if k <= nearest.shape[1]}


def boxes(scores: np.ndarray, names: np.ndarray) -> dict[str, list[float]]:
    """Class → five numbers: least, quarter, median, three quarters, most."""
    groups = {name: np.asarray(scores[names == name], np.float64) for name in sorted(set(names.tolist()))}
    return {name: np.quantile(group, (0, 0.25, 0.5, 0.75, 1)).tolist() for name, group in groups.items()}


# --- mistakes ---------------------------------------------------------------------------------------------------------


def mistakes(
    classes: Classes,
    case: Case,
    found: Prediction,
    known: Prediction,
    labels: np.ndarray,
    judged: np.ndarray,
    chosen: np.ndarray,
    unit: float,
) -> dict[str, Any]:
    """The anomalies with the smallest scores and the normals with the largest, each beside its nearest fitted normal.

    compared: "embeddings" (by cosine distance), or "pixels" (Euclidean) for a method without them.
    """
    by_score = np.argsort(found.scores, kind="stable")
    groups = {
        "missed": [int(i) for i in by_score if labels[i] == 1][:MISTAKES],
        "false_alarms": [int(i) for i in by_score[::-1] if labels[i] == 0][:MISTAKES],
    }
    every = [i for group in groups.values() for i in group]
    if found.embeddings is not None and known.embeddings is not None:
        compared, which = "embeddings", smallest(found.embeddings[every], known.embeddings, "cosine", 1)[1]
    else:
        flat = [
            classes.pixels[split][at].reshape(len(at), -1) for split, at in (("test", judged[every]), ("train", chosen))
        ]
        compared, which = "pixels", smallest(flat[0], flat[1], "euclidean", 1)[1]
    beside = dict(zip(every, chosen[which[:, 0]].tolist(), strict=True))

    def told(i: int) -> dict[str, Any]:
        at, near = int(judged[i]), beside[i]
        score = float(found.scores[i])
        return {
            "index": at, "class": str(classes.labels["test"][at]), "score": score,
            "normalised": score / unit if unit > 0 else None,
            "nearest": near, "nearest_class": str(classes.labels["train"][near]),
            "picture": thumb(classes.pixels["test"][at]), "beside": thumb(classes.pixels["train"][near]),
        }  # fmt: skip

    return {"compared": compared, **{name: [told(i) for i in group] for name, group in groups.items()}}


def thumb(pixels: np.ndarray) -> str:
    """PNG in base64, at most THUMB pixels a side.  pixels: (H, W, 3) uint8."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMB, THUMB))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
