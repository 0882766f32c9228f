"""A person's own threshold for a run, and the way back to the learned one.

The learned calibration is kept beside the one in use, and what was already scored is decided anew without scoring again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from adlib import metrics, store, thresholds
from adlib.contract import Calibration, DataError, Sample
from adlib.results import Row, calibration_json, calibration_of, write_rows

LEARNED = "calibration.learned.json"  # only there while another threshold is in use


def is_by_hand(run: store.Run) -> bool:
    return (run.folder / LEARNED).exists()


def learned(run: store.Run) -> Calibration:
    """What the fit itself learned, whatever threshold is in use."""
    return calibration_of(run, LEARNED) if is_by_hand(run) else calibration_of(run)


def set_by_hand(run: store.Run, value: float) -> Calibration:
    """Puts a person's line in place of the learned one.  value: in the method's own unit.

    The map's 1x moves in the same proportion, so that verdict and outline keep agreeing; it stays where it is when one
    of the two lines is not positive and there is no proportion.  Raises DataError for a value that is not finite.
    """
    if not np.isfinite(value):
        raise DataError("A threshold is a finite number, got {value}.", value=str(value))
    before = learned(run)
    if not is_by_hand(run):
        run.write(LEARNED, run.read("calibration.json"))
    line, unit = before.threshold.value, before.map_unit
    if unit is not None and line > 0 and value > 0:
        unit *= value / line
    made = dataclasses.replace(before, threshold=thresholds.by_hand(value, before.scores), map_unit=unit)
    _use(run, made)
    return made


def use_learned(run: store.Run) -> Calibration:
    """Back to the line that the fit learned; does nothing when it is in use."""
    before = learned(run)
    if is_by_hand(run):
        _use(run, before)
        (run.folder / LEARNED).unlink(missing_ok=True)
    return before


def _use(run: store.Run, calibration: Calibration) -> None:
    run.write("calibration.json", calibration_json(calibration))
    rows, report = run.read("scores.json"), run.read("report.json")
    if rows is None or report is None:
        return
    write_rows(run, [Row.judged(_sample(row), row["score"], calibration) for row in rows])
    labels = np.array([row["label"] for row in rows])
    scores = np.array([row["score"] for row in rows])
    line = calibration.threshold.value
    table = metrics.confusion(labels, scores, line)
    report |= {"threshold": line, "confusion": dataclasses.asdict(table)}
    for name, count, total in (
        ("fpr", table.false_positive, table.false_positive + table.true_negative),
        ("tpr", table.true_positive, table.true_positive + table.false_negative),
    ):
        if total:
            report[name] = count / total
            report["intervals"][name] = list(metrics.rate_interval(count, total))
    run.write("report.json", report)


def _sample(row: dict[str, Any]) -> Sample:
    mask = Path(row["mask"]) if row["mask"] else None
    return Sample(Path(row["path"]), row["label"], row["kind"], mask, "test", row["digest"], row["name"])
