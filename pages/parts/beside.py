"""Finished runs side by side: their figures and ROC curves, and whether they were judged on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from adlib import metrics, store, trial_plots
from adlib.contract import AdlibError
from pages.parts import findings, state, views
from pages.parts.findings import Found
from pages.parts.words import bare, number, t

_MOST = 30  # runs that are offered
_FIRST = 4  # of these are compared before anybody chooses
_ALL = ""

Test = tuple[str, int]  # digest, label


def draw() -> None:
    """Choice, warning, table, curves."""
    lines = [line for line in state.runs() if line.auroc is not None]
    if len(lines) < 2:
        views.empty(t("compare.no_runs"), "fit", t("views.to_fit"), icon=":material/compare_arrows:")
        return
    sets = {line.dataset: line.dataset_title for line in lines}
    most = max(sets, key=lambda id: sum(line.dataset == id for line in lines))
    chosen_set = st.selectbox(
        t("compare.runs_of"), [*sets, _ALL], list(sets).index(most), key="beside-set",
        format_func=lambda id: sets.get(id) or bare("compare.all_sets"),
    )  # fmt: skip
    titles = {line.id: line.title for line in lines if chosen_set in (_ALL, line.dataset)}
    ids = list(titles)[:_MOST]
    names = views.told_apart([line for line in lines if line.id in ids])
    chosen = st.pills(
        t("compare.runs"), ids, selection_mode="multi", default=ids[:_FIRST], key=f"beside-runs-{chosen_set}",
        format_func=names.__getitem__, wrap=True,
    )  # fmt: skip
    found: dict[str, Found] = {}
    for id in chosen:
        try:
            loaded = findings.load(store.Run.open(id))
        except AdlibError:
            loaded = None
        if loaded is None or not loaded.both_classes:
            st.warning(t("compare.run_left_out", name=names[id]), icon=":material/block:")
        else:
            found[id] = loaded
    if len(found) < 2:
        st.info(t("compare.choose_two"), icon=":material/info:")
        return
    shared = _warn(list(found.values()))
    _table(found, names, shared)
    _curves(found, names, shared)


def _tests(found: Found) -> list[Test]:
    return [(row["digest"], row["label"]) for row in found.rows]


def _warn(found: Sequence[Found]) -> set[Test] | None:
    """Says when the runs were not judged on the same pictures; then returns those that all of them judged."""
    sets = [set(_tests(one)) for one in found]
    if len({one.card["data_hash"] for one in found}) > 1:
        st.info(t("compare.other_normals"), icon=":material/info:")
    if all(one == sets[0] for one in sets):
        normal = sum(label == 0 for _, label in sets[0])
        st.success(t("compare.same_tests", normal=normal, defect=len(sets[0]) - normal), icon=":material/check_circle:")
        return None
    shared = set.intersection(*sets)
    normal = sum(label == 0 for _, label in shared)
    key = "compare.no_shared" if not normal or normal == len(shared) else "compare.other_tests"
    st.warning(t(key, normal=normal, defect=len(shared) - normal), icon=":material/warning:")
    return shared


def _table(found: dict[str, Found], names: dict[str, str], shared: set[Test] | None) -> None:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for id, one in found.items():
        report, rule = one.report, findings.line_words(one.calibration.threshold)
        if one.calibration.threshold.oracle:
            rule = bare("compare.oracle_rule", rule=rule)
        row = {bare("compare.run"): names[id], "AUROC": _with_interval(report)}
        if shared is not None:
            row[bare("compare.shared_auroc")] = number(_area_on(one, shared))
        row |= {
            bare("compare.aupro"): number(report.get("aupro")),
            bare("compare.rule"): rule,
            bare("compare.fpr"): _share(report.get("fpr")),
            bare("compare.tpr"): _share(report.get("tpr")),
            bare("compare.fit_time"): f"{one.card['fit_seconds']:.1f}",
            bare("compare.ms"): number(report.get("ms_per_image"), 1),
            bare("compare.megabytes"): f"{_bytes(one) / 1e6:.1f}",
        }
        rows.append(row)
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt=bare("compare.runs_alt", n=len(rows)))
    st.markdown(t("compare.runs_about"))


def _with_interval(report: dict[str, Any]) -> str:
    interval = report["intervals"].get("image_auroc")
    area = number(report["image_auroc"])
    return area if interval is None else f"{area}  [{number(interval[0])}–{number(interval[1])}]"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _area_on(one: Found, shared: set[Test]) -> float | None:
    among = _among(one, shared)
    return metrics.auroc(one.labels[among], one.scores[among])


def _among(one: Found, shared: set[Test]) -> np.ndarray:
    """(N,) bool: the run's tests that all of the runs judged."""
    return np.array([test in shared for test in _tests(one)])


def _bytes(one: Found) -> int:
    path = one.run.folder / "state.safetensors"
    return path.stat().st_size if path.exists() else 0


def _curves(found: dict[str, Found], names: dict[str, str], shared: set[Test] | None) -> None:
    """One curve a run, on the tests that all of them judged; on each run's own where they share too few."""
    curves = {}
    for id, one in found.items():
        own = metrics.roc(one.labels, one.scores)
        among = _among(one, shared) if shared is not None else None
        curve = own if among is None else metrics.roc(one.labels[among], one.scores[among]) or own
        if curve is not None:
            curves[names[id]] = (curve[0], curve[1])
    words = {
        "x": bare("evaluate.roc_x"), "y": bare("evaluate.roc_y"), "chance": bare("compare.chance"),
        "alt": bare("compare.rocs_alt"), "alt_one": bare("compare.rocs_alt_one"),
    }  # fmt: skip
    st.markdown(f"**{t('evaluate.roc')}**")
    if shared is not None:
        normal = sum(label == 0 for _, label in shared)
        key = "compare.rocs_shared" if 0 < normal < len(shared) else "compare.rocs_own"
        st.markdown(f":small[{t(key, n=len(shared))}]")
    st.plotly_chart(
        trial_plots.rocs(curves, words),
        key="rocs",
        config={"displayModeBar": False},
        alt=trial_plots.rocs_text(curves, words),
    )
