"""What a change of the data set did to the figures: two runs of one request, on the test pictures that both judged.

A picture that was moved into the normals is a test of neither: it is left out of both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from adlib import metrics, store
from adlib.contract import Confusion
from adlib.results import calibration_of

_SAME = ("method", "settings", "backbone", "seed", "alpha", "letterbox", "size", "region")


@dataclass(frozen=True)
class Side:
    """One run on the common tests.  auroc: None when a class is absent.  confusion: at the run's own threshold."""

    run: str
    auroc: float | None
    confusion: Confusion


@dataclass(frozen=True)
class Change:
    """before, after: on the same tests.  moved: names of the pictures that were taken over and count on neither side.

    normal, defect: how many tests both sides rest on.  sets_line: a moved picture alone lifted the later threshold: it is
    the largest of too few held-out scores, and hides defects that lie below it.
    """

    before: Side
    after: Side
    moved: tuple[str, ...]
    normal: int
    defect: int
    sets_line: bool


def of(run: store.Run) -> Change | None:
    """What changed since the run whose mistake was taken into this run's normals.

    None when this run's data set is no such version, when the earlier run is gone, was another request or was not
    evaluated, or when the two have no test in common.
    """
    parent = _parent(run)
    if parent is None:
        return None
    earlier = store.Run.open(parent["run"])
    if not earlier.finished or any(earlier.card.get(name) != run.card.get(name) for name in _SAME):
        return None
    before, after = _rows(earlier), _rows(run)
    normals = run.read("normals.json") or []
    own = {row["digest"] for row in normals}
    common = sorted((before.keys() & after.keys()) - own)
    if not common:
        return None
    moved = tuple(row["name"] for digest, row in before.items() if digest in own)
    labels = np.array([before[digest]["label"] for digest in common])
    normal = int((labels == 0).sum())
    sides = (_side(earlier, before, common, labels), _side(run, after, common, labels))
    line = calibration_of(run).threshold.value
    sets_line = any(row["score"] is not None and row["score"] >= line for row in normals if row["digest"] in before)
    return Change(*sides, moved, normal, len(labels) - normal, sets_line)


def _parent(run: store.Run) -> dict[str, Any] | None:
    id = run.card["dataset"]
    if not store.Dataset.exists(id):
        return None
    parent = store.Dataset.open(id).meta.get("parent")
    return parent if parent and store.Run.exists(parent["run"]) else None


def _rows(run: store.Run) -> dict[str, dict[str, Any]]:
    return {row["digest"]: row for row in run.read("scores.json") or []}


def _side(run: store.Run, rows: dict[str, dict[str, Any]], common: list[str], labels: np.ndarray) -> Side:
    scores = np.array([rows[digest]["score"] for digest in common])
    line = calibration_of(run).threshold.value
    return Side(run.id, metrics.auroc(labels, scores), metrics.confusion(labels, scores, line))
