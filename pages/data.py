"""Data: bring in pictures; see what was taken, refused and guessed; correct it; look at them; go on to Fit."""

import streamlit as st

from adlib import store
from pages.parts import bringing, contents, examining, shell, state, views
from pages.parts.words import t

shell.page("data")


def ways() -> None:
    """One tab a way; only the open one is drawn."""
    root = bringing.server_folder()
    names = ["upload", "samples", *(["server"] if root else []), "arrays"]
    tabs = st.tabs([t(f"data.tab_{name}") for name in names], key="data-tab", on_change="rerun")
    draw = {
        "upload": bringing.upload,
        "samples": bringing.sample_sets,
        "server": lambda: root and bringing.folder_on_server(root),
        "arrays": bringing.array_files,
    }
    for name, tab in zip(names, tabs, strict=True):
        if tab.open:
            with tab, views.error_box():
                draw[name]()


def change(dataset: store.Dataset) -> None:
    """Another name, or away with it."""
    with st.container(horizontal=True):
        with st.popover(t("data.rename"), icon=":material/edit:"):
            name = st.text_input(t("data.new_name"), dataset.title, max_chars=120, key=f"name-{dataset.id}")
            if st.button(t("data.save"), key="save-name") and name.strip():
                dataset.meta["title"] = name.strip()[:120]
                dataset.save()
                st.rerun()
        with st.popover(t("data.delete"), icon=":material/delete:", key=f"sure-{dataset.id}"):
            st.markdown(t("data.delete_sure", title=dataset.title, n=len(dataset.meta["pictures"])))
            st.button(t("data.delete_yes"), key="delete-dataset", on_click=_delete, args=(dataset,))


def _delete(dataset: store.Dataset) -> None:
    dataset.delete()
    st.toast(t("data.deleted", title=state.dataset_title(dataset.id, dataset.title)), icon=":material/delete:")
    state.forget("dataset")
    st.session_state.pop("taken", None)


def held(dataset: store.Dataset) -> None:
    """All about one data set, the next step first."""
    samples, left_out = state.samples(dataset)
    contents.figures(dataset, samples)
    contents.guessed(dataset)
    contents.version(dataset)
    with views.error_box():
        contents.split(dataset, samples)
        if st.button(t("data.next"), type="primary", key="primary-fit", icon=":material/arrow_forward:"):
            shell.go("fit", dataset=dataset.id)
    with views.error_box():
        examining.checkup(dataset, samples)
        examining.smallest(dataset)
        examining.region(dataset, samples)
    contents.gallery(dataset, samples)
    with st.expander(t("data.layout"), icon=":material/folder:", expanded=not samples):
        contents.layout(dataset)
    rows = [(r.name, r.reason) for r in left_out]
    if rows:
        with st.expander(t("data.left_out", n=len(rows)), icon=":material/block:"):
            views.refused(rows)
    change(dataset)


shell.title("data")
known = state.datasets()
with st.expander(t("data.bring"), expanded=not known, icon=":material/add_photo_alternate:"):
    ways()
bringing.said()
if not known:
    st.info(t("data.none_yet"), icon=":material/photo_library:")
    st.stop()
current = views.pick_dataset()
if current is not None:
    with views.error_box():
        held(current)
