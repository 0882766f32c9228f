"""What an evaluation found, as a Report and as files of the run folder.  Nothing is chosen on the tests here."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adlib import intervals, metrics, registry, store
from adlib.contract import Calibration, DataError, Report, Sample, Sentence, Threshold, say


@dataclass
class PixelTally:
    """What the maps say, pixel by pixel, in constant memory.

    counts: of defect-free and defective pixels by score.  masked, maskless: defects with and without a mask.
    """

    counts: metrics.PixelCounts = dataclasses.field(default_factory=metrics.PixelCounts)
    maps: int = 0
    masked: int = 0
    maskless: int = 0

    def add(self, grid: np.ndarray, label: int, mask: np.ndarray | None, counted: np.ndarray | None = None) -> None:
        """grid: (H, W).  mask: (H, W) bool, None when the test has none.  counted: (H, W) bool, None = every pixel."""
        self.maps += 1
        if mask is not None:
            self.masked += 1
            self.counts.add(grid, mask, counted)
        elif label == 0:
            self.counts.add(grid, np.zeros(grid.shape, bool), counted)
        else:
            self.maskless += 1


@dataclass(frozen=True)
class Row:
    """One judged test picture, a line of scores.csv.  peak: largest value of its map, None without one."""

    sample: Sample
    score: float
    normalised: float
    alarm: bool
    peak: float | None = None

    @classmethod
    def judged(cls, sample: Sample, score: float, calibration: Calibration, peak: float | None = None) -> Row:
        return cls(sample, score, score / calibration.unit, score > calibration.threshold.value, peak)


def make_report(
    card: dict[str, Any],
    line: float,
    labels: np.ndarray,
    scores: np.ndarray,
    tally: PixelTally,
    seconds: float,
    skipped: list[Sentence],
) -> Report:
    """card: run.json.  line: the threshold.  labels, scores: (N,).  seconds: that scoring took in all."""
    normal, defect = int((labels == 0).sum()), int((labels == 1).sum())
    area = metrics.auroc(labels, scores)
    found = intervals.of_pictures(labels, scores, line)
    if area is None:
        skipped.append(
            say(
                "AUROC, AP and F1 need good tests and defects; there are {normal} and {defect}",
                normal=normal,
                defect=defect,
            )
        )
    table = metrics.confusion(labels, scores, line)
    pixel_area = pro = None
    if not tally.maps:
        skipped.append(
            say("{method} gives no map, so there are no pixel figures", method=registry.card(card["method"]).title)
        )
    elif not tally.masked:
        skipped.append(say("No test has a mask, so there are no pixel figures"))
    else:
        if tally.maskless:
            skipped.append(say("{n} defects have no mask: the pixel figures leave them out", n=tally.maskless))
        pixel_area, pro = tally.counts.auroc(), tally.counts.aupro()
        found |= intervals.of_pixels(tally.counts)
    best = metrics.best_f1(labels, scores)
    return Report(
        image_auroc=area,
        image_ap=metrics.average_precision(labels, scores),
        image_f1_oracle=best[0] if best else None,
        pixel_auroc=pixel_area,
        aupro=pro,
        threshold=line,
        fpr=table.false_positive / normal if normal else None,
        tpr=table.true_positive / defect if defect else None,
        n_normal=normal,
        n_defect=defect,
        confusion=table,
        intervals=found,
        ms_per_image=1000 * seconds / len(labels),
        fit_seconds=card["fit_seconds"],
        peak_mb=card["peak_mb"],
        skipped=tuple(skipped),
        f1=intervals.f1(table),
    )


def report_json(report: Report) -> dict[str, Any]:
    return {**dataclasses.asdict(report), "skipped": [sentence.as_json() for sentence in report.skipped]}


def cell(text: str) -> str:
    """A name as a CSV cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def write_rows(run: store.Run, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    sheet = csv.writer(text)
    sheet.writerow(["name", "kind", "label", "score", "normalised", "alarm", "sha256"])
    for row in rows:
        s = row.sample
        sheet.writerow(
            [
                cell(s.name),
                cell(s.kind),
                s.label,
                f"{row.score:.6g}",
                f"{row.normalised:.6g}",
                int(row.alarm),
                s.digest,
            ]
        )
    store.write_bytes(
        run.folder / "scores.csv", text.getvalue().encode("utf-8-sig")
    )  # the mark tells Excel it is UTF-8
    run.write(
        "scores.json",
        [
            {
                "name": row.sample.name, "kind": row.sample.kind, "label": row.sample.label, "digest": row.sample.digest,
                "path": str(row.sample.path), "score": row.score, "normalised": row.normalised, "alarm": row.alarm,
                "mask": str(row.sample.mask) if row.sample.mask else None, "peak": row.peak,
            }
            for row in rows
        ],
    )  # fmt: skip


# --- calibration ---------------------------------------------------------------------------------------------------


def ratio_of(score: float, calibration: Calibration) -> float:
    """How many times the threshold; for a threshold of zero or below, 1 + the distance to it in units of a normal."""
    line = calibration.threshold.value
    return score / line if line > 0 else 1.0 + (score - line) / calibration.unit


def regret_of(score: float, label: int, calibration: Calibration) -> float:
    """How far a verdict is on the wrong side of the threshold, as a ratio of at least 1; 0 when the verdict is right.

    label: 0 normal, 1 defect.  1.5 for a false alarm at 1.5x the threshold and for a defect missed at 1 / 1.5 of it, so
    that both kinds of mistake can be put in one order; where scores may be negative, 1 + the distance to the line in
    units of a normal.
    """
    line = calibration.threshold.value
    if (score > line) == (label == 1):
        return 0.0
    ratio = ratio_of(score, calibration)
    if ratio >= 1 or line <= 0:
        return 1 + abs(ratio - 1)
    return 1 / ratio if ratio > 0 else float("inf")


def calibration_json(calibration: Calibration) -> dict[str, Any]:
    values = dataclasses.asdict(calibration)
    line = calibration.threshold
    values["threshold"] = {**values["threshold"], "rule": line.rule.as_json(), "fitted_on": line.fitted_on.as_json()}
    return values


def calibration_of(run: store.Run, file: str = "calibration.json") -> Calibration:
    """The calibration of a finished run.  Raises DataError when its file is missing or damaged."""
    values = store.read_json(run.folder / file)
    try:
        line = values["threshold"]
        line = Threshold(
            line["value"], Sentence.from_json(line["rule"]), Sentence.from_json(line["fitted_on"]), line["alpha"],
            line.get("key", ""), line.get("oracle", False),
        )  # fmt: skip
        peaks = values.get("peaks")
        both = {"scores": tuple(values["scores"]), "peaks": None if peaks is None else tuple(peaks)}
        return Calibration(**{**values, "threshold": line, **both})
    except (KeyError, TypeError, IndexError):
        raise DataError("'{file}' of run '{run}' is damaged. Fit the run again.", file=file, run=run.id) from None
