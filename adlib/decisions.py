"""Which line decides for a run: the learned one, a rule's, or a person's own, and the way back to the learned one.

The learned calibration is kept beside the one in use, and what was already scored is decided anew without scoring again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from adlib import intervals, levels, lines, metrics, rules, store, thresholds
from adlib.contract import Calibration, DataError, Sample, Sentence, Threshold
from adlib.datasets import share
from adlib.results import Row, calibration_json, calibration_of, write_rows
from adlib.rules import Evidence, Outcome, Wishes

LEARNED = "calibration.learned.json"  # only there while another threshold is in use


def is_by_hand(run: store.Run) -> bool:
    """Another line than the learned one is in use: a rule's that a person chose, or the person's own."""
    return (run.folder / LEARNED).exists()


def learned(run: store.Run) -> Calibration:
    """What the fit itself learned, whatever threshold is in use."""
    return calibration_of(run, LEARNED) if is_by_hand(run) else calibration_of(run)


# --- rules ------------------------------------------------------------------------------------------------------------


def evidence(run: store.Run) -> Evidence:
    """What rules may look at: this run's held-out normals and, when it was evaluated, its tests."""
    calibration, rows = learned(run), run.read("scores.json") or []
    found = levels.law(run)
    lawless: dict[str, Any] = {"lawless": found} if isinstance(found, Sentence) else {}
    dimension, shrinkage = (None, 0.0) if isinstance(found, Sentence) else found
    return Evidence(
        normals=np.array(calibration.scores),
        cross_fitted=calibration.cross_fitted,
        labels=np.array([row["label"] for row in rows], dtype=int),
        scores=np.array([row["score"] for row in rows], dtype=np.float64),
        places=np.array([share(row["digest"]) for row in rows]),
        fitted=run.card["normals"]["fitted"],
        dimension=dimension,
        shrinkage=shrinkage,
        **lawless,
    )


def compare(run: store.Run, wishes: Wishes | None = None) -> tuple[Outcome, ...]:
    """What each rule would do on this run; nothing is changed.  wishes: None = the alpha of the fit, else the usual ones."""
    return rules.compare(evidence(run), wishes or wishes_of(run))


def wishes_of(run: store.Run) -> Wishes:
    """The wishes a comparison begins with: the false-alarm rate that the fit was asked for."""
    return Wishes(alpha=run.card["alpha"])


def use_rule(run: store.Run, key: str, wishes: Wishes | None = None) -> Calibration:
    """Makes a rule's line the run's own; verdicts, rates, CSV and heatmaps follow it.

    Raises DataError for an unknown rule, or with the reason why it cannot be used; nothing has changed then.
    """
    return _keep(run, rules.line_of(key, evidence(run), wishes or wishes_of(run)))


def set_by_hand(run: store.Run, value: float) -> Calibration:
    """Puts a person's line in place of the learned one.  value: in the method's own unit.

    Raises DataError for a value that is not finite.
    """
    if not np.isfinite(value):
        raise DataError("A threshold is a finite number, got {value}.", value=str(value))
    return _keep(run, thresholds.by_hand(value, learned(run).scores))


def use_learned(run: store.Run) -> Calibration:
    """Back to the line that the fit learned; does nothing when it is in use."""
    before = learned(run)
    if is_by_hand(run):
        _use(run, before)
        (run.folder / LEARNED).unlink(missing_ok=True)
    return before


def _keep(run: store.Run, line: Threshold) -> Calibration:
    before = learned(run)
    if not is_by_hand(run):
        run.write(LEARNED, run.read("calibration.json"))
    made = dataclasses.replace(before, threshold=line, map_unit=map_unit(before, line))
    _use(run, made)
    return made


def map_unit(before: Calibration, line: Threshold) -> float | None:
    """Where the map's 1x goes with the line, from what the fit learned; None without a map.

    Runs that kept no peaks move it in the line's own proportion.
    """
    unit, old = before.map_unit, before.threshold.value
    if unit is None:
        return None
    if before.peaks:
        unit = lines.outline_at(line, before.scores, before.peaks, before.cross_fitted)
        return unit if unit > 0 else before.map_unit
    return unit * line.value / old if old > 0 and line.value > 0 else unit


# --- what was already scored ------------------------------------------------------------------------------------------


def _use(run: store.Run, calibration: Calibration) -> None:
    run.write("calibration.json", calibration_json(calibration))
    rows, report = run.read("scores.json"), run.read("report.json")
    if rows is None or report is None:
        return
    write_rows(run, [Row.judged(_sample(row), row["score"], calibration, row.get("peak")) for row in rows])
    labels = np.array([row["label"] for row in rows])
    scores = np.array([row["score"] for row in rows])
    line = calibration.threshold.value
    table = metrics.confusion(labels, scores, line)
    fpr, tpr = metrics.rates(table)
    report |= {"threshold": line, "confusion": dataclasses.asdict(table), "fpr": fpr, "tpr": tpr}
    report["f1"] = intervals.f1(table)
    found = intervals.of_pictures(labels, scores, line)
    report["intervals"] |= {name: list(found[name]) for name in ("fpr", "tpr", "f1") if name in found}
    run.write("report.json", report)


def _sample(row: dict[str, Any]) -> Sample:
    mask = Path(row["mask"]) if row["mask"] else None
    return Sample(Path(row["path"]), row["label"], row["kind"], mask, "test", row["digest"], row["name"])
