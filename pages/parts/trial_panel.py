"""One experiment on the screen: what was asked, how far it is, what it found, and how it is handed on."""

from __future__ import annotations

import json
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from adlib import jobs, registry, trial_results, trial_time, trials
from adlib.contract import AdlibError
from pages.parts import state, trial_views, views, watching
from pages.parts.words import bare, duration, language, plain, t, tell, when


def draw(trial: trials.Trial) -> None:
    """Everything about the experiment.  Raises DataError when its files are damaged."""
    with st.container(border=True, key="trial"):
        st.markdown(f"#### {plain(state.trial_title(trial))}")
        whole = False
        with views.error_box():
            st.markdown(_record(trial))
            _progress(trial)
            whole = True
        with st.container(horizontal=True):
            if whole:
                _hand_over(trial)
            _offer_deletion(trial)
    if not whole:
        return
    for label, why in trial.failed():
        st.warning(f"**{plain(state.method_title(label))}**: {tell(why)}", icon=":material/block:")
    found = trial.finished()
    if found:
        trial_views.draw(trial, found)


def _record(trial: trials.Trial) -> str:
    """One line on what was asked, from the experiment's own record."""
    plan, about = trial.plan, trial.about
    parts = [when(trial.created), t("compare.record_seed", seed=plan.seed)]
    if any(registry.uses_backbone(one.key) for one in plan.methods):
        parts.append(t("compare.record_backbone", name=plan.backbone.name, size=plan.backbone.size))
    if plan.kind == "one-vs-one":
        parts.append(t("compare.record_pair", normal=plan.normal, anomaly=plan.anomaly))
    if plan.kind == "class-holdout":
        parts.append(t("compare.record_out", n=plan.anomalous))
    if plan.samples:
        parts.append(t("compare.record_samples", n=", ".join(map(str, plan.samples))))
    if about:
        counts = about["pictures"]
        parts.append(
            t("compare.record_pictures", train=counts["train"], test=counts["test"], classes=len(about["classes"]))
        )
    return ":small[" + " · ".join(parts) + "]"


def _progress(trial: trials.Trial) -> None:
    now = jobs.experiment_state(trial.id)
    if now is not None and now.active:
        _watch(trial.id, len(trial.done()))
        return
    if now is not None and now.status in ("failed", "stopped"):
        box = st.error if now.status == "failed" else st.warning
        box(tell(now.message), icon=":material/error:" if now.status == "failed" else ":material/stop_circle:")
    if now is None or now.status in ("failed", "stopped"):
        st.button(t("compare.go_on"), key="go-on", icon=":material/play_arrow:", on_click=_go_on, args=(trial.id,))
    watching.told("trial-refused")


@st.fragment(run_every=1.0)
def _watch(id: str, seen: int) -> None:
    """Live progress with Stop; the page runs again when another part is finished, so that its figures appear.

    seen: parts that were finished or refused when the page was drawn.
    """
    with views.error_box():
        trial, job = trials.find(id), f"{id}.{trials.JOB}"
        now = jobs.state(job)
        if not now.active or len(trial.done()) > seen:
            st.rerun()
        told = [f"**{now.fraction:.0%}**", tell(now.message), *filter(None, [_left(trial, now)])]
        st.progress(min(1.0, max(0.0, now.fraction)), text=" · ".join(told))
        st.button(t("views.stop"), icon=":material/stop:", key=f"stop-{job}", on_click=jobs.stop, args=(job,))


def _left(trial: trials.Trial, now: jobs.State) -> str:
    """How much time is left, from the parts that were timed; "" while it waits or reads its pictures."""
    if now.status != "running" or now.fraction < trials.READING:
        return ""
    expected = trial_time.left(trial)
    if expected is None:
        return ""
    total = len((trial.about or {}).get("parts", []))
    seconds = expected.within((now.fraction - trials.READING) / (1 - trials.READING) * total % 1)
    return t("compare.left_unknown") if seconds is None else t("views.left", time=duration(seconds))


def _go_on(id: str) -> None:
    try:
        jobs.experiment(id)
    except AdlibError as error:
        st.session_state["trial-refused"] = error.sentence


def _hand_over(trial: trials.Trial) -> None:
    """Link and files."""
    with st.popover(t("compare.share"), icon=":material/link:", type="tertiary"):
        st.markdown(t("compare.share_about"))
        parts = urlsplit(st.context.url or "")
        query = urlencode({"lang": language(), "experiment": trial.id})
        st.code(urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")), language=None, wrap_lines=True)
    if trial.finished():
        st.download_button(
            "CSV", lambda: trial_results.sheet(trial), f"adlib-{trial.plan.kind}.csv", "text/csv", key="trial-csv",
            on_click="ignore", icon=":material/download:", type="tertiary", help=t("compare.csv_help"),
        )  # fmt: skip
        st.download_button(
            "JSON", lambda: json.dumps(trial_results.figures(trial), ensure_ascii=False, indent=1),
            f"adlib-{trial.plan.kind}.json", "application/json", key="trial-json", on_click="ignore",
            icon=":material/download:", type="tertiary", help=t("compare.json_help"),
        )  # fmt: skip


def _offer_deletion(trial: trials.Trial) -> None:
    with st.popover(t("compare.delete"), icon=":material/delete:", type="tertiary"):
        st.markdown(t("compare.delete_sure"))
        st.button(
            t("compare.delete_yes"), key="delete-trial", icon=":material/delete:", on_click=_delete, args=(trial,)
        )


def _delete(trial: trials.Trial) -> None:
    now = jobs.experiment_state(trial.id)
    if now is not None and now.active:
        st.session_state["trial-refused"] = AdlibError(bare("compare.delete_busy")).sentence
        return
    trial.delete()
    state.choose_experiment(None)
