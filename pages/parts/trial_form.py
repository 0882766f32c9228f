"""What a person chooses before an experiment: its kind, labelled data, methods and settings.  The worker does the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from adlib import jobs, registry, trial_time, trials, weights
from adlib.contract import AdlibError, Backbone
from pages.parts import forms, state, trial_data, views, watching
from pages.parts.words import bare, duration, t

_USUAL = {  # quick ones; on the built-in digits a first try takes less than a minute, with metric learning a few
    "one-vs-one": ["autoencoder", "knn"],
    "one-class": ["knn", "pixel_median"],
    "class-holdout": ["knn", "metric_learning", "lof"],
}


def draw() -> None:
    """The whole form."""
    kind = st.segmented_control(
        t("compare.kind"), trials.KINDS, default=trials.KINDS[0], required=True, key="trial-kind",
        format_func=lambda name: bare(f"compare.{name}"), persist_state="session",
    )  # fmt: skip
    st.markdown(t(f"compare.about_{kind}"))
    left, right = st.columns([3, 2], gap="large")
    with left, views.error_box():
        data = trial_data.choose()
        chosen = _methods(kind)
    with right:
        values = _choices(kind, data.classes)
        values |= _details(kind, chosen)
        _start(kind, data, chosen, values)


# --- methods and settings ---------------------------------------------------------------------------------------------


def _methods(kind: str) -> list[str]:
    titles = {key: card.title for key, card in registry.METHODS.items()}
    return list(
        st.pills(
            t("compare.methods"), list(titles), selection_mode="multi", default=_USUAL[kind], key=f"trial-methods-{kind}",
            format_func=titles.__getitem__, persist_state="session", wrap=True,
        )
    )  # fmt: skip


def _choices(kind: str, classes: Sequence[str]) -> dict[str, Any]:
    """What is asked of the classes."""
    tag = f"{kind}-{hash(tuple(classes))}"  # other classes, other widgets
    if len(classes) < 2:
        return {}
    if kind == "one-vs-one":
        first, second = (classes.index(c) if c in classes else i for i, c in enumerate("19"))
        one, other = st.columns(2)
        normal = one.selectbox(t("compare.normal"), classes, first, key=f"trial-normal-{tag}")
        anomaly = other.selectbox(t("compare.anomaly"), classes, second, key=f"trial-anomaly-{tag}")
        return {"normal": normal, "anomaly": anomaly}
    if kind == "one-class":
        only = st.pills(
            t("compare.only"),
            classes,
            selection_mode="multi",
            key=f"trial-only-{tag}",
            wrap=True,
            help=t("compare.only_help"),
        )
        return {"only": tuple(only)}
    out, cases = st.columns(2)
    most = len(classes) - 1
    anomalous = out.number_input(
        t("compare.anomalous"), 1, most, min(most, max(1, len(classes) // 2)), key=f"trial-anomalous-{tag}",
        help=t("compare.anomalous_help"),
    )  # fmt: skip
    count = cases.number_input(
        t("compare.cases"),
        1,
        len(classes),
        min(len(classes), 5),
        key=f"trial-cases-{tag}",
        help=t("compare.cases_help"),
    )
    return {"anomalous": int(anomalous), "cases": int(count)}


def _details(kind: str, chosen: Sequence[str]) -> dict[str, Any]:
    """Backbone, size, seed, numbers of pictures, and the methods' own settings; kept while the place is closed."""
    kept: dict[str, Any] = st.session_state.setdefault(f"trial-details-{kind}", {})
    place = st.expander(t("compare.details"), key="trial-details", on_change="rerun", icon=":material/tune:")
    if not place.open:
        return dict(kept)
    with place:
        names = [one.name for one in weights.ready()]
        name = st.selectbox(
            t("compare.backbone"), names, key="trial-backbone", persist_state="session", help=t("compare.backbone_help")
        )
        size = st.number_input(
            t("compare.size"),
            32,
            512,
            64,
            step=32,
            key="trial-size",
            persist_state="session",
            help=t("compare.size_help"),
        )
        seed = st.number_input(t("compare.seed"), 0, 2**31 - 1, 0, key="trial-seed", persist_state="session")
        kept = {"backbone": Backbone(str(name), size=int(size)), "seed": int(seed)}
        text = st.text_input(
            t("compare.samples"), key="trial-samples", persist_state="session", help=t("compare.samples_help")
        )
        kept["samples"] = _numbers(text)
        if kind != "one-vs-one":
            tests = st.number_input(
                t("compare.tests"),
                0,
                100_000,
                0,
                step=50,
                key="trial-tests",
                persist_state="session",
                help=t("compare.tests_help"),
            )
            kept["tests"] = int(tests)
        st.session_state[f"trial-details-{kind}"] = kept
        if chosen:
            method = st.selectbox(
                t("compare.settings_of"),
                chosen,
                format_func=lambda key: registry.METHODS[key].title,
                key=f"trial-settings-of-{kind}",
            )
            st.session_state[f"trial-settings-{method}"] = forms.settings(method)
    return dict(kept)


def _numbers(text: str) -> tuple[int, ...]:
    words = text.replace("、", ",").replace("，", ",").split(",")
    found = tuple(int(word) for word in words if word.strip().isdecimal() and int(word) > 0)
    if len(found) < len([word for word in words if word.strip()]):
        st.warning(t("compare.samples_wrong"), icon=":material/warning:")
    return found


# --- start ------------------------------------------------------------------------------------------------------------


def _start(kind: str, data: trial_data.Data, chosen: Sequence[str], values: dict[str, Any]) -> None:
    """How much there is to do, how long it takes, and the one button."""
    known = len(data.classes) > 1
    methods = tuple(trials.Method(key, st.session_state.get(f"trial-settings-{key}", {})) for key in chosen)
    told = st.container()
    st.button(
        t("compare.start"), key="primary-trial", type="primary", icon=":material/play_arrow:", width="stretch",
        disabled=not (known and chosen), on_click=_begin, args=(kind, data, methods, values),
    )  # fmt: skip
    watching.told("trial-refused")
    if known and chosen:
        with told, views.error_box():  # last, since reckoning may take a moment
            _expected(trials.Plan(kind, data.source, methods, **values), data)
    elif not known and not data.waits:
        told.warning(t("compare.no_classes"), icon=":material/category:")


def _expected(plan: trials.Plan, data: trial_data.Data) -> None:
    turns = {"one-vs-one": 1, "one-class": len(plan.only or data.classes)}.get(plan.kind, plan.cases)
    sizes = max(1, len(plan.samples)) if plan.kind == "class-holdout" else 1
    st.markdown(t("compare.fits", n=turns * sizes * len(plan.methods), methods=len(plan.methods)))
    with st.spinner(t("fit.estimating")):
        expected = _reckoned(json.dumps(plan.as_json()), data.stamp, trial_time.changed(), data)
    if expected.seconds is None:
        names = ", ".join(registry.card(key).title for key in expected.untimed)
        st.markdown(t("compare.untimed", names=names))
    else:
        st.markdown(t("compare.takes", time=duration(expected.seconds)), help=t("compare.takes_help"))


@st.cache_data(max_entries=100, show_spinner=False)
def _reckoned(plan: str, stamp: str, changed: int, _data: trial_data.Data) -> trial_time.Expected:
    """changed: of what was timed here."""
    asked = trials.Plan.from_json(json.loads(plan))
    return trial_time.before(asked, _data.outline(asked.backbone.size))


def _begin(kind: str, data: trial_data.Data, methods: tuple[trials.Method, ...], values: dict[str, Any]) -> None:
    try:
        plan = trials.Plan(kind, data.source, methods, plain_name(data.source), **values)
        trial = trials.take(plan, None if data.upload is None else data.upload.getvalue())
        now = jobs.experiment_state(trial.id)
        if now is None or now.status in ("failed", "stopped"):
            jobs.experiment(trial.id)
        state.choose_experiment(trial.id)
        if data.upload is not None:
            state.empty_upload("trial")
    except AdlibError as error:
        st.session_state["trial-refused"] = error.sentence


def plain_name(source: str) -> str:
    """The data's own name, as the list of experiments shows it."""
    kind, _, rest = source.partition(":")
    return "" if kind in ("digits", "dataset") else Path(rest).name[:80]
