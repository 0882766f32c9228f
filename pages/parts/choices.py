"""What a person chooses before a fit: a method card, a backbone, the details, and what it will all cost.

torch is imported only where it is needed: for a method's own settings and for the estimate, which is drawn last.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import streamlit as st

from adlib import curation, regions, registry, store, thresholds, weights
from adlib.batches import divide, train_normals
from adlib.contract import Backbone
from adlib.request import Estimate, Request, estimate
from pages.parts import forms, shell, state
from pages.parts.words import amount, bare, duration, plain, t, tell

_STAGES = 12  # levels offered; what a network does not have is refused by a sentence


# --- method -----------------------------------------------------------------------------------------------------------


def _family(key: str) -> str:
    names = {
        "memory": t("fit.family_memory"),
        "density": t("fit.family_density"),
        "classical": t("fit.family_classical"),
        "reconstruction": t("fit.family_reconstruction"),
        "baseline": t("fit.family_baseline"),
    }
    return names.get(key, plain(key.replace("_", " ").capitalize()))


def method() -> str:
    """Draws the cards by family, of which the chosen method's is open; returns its key."""
    keys = list(registry.METHODS)
    if st.session_state.get("fit-method") not in keys:
        st.session_state["fit-method"] = keys[0]
    chosen: str = st.session_state["fit-method"]
    for family in dict.fromkeys(card.family for card in registry.METHODS.values()):
        members = [key for key in keys if registry.METHODS[key].family == family]
        names = ", ".join(plain(registry.METHODS[key].title) for key in members)
        with (
            st.expander(f"**{_family(family)}** · {names}", expanded=chosen in members, key=f"family-{family}"),
            st.grid("auto", min_column_width=210, gap="small"),
        ):
            for key in members:
                _card(key, chosen == key)
    return chosen


def _card(key: str, chosen: bool) -> None:
    card = registry.METHODS[key]
    with st.container(border=True, height="stretch", key=f"card-{key}", gap="xsmall"):
        icon = ":material/gradient:" if card.gives_map else ":material/speed:"
        st.markdown(f"##### {plain(card.title)}")
        st.markdown(f":small[{icon} {t('fit.map') if card.gives_map else t('fit.no_map')}]")
        st.markdown(tell(card.good_at))
        st.markdown(f":small[{tell(card.source)}]")
        st.space("stretch")
        about = t("fit.choose_help", method=card.title)
        if chosen:
            st.markdown(f":material/check_circle: **{t('fit.chosen')}**")
        else:
            st.button(t("fit.choose"), key=f"choose-{key}", help=about, on_click=_choose, args=(key,))


def _choose(key: str) -> None:
    st.session_state["fit-method"] = key


# --- backbone ---------------------------------------------------------------------------------------------------------


def network() -> str:
    """Draws the choice of backbones; returns a name, whose weights may be missing (then the page says so)."""
    ready = {one.name: one for one in weights.ready()}
    names = list(dict.fromkeys([*ready, *(one.name for one in weights.SUGGESTED)]))
    typed = st.session_state.get("fit-network")
    if typed and typed not in names:
        names.append(typed)

    def option(name: str) -> str:
        found = name in ready or weights.find(name) is not None
        return bare("fit.network_option_ready" if found else "fit.network_option_missing", name=name)

    name = st.selectbox(
        t("fit.network"), names, names.index(weights.OFFLINE), format_func=option, key="fit-network", accept_new_options=True,
        help=t("fit.network_help"), persist_state="session",
    )  # fmt: skip
    about = {one.name: one for one in weights.SUGGESTED}.get(name)
    if about is not None:
        facts = [tell(about.about)] + ([f"{about.megabytes:g} MB"] if about.megabytes else [])
        st.markdown(" · ".join([*facts, *filter(None, [plain(about.licence)])]))
    if name == weights.OFFLINE and (better := weights.better(ready)) is not None:
        st.markdown(t("fit.better", name=better))
    return str(name)


def is_ready(name: str) -> bool:
    return name in weights.BUILT_IN or weights.find(name) is not None


def say_missing(name: str) -> None:
    """The three ways to get the weights, and the way without."""
    st.warning(tell(weights.missing(name).sentence), icon=":material/download:")
    with st.container(horizontal=True):
        st.button(t("fit.offline"), key="use-offline", icon=":material/cloud_off:", on_click=_use_offline)
        shell.link("models", t("views.to_weights"))


def _use_offline() -> None:
    st.session_state["fit-network"] = weights.OFFLINE


# --- the whole request ------------------------------------------------------------------------------------------------


def request(dataset: store.Dataset, method: str) -> Request:
    """Draws everything but the cards; returns the fit as it now stands.  Settings left at their defaults are left out."""
    backbone = None
    if registry.uses_backbone(method):
        backbone = Backbone(network())
    else:
        st.markdown(t("fit.no_network"))
    percent = st.number_input(
        t("fit.alpha"), 0.1, 50.0, 1.0, step=0.5, format="%.1f", key="fit-alpha", help=t("fit.alpha_help"),
        persist_state="session",
    )  # fmt: skip
    kept = st.session_state.setdefault(f"fit-details-{method}", {})
    details = st.expander(t("fit.details"), key="fit-details", on_change="rerun", icon=":material/tune:")
    if details.open:
        with details:
            kept = _details(method)
            st.session_state[f"fit-details-{method}"] = kept
    changed = len({**kept, **kept.get("settings", {})}) - ("settings" in kept)
    if changed:
        st.markdown(t("fit.details_changed", n=changed))
    values = dict(kept)
    size, stages = values.pop("size", 256), values.pop("stages", ())
    seed, letterbox = values.pop("seed", 0), values.pop("letterbox", False)
    if backbone is not None:
        backbone = dataclasses.replace(backbone, size=size, stages=tuple(stages))
    return Request(dataset.id, method, values.get("settings", {}), backbone, seed, round(percent / 100, 6), letterbox)


def _details(method: str) -> dict[str, Any]:
    """What differs from the usual: size, stages, letterbox, seed, settings."""
    chosen: dict[str, Any] = {}
    if registry.uses_backbone(method):
        size = st.number_input(
            t("fit.size"), 64, 1024, 256, step=32, key="fit-size", help=t("fit.size_help"), persist_state="session"
        )
        stages = st.pills(
            t("fit.stages"), range(_STAGES), selection_mode="multi", key="fit-stages", help=t("fit.stages_help"),
            persist_state="session",
        )  # fmt: skip
        chosen |= {"size": int(size)} if size != 256 else {}
        chosen |= {"stages": sorted(stages)} if stages else {}
    if st.toggle(t("fit.letterbox"), key="fit-letterbox", help=t("fit.letterbox_help"), persist_state="session"):
        chosen["letterbox"] = True
    usual = {setting.name: setting.default for setting in registry.settings(method)}
    settings = {name: value for name, value in forms.settings(method).items() if value != usual[name]}
    chosen |= {"settings": settings} if settings else {}
    seed = st.number_input(
        t("fit.seed"), 0, 2**31 - 1, 0, key="fit-seed", help=t("fit.seed_help"), persist_state="session"
    )
    return chosen | ({"seed": int(seed)} if seed else {})


# --- what it will take ------------------------------------------------------------------------------------------------


def forecast(request: Request, dataset: store.Dataset) -> None:
    """Time, memory and what the normals will be used for.  Raises what the fit would raise at once."""
    samples, _ = state.samples(dataset)
    normals = train_normals(samples)
    division = divide(normals, request.method)
    fit, held = len(division.fit), division.calibrating
    st.markdown(t("fit.divided_folds" if division.folds else "fit.divided", fit=fit, held=held))
    region = curation.region(dataset)
    if region:
        st.markdown(f":material/crop_free: {t('fit.region', share=regions.share(region))}")
    needed = thresholds.normals_needed(request.alpha)
    if held < needed:
        percent, best = f"{100 * request.alpha:g}", f"{100 / (held + 1):.2g}"
        st.info(t("fit.too_few_held", percent=percent, needed=needed, held=held, best=best), icon=":material/balance:")
    with st.spinner(t("fit.estimating")):
        expected = _estimate(dataset.id, dataset.meta.get("created"), len(normals), json.dumps(request.as_json()))
    free, kept = amount(expected.free_bytes), amount(expected.cost.state_bytes)
    time, memory = st.columns(2)
    time.metric(t("fit.about_time"), duration(expected.seconds), help=t("fit.time_help"))
    help_ = t("fit.memory_help", free=free, kept=kept)
    memory.metric(t("fit.about_memory"), amount(expected.cost.fit_bytes), help=help_)
    if not expected.fits:
        st.warning(t("fit.too_large", needed=amount(expected.cost.fit_bytes), free=free), icon=":material/memory:")


@st.cache_data(ttl=30, max_entries=200, show_spinner=False)
def _estimate(dataset: str, created: float, normals: int, asked: str) -> Estimate:
    """Kept for half a minute: the free memory in it grows old."""
    request = Request.from_json(json.loads(asked))
    samples, _ = state.samples(store.Dataset.open(dataset))
    return estimate(request, train_normals(samples))
