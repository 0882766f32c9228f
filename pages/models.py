"""Models: finished runs to share, rename, delete, download and bring along; backbones that are ready or missing here."""

import pandas as pd
import streamlit as st

from adlib import exchange, store, weights
from adlib.contract import Sentence
from pages.parts import shell, state, views
from pages.parts.words import amount, bare, number, t, tell, tell_bare, when

shell.page("models")


def runs() -> None:
    """The list, and below it the run that is current."""
    lines = state.runs()
    if not lines:
        views.empty(t("models.no_runs"), "fit", t("views.to_fit"), icon=":material/model_training:")
        return
    table = pd.DataFrame(
        {
            bare("models.run"): [line.title for line in lines],
            bare("models.method"): [line.method for line in lines],
            bare("models.backbone"): [line.backbone for line in lines],
            "AUROC": [number(line.auroc) for line in lines],
            bare("models.when"): [when(line.created) for line in lines],
            bare("models.size"): [amount(line.bytes) for line in lines],
        }
    )
    st.dataframe(table, hide_index=True, alt=bare("models.runs_alt", n=len(lines)))
    run = views.pick_run()
    if run is not None and run.finished:
        with views.error_box():
            one(run)


def one(run: store.Run) -> None:
    """What can be done with a run."""
    base = (st.context.url or "").rstrip("/").removesuffix("/models")
    st.markdown(t("models.link_about"))
    st.code(f"{base}/heatmaps?run={run.id}", language=None, wrap_lines=True)
    with st.container(horizontal=True):
        shell.link("heatmaps", t("models.open_heatmaps"), run=run.id)
        shell.link("evaluate", t("models.open_evaluate"), run=run.id)
    with st.container(horizontal=True):
        st.download_button(
            t("models.download"), lambda: exchange.pack(run), f"adlib-{run.id}.zip", "application/zip",
            key="download-run", on_click="ignore", icon=":material/download:", help=t("models.download_help"),
        )  # fmt: skip
        with st.popover(t("models.rename"), icon=":material/edit:"):
            name = st.text_input(t("models.new_name"), state.run_title(run), max_chars=120, key=f"name-{run.id}")
            if st.button(t("models.save"), key="save-name") and name.strip():
                run.rename(name)
                st.rerun()
        with st.popover(t("models.delete"), icon=":material/delete:", key=f"sure-{run.id}"):
            st.markdown(t("models.delete_sure", title=state.run_title(run)))
            st.button(t("models.delete_yes"), key="delete-run", on_click=_delete, args=(run,), icon=":material/delete:")


def _delete(run: store.Run) -> None:
    title = state.run_title(run)
    run.delete()
    st.toast(t("models.deleted", title=title), icon=":material/delete:")
    state.forget("run")


def bring() -> None:
    """A run from another machine."""
    file = st.file_uploader(t("models.import"), ["zip"], key=state.upload_key("run"), help=t("models.import_help"))
    if file is None:
        return
    with views.error_box(), st.spinner(t("models.checking")):
        run = exchange.unpack(file)
        state.choose(run=run.id)
        state.empty_upload("run")
        st.toast(t("models.imported"), icon=":material/check:")
        st.rerun()


def backbones() -> None:
    """Suggested networks and those found here: ready or missing, size, licence; fetched only on a press."""
    ready = {each.name: each for each in weights.ready()}
    here = {each.name: weights.find(each.name) is not None or each.name in ready for each in weights.SUGGESTED}
    rows = [(s.name, here[s.name], s.megabytes, s.licence, tell_bare(s.about)) for s in weights.SUGGESTED]
    rows += [(n, True, r.megabytes, r.licence, bare("models.found_here")) for n, r in ready.items() if n not in here]
    table = pd.DataFrame(
        {
            bare("models.backbone"): [row[0] for row in rows],
            bare("models.state"): [bare("models.ready" if row[1] else "models.missing") for row in rows],
            bare("models.size"): [amount(row[2] * 1e6) if row[2] else "–" for row in rows],
            bare("models.licence"): [row[3] or "–" for row in rows],
            bare("models.about"): [row[4] for row in rows],
        }
    )
    st.dataframe(table, hide_index=True, alt=bare("models.backbones_alt", n=len(rows)))
    missing = [row[0] for row in rows if not row[1]]
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    name = left.selectbox(t("models.fetch_which"), missing, key="fetch-name", accept_new_options=True)
    if right.button(t("models.fetch"), key="fetch", icon=":material/cloud_download:", width="stretch") and name:
        with views.error_box():
            _fetch(str(name))
    with st.expander(t("models.by_hand"), icon=":material/folder_open:"):
        st.markdown(t("models.by_hand_text"))


def _fetch(name: str) -> None:
    """The only thing in the app that uses the network, and only now."""
    bar = st.progress(0.0, text=t("models.fetching", name=name))

    def tick(fraction: float, message: str, /, **numbers: object) -> None:
        bar.progress(min(1.0, max(0.0, fraction)), text=tell(Sentence(message, numbers)))

    weights.fetch(name, tick)
    st.toast(t("models.fetched", name=name), icon=":material/check:")
    st.rerun()


shell.title("models")
tab_runs, tab_weights = st.tabs(
    [t("models.tab_runs"), t("models.tab_backbones")], key="models-tab", on_change="rerun", bind=None
)
if tab_runs.open:
    with tab_runs:
        runs()
        bring()
if tab_weights.open:
    with tab_weights:
        backbones()
