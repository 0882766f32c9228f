"""Studies of a run: asked for here, answered by the worker, kept with the run and drawn with their sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from adlib import jobs, store, studies, study_plots
from adlib.contract import AdlibError, Sentence
from pages.parts import views, watching
from pages.parts.words import bare, duration, t, tell, tell_bare, when

_BARE = {"displayModeBar": False}
_BOXES = {"more": (st.warning, ":material/add_photo_alternate:"), "enough": (st.success, ":material/check_circle:")}


def draw(run: store.Run) -> None:
    """Every study that this run offers; the one of the chi-square law stands beside the rules."""
    watching.told("study-refused")
    for kind in (kind for kind in studies.offered(run) if kind in _DRAW):
        with st.container(border=True, key=f"study-{kind}"), views.error_box():
            _one(run, kind)


def _one(run: store.Run, kind: str) -> None:
    st.markdown(f"#### {t(f'study.{kind}')}")
    st.markdown(t(f"study.{kind}_about"))
    job = jobs.study_state(run.id, kind)
    if job is not None and job.active:
        views.watch(job.job)
    elif job is not None and job.status in ("failed", "stopped"):
        box = st.error if job.status == "failed" else st.warning
        box(tell(job.message), icon=":material/error:" if job.status == "failed" else ":material/stop_circle:")
    found = studies.result(run, kind)
    if found is not None:
        _DRAW[kind](found)
    if job is None or not job.active:
        label = t("study.start" if found is None else "study.again")
        about = t("study.slow")
        st.button(label, key=f"start-{kind}", icon=":material/science:", help=about, on_click=_start, args=(run, kind))


def _start(run: store.Run, kind: str) -> None:
    try:
        jobs.study(run.id, kind)
    except AdlibError as error:
        st.session_state["study-refused"] = error.sentence


def _answer(found: dict[str, Any]) -> None:
    box, icon = _BOXES.get(found["answer"], (st.info, ":material/info:"))
    box(tell(Sentence.from_json(found["sentence"])), icon=icon)


def _measured(found: dict[str, Any], key: str) -> None:
    on = found["measured_on"]
    said = t(key, normals=on["normals"], good=on["good"], defects=on["defects"])
    st.markdown(f":small[{said} · {when(found['created'])}]")


# --- how many normals -------------------------------------------------------------------------------------------------


def _curve(found: dict[str, Any]) -> None:
    _answer(found)
    st.markdown(tell(Sentence.from_json(found["promise"])))
    figures = [name for name in ("auroc", "false_alarms", "seconds") if found[name] is not None]
    shared = {
        "x": bare("study.normals"), "mean": bare("study.mean"), "band": bare("study.band"),
        "alt": bare("study.curve_alt"), "alt_point": bare("study.curve_alt_point"),
    }  # fmt: skip
    with st.grid(len(figures), min_column_width=240, gap="medium"):
        for name in figures:
            words = shared | {"y": bare(f"study.{name}")}
            with st.container():
                st.markdown(f"**{t(f'study.{name}')}**")
                figure = study_plots.learning_curve(
                    found["normals"], found[name], words | {"y": ""}
                )  # its heading says it
                alt = study_plots.learning_curve_text(found["normals"], found[name], words)
                st.plotly_chart(figure, key=f"curve-{name}", config=_BARE, alt=alt)
    seconds = sum(found["seconds"][-1]) / len(found["seconds"][-1])
    st.markdown(t("study.curve_time", n=found["normals"][-1], time=duration(seconds), repeats=found["repeats"]))
    _measured(found, "study.curve_measured")


# --- which directions -------------------------------------------------------------------------------------------------


@st.fragment
def _directions(found: dict[str, Any]) -> None:
    _answer(found)
    names = [tell_bare(Sentence.from_json(level)) for level in found["levels"]]
    last = len(names) - 1
    level = st.selectbox(
        t("study.level"), range(len(names)), last, format_func=names.__getitem__, key="study-level",
    )  # fmt: skip
    known = [name for name in ("auroc", "false_alarms", "inflation") if found["top"][name][last][0] is not None]
    shared = {
        "x": bare("study.shares"), "top": bare("study.top"), "bottom": bare("study.bottom"),
        "alt": bare("study.directions_alt"), "alt_side": bare("study.directions_alt_side"),
        "alt_value": bare("study.directions_alt_value"),
    }  # fmt: skip
    with st.grid("auto", min_column_width=320, gap="medium"):
        for name in known:
            words = shared | {"y": bare(f"study.{name}")}
            values = (found["shares"], found["top"][name][level], found["bottom"][name][level])
            with st.container():
                st.markdown(f"**{t(f'study.{name}')}**", help=t(f"study.{name}_help"))
                alt = study_plots.directions_text(*values, words)
                figure = study_plots.directions(*values, words | {"y": ""})
                st.plotly_chart(figure, key=f"directions-{name}", config=_BARE, alt=alt)
    if "auroc" in known:
        st.markdown(f":small[{t('study.oracle')}]")
    _measured(found, "study.directions_measured")


_DRAW: dict[str, Callable[[dict[str, Any]], None]] = {"curve": _curve, "directions": _directions}
