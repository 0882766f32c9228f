"""Charts of an evaluation: curves, boxes by kind, and the histogram of distances."""

from __future__ import annotations

import numpy as np
import streamlit as st

from adlib import metrics, plots
from adlib.alt_text import boxes_text, histogram_text, pr_text, roc_text
from pages.parts.findings import Found
from pages.parts.words import bare, kind_word, t

_BARE = {"displayModeBar": False}


# --- curves and boxes -------------------------------------------------------------------------------------------------


def curves(found: Found) -> None:
    """ROC and precision-recall, with the point at which the run works."""
    roc, pr = metrics.roc(found.labels, found.scores), metrics.pr(found.labels, found.scores)
    if roc is None or pr is None:
        st.info(t("evaluate.needs_both"), icon=":material/info:")
        return
    table = metrics.confusion(found.labels, found.scores, found.line)
    fpr = table.false_positive / (table.false_positive + table.true_negative)
    tpr = table.true_positive / (table.true_positive + table.false_negative)
    alarms = table.true_positive + table.false_positive
    at = (tpr, table.true_positive / alarms) if alarms else None
    shared = {
        "curve": bare("evaluate.this_run"), "chance": bare("evaluate.chance"), "point": bare("evaluate.point"),
        "alt_point": "",
    }  # fmt: skip
    words = shared | {"x": bare("evaluate.roc_x"), "y": bare("evaluate.roc_y"), "alt": bare("evaluate.roc_alt")}
    left, right = st.columns(2)
    with left:
        st.markdown(f"**{t('evaluate.roc')}**")
        figure, alt = plots.roc(roc[0], roc[1], (fpr, tpr), words), roc_text(roc[0], roc[1], (fpr, tpr), words)
        st.plotly_chart(figure, key="roc", config=_BARE, alt=alt)
    words = shared | {"x": bare("evaluate.pr_x"), "y": bare("evaluate.pr_y"), "alt": bare("evaluate.pr_alt")}
    with right:
        st.markdown(f"**{t('evaluate.pr')}**")
        base = float(np.mean(found.labels))
        figure, alt = plots.pr(pr[0], pr[1], at, words, base), pr_text(pr[0], pr[1], at, words, base)
        st.plotly_chart(figure, key="pr", config=_BARE, alt=alt)
    st.markdown(t("evaluate.at_point", caught=f"{100 * tpr:.1f}", false=f"{100 * fpr:.1f}"))


def boxes(found: Found) -> None:
    """Distances by kind, divided by the mean of the held-out normals."""
    kinds: dict[str, list[float]] = {}
    names: dict[str, list[str]] = {}
    for row, value in zip(found.rows, found.normalised, strict=True):
        kinds.setdefault(kind_word(row["kind"]), []).append(float(value))
        names.setdefault(kind_word(row["kind"]), []).append(row["name"])
    good = {kind_word(row["kind"]) for row in found.rows if row["label"] == 0}
    words = _distance_words() | {
        "alt": bare("evaluate.boxes_alt"), "alt_kind": bare("evaluate.boxes_alt_kind"),
        "alt_over": bare("evaluate.alt_over"), "normal": bare("evaluate.good"), "defect": bare("evaluate.defect"),
    }  # fmt: skip
    line = found.line / found.calibration.unit
    figure = plots.boxes(kinds, line, words, good, names)
    st.plotly_chart(figure, key="boxes", config=_BARE, alt=boxes_text(kinds, line, words, good))
    st.markdown(t("evaluate.distance_about"))


def _distance_words() -> dict[str, str]:
    return {"x": bare("evaluate.distance"), "threshold": bare("evaluate.threshold")}


def histogram(found: Found, line: float) -> None:
    """Distances of tests and held-out normals.  line: in the method's unit."""
    unit = found.calibration.unit
    normal, defect = found.normalised[found.labels == 0], found.normalised[found.labels == 1]
    held_out = np.array(found.calibration.scores) / unit
    words = _distance_words() | {
        "y": bare("evaluate.pictures"), "normal": bare("evaluate.good_tests"), "defect": bare("evaluate.defect_tests"),
        "calibration": bare("evaluate.held_out"), "alt": bare("evaluate.histogram_alt"),
        "alt_group": bare("evaluate.histogram_alt_group"), "alt_over": bare("evaluate.alt_over"),
    }  # fmt: skip
    alt = histogram_text(normal, defect, held_out, line / unit, words)
    figure = plots.histogram(normal, defect, held_out, line / unit, words)
    st.plotly_chart(figure, key="histogram", config=_BARE, alt=alt)
