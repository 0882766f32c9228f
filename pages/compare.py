"""Compare: experiments on labelled classes, and finished runs side by side."""

import streamlit as st

from adlib import trials
from pages.parts import beside, shell, state, trial_form, trial_panel, views, watching
from pages.parts.words import bare, t

shell.page("compare")
shell.title("compare")

NEW = ""


def pick() -> trials.Trial | None:
    """A choice among the experiments, or a new one."""
    known = {one.id: one for one in trials.every()}
    current = state.experiment() or NEW
    if st.session_state.pop("experiment-gone", False):
        st.warning(t("shell.gone_experiment"), icon=":material/link_off:")
    if not known:
        return None
    st.session_state["pick-experiment"] = current

    def chosen() -> None:
        state.choose_experiment(st.session_state["pick-experiment"] or None)

    st.selectbox(
        t("compare.experiment"), [NEW, *known], key="pick-experiment", on_change=chosen,
        format_func=lambda id: state.trial_title(known[id]) if id else bare("compare.new"),
    )  # fmt: skip
    return known.get(current)


def experiments() -> None:
    trial = pick()
    watching.others(f"{trial.id}.{trials.JOB}" if trial else None)
    if trial is None:
        trial_form.draw()
    else:
        with views.error_box():
            trial_panel.draw(trial)


tabs = st.tabs([t("compare.tab_experiments"), t("compare.tab_runs")], key="compare-tab", on_change="rerun")
if tabs[0].open:
    with tabs[0]:
        experiments()
if tabs[1].open:
    with tabs[1], views.error_box():
        beside.draw()
