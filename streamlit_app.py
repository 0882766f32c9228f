"""Start: what adlib does in three steps, one button that ends in finished heatmaps, and where the visitor left off."""

import streamlit as st

from adlib import jobs, samples, store, workflow
from adlib.contract import Backbone
from pages.parts import shell, state, views
from pages.parts.words import ASSETS, number, plain, t, tell, when

shell.page("start")
# Fine levels and a small memory: AUROC 0.81 to 0.97 on the four drawn sets, as with the method's usual levels, and outlines
# that lie closer (AU-PRO 0.02 to 0.05 higher on fabric and ring); fitted and evaluated in about ten seconds.
DEMO = {"coreset": 0.05, "max_patches": 30_000}
# A printed label always lies in the same place.  A memory of patches takes slipped or smeared print for print from elsewhere
# (image AUROC 0.81, AU-PRO 0.58); PaDiM compares each place with itself (0.82, 0.72; measured on the set's own tests).
IN_PLACE = ("label",)
STAGES = (0, 1)


def steps() -> None:
    """Data, Fit, Heatmaps: each with where the visitor stands."""
    st.subheader(t("start.steps"), anchor=False)
    dataset, run = state.dataset(), state.run()
    line = next((d for d in state.datasets() if dataset and d.id == dataset.id), None)
    finished = run is not None and run.finished
    at = [
        ("data", line is not None, t("start.data_done", n=line.normals) if line else t("start.data_open")),
        ("fit", finished, t("start.fit_done", title=state.run_title(run)) if finished else t("start.fit_open")),
        ("heatmaps", False, t("start.heatmaps_open")),
    ]
    grid = st.grid(3, min_column_width=220, border=True)
    for place, (name, done, text) in enumerate(at, start=1):
        with grid.cell():
            mark = ":green[:material/check_circle:]" if done else f":primary[:material/counter_{place}:]"
            st.markdown(f"#### {mark} {t(f'shell.{name}')}")
            st.markdown(text)
            shell.link(name, t(f"start.to_{name}"), icon=":material/arrow_forward:")


def see_it_work() -> None:
    """A sample set by its picture, and the one button."""
    st.subheader(t("start.demo"), anchor=False)
    st.markdown(t("start.demo_about"))
    chosen = st.session_state.setdefault("sample", next(iter(samples.SAMPLES)))
    grid = st.grid(5, min_column_width=104)
    for key, each in samples.SAMPLES.items():
        with grid.cell():
            st.image(ASSETS / "samples" / f"{key}.jpg", width="stretch", alt=tell(each.about))
            st.button(
                tell(each.title), key=f"sample-{key}", width="stretch", on_click=_choose_sample, args=(key,),
                icon=":material/check:" if key == chosen else None, type="secondary" if key == chosen else "tertiary",
                wrap=True,
            )  # fmt: skip
    st.markdown(tell(samples.SAMPLES[chosen].about))
    if st.button(t("start.see"), type="primary", key="primary-see", icon=":material/play_arrow:"):
        with views.error_box():
            _begin(chosen)


def _choose_sample(key: str) -> None:
    st.session_state["sample"] = key


def _begin(key: str) -> None:
    """Makes the sample set on first use, queues the fit, and lets the page watch it."""
    bar = st.progress(0.0, text=t("start.making"))

    def tick(fraction: float, message: str, /, **numbers: object) -> None:
        bar.progress(min(1.0, fraction), text=t("start.making"))  # "looked at 9 files" would mean nothing to a visitor

    dataset = samples.ensure(key, tick)
    backbone = Backbone("offline", STAGES, size=64 if key == "digits" else 256)
    method, settings = ("padim", {}) if key in IN_PLACE else ("patchcore", DEMO)
    request = workflow.Request(dataset.id, method, settings, backbone)
    state.choose(dataset=dataset.id, run=jobs.submit(request))
    st.rerun()


def outcome(run: store.Run) -> None:
    """The sample's run: at work, or its finished heatmaps."""
    from pages.parts import found

    if views.job(run.id).status != "done":
        return
    st.subheader(t("start.found"), anchor=False)
    report = run.read("report.json") or {}
    st.markdown(t("start.found_about", auroc=number(report.get("image_auroc")), n=report.get("n_defect", 0)))
    views.gallery([found.tile(each) for each in found.typical(run)], width=150, columns=3)
    st.caption(t("start.scale"))
    with st.container(horizontal=True):
        shell.link("evaluate", t("start.to_evaluate"), run=run.id)
        shell.link("heatmaps", t("start.to_heatmaps_now"), run=run.id)
        shell.link("data", t("start.to_own"))


def left_off() -> None:
    """The newest runs and data sets."""
    runs, datasets = state.runs()[:4], state.datasets()[:4]
    if not runs and not datasets:
        return
    st.subheader(t("start.left_off"), anchor=False)
    first, second = st.columns(2)
    with first:
        for run in runs:
            shell.link("heatmaps", f"{plain(run.title)} · {when(run.created)}", run=run.id)
    with second:
        for line in datasets:
            label = t("views.dataset_option", title=line.title, n=line.normals)
            shell.link("data", label, dataset=line.id)


st.title(t("start.hero"), anchor=False)
st.markdown(t("shell.start_about"))
see_it_work()
demo = state.run()
if demo is not None and demo.request["dataset"].startswith("sample-"):
    with views.error_box():
        outcome(demo)
steps()
left_off()
