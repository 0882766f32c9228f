"""A fit from the moment it was asked for: what is being fitted, how far it is, how it ended, and who else waits.

Everything shown comes from the run's own record and never from the widgets: after a reload they differ.
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from adlib import jobs, registry, store, trials
from adlib.learning import curves
from pages.parts import learning, shell, state, views
from pages.parts.words import bare, duration, language, number, plain, t, tell


def panel(run: store.Run) -> jobs.State:
    """The run as it stands, with the links that make sense now.  Raises DataError when its record is gone."""
    with st.container(border=True, key="panel"):
        st.markdown(f"#### {plain(state.run_title(run))}")
        st.markdown(record(run))
        now = views.job(run.id)
        if now.status == "done":
            _done(run)
        share(run)
    return now


def record(run: store.Run) -> str:
    """One line on what was asked, or, once it is finished, on what was really done."""
    asked = run.card if run.finished else run.request
    backbone = asked["backbone"] or {}
    parts = [registry.card(asked["method"]).title, *filter(None, [backbone.get("name")])]
    size = asked.get("size") or backbone.get("size", 256)
    parts = [plain(part) for part in parts] + [
        t("fit.record", size=size, seed=asked["seed"], alpha=f"{100 * asked['alpha']:g}")
    ]
    if backbone.get("stages"):
        parts.append(t("fit.record_stages", stages=", ".join(map(str, backbone["stages"]))))
    if asked["letterbox"]:
        parts.append(t("fit.record_letterbox"))
    parts += [f"{plain(name)} = {plain(value)}" for name, value in run.request["settings"].items()]
    return " · ".join(parts)


def _done(run: store.Run) -> None:
    report, card = run.read("report.json"), run.card
    area = (report or {}).get("image_auroc")
    text = t("fit.done") if area is None else t("fit.done_auroc", auroc=number(area))
    time = duration(card["fit_seconds"])
    st.success(f"{text} {t('fit.took', n=card['normals']['fitted'], time=time)}", icon=":material/check_circle:")
    with st.container(horizontal=True):
        if report is not None:
            shell.link("evaluate", t("fit.to_evaluate"), run=run.id)
        shell.link("heatmaps", t("fit.to_heatmaps"), run=run.id)
    if curves(run):
        with st.expander(t("fit.learned"), icon=":material/show_chart:"):
            learning.show(run, "done")


def share(run: store.Run) -> None:
    """The address of this run, to copy.  Its id cannot be guessed: whoever has the link was given it."""
    with st.popover(t("fit.share"), icon=":material/link:", type="tertiary"):
        st.markdown(t("fit.share_about"))
        parts = urlsplit(st.context.url or "")
        query = urlencode({"lang": language(), "run": run.id})
        st.code(urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")), language=None, wrap_lines=True)


def others(current: str | None) -> None:
    """All other jobs of this server that run or wait; redrawn every two seconds while there are any."""
    if any(job.job != current for job in jobs.active()):
        st.markdown(f"**{t('fit.others')}**")
        _others(current)


@st.fragment(run_every=2.0)
def _others(current: str | None) -> None:
    with views.error_box():
        for job in jobs.active():
            if job.job == current:
                continue
            is_trial = job.study == trials.JOB
            title = state.trial_title(trials.find(job.run)) if is_trial else state.run_title(store.Run.open(job.run))
            if job.study and not is_trial:
                title = f"{bare(f'study.{job.study}')} · {title}"
            if job.status == "queued":
                st.markdown(f":material/hourglass: {t('fit.other_queued', title=title, n=job.position)}")
            else:
                percent = f"{100 * job.fraction:.0f}"
                st.progress(job.fraction, text=t("fit.other_running", title=title, percent=percent))
            if is_trial:
                shell.link("compare", t("fit.open"), experiment=job.run)
                continue
            st.button(
                t("fit.open"), key=f"open-{job.job}", type="tertiary", icon=":material/visibility:",
                on_click=lambda id=job.run: state.choose(run=id),
            )  # fmt: skip


def told(message: str) -> None:
    """A sentence left behind by a callback, shown once."""
    sentence = st.session_state.pop(message, None)
    if sentence is not None:
        st.error(tell(sentence), icon=":material/error:")
