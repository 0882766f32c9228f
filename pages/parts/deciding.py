"""Where the line lies: all rules side by side, one of them or a person's own looked at, kept or taken back."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from adlib import decisions, metrics, rules, store, thresholds
from adlib.contract import Threshold
from adlib.rules import Evidence, Outcome, Wishes
from pages.parts import charts, laws, views
from pages.parts.findings import Found, line_words, rates, stamp
from pages.parts.words import bare, number, t, tell, tell_bare

_STEPS = 240  # places where the slider can stand


@st.fragment
def deciding(found: Found) -> None:
    """Rules, histogram and slider: moving the line redraws this fragment and nothing else of the page."""
    seen = _evidence(str(found.run.folder), stamp(found.run))
    wishes = _wishes(found)
    outcomes = rules.compare(seen, wishes)
    _table(found, seen, wishes, outcomes)
    known = {one.key: one for one in outcomes if one.line is not None}
    lines: dict[str, Threshold] = {"used": found.calibration.threshold}
    if found.calibration != found.learned:
        lines["learned"] = found.learned.threshold
    lines |= {key: one.line for key, one in known.items() if one.line is not None}
    chosen, line = _choose(found, lines)
    charts.histogram(found, line.value)
    _outcome(found, line, known.get(chosen))
    _keep(found, chosen, line, wishes)
    laws.rules_explained(outcomes)
    laws.levels_explained(found, wishes.alpha)


@st.cache_resource(max_entries=8, show_spinner=False)
def _evidence(folder: str, changed: Any) -> Evidence:
    return decisions.evidence(store.Run(Path(folder)))


# --- what is wanted ---------------------------------------------------------------------------------------------------


def _wishes(found: Found) -> Wishes:
    """Rates and prices, as a person sets them for this run; kept for the visit."""
    usual = decisions.wishes_of(found.run)

    def ask(name: str, value: float | None, low: float, high: float, step: float) -> float | None:
        return st.number_input(
            t(f"rules.wish_{name}"), low, high, value, step, key=f"wish-{name}-{found.run.id}",
            help=t(f"rules.wish_{name}_help"), placeholder=bare("rules.as_in_tests") if value is None else None,
        )  # fmt: skip

    with (
        st.expander(t("rules.wishes"), icon=":material/tune:", key=f"wishes-{found.run.id}"),
        st.grid("auto", min_column_width=170, gap="small"),
    ):
        alpha = ask("alpha", 100 * usual.alpha, 0.01, 50.0, 1.0)
        sigmas = ask("sigmas", usual.sigmas, 0.1, 20.0, 0.5)
        recall = ask("recall", 100 * usual.recall, 1.0, 99.9, 1.0)
        miss = ask("miss", usual.miss, 0.0, 1e9, 1.0)
        alarm = ask("alarm", usual.alarm, 0.01, 1e9, 1.0)
        share = ask("share", None, 0.001, 99.9, 0.5)
    return Wishes(
        alpha=(alpha or 100 * usual.alpha) / 100,
        sigmas=sigmas or usual.sigmas,
        recall=(recall or 100 * usual.recall) / 100,
        miss=usual.miss if miss is None else miss,
        alarm=usual.alarm if alarm is None else alarm,
        share=share / 100 if share else None,
    )


# --- side by side -----------------------------------------------------------------------------------------------------


def _table(found: Found, seen: Evidence, wishes: Wishes, outcomes: tuple[Outcome, ...]) -> None:
    """One row a rule that can be used, the line in use marked; below, why the others cannot.  Cells draw no Markdown."""
    import pandas as pd

    used, rows = found.calibration.threshold, []
    if all(one.line != used for one in outcomes):
        rows.append(_row(found, rules.outcome(used, seen, wishes), used, f"▶ {line_words(used)}"))
    for one in outcomes:
        if one.line is not None:
            mark = "▶ " if one.line == used else ""
            rows.append(_row(found, one, one.line, mark + tell_bare(rules.RULES[one.key].title)))
    names = ("rule", "line", "promised", "false", "caught", "cost", "judged")
    table = pd.DataFrame(rows, columns=[bare(f"rules.col_{name}") for name in names])
    st.dataframe(table, hide_index=True, key=f"rules-{found.run.id}", alt=bare("rules.table_alt", n=len(rows)))
    notes = [t("rules.marked")]
    notes += [
        f"**{tell(rules.RULES[one.key].title)}**: {tell(one.why_not)}" for one in outcomes if one.why_not is not None
    ]
    st.markdown("  \n".join(f":small[{note}]" for note in notes))
    for one in outcomes:
        if one.warning is not None and one.key == "chi2":  # it fails quietly, so the page says it aloud
            st.warning(f"**{tell(rules.RULES[one.key].title)}**: {tell(one.warning)}", icon=":material/functions:")


def _row(found: Found, one: Outcome, line: Threshold, name: str) -> list[str]:
    (false, good), (caught, defects) = one.alarms, one.caught
    low, high = (f"{100 * end:.1f}" for end in metrics.rate_interval(false, good))
    return [
        name,
        f"{line.value / found.calibration.unit:.3f}",
        "–" if line.alpha is None else f"{100 * line.alpha:.3g} %",
        bare("rules.rate", k=false, n=good, low=low, high=high) if good else "–",
        bare("evaluate.k_of_n", k=caught, n=defects) if defects else "–",
        number(one.cost),
        bare(f"rules.basis_{one.basis}") + ("" if one.warning is None else f" {bare('rules.broken')}"),
    ]


# --- one line looked at -----------------------------------------------------------------------------------------------


def _choose(found: Found, lines: dict[str, Threshold]) -> tuple[str, Threshold]:
    """The rule that was chosen, or "hand" once the slider was moved, and its line."""
    places = _places(found, [line.value for line in lines.values()])
    keys = f"rule-{found.run.id}", f"line-{found.run.id}"

    def ruled() -> None:
        if st.session_state[keys[0]] in lines:
            st.session_state[keys[1]] = _nearest(places, lines[st.session_state[keys[0]]].value)

    def moved() -> None:
        st.session_state[keys[0]] = "hand"

    def name(key: str) -> str:
        return bare(f"evaluate.rule_{key}") if key in ("used", "learned", "hand") else tell_bare(rules.RULES[key].title)

    if st.session_state.get(keys[0]) not in (*lines, "hand"):
        st.session_state[keys[0]] = "used"
    if st.session_state[keys[0]] in lines or st.session_state.get(keys[1]) not in places:
        ruled()
    if st.session_state.get(keys[1]) not in places:
        st.session_state[keys[1]] = _nearest(places, lines["used"].value)
    unit, digits = found.calibration.unit, _digits(places, found.calibration.unit)
    left, right = st.columns([1, 2], gap="medium")
    with left:
        st.selectbox(t("evaluate.rule"), [*lines, "hand"], format_func=name, key=keys[0], on_change=ruled)
    with right:
        st.select_slider(
            t("evaluate.threshold_slider"), places, format_func=lambda value: f"{value / unit:.{digits}f}", key=keys[1],
            on_change=moved, help=t("evaluate.threshold_slider_help"),
        )  # fmt: skip
    rule = st.session_state[keys[0]]
    # A rule's own value and not the slider's: a line may lie exactly on a picture's score.
    if rule in lines:
        return rule, lines[rule]
    return rule, thresholds.by_hand(st.session_state[keys[1]], found.calibration.scores)


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


def _outcome(found: Found, line: Threshold, judged: Outcome | None) -> None:
    """What this line would do to the tests: four counts, the two rates, and where it comes from.

    judged: of the rule that was chosen, None for a line by hand or in use.
    """
    table = metrics.confusion(found.labels, found.scores, line.value)
    counts, figures = st.columns([3, 2], gap="medium")
    with counts:
        head = f"| | {t('evaluate.alarm')} | {t('evaluate.no_alarm')} |\n|---|---:|---:|\n"
        bad = f"| {t('evaluate.defects')} | **{table.true_positive}** | {table.false_negative} |\n"
        good = f"| {t('evaluate.goods')} | {table.false_positive} | **{table.true_negative}** |\n"
        st.markdown(head + bad + good)
        st.markdown(f"{tell(line.rule)}  \n:small[{t('evaluate.learned_on')} {tell(line.fitted_on)}]")
        if judged is not None and judged.basis == "folds":
            (false, n), (caught, m) = judged.alarms, judged.caught
            st.markdown(t("rules.in_folds", false=false, good=n, missed=m - caught, defects=m))
        _outlines(found, line)
        if judged is not None and judged.warning is not None:
            st.warning(tell(judged.warning), icon=":material/rule:")
    with figures:
        for label, value, basis, _ in rates(dataclasses.asdict(table), line.oracle):
            st.metric(label, value)
            st.markdown(f":small[{basis}]")


def _outlines(found: Found, line: Threshold) -> None:
    """How many tests would show any outlined pixel at this line; nothing where the run kept no peaks."""
    unit = decisions.map_unit(found.learned, line)
    peaks = [row.get("peak") for row in found.rows]
    if unit is None or None in peaks:
        return
    shown, defect = np.array(peaks, dtype=float) > unit, found.labels == 1
    counts = {"false": int(shown[~defect].sum()), "caught": int(shown[defect].sum())}
    st.markdown(f":small[{t('rules.outlined', **counts, good=int((~defect).sum()), defects=int(defect.sum()))}]")


def _keep(found: Found, rule: str, line: Threshold, wishes: Wishes) -> None:
    """A rule or a person's line can be made the run's own, and taken back."""

    def done() -> None:
        st.session_state[f"rule-{found.run.id}"] = None
        st.rerun()

    with st.container(horizontal=True):
        new = rule not in ("used", "learned") and line != found.calibration.threshold
        label = t("evaluate.use_line" if rule == "hand" else "rules.use_rule")
        if new and st.button(label, icon=":material/save:", key="use-line", help=t("evaluate.use_line_help")):
            with views.error_box():
                if rule == "hand":
                    decisions.set_by_hand(found.run, line.value)
                else:
                    decisions.use_rule(found.run, rule, wishes)
                done()
        if decisions.is_by_hand(found.run) and st.button(t("evaluate.back"), icon=":material/undo:", key="use-learned"):
            with views.error_box():
                decisions.use_learned(found.run)
                done()
