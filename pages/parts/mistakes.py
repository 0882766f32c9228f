"""Where a run errs, the worst first, and what can be learned from it: a false alarm taken into the normals, fitted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import streamlit as st

from adlib import changes, datasets, jobs, store
from adlib.contract import AdlibError, Confusion
from adlib.request import Request
from adlib.results import regret_of
from pages.parts import exploring, overlay, reasons, shell, state, views, watching
from pages.parts.findings import Found
from pages.parts.words import number, plain, t

PER_PAGE = 6


def in_order(found: Found) -> list[int]:
    """Tests with a wrong verdict, the largest regret first."""
    regret = [regret_of(row["score"], row["label"], found.calibration) for row in found.rows]
    return [int(i) for i in np.argsort(-np.array(regret), kind="stable") if regret[i] > 0]


def draw(found: Found) -> None:
    """Wrong verdicts at the run's threshold, the worst first; the closest calls where there is none."""
    order: Sequence[int] = in_order(found)
    if not order:
        st.success(t("evaluate.no_mistakes"), icon=":material/check_circle:")
        order = [int(i) for i in np.argsort(np.abs(found.scores - found.line))[:4]]
    else:
        missed = sum(found.rows[i]["label"] == 1 for i in order)
        st.markdown(t("evaluate.mistakes_about", false=len(order) - missed, missed=missed))
    if exploring.saved_heat(found, order[0]) is not None:
        overlay.controls(key="mistakes-controls")
    watching.told("take-over-refused")
    teachable = _teachable(found)
    page = views.page_of(len(order), f"mistakes-{found.run.id}", PER_PAGE)
    with st.grid("auto", min_column_width=340, gap="medium"):
        for index in order[page]:
            with st.container(border=True, height="stretch"):
                _one(found, index, teachable)


def _one(found: Found, index: int, teachable: frozenset[str]) -> None:
    row = found.rows[index]
    st.markdown(f"**{exploring.verdict(found, index)}**  \n:small[{plain(row['name'])}]")
    exploring.shown(found, index, f"mistake-{index}")
    if row["path"] and Path(row["path"]).is_file():
        reasons.expander(found.run, Path(row["path"]), row["digest"], row["name"], f"mistake-{index}")
    if row["label"] == 0 and row["score"] > found.line and row["digest"] in teachable:
        st.button(
            t("evaluate.take_over"), key=f"take-over-{index}", icon=":material/model_training:",
            help=t("evaluate.take_over_help"), on_click=take_over, args=(found.run, row["digest"]),
        )  # fmt: skip


def _teachable(found: Found) -> frozenset[str]:
    """Good tests of the run's data set, while it is here."""
    id = found.card["dataset"]
    if not store.Dataset.exists(id):
        return frozenset()
    samples, _ = state.samples(store.Dataset.open(id))
    return frozenset(s.digest for s in samples if s.split == "test" and s.label == 0)


def take_over(run: store.Run, digest: str) -> None:
    """Makes the new version, queues the same request on it, and opens the new run."""
    try:
        made = datasets.take_over(store.Dataset.open(run.card["dataset"]), digest, run.id)
        request = replace(Request.from_json({**run.request, "dataset": made.id}), dataset=made.id)
        state.choose(run=jobs.submit(request))
    except AdlibError as error:
        st.session_state["take-over-refused"] = error.sentence


# --- before and after -------------------------------------------------------------------------------------------------


def changed(run: store.Run) -> None:
    """What taking a mistake into the normals did, when this run is the answer to one."""
    change = changes.of(run)
    if change is None:
        return
    with st.container(border=True, key="change"):
        st.markdown(f"**{t('evaluate.change')}**")
        moved = ", ".join(name.rpartition("/")[2] for name in change.moved[:3])
        st.markdown(t("evaluate.change_about", moved=moved, normal=change.normal, defect=change.defect))
        rows = [
            (t("evaluate.auroc"), *(number(side.auroc) for side in (change.before, change.after))),
            (t("evaluate.false_alarms"), *(_count(side.confusion, 0) for side in (change.before, change.after))),
            (t("evaluate.missed"), *(_count(side.confusion, 1) for side in (change.before, change.after))),
        ]
        lines = [f"| | {t('evaluate.before')} | {t('evaluate.after')} |", "|---|---|---|"]
        lines += [f"| {name} | {before} | **{after}** |" for name, before, after in rows]
        st.markdown("\n".join(lines))
        if change.sets_line:
            st.warning(t("evaluate.change_sets_line"), icon=":material/vertical_align_top:")
        st.markdown(f":small[{t('evaluate.change_small')}]")
        shell.link("evaluate", t("evaluate.change_back"), icon=":material/arrow_back:", run=change.before.run)


def _count(table: Confusion, label: int) -> str:
    wrong, right = (
        (table.false_positive, table.true_negative) if label == 0 else (table.false_negative, table.true_positive)
    )
    return t("evaluate.k_of_n", k=wrong, n=wrong + right)
