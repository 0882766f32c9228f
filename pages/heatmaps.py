"""Heatmaps: drop pictures, read the verdict, see where each differs from the normals.  One colour scale for all."""

import streamlit as st

from adlib import store
from adlib.intake import SUFFIXES
from adlib.results import calibration_of
from pages.parts import examining, looking, overlay, shell, state, verdicts, views, watching
from pages.parts.words import bare, kind_word, plain, t, tell

shell.page("heatmaps")
shell.title("heatmaps")


def take(files: list[tuple[str, bytes]]) -> None:
    """Keeps what was dropped by digest, and lets go of the browser's copy."""
    st.session_state["looked-items"], st.session_state["looked-refused"] = looking.take(files)
    state.empty_upload("heatmaps")
    st.rerun()


def _kind(kind: str) -> str:
    return plain(kind_word(kind))


def bring() -> tuple[list[looking.Item], bool]:
    """The pictures to look at, and whether the person brought them (drop, camera) or they are tests of the data set."""
    tests = looking.tests_of(run)
    names = {"drop": bare("heatmaps.drop"), "camera": bare("heatmaps.camera"), "tests": bare("heatmaps.tests")}
    source = st.segmented_control(
        t("heatmaps.source"), [key for key in names if key != "tests" or tests], format_func=names.__getitem__,
        default="tests" if tests and not st.session_state.get("looked-items") else "drop", required=True, key="source",
        persist_state="session", label_visibility="collapsed",
    )  # fmt: skip
    if source == "tests":
        kinds = list(dict.fromkeys(item.kind for item in tests))
        kind = st.pills(t("heatmaps.kind"), kinds, key=f"kind-{run.id}", format_func=_kind) if len(kinds) > 1 else None
        return [item for item in tests if kind in (None, item.kind)], False
    if source == "camera":
        shot = st.camera_input(t("heatmaps.camera"), key=state.upload_key("heatmaps"), resolution="1080p")
        if shot is not None:
            take([(f"camera-{shot.file_id[:8]}.jpg", shot.getvalue())])
    else:
        files = st.file_uploader(
            t("heatmaps.drop_label"), [suffix[1:] for suffix in sorted(SUFFIXES)] + ["zip"],
            accept_multiple_files=True, key=state.upload_key("heatmaps"), help=t("heatmaps.drop_help"),
        )  # fmt: skip
        if files:
            take([(file.name, file.getvalue()) for file in files])
    return list(st.session_state.get("looked-items", [])), True


run: store.Run = views.pick_run() or st.stop()
with views.error_box():
    job = views.job(run.id)
    if run.finished:
        items, dropped = bring()
        with st.expander(t("heatmaps.about_run"), icon=":material/info:"):
            st.markdown(watching.record(run))
            line = calibration_of(run).threshold
            st.markdown(f"{tell(line.rule)}  \n{t('evaluate.learned_on')} {tell(line.fitted_on)}")
            overlay.choose_palette()
            watching.share(run)
        examining.since(run)
        with st.spinner(t("heatmaps.loading")), state.fitted(run.id):
            pass  # loaded once for all pictures; what is wrong with the run itself is said here, once
        refused = st.session_state.get("looked-refused", []) if dropped else []
        if items or refused:
            verdicts.draw(run, items, refused, dropped=dropped)
        else:
            st.markdown(t("heatmaps.empty"))
