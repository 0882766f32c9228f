"""Evaluate: how well a run tells good parts from defects, where the threshold lies, and where it errs."""

import streamlit as st

from adlib import jobs, store
from adlib.batches import data_hash, labelled_tests
from adlib.contract import AdlibError
from pages.parts import (
    charts,
    deciding,
    examining,
    exploring,
    findings,
    handing,
    mistakes,
    shell,
    state,
    studying,
    views,
    watching,
)
from pages.parts.words import t

shell.page("evaluate")
shell.title("evaluate")


def evaluate(run: store.Run) -> None:
    try:
        jobs.evaluate(run.id)
    except AdlibError as error:
        st.session_state["evaluate-refused"] = error.sentence


def offer(run: store.Run, found: findings.Found | None) -> None:
    """Says what is missing when there is no evaluation, and offers one when the data set's tests have changed."""
    tests = []
    if store.Dataset.exists(run.card["dataset"]):
        tests = labelled_tests(state.samples(store.Dataset.open(run.card["dataset"]))[0])
    if not tests and found is None:
        views.empty(t("evaluate.no_tests"), "data", t("views.to_data"), icon=":material/rule:")
    changed = found is not None and found.report.get("tests_hash") != data_hash(tests)
    if tests and (found is None or changed):
        st.info(t("evaluate.new_tests" if changed else "evaluate.not_yet", n=len(tests)), icon=":material/fact_check:")
        label = t("evaluate.evaluate")
        st.button(label, key="primary-evaluate", type="primary", on_click=evaluate, args=(run,))
    watching.told("evaluate-refused")


def results(found: findings.Found) -> None:
    findings.decision(found)
    findings.figures(found)
    names = ("line", "curves", "kinds", "plane", "mistakes", "studies")
    labels = (
        t("evaluate.tab_line"), t("evaluate.tab_curves"), t("evaluate.tab_kinds"), t("evaluate.tab_plane"),
        t("evaluate.tab_mistakes"), t("evaluate.tab_studies"),
    )  # fmt: skip
    draw = (
        deciding.deciding,
        charts.curves,
        charts.boxes,
        exploring.plane,
        mistakes.draw,
        lambda found: studying.draw(found.run),
    )
    tabs = st.tabs(labels, key="evaluate-tabs", on_change="rerun")
    for name, tab, body in zip(names, tabs, draw, strict=True):
        if tab.open:  # a closed tab costs nothing
            with tab, st.container(key=f"tab-{name}"), views.error_box():
                body(found)


run = views.pick_run()
if run is None:
    st.stop()
with views.error_box():
    job = views.job(run.id)
    if run.finished and not job.active:
        found = findings.load(run)
        st.markdown(watching.record(run))
        examining.since(run)
        offer(run, found)
        if found is not None:
            mistakes.changed(run)
            results(found)
        else:
            studying.draw(run)
        handing.over(run)
