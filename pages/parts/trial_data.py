"""The labelled pictures of an experiment, as a person chooses them: built in, of the workspace, of the server, or brought."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from adlib import class_sets, store, trials
from adlib.class_sets import Outline
from pages.parts import bringing, state
from pages.parts.words import bare, t

_DIGITS = tuple("0123456789")
_UPLOAD = "upload:"
_MOST_PLACES = 200  # files and folders of the server that are listed


@dataclass(frozen=True)
class Data:
    """source: as `trials.Plan` has it.  upload: Streamlit's file, or None.  classes: names, () while nothing tells them.
    stamp: another one for other pictures."""

    source: str
    upload: Any = None
    classes: tuple[str, ...] = ()
    stamp: str = ""

    @property
    def waits(self) -> bool:
        """For a file that is not there yet."""
        return self.source == _UPLOAD

    def outline(self, side: int) -> Outline:
        """What there is of each class, where pictures become squares of `side` pixels."""
        kind, _, rest = self.source.partition(":")
        if kind == "digits":
            return _digits()
        if kind == "dataset":
            return class_sets.outline_of_dataset(store.Dataset.open(rest), side)
        if kind == "opened":
            return _of_path(str(trials.opened(rest)), self.stamp, side)
        return _of_upload(self.stamp, side, self.upload)


def choose() -> Data:
    """The picker, and the place for a file.  Raises DataError for a file that is damaged."""
    titles = {"digits": bare("compare.digits"), **_datasets(), **_opened(), _UPLOAD: bare("compare.upload")}
    source = st.selectbox(
        t("compare.data"), list(titles), format_func=titles.__getitem__, key="trial-source", persist_state="session",
        help=t("compare.data_help"),
    )  # fmt: skip
    kind, _, rest = source.partition(":")
    if kind == "digits":
        return Data(source, None, _DIGITS)
    if kind == "dataset":
        dataset = store.Dataset.open(rest)
        return Data(source, None, tuple(sorted(_kinds(rest))), str(dataset.meta.get("pictures")))
    if kind == "opened":
        path = trials.opened(rest)
        stamp = f"{path} {path.stat().st_mtime_ns}"
        return Data(source, None, tuple(_of_path(str(path), stamp, class_sets.SMALL).names), stamp)
    file = st.file_uploader(
        t("compare.file"), ["npz", "zip"], key=state.upload_key("trial"), help=t("compare.file_help")
    )
    if file is None:
        return Data(_UPLOAD)
    names = _of_upload(file.file_id, class_sets.SMALL, file).names
    return Data(f"{_UPLOAD}{Path(file.name).name}", file, tuple(names), file.file_id)


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


@st.cache_data(max_entries=1, show_spinner=False)
def _digits() -> Outline:
    return class_sets.outline_of(class_sets.digits())


@st.cache_data(max_entries=100, show_spinner=False)
def _of_path(path: str, stamp: str, side: int) -> Outline:
    return class_sets.outline(Path(path), side)


@st.cache_data(max_entries=20, show_spinner=False)
def _of_upload(file_id: str, side: int, _file: Any) -> Outline:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / trials.file_name(_file.name)
        path.write_bytes(_file.getbuffer())
        return class_sets.outline(path, side)
