"""What an evaluation found, loaded once a change, and its figures: each beside the pictures it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from adlib import decisions, metrics, store
from adlib.contract import Calibration, Sentence
from adlib.results import calibration_of
from pages.parts.words import number, t, tell


@dataclass(frozen=True)
class Found:
    """An evaluated run.  rows: lines of scores.json.  labels, scores: (N,) in their order; scores in the method's unit.

    calibration: the one in use.  learned: what the fit learned; the same unless a person set another line.
    """

    run: store.Run
    card: dict[str, Any]
    report: dict[str, Any]
    calibration: Calibration
    learned: Calibration
    rows: list[dict[str, Any]]
    labels: np.ndarray
    scores: np.ndarray

    @property
    def line(self) -> float:
        return self.calibration.threshold.value

    @property
    def normalised(self) -> np.ndarray:
        return self.scores / self.calibration.unit

    @property
    def both_classes(self) -> bool:
        return 0 < self.labels.sum() < len(self.labels)


def load(run: store.Run) -> Found | None:
    """None when the run was not evaluated.  Raises DataError when its files are damaged."""
    if not (run.folder / "report.json").exists() or not (run.folder / "scores.json").exists():
        return None
    return _load(str(run.folder), stamp(run))


def stamp(run: store.Run) -> tuple[int, ...]:
    """Changes whenever the evaluation or the threshold does; the key of everything cached about them."""
    names = ("report.json", "scores.json", "calibration.json", decisions.LEARNED)
    paths = [run.folder / name for name in names]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


@st.cache_resource(max_entries=8, show_spinner=False)
def _load(folder: str, changed: Any) -> Found:
    run = store.Run(Path(folder))
    rows = store.read_json(run.folder / "scores.json")
    labels, scores = np.array([row["label"] for row in rows]), np.array([row["score"] for row in rows])
    report = store.read_json(run.folder / "report.json")
    return Found(run, run.card, report, calibration_of(run), decisions.learned(run), rows, labels, scores)


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(found: Found) -> None:
    """The row of figures.  What could not be measured is a dash, with the reason below."""
    report, intervals = found.report, found.report["intervals"]
    normal, defect = report["n_normal"], report["n_defect"]
    tests = t("evaluate.on_tests", normal=normal, defect=defect)
    masks = t("evaluate.on_pixels", normal=normal, defect=sum(bool(row["mask"]) for row in found.rows))
    area = tests
    if "image_auroc" in intervals:
        low, high = intervals["image_auroc"]
        area = f"{t('evaluate.interval', low=number(low), high=number(high))} · {tests}"
    cells = [
        (t("evaluate.auroc"), number(report["image_auroc"]), area, t("evaluate.auroc_help")),
        (t("evaluate.ap"), number(report["image_ap"]), tests, t("evaluate.ap_help")),
        (t("evaluate.f1"), number(report["image_f1_oracle"]), t("evaluate.oracle"), t("evaluate.f1_help")),
        (t("evaluate.pixel_auroc"), number(report["pixel_auroc"]), masks, t("evaluate.pixel_auroc_help")),
        (t("evaluate.aupro"), number(report["aupro"]), masks, t("evaluate.aupro_help")),
        *rates(report["confusion"]),
    ]
    with st.grid("auto", min_column_width=160, gap="small"):
        for label, value, basis, about in cells:
            with st.container(border=True, height="stretch", gap="xxsmall"):
                st.metric(label, value, help=about)
                st.markdown(f":small[{basis}]")
    if report["image_auroc"] is not None and report["image_auroc"] < 0.5:
        st.warning(t("evaluate.under_half"), icon=":material/swap_vert:")
    for pair in report["skipped"]:
        st.markdown(f":material/info: {tell(Sentence.from_json(pair))}")


def rates(table: dict[str, int] | None) -> list[tuple[str, str, str, str]]:
    """False alarms and missed defects at one line: label, "k of n", share with its interval, help."""
    if table is None:
        return []
    good = table["false_positive"] + table["true_negative"]
    bad = table["false_negative"] + table["true_positive"]
    return [
        (t("evaluate.false_alarms"), *_rate(table["false_positive"], good), t("evaluate.false_alarms_help")),
        (t("evaluate.missed"), *_rate(table["false_negative"], bad), t("evaluate.missed_help")),
    ]


def _rate(count: int, total: int) -> tuple[str, str]:
    """ "k of n", and the share in per cent with its interval."""
    if not total:
        return "–", t("evaluate.no_such")
    share, low, high = (f"{100 * value:.1f}" for value in (count / total, *metrics.rate_interval(count, total)))
    return t("evaluate.k_of_n", k=count, n=total), t("evaluate.share", share=share, low=low, high=high)
