"""The ways pictures come in: upload, sample sets, a folder on the server, files of MNIST and CIFAR-10."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from adlib import arrays, intake, samples, store
from adlib.contract import DataError, Sentence
from pages.parts import state, views
from pages.parts.words import ASSETS, bare, t, tell, tell_bare

_ARRAY_FILE = re.compile(r"[\w-]{1,40}\.(npz|bin)|[\w-]{1,30}[-.]idx[13]-ubyte(\.gz)?")
DIGITS = list(range(10))


def server_folder() -> Path | None:
    """The one folder of this server that visitors may take pictures from."""
    given = os.environ.get("ADLIB_DATA")
    return Path(given).expanduser() if given else None


# --- taking -----------------------------------------------------------------------------------------------------------


def _bar() -> Any:
    bar = st.progress(0.0, text=t("data.reading"))

    def tick(fraction: float, message: str, /, **numbers: object) -> None:
        bar.progress(min(1.0, max(0.0, fraction)), text=tell(Sentence(message, numbers)))

    return tick


def take(items: Iterable[Any], title: str, source: str, into: str | None) -> None:
    """Reads the items into a data set and shows it.  into: id of the one they add to, None for a new one."""
    dataset = store.Dataset.open(into) if into else store.Dataset.create(title, source)
    taken = intake.take(dataset, items, _bar())
    if not dataset.meta["pictures"]:
        dataset.delete()
    else:
        state.choose(dataset=dataset.id)
        _brought().add(dataset.id)
    st.session_state["taken"] = (taken.added, [(r.name, r.reason) for r in taken.refused], list(taken.notes))


def _brought() -> set[str]:
    """Data sets that this visitor has brought in: only to those does an upload add without being asked to."""
    return st.session_state.setdefault("brought", set())


def said() -> None:
    """What the last intake took, refused and did to pictures; shown until the next one."""
    if "taken" not in st.session_state:
        return
    added, refused, notes = st.session_state["taken"]
    if added:
        st.success(t("data.taken", n=added), icon=":material/check_circle:")
    else:
        st.warning(t("data.nothing"), icon=":material/block:")
    if refused:
        with st.expander(t("data.refused", n=len(refused)), expanded=True, icon=":material/block:"):
            views.refused(refused)
    if notes:
        with st.expander(t("data.noted", n=len(notes)), icon=":material/info:"):
            views.refused(notes, reason=bare("data.note"))


# --- ways -------------------------------------------------------------------------------------------------------------


def upload() -> None:
    """Files, a zip or a folder.  They are on disk at the end of this run, and Streamlit's copies are let go."""
    current = state.dataset()
    own = current is not None and not current.id.startswith("sample-")
    into = None
    if own and current is not None:
        choice = st.segmented_control(
            t("data.into"), ["add", "new"], default="add" if current.id in _brought() else "new", required=True,
            key=f"into-{current.id}",
            format_func=lambda c: t("data.into_add", title=current.title) if c == "add" else t("data.into_new"),
        )  # fmt: skip
        into = current.id if choice == "add" else None
    left, right = st.columns(2)
    files = left.file_uploader(
        t("data.files"), accept_multiple_files=True, key=state.upload_key("files"), help=t("data.files_help")
    )
    folder = right.file_uploader(
        t("data.folder"), accept_multiple_files="directory", key=state.upload_key("folder"), help=t("data.folder_help")
    )
    given = [*(files or []), *(folder or [])]
    if given:
        opened = intake.from_uploads((file.name, file) for file in given)  # zips are read from Streamlit's own buffer
        take(opened, _title_of(given[0].name), "upload", into)
        state.empty_upload("files")
        state.empty_upload("folder")
        st.rerun()


def _title_of(name: str) -> str:
    """The folder's or the zip's own name; for single pictures, the moment."""
    first, _, rest = name.replace("\\", "/").lstrip("./").partition("/")
    if rest:
        return first[:120]
    if first.lower().endswith(".zip"):
        return first[:-4][:120]
    return bare("data.untitled", when=datetime.now().strftime("%Y-%m-%d %H:%M"))


def sample_sets() -> None:
    """The built-in sets by their pictures; the digits with a choice of which are normal."""
    grid = st.grid(4, min_column_width=150)
    for key, each in samples.SAMPLES.items():
        if key != "digits":
            with grid.cell():
                _picture(key)
                st.markdown(f"**{tell(each.title)}**  \n{tell(each.about)}")
                _use(key)
    left, right = st.columns([1, 3])
    with left:
        _picture("digits")
    with right:
        each = samples.SAMPLES["digits"]
        st.markdown(f"**{tell(each.title)}**  \n{tell(each.about)}")
        _use("digits", **_digits())


def _picture(key: str) -> None:
    st.image(ASSETS / "samples" / f"{key}.jpg", width="stretch", alt=tell_bare(samples.SAMPLES[key].title))


def _use(key: str, **choices: Any) -> None:
    if st.button(t("data.use_sample"), key=f"use-{key}"):
        state.choose(dataset=samples.ensure(key, _bar(), **choices).id)
        st.session_state.pop("taken", None)
        st.rerun()


def _digits() -> dict[str, Any]:
    normal = st.pills(t("data.normal_digits"), DIGITS, selection_mode="multi", default=[1], key="digits-normal")
    anomaly = st.pills(t("data.other_digits"), DIGITS, selection_mode="multi", default=[9], key="digits-other")
    return {"normal": tuple(normal or ()), "anomaly": tuple(anomaly) if anomaly else None}


def folder_on_server(root: Path) -> None:
    """A folder under ADLIB_DATA; `intake.allowed_folder` has the last word on where it lies."""
    found = sorted(p for depth in ("*", "*/*") for p in root.glob(depth) if p.is_dir() and p.name[:1] != ".")[:300]
    if not found:
        st.info(t("data.server_empty"))
        return
    names = [p.relative_to(root).as_posix() for p in found]
    chosen = str(st.selectbox(t("data.server_folder"), names, key="server-folder", accept_new_options=True))
    path = intake.allowed_folder(chosen)
    experiment = _experiment() if arrays.is_known(path) else None
    if st.button(t("data.take_folder"), key="take-folder", icon=":material/drive_folder_upload:"):
        take(_one_class(path, *experiment) if experiment else intake.from_folder(path), path.name, "server", None)
        st.rerun()


def array_files() -> None:
    """MNIST and CIFAR-10 as they are published: some classes are normal, others are what shall be found."""
    st.markdown(t("data.arrays_about"))
    files = st.file_uploader(t("data.arrays"), accept_multiple_files=True, key=state.upload_key("arrays"))
    experiment = _experiment()
    if st.button(t("data.take_arrays"), key="take-arrays", disabled=not files, icon=":material/grid_on:") and files:
        with tempfile.TemporaryDirectory() as folder:
            for file in files:
                name = Path(file.name).name
                if not _ARRAY_FILE.fullmatch(name):
                    raise DataError("'{name}' is no file of MNIST or CIFAR-10.", name=name[:80])
                (Path(folder) / name).write_bytes(file.getbuffer())
            packed = next(Path(folder).glob("*.npz"), Path(folder))
            take(_one_class(packed, *experiment), Path(files[0].name).stem, "upload", None)
        state.empty_upload("arrays")
        st.rerun()


def _experiment() -> tuple[set[str], set[str] | None]:
    """Which classes are normal and which are to be found; None: all the others."""
    kinds = {"MNIST": [str(digit) for digit in DIGITS], "CIFAR-10": list(arrays.CIFAR10)}
    kind = st.segmented_control(
        t("data.array_kind"),
        list(kinds),
        default="MNIST",
        required=True,
        key="array-kind",
        label_visibility="collapsed",
    )
    classes = kinds[kind or "MNIST"]
    normal = st.pills(
        t("data.normal_classes"), classes, selection_mode="multi", default=classes[1:2], key=f"normal-{kind}"
    )
    other = st.pills(t("data.other_classes"), classes, selection_mode="multi", default=[], key=f"other-{kind}")
    return set(normal), set(other) or None


def _one_class(path: Path, normal: set[str], other: set[str] | None) -> Iterator[intake.Item]:
    return arrays.one_class(arrays.arrays(path), normal, other)
