"""What a visit remembers and what all visits share: every session key and every cache stands here.

A data set and a run are named by their ids in the address (`?dataset=…&run=…`), so that a reload or a colleague with the
link sees the same.  Session state carries them over page switches.  Caches are keyed by ids, digests and times of change,
never by pictures: Streamlit hashes large arrays by a sample, and would take a small defect for the same picture.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from adlib import curation, registry, store, trials
from adlib.contract import AdlibError, Sample
from pages.parts.words import bare, language, tell_bare

if TYPE_CHECKING:
    from adlib.datasets import Refused
    from adlib.workflow import Fitted

_EXISTS = {"dataset": store.Dataset.exists, "run": store.Run.exists}


# --- the current data set and run -------------------------------------------------------------------------------------


def sync() -> list[str]:
    """Address and session state agree afterwards; the address wins.  Returns which of the two a link named in vain."""
    gone = []
    for kind, exists in _EXISTS.items():
        asked = st.query_params.get(kind)
        if asked is not None and exists(asked):
            st.session_state[kind] = asked
        elif asked is not None:
            del st.query_params[kind]
            if st.session_state.get(kind) != asked:  # else it was deleted here a moment ago
                gone.append(kind)
        known = st.session_state.get(kind)
        if known and not exists(known):
            del st.session_state[kind]
        elif known and st.query_params.get(kind) != known:
            st.query_params[kind] = known
    return gone


def choose(*, dataset: str | None = None, run: str | None = None, along: bool = True) -> None:
    """Makes these the current ones, here and in the address.  along: a run brings its data set with it."""
    if run is not None and dataset is None and along:
        with suppress(AdlibError):
            asked = store.Run.open(run).request["dataset"]
            dataset = asked if store.Dataset.exists(asked) else None
    chosen = {kind: id for kind, id in (("dataset", dataset), ("run", run)) if id is not None}
    for kind, id in chosen.items():
        st.session_state[kind] = id
    st.query_params.update(chosen)  # both at once: one step back in the browser undoes one choice


def forget(kind: str) -> None:
    """No current one any more.  kind: "dataset" or "run"."""
    st.session_state.pop(kind, None)
    if kind in st.query_params:
        del st.query_params[kind]


def dataset() -> store.Dataset | None:
    """The current data set, read afresh; None when none is chosen or it is damaged."""
    id = st.session_state.get("dataset")
    with suppress(AdlibError):
        return store.Dataset.open(id) if id else None
    return None


def run() -> store.Run | None:
    """The current run, finished or not; None when none is chosen."""
    id = st.session_state.get("run")
    with suppress(AdlibError):
        return store.Run.open(id) if id else None
    return None


def experiment() -> str | None:
    """Id of the experiment on the screen; the address wins.  None when none is chosen or it is gone."""
    asked = st.query_params.get("experiment")
    if asked and trials.exists(asked):
        st.session_state["experiment"] = asked
    elif asked and st.session_state.get("experiment") != asked:  # else it was deleted here a moment ago
        st.session_state["experiment-gone"] = True
    known = st.session_state.get("experiment")
    if not known or not trials.exists(known):
        choose_experiment(None)
        return None
    st.query_params["experiment"] = known
    return str(known)


def choose_experiment(id: str | None) -> None:
    """Puts an experiment on the screen and into the address; None: none."""
    st.session_state["experiment"] = id
    if id:
        st.query_params["experiment"] = id
    elif "experiment" in st.query_params:
        del st.query_params["experiment"]


# --- lists ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DatasetLine:
    """A data set in a list.  normals, tests, refused: counts of pictures."""

    id: str
    title: str
    created: float
    normals: int
    tests: int


@dataclass(frozen=True)
class RunLine:
    """A finished run in a list.  auroc: None when it was not evaluated.  bytes: of its whole folder."""

    id: str
    title: str
    method: str
    backbone: str
    dataset: str
    dataset_title: str
    created: float
    auroc: float | None
    bytes: int


def _changed(*paths: Path) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


def samples(dataset: store.Dataset) -> tuple[tuple[Sample, ...], tuple[Refused, ...]]:
    """The data set's samples and what was refused while they were put together; derived once per change."""
    return _samples(str(dataset.folder), _changed(*_made_of(dataset.folder)), dataset)


def _made_of(folder: Path) -> tuple[Path, Path]:
    """The files that say which pictures a data set has and which of them take part."""
    return folder / "dataset.json", folder / curation.FILE


@st.cache_resource(max_entries=8, show_spinner=False)
def _samples(folder: str, changed: Any, _dataset: store.Dataset) -> tuple[tuple[Sample, ...], tuple[Refused, ...]]:
    from adlib import datasets

    found, refused = datasets.samples(_dataset)
    return tuple(found), tuple(refused)


def datasets() -> list[DatasetLine]:
    """All data sets, newest first."""
    paths = sorted((store.workspace() / "datasets").glob("*/dataset.json"), key=lambda p: -p.stat().st_mtime)
    return [
        line
        for path in paths
        if (line := _dataset_line(str(path.parent), _changed(*_made_of(path.parent)), language()))
    ]


@st.cache_data(max_entries=500, show_spinner=False)
def _dataset_line(folder: str, changed: Any, language: str) -> DatasetLine | None:
    with suppress(AdlibError):
        found = store.Dataset.open(Path(folder).name)
        known, _ = samples(found)
        normals = sum(s.split == "train" for s in known)
        return DatasetLine(
            found.id, dataset_title(found.id, found.title), found.meta["created"], normals, len(known) - normals
        )
    return None


def runs() -> list[RunLine]:
    """All finished runs, newest first."""
    found = []
    for one in store.Run.all():
        changed = _changed(one.folder / "run.json", one.folder / "report.json", one.folder / "title.json")
        if (line := _run_line(str(one.folder), changed, language())) is not None:
            found.append(line)
    return found


@st.cache_data(max_entries=1000, show_spinner=False)
def _run_line(folder: str, changed: Any, language: str) -> RunLine | None:
    with suppress(AdlibError, KeyError):
        one = store.Run(Path(folder))
        card, report = one.card, one.read("report.json") or {}
        size = sum(path.stat().st_size for path in one.folder.iterdir() if path.is_file())
        return RunLine(
            one.id, run_title(one), registry.card(card["method"]).title, (card["backbone"] or {}).get("name", "–"),
            card["dataset"], dataset_title(card["dataset"], card["dataset_title"]), card["created"],
            report.get("image_auroc"), size,
        )  # fmt: skip
    return None


def dataset_title(id: str, title: str) -> str:
    """The name a person gave it; a sample set's in the visitor's language."""
    if not id.startswith("sample-"):
        return title
    name, colon, choice = title.partition(": ")
    return tell_bare(name) + colon + choice


def run_title(run: store.Run) -> str:
    """The name a person gave the run, else what it is: method, backbone, data set."""
    with suppress(AdlibError, KeyError):
        given = run.read("title.json")
        if given:
            return str(given["title"])
        request = run.request
        method = registry.card(request["method"]).title
        backbone = (request["backbone"] or {}).get("name")
        kept = run.card.get("dataset_title") if run.finished else None
        if kept is None and store.Dataset.exists(request["dataset"]):
            kept = store.Dataset.open(request["dataset"]).title
        kept = kept and dataset_title(request["dataset"], kept)
        return " · ".join(filter(None, (method, backbone, kept)))
    return run.id


def trial_title(trial: trials.Trial) -> str:
    """What an experiment is: its kind, its data and its methods.  Not escaped."""
    try:
        plan = trial.plan
        methods = [method_title(one.label) for one in plan.methods]
    except AdlibError:
        return trial.id
    shown = ", ".join(methods[:3]) + (f" +{len(methods) - 3}" if len(methods) > 3 else "")
    return " · ".join((bare(f"compare.{plan.kind}"), source_title(plan), shown))


def method_title(label: str) -> str:
    """`knn:k=3` → "Deep kNN (k=3)".  Not escaped."""
    key, *settings = label.split(":")
    title = registry.card(key).title
    return f"{title} ({', '.join(settings)})" if settings else title


def source_title(plan: trials.Plan) -> str:
    """What the data of an experiment are called.  Not escaped."""
    kind, _, rest = plan.source.partition(":")
    if kind == "dataset" and store.Dataset.exists(rest):
        return dataset_title(rest, store.Dataset.open(rest).title)
    return bare("compare.digits") if kind == "digits" else plan.title or Path(rest).name


# --- pictures ---------------------------------------------------------------------------------------------------------


def thumbnail(path: Path, digest: str, side: int = 256, white: int | None = None) -> bytes | None:
    """The picture as a small JPEG; None when the file is gone.  white: the data set's rule for 16-bit pictures."""
    try:
        return _thumbnail(digest, side, white, path)
    except (AdlibError, OSError):
        return None


@st.cache_data(max_entries=3000, max_size="200MB", show_spinner=False)
def _thumbnail(digest: str, side: int, white: int | None, _path: Path) -> bytes:
    from adlib import frames, images

    return frames.thumbnail(images.read(_path, white=white, least=side), side)


def upload_key(name: str) -> str:
    """The key of an uploader; a new one after `empty_upload`, so that Streamlit lets go of the files."""
    return f"upload-{name}-{st.session_state.get(f'uploads-{name}', 0)}"


def empty_upload(name: str) -> None:
    st.session_state[f"uploads-{name}"] = st.session_state.get(f"uploads-{name}", 0) + 1


# --- fitted detectors -------------------------------------------------------------------------------------------------

_device = threading.Lock()  # one picture at a time on the one device


@contextmanager
def fitted(run_id: str) -> Iterator[Fitted]:
    """A finished run, ready to look at pictures, with its device to itself: `with state.fitted(id) as fitted:`.

    Loaded once for all visitors; the three used last are kept.  Raises NotFitted, WeightsMissing, DataError.
    """
    run = store.Run.open(run_id)
    loaded = _fitted(str(run.folder), _changed(run.folder / "run.json", run.folder / "calibration.json"))
    with _device:
        yield loaded


@st.cache_resource(max_entries=3, show_spinner=False)
def _fitted(folder: str, changed: Any) -> Fitted:
    from adlib import workflow

    return workflow.load(store.Run(Path(folder)))
