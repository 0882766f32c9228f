"""The fine print of a decision: each rule's law and conditions, and how the chi-square law fares level by level."""

from __future__ import annotations

from typing import Any

import streamlit as st

from adlib import jobs, levels, metrics, rules, studies
from adlib.contract import AdlibError
from adlib.rules import Outcome
from pages.parts import views, watching
from pages.parts.findings import Found
from pages.parts.words import bare, t, tell

_REDUCTIONS = ("none", "pca", "npca")


def rules_explained(outcomes: tuple[Outcome, ...]) -> None:
    """Each rule: what it does and why, when it may be used, what its line would rest on here."""
    with st.expander(t("rules.laws"), icon=":material/menu_book:"):
        for one in outcomes:
            rule = rules.RULES[one.key]
            text = f"**{tell(rule.title)}** · {tell(rule.law)}  \n:small[{t('rules.needs')} {tell(rule.needs)}]"
            if one.line is not None:
                text += f"  \n:small[{t('evaluate.learned_on')} {tell(one.line.fitted_on)} · {t(f'rules.judged_{one.basis}')}]"
            elif one.why_not is not None:
                text += f"  \n:small[:material/block: {tell(one.why_not)}]"
            st.markdown(text)
        st.markdown(t("rules.outline"))


# --- chi-square by level ----------------------------------------------------------------------------------------------


def levels_explained(found: Found, alpha: float) -> None:
    """Gaussian-AD only: each level's law, and what happens; drawn when it is opened."""
    if found.card["method"] != levels.METHOD or found.card["settings"]["distance"] != "mahalanobis":
        return
    box = st.expander(t("rules.levels"), icon=":material/functions:", key="levels", on_change="rerun")
    if not box.open:
        return
    with box, views.error_box():
        st.markdown(t("rules.levels_about", percent=f"{100 * alpha:g}"))
        _levels(levels.by_level(found.run, alpha), found.calibration.cross_fitted)
        _study(found)


def _levels(found: list[levels.Level], cross_fitted: bool) -> None:
    import pandas as pd

    names = ("level", "dimension", "shrinkage", "line", "held_out", "good_tests", "verdict")
    rows = [
        [
            str(one.stage), str(one.dimension), f"{one.shrinkage:.3f}", f"{one.line:.3f}", _share(one.held_out),
            _share(one.good), bare("rules.holds" if one.holds else "rules.fails"),
        ]
        for one in found
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=[bare(f"rules.col_{name}") for name in names])
    st.dataframe(table, hide_index=True, alt=bare("rules.levels_alt", n=len(found)))
    failing = [one for one in found if not one.holds]
    if failing:
        st.warning(t("rules.levels_fail", n=len(failing), total=len(found)), icon=":material/functions:")
    if cross_fitted and len(found) > 1:
        st.markdown(f":small[{t('rules.levels_crossed')}]")


def _share(counts: tuple[int, int]) -> str:
    count, total = counts
    if not total:
        return "–"
    low, high = metrics.rate_interval(count, total)
    return bare("rules.rate", k=count, n=total, low=f"{100 * low:.1f}", high=f"{100 * high:.1f}")


def _study(found: Found) -> None:
    """Expected against realised over 1 to 5 σ; a job of its own, kept with the run."""
    st.markdown(f"**{t('rules.study')}**  \n{t('rules.study_about')}")
    job, done = jobs.study_state(found.run.id, "chi_square"), studies.result(found.run, "chi_square")
    if job is not None and job.active:
        views.watch(job.job)
    else:
        if job is not None and job.status != "done":
            st.warning(tell(job.message), icon=":material/science_off:")
        label = t("rules.study_again" if done else "rules.study_start")
        st.button(label, icon=":material/science:", key="study", on_click=_start, args=(found.run.id,))
    watching.told("study-refused")
    if done:
        _studied(done)


def _start(run_id: str) -> None:
    try:
        jobs.study(run_id, "chi_square")
    except AdlibError as error:
        st.session_state["study-refused"] = error.sentence


def _studied(done: dict[str, Any]) -> None:
    import pandas as pd

    stages = sorted({row["level"] for row in done["rows"]})
    level = st.segmented_control(
        t("rules.col_level"), stages, default=stages[max(0, len(stages) - 2)], required=True, key="study-level"
    )
    n = done["n"]
    expected = [bare("rules.study_expected"), "", "", *(f"{100 * rate:.2g} %" for rate in done["expected"])]
    rows = [expected]
    for row in done["rows"]:
        if row["level"] == level:
            name = bare(f"rules.study_{row['reduction']}")
            with_copies = bare("rules.study_with" if row["augmented"] else "rules.study_without")
            shares = [f"{100 * over / n:.1f} % ({over})" for over in row["over"]]
            rows.append([f"{name}, {with_copies}", f"{row['dimension']:.0f}", f"{row['shrinkage']:.2f}", *shares])
    names = [bare(f"rules.col_{name}") for name in ("features", "dimension", "shrinkage")]
    table = pd.DataFrame(rows, columns=[*names, *(f"{sigma} σ" for sigma in done["sigmas"])])
    st.dataframe(table, hide_index=True, alt=bare("rules.study_alt", level=level))
    apart = [
        row for row in done["rows"]
        if row["level"] == level and not all(_explained(o, n, e) for o, e in zip(row["over"], done["expected"], strict=True))
    ]  # fmt: skip
    told = t("rules.study_fails", n=len(apart), total=len(rows) - 1) if apart else t("rules.study_holds")
    st.markdown(told)
    st.markdown(f":small[{t('rules.study_basis', n=n, rounds=done['rounds'])}]")


def _explained(over: int, n: int, expected: float) -> bool:
    """Can so many, or so few, alarms come from the expected rate?"""
    few = 1 - rules.at_least(over + 1, n, expected) if over < n else 1.0
    return rules.at_least(over, n, expected) >= rules.ALARMING and few >= rules.ALARMING
