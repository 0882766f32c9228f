"""What a person chooses before an experiment: its kind, labelled data, methods and settings.  The worker does the rest."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from adlib import class_sets, jobs, registry, store, trials, weights
from adlib.contract import AdlibError, Backbone
from pages.parts import bringing, forms, state, views, watching
from pages.parts.words import bare, t

_DIGITS = tuple("0123456789")
_USUAL = {  # quick ones, so that the first try takes less than a minute on the built-in digits
    "one-vs-one": ["autoencoder", "knn"],
    "one-class": ["knn", "pixel_median"],
    "class-holdout": ["knn", "lof", "pixel_median"],
}
_UPLOAD = "upload:"
_MOST_PLACES = 200  # files and folders of the server that are listed


def draw() -> None:
    """The whole form."""
    kind = st.segmented_control(
        t("compare.kind"), trials.KINDS, default=trials.KINDS[0], required=True, key="trial-kind",
        format_func=lambda name: bare(f"compare.{name}"), persist_state="session",
    )  # fmt: skip
    st.markdown(t(f"compare.about_{kind}"))
    left, right = st.columns([3, 2], gap="large")
    with left, views.error_box():
        source, upload, classes = _data()
        chosen = _methods(kind)
    with right:
        values = _choices(kind, classes)
        values |= _details(kind, chosen)
        _start(kind, source, upload, classes, chosen, values)


# --- data -------------------------------------------------------------------------------------------------------------


def _data() -> tuple[str, Any, tuple[str, ...]]:
    """(source, uploaded file or None, names of the classes, () while nothing tells them)."""
    titles = {"digits": bare("compare.digits"), **_datasets(), **_opened(), _UPLOAD: bare("compare.upload")}
    source = st.selectbox(
        t("compare.data"), list(titles), format_func=titles.__getitem__, key="trial-source", persist_state="session",
        help=t("compare.data_help"),
    )  # fmt: skip
    if source == "digits":
        return source, None, _DIGITS
    if source.startswith("dataset:"):
        return source, None, tuple(sorted(_kinds(source.partition(":")[2])))
    if source.startswith("opened:"):
        path = trials.opened(source.partition(":")[2])
        return source, None, _names(str(path), path.stat().st_mtime_ns)
    file = st.file_uploader(
        t("compare.file"), ["npz", "zip"], key=state.upload_key("trial"), help=t("compare.file_help")
    )
    if file is None:
        return source, None, ()
    return f"{_UPLOAD}{Path(file.name).name}", file, _inside(file.file_id, file)


def _kinds(id: str) -> set[str]:
    """The classes of normals that a data set has."""
    found, _ = state.samples(store.Dataset.open(id))
    return {sample.kind for sample in found if sample.label == 0}


def _datasets() -> dict[str, str]:
    lines = state.datasets()
    return {f"dataset:{line.id}": line.title for line in lines if len(_kinds(line.id)) > 1}


def _opened() -> dict[str, str]:
    """Files and folders of the one folder that the operator has opened."""
    root = bringing.server_folder()
    if root is None or not root.is_dir():
        return {}
    found = sorted(path for depth in ("*", "*/*") for path in root.glob(depth) if not path.name.startswith("."))
    fit = [path for path in found if path.is_dir() or path.suffix.lower() in (".npz", ".zip")]
    names = [path.relative_to(root).as_posix() for path in fit[:_MOST_PLACES]]
    return {f"opened:{name}": bare("compare.on_server", name=name) for name in names}


@st.cache_data(max_entries=100, show_spinner=False)
def _names(path: str, changed: int) -> tuple[str, ...]:
    return tuple(class_sets.names(Path(path)))


@st.cache_data(max_entries=20, show_spinner=False)
def _inside(file_id: str, _file: Any) -> tuple[str, ...]:
    """The classes that an uploaded file names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / trials.file_name(_file.name)
        path.write_bytes(_file.getbuffer())
        return tuple(class_sets.names(path))


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
        names = list(dict.fromkeys(["offline", *(one.name for one in weights.ready())]))
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
        if kind == "class-holdout":
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


def _start(
    kind: str, source: str, upload: Any, classes: Sequence[str], chosen: Sequence[str], values: dict[str, Any]
) -> None:
    """How much there is to do, and the one button."""
    known = len(classes) > 1
    if known and chosen:
        turns = {"one-vs-one": 1, "one-class": len(values.get("only") or classes)}.get(kind, values.get("cases", 1))
        sizes = max(1, len(values.get("samples", ()))) if kind == "class-holdout" else 1
        st.markdown(t("compare.fits", n=turns * sizes * len(chosen), methods=len(chosen)))
    elif source != _UPLOAD and not known:
        st.warning(t("compare.no_classes"), icon=":material/category:")
    methods = tuple(trials.Method(key, st.session_state.get(f"trial-settings-{key}", {})) for key in chosen)
    st.button(
        t("compare.start"), key="primary-trial", type="primary", icon=":material/play_arrow:", width="stretch",
        disabled=not (known and chosen), on_click=_begin, args=(kind, source, upload, methods, values),
    )  # fmt: skip
    watching.told("trial-refused")


def _begin(kind: str, source: str, upload: Any, methods: tuple[trials.Method, ...], values: dict[str, Any]) -> None:
    try:
        title = plain_name(source)
        plan = trials.Plan(kind, source, methods, title, **values)
        trial = trials.take(plan, None if upload is None else upload.getvalue())
        now = jobs.experiment_state(trial.id)
        if now is None or now.status in ("failed", "stopped"):
            jobs.experiment(trial.id)
        state.choose_experiment(trial.id)
        if upload is not None:
            state.empty_upload("trial")
    except AdlibError as error:
        st.session_state["trial-refused"] = error.sentence


def plain_name(source: str) -> str:
    """The data's own name, as the list of experiments shows it."""
    kind, _, rest = source.partition(":")
    return "" if kind in ("digits", "dataset") else Path(rest).name[:80]
