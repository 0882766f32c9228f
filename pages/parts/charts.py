"""Charts of an evaluation: curves, boxes by kind, and the histogram on which a person moves the threshold."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import streamlit as st

from adlib import decisions, metrics, plots, thresholds
from adlib.alt_text import boxes_text, histogram_text, pr_text, roc_text
from adlib.contract import Confusion, Threshold
from pages.parts import views
from pages.parts.findings import Found, rates
from pages.parts.words import bare, t, tell

_STEPS = 240  # places where the slider can stand
_BARE = {"displayModeBar": False}


# --- curves and boxes -------------------------------------------------------------------------------------------------


def curves(found: Found) -> None:
    """ROC and precision-recall, with the point at which the run works."""
    roc, pr = metrics.roc(found.labels, found.scores), metrics.pr(found.labels, found.scores)
    if roc is None or pr is None:
        st.info(t("evaluate.needs_both"), icon=":material/info:")
        return
    table = _table(found, found.line)
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
        kinds.setdefault(row["kind"], []).append(float(value))
        names.setdefault(row["kind"], []).append(row["name"])
    good = {row["kind"] for row in found.rows if row["label"] == 0}
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


# --- the threshold ----------------------------------------------------------------------------------------------------


@st.fragment
def deciding(found: Found) -> None:
    """Histogram, rule and slider: moving the line redraws this fragment and nothing else of the page."""
    rules = {"used": found.calibration.threshold}
    if found.calibration != found.learned:
        rules["learned"] = found.learned.threshold
    if found.both_classes:
        rules["oracle"] = thresholds.best_f1(found.labels, found.scores)
    names = {
        "used": bare("evaluate.rule_used"), "learned": bare("evaluate.rule_learned"),
        "oracle": bare("evaluate.rule_oracle"), "hand": bare("evaluate.rule_hand"),
    }  # fmt: skip
    places = _places(found, [line.value for line in rules.values()])
    keys = f"rule-{found.run.id}", f"line-{found.run.id}"

    def ruled() -> None:
        if st.session_state[keys[0]] in rules:
            st.session_state[keys[1]] = _nearest(places, rules[st.session_state[keys[0]]].value)

    def moved() -> None:
        st.session_state[keys[0]] = "hand"

    if st.session_state.get(keys[0]) not in (*rules, "hand"):
        st.session_state[keys[0]] = "used"
        ruled()
    if st.session_state.get(keys[1]) not in places:
        st.session_state[keys[1]] = _nearest(places, rules["used"].value)
    unit, digits = found.calibration.unit, _digits(places, found.calibration.unit)
    st.segmented_control(
        t("evaluate.rule"), [*rules, "hand"], format_func=names.__getitem__, required=True, key=keys[0], on_change=ruled
    )
    st.select_slider(
        t("evaluate.threshold_slider"), places, format_func=lambda value: f"{value / unit:.{digits}f}", key=keys[1],
        on_change=moved, help=t("evaluate.threshold_slider_help"),
    )  # fmt: skip
    rule = st.session_state[keys[0]]
    # A rule's own value and not the slider's: a line may lie exactly on a picture's score.
    chosen = rules[rule] if rule in rules else thresholds.by_hand(st.session_state[keys[1]], found.calibration.scores)
    _histogram(found, chosen.value)
    _outcome(found, chosen)
    _keep(found, rule, chosen)


def _places(found: Found, lines: list[float]) -> list[float]:
    """Values in the method's unit, evenly spaced, or by a factor where scores span a wide range."""
    values = np.concatenate([found.scores, found.calibration.scores, lines])
    low, high = float(values.min()), float(values.max())
    room = 0.05 * ((high - low) or abs(high) or 1.0)
    if low > 0 and high > 20 * low:
        return [float(value) for value in np.geomspace(low / 1.05, high * 1.05, _STEPS)]
    return [float(value) for value in np.linspace(low - room, high + room, _STEPS)]


def _digits(places: list[float], unit: float) -> int:
    """Decimals with which every place reads differently: Streamlit tells options apart by what they are called."""
    return max(2, math.ceil(-math.log10(min(np.diff(places)) / unit)))


def _nearest(places: list[float], value: float) -> float:
    return min(places, key=lambda place: abs(place - value))


def _histogram(found: Found, line: float) -> None:
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


def _outcome(found: Found, line: Threshold) -> None:
    """What this line would do to the tests: four counts, the two rates, and where it comes from."""
    table = _table(found, line.value)
    counts, figures = st.columns([3, 2], gap="medium")
    with counts:
        head = f"| | {t('evaluate.alarm')} | {t('evaluate.no_alarm')} |\n|---|---:|---:|\n"
        bad = f"| {t('evaluate.defects')} | **{table.true_positive}** | {table.false_negative} |\n"
        good = f"| {t('evaluate.goods')} | {table.false_positive} | **{table.true_negative}** |\n"
        st.markdown(head + bad + good)
        st.markdown(f"{tell(line.rule)}  \n:small[{t('evaluate.learned_on')} {tell(line.fitted_on)}]")
    with figures:
        for label, value, basis, _ in rates(dataclasses.asdict(table)):
            st.metric(label, value)
            st.markdown(f":small[{basis}]")


def _keep(found: Found, rule: str, line: Threshold) -> None:
    """A person's line can be made the run's own, and taken back."""
    with st.container(horizontal=True):
        if (
            line.value != found.line
            and rule != "learned"
            and st.button(
                t("evaluate.use_line"), icon=":material/save:", key="use-line", help=t("evaluate.use_line_help")
            )
        ):
            with views.error_box():
                decisions.set_by_hand(found.run, line.value)
                st.session_state[f"rule-{found.run.id}"] = None
                st.rerun()
        if decisions.is_by_hand(found.run) and st.button(t("evaluate.back"), icon=":material/undo:", key="use-learned"):
            with views.error_box():
                decisions.use_learned(found.run)
                st.session_state[f"rule-{found.run.id}"] = None
                st.rerun()


def _table(found: Found, line: float) -> Confusion:
    return metrics.confusion(found.labels, found.scores, line)
