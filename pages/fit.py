"""Fit: choose a method, see what it will cost, start it, watch it.  The work itself is done by the worker (`adlib.worker`)."""

import streamlit as st

from adlib import jobs, registry, samples, store
from adlib.contract import AdlibError
from adlib.request import Request
from pages.parts import choices, shell, state, views, watching
from pages.parts.words import t

shell.page("fit")
shell.title("fit")


def take_sample() -> None:
    with st.spinner(t("fit.making")):
        state.choose(dataset=samples.ensure("fabric").id)


def start(request: Request) -> None:
    try:
        state.choose(run=jobs.submit(request))
    except AdlibError as error:
        st.session_state["fit-refused"] = error.sentence


def form(dataset: store.Dataset) -> None:
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader(t("fit.method"))
        method = choices.method()
    with right:
        st.subheader(t("fit.before", method=registry.card(method).title))
        request = choices.request(dataset, method)
        ready = request.backbone is None or choices.is_ready(request.backbone.name)
        place = st.container()  # the estimate may take a moment: everything else is drawn before it
        st.button(
            t("fit.start"), key="primary-fit", type="primary", icon=":material/play_arrow:", width="stretch",
            disabled=not ready, on_click=start, args=(request,),
        )  # fmt: skip
        watching.told("fit-refused")
    with place, views.error_box():
        if ready:
            choices.forecast(request, dataset)
        elif request.backbone is not None:
            choices.say_missing(request.backbone.name)


if not state.datasets():
    views.empty(t("fit.empty"), "data", t("views.to_data"), icon=":material/model_training:")
    st.button(t("fit.sample"), key="primary-sample", type="primary", icon=":material/texture:", on_click=take_sample)
    st.stop()

busy = False
run = state.run()
if run is not None:
    if state.dataset() is None:
        state.choose(run=run.id)  # a link to a run alone brings its data set along
    with views.error_box():
        busy = watching.panel(run).active
watching.others(run.id if run else None)

with st.expander(t("fit.another"), icon=":material/add:") if busy else st.container():
    dataset = views.pick_dataset()
    if dataset is not None:
        form(dataset)
