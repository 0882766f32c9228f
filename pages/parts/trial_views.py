"""What an experiment found: histograms and thresholds, areas by class, boxes, planes, mistakes and sweeps."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from adlib import trial_plots, trial_results, trials
from pages.parts import state, views
from pages.parts.words import bare, number, t

_BARE = {"displayModeBar": False}
Found = Sequence[dict[str, Any]]


def draw(trial: trials.Trial, found: Found) -> None:
    """found: the finished parts."""
    {"one-vs-one": _pairs, "one-class": _classes, "class-holdout": _holdout}[trial.plan.kind](trial, found)


def _judged(by: str, k: int) -> str:
    """How a method was judged.  Not escaped."""
    return bare("compare.own") if by == trial_results.OWN else bare(f"compare.{by}", k=k)


def _table(rows: list[dict[str, Any]], alt: str) -> None:
    import pandas as pd  # a quarter of a second, which the first page of a server does not have

    st.dataframe(pd.DataFrame(rows), hide_index=True, alt=alt)


# --- one class against one other --------------------------------------------------------------------------------------


def _pairs(trial: trials.Trial, found: Found) -> None:
    plan = trial.plan
    words = {
        "x": bare("compare.score"), "y": bare("compare.pictures"), "normal": plan.normal, "anomaly": plan.anomaly,
        "oracle": bare("compare.line_oracle"), "held_out": bare("compare.line_held_out"), "alt": bare("compare.bins_alt"),
    }  # fmt: skip
    with st.grid("auto", min_column_width=340, gap="medium"):
        for one in found:
            with st.container(border=True, height="stretch"):
                st.markdown(
                    f"**{t('compare.method_auroc', method=state.method_title(one['label']), auroc=number(one['auroc'], 4))}**"
                )
                lines = {name: one[f"threshold_{name}"] for name in ("oracle", "held_out")}
                figure, alt = (
                    trial_plots.bins(one["histogram"], lines, words),
                    trial_plots.bins_text(one["histogram"], words),
                )
                st.plotly_chart(figure, key=f"bins-{one['label']}", config=_BARE, alt=alt)
                told = t("compare.pair_fit", n=one["n_fit"], normal=one["n_test_normal"], anomaly=one["n_test_anomaly"],
                         seconds=f"{one['fit_seconds']:.1f}")  # fmt: skip
                st.markdown(f":small[{told}]")
    rows = [
        {
            bare("compare.method"): state.method_title(one["label"]), bare("compare.rule"): bare(f"compare.rule_{rule}"),
            bare("compare.positive"): plan.normal if side == "normal" else plan.anomaly,
            "F1": number(one[f"f1_{side}_positive_{rule}"], 4),
            bare("compare.precision"): number(one[f"precision_{side}_positive_{rule}"], 4),
            bare("compare.recall"): number(one[f"recall_{side}_positive_{rule}"], 4),
            bare("compare.threshold"): f"{one[f'threshold_{rule}']:.5g}",
        }
        for one in found for rule in ("held_out", "oracle") for side in ("normal", "anomaly")
    ]  # fmt: skip
    _table(rows, bare("compare.pairs_alt", n=len(rows)))
    st.markdown(t("compare.oracle_about"))


# --- each class against all others ------------------------------------------------------------------------------------


def _classes(trial: trials.Trial, found: Found) -> None:
    groups = {state.method_title(label): areas for label, areas in trial_results.of_classes(trial).items()}
    _areas(groups)
    by_class: dict[str, dict[str, float]] = defaultdict(dict)
    for one in found:
        by_class[one["normal"]][state.method_title(one["label"])] = one["auroc_mean"]
    means = {method: number(float(np.mean(areas)), 4) for method, areas in groups.items()}
    rows: list[dict[str, Any]] = [{bare("compare.normal_class"): bare("compare.mean"), **means}]
    rows += [
        {bare("compare.normal_class"): name, **{method: number(areas.get(method), 4) for method in groups}}
        for name, areas in by_class.items()
    ]
    _table(rows, bare("compare.classes_alt", n=len(by_class)))
    st.markdown(t("compare.classes_about"))


def _areas(groups: dict[str, list[float]]) -> None:
    words = {
        "chance": bare("compare.chance"), "alt": bare("compare.areas_alt"), "alt_one": bare("compare.areas_alt_one"),
    }  # fmt: skip
    alt = trial_plots.areas_text(groups, words)
    st.plotly_chart(trial_plots.areas(groups, words), key="areas", config=_BARE, alt=alt)


# --- classes held out in turn -----------------------------------------------------------------------------------------


def _holdout(trial: trials.Trial, found: Found) -> None:
    main = found[0]["samples"]
    every = trial_results.grouped(trial_results.rows(trial))
    # K of the table: the smallest that was asked for, and never the best: that one would be chosen on these very tests.
    least = min(trial.plan.neighbours)
    shown = {
        (f"{state.method_title(method)} · {_judged(by, k)}"): areas
        for (method, by, k, n), areas in every.items() if n == main and k in (0, least)
    }  # fmt: skip
    st.subheader(t("compare.areas"), anchor=False)
    _areas(shown)
    rows = []
    for name, areas in shown.items():
        told = trial_results.spread(areas)
        rows.append({
            bare("compare.method"): name, bare("compare.finished_cases"): str(told["cases"]),
            bare("compare.mean"): number(told["mean"], 4), bare("compare.std"): number(told["std"], 4),
            bare("compare.least"): number(told["least"], 4), bare("compare.most"): number(told["most"], 4),
        })  # fmt: skip
    _table(rows, bare("compare.areas_table_alt", n=len(rows)))
    st.markdown(_verdict(shown))
    _sweeps(every, main)
    _case(found, main)


def _verdict(shown: dict[str, list[float]]) -> str:
    """Whether the best differs from the second by more than the cases differ."""
    ranked = sorted(shown, key=lambda name: -float(np.mean(shown[name])))
    text = t("compare.cases_about")
    if len(ranked) < 2 or len(shown[ranked[0]]) < 3 or len(shown[ranked[0]]) != len(shown[ranked[1]]):
        return text
    gap = np.array(shown[ranked[0]]) - np.array(shown[ranked[1]])  # the same cases, in the same order
    if not gap.any():
        return f"{text} {t('compare.equal', first=ranked[0], second=ranked[1])}"
    key = "compare.apart" if abs(gap.mean()) > gap.std(ddof=1) else "compare.within"
    return f"{text} {t(key, first=ranked[0], second=ranked[1], gap=f'{gap.mean():.3f}', std=f'{gap.std(ddof=1):.3f}')}"


def _sweeps(every: dict[trial_results.Group, list[float]], main: int | None) -> None:
    by_k: dict[str, dict[int, list[float]]] = defaultdict(dict)
    by_n: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for (method, by, k, n), areas in every.items():
        if n == main and k:
            by_k[f"{state.method_title(method)} · {bare(f'compare.by_{by}')}"][k] = areas
        if n is not None and k == 0:
            by_n[state.method_title(method)][n] = areas
    sweeps = {"k": by_k} if any(len(line) > 1 for line in by_k.values()) else {}
    if any(len(line) > 1 for line in by_n.values()):
        sweeps["n"] = by_n
    if not sweeps:
        return
    with st.grid(len(sweeps), min_column_width=340, gap="medium"):
        for name, lines in sweeps.items():
            words = {
                "x": bare(f"compare.sweep_{name}_x"), "y": "AUROC", "alt": bare("compare.sweep_alt"),
                "alt_line": bare("compare.sweep_alt_line"), "alt_value": bare("compare.sweep_alt_value"),
            }  # fmt: skip
            with st.container():
                st.markdown(f"**{t(f'compare.sweep_{name}')}**", help=t(f"compare.sweep_{name}_help"))
                alt = trial_plots.sweep_text(lines, words)
                st.plotly_chart(trial_plots.sweep(lines, words), key=f"sweep-{name}", config=_BARE, alt=alt)


@st.fragment
def _case(found: Found, main: int | None) -> None:
    """One case of one method: scores by class, the plane, the most confident mistakes."""
    st.subheader(t("compare.case_title"), anchor=False)
    some = [one for one in found if one["samples"] == main]
    left, right = st.columns(2)
    labels = list(dict.fromkeys(one["label"] for one in some))
    label = left.selectbox(t("compare.method"), labels, format_func=state.method_title, key="case-method")
    cases = {one["case"]: one for one in some if one["label"] == label}
    number_ = right.selectbox(
        t("compare.case"), list(cases), key=f"case-number-{label}",
        format_func=lambda c: bare("compare.case_option", n=c + 1, anomalous=", ".join(cases[c]["anomalous"])),
    )  # fmt: skip
    one = cases[number_]
    st.markdown(t("compare.case_facts", auroc=number(one["auroc"], 4), fit=one["n_fit"], normal=one["n_test_normal"],
                  anomaly=one["n_test_anomaly"], seconds=f"{one['seconds']:.0f}"))  # fmt: skip
    first, second = st.columns(2)
    with first:
        st.markdown(f"**{t('compare.five')}**", help=t("compare.five_help"))
        if one["boxes"] is None:
            st.info(t("compare.no_five"), icon=":material/info:")
        else:
            words = {
                "x": bare("compare.five_x"), "normal": bare("compare.five_normal"), "anomaly": bare("compare.five_anomaly"),
                "alt": bare("compare.five_alt"), "alt_one": bare("compare.five_alt_one"),
            }  # fmt: skip
            alt = trial_plots.five_text(one["boxes"], one["anomalous"], words)
            figure = trial_plots.five(one["boxes"], one["anomalous"], words)
            st.plotly_chart(figure, key="five", config=_BARE, alt=alt)
    with second:
        st.markdown(f"**{t('compare.plane')}**", help=t("compare.plane_help"))
        if one["plane"] is None:
            st.info(t("compare.no_plane"), icon=":material/info:")
        else:
            words = {"anomaly": bare("compare.plane_out"), "alt": bare("compare.plane_alt")}
            alt = trial_plots.plane_text(one["plane"]["classes"], one["anomalous"], words)
            figure = trial_plots.plane(one["plane"]["places"], one["plane"]["classes"], one["anomalous"], words)
            st.plotly_chart(figure, key="plane", config=_BARE, alt=alt)
    for group in ("missed", "false_alarms"):
        st.markdown(f"**{t(f'compare.{group}')}**")
        with st.grid(5, min_column_width=125, gap="small"):
            for row in one[group]:
                with st.container(border=True, height="stretch", gap="xsmall"):
                    _mistake(row)
    st.markdown(f":small[{t('compare.compared_' + one['compared'])}]")


def _mistake(row: dict[str, Any]) -> None:
    pairs = (("picture", "class", "judged"), ("beside", "nearest_class", "beside"))
    with st.grid(2, min_column_width=40, gap="xsmall"):  # columns would come to lie one above the other on a telephone
        for picture, kind, side in pairs:
            with st.container(gap="xsmall"):
                st.image(
                    base64.b64decode(row[picture]),
                    width="stretch",
                    alt=views.plain_alt(bare(f"compare.{side}_alt", name=row[kind])),
                )
                st.markdown(f":small[{t(f'compare.{side}_class', name=row[kind])}]")
    if row["normalised"] is not None:
        st.markdown(f":small[{t('compare.times', x=number(row['normalised'], 2))}]")
