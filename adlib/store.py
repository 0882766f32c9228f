"""Data-set and run folders: JSON, JSON lines, safetensors and npy, and never a pickle.

A folder is found by an id that nobody can guess.  Files are written beside their target and moved into place, and a
run's card or a data set's list is written last, so that a half-written folder is never listed.
What the files mean is left to those who write them (`intake`, `fitting`, `evaluation`, `jobs`).
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from adlib.contract import VERSION, DataError

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def workspace() -> Path:
    """Where everything is kept: `ADLIB_WORKSPACE`, or the folder `workspace` here.  Made when it is missing."""
    folder = Path(os.environ.get("ADLIB_WORKSPACE") or "workspace").expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def new_id() -> str:
    """An id of 96 random bits: whoever knows a link knows the run, nobody else does."""
    while (made := secrets.token_urlsafe(12)).startswith("-"):  # it would read as an option on the command line
        pass
    return made


def checked_id(id: str) -> str:
    """`id` when it can be one.  Raises DataError."""
    if not _ID.fullmatch(id):
        raise DataError("'{id}' is not an id. Copy it from the page's address or from the list of runs.", id=id[:80])
    return id


# --- files ------------------------------------------------------------------------------------------------------------


def write_bytes(path: Path, data: bytes) -> None:
    """Writes beside the target, then moves: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """UTF-8, indented, readable by people.  Numbers must be finite: NaN is not JSON, and None says more."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    write_bytes(path, text.encode())


def read_json(path: Path) -> Any:
    """Raises DataError when the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("'{file}' is missing in folder '{folder}'.", file=path.name, folder=path.parent.name) from None
    except (ValueError, OSError):
        raise DataError(
            "'{file}' in folder '{folder}' is damaged. Delete the folder and make it again.",
            file=path.name,
            folder=path.parent.name,
        ) from None


def write_array(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def read_array(path: Path) -> np.ndarray:
    """Mapped from disk, not read: pages look at single rows of large arrays."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        raise DataError(
            "'{file}' in folder '{folder}' is missing or damaged.", file=path.name, folder=path.parent.name
        ) from None
    return array


def share_folder(source: Path, target: Path) -> None:
    """The files of a folder once more elsewhere: linked, so that they take no room, or copied where that cannot be."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and not path.name.startswith("."):
            try:
                os.link(path, target / path.name)
            except OSError:
                shutil.copyfile(path, target / path.name)


def _newest_first(folders: list[Path]) -> list[Path]:
    return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)


# --- data sets --------------------------------------------------------------------------------------------------------


class Dataset:
    """`datasets/<id>/`: dataset.json and the pictures' own bytes, named by their content hash.

    meta is dataset.json: id, title, created, source, white, layout, pictures, folders, refused, excluded; a later version
    has version, parent and taken_over besides (`datasets.take_over`).
    """

    FORMAT = "adlib-dataset/1"

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder = folder
        self.meta = meta

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def title(self) -> str:
        return str(self.meta["title"])

    @classmethod
    def create(cls, title: str, source: str, id: str | None = None) -> Self:
        """A data set without pictures.  It is listed once `save` has been called."""
        folder = workspace() / "datasets" / checked_id(id or new_id())
        meta = {
            "format": cls.FORMAT,
            "id": folder.name,
            "title": title,
            "created": time.time(),
            "source": source,
            "white": None,
            "layout": None,
            "pictures": [],
            "folders": {},
            "refused": [],
            "excluded": [],
        }
        return cls(folder, meta)

    @classmethod
    def open(cls, id: str) -> Self:
        """Raises DataError when there is none of that id, or its list is damaged."""
        folder = workspace() / "datasets" / checked_id(id)
        if not (folder / "dataset.json").exists():
            raise DataError("Data set '{id}' is not on this server. Choose another on the Data page.", id=id)
        return cls(folder, read_json(folder / "dataset.json"))

    @classmethod
    def exists(cls, id: str) -> bool:
        return bool(_ID.fullmatch(id)) and (workspace() / "datasets" / id / "dataset.json").exists()

    @classmethod
    def all(cls) -> list[Self]:
        """Newest first; a damaged one is left out."""
        found = []
        for path in _newest_first([p.parent for p in (workspace() / "datasets").glob("*/dataset.json")]):
            with suppress(DataError):
                found.append(cls.open(path.name))
        return found

    def save(self) -> None:
        write_json(self.folder / "dataset.json", self.meta)

    def delete(self) -> None:
        _remove(self.folder)


# --- runs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """`runs/<id>/`: what was asked (request.json), what happened (events.jsonl) and what was learned (run.json …).

    run.json is written last: a run that has it is finished.
    """

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def finished(self) -> bool:
        return (self.folder / "run.json").exists()

    @property
    def request(self) -> dict[str, Any]:
        return dict(read_json(self.folder / "request.json"))

    @property
    def card(self) -> dict[str, Any]:
        """run.json: method, settings, backbone and its weights' hash, data hash, seed, versions, times."""
        return dict(read_json(self.folder / "run.json"))

    @property
    def title(self) -> str:
        return str((self.read("title.json") or {}).get("title", self.id))

    @classmethod
    def create(cls, where: str | Path | None = None) -> Self:
        """where: a folder to use (command line), or None for a new one in the workspace."""
        folder = Path(where).expanduser().resolve() if where else workspace() / "runs" / new_id()
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    @classmethod
    def open(cls, run: str | Path) -> Self:
        """run: an id in the workspace, or the path of a run folder.  Raises DataError when there is none."""
        folder = workspace() / "runs" / str(run) if _ID.fullmatch(str(run)) else Path(run).expanduser().resolve()
        if not folder.is_dir() and Path(run).is_dir():
            folder = Path(run).resolve()
        if not (folder / "request.json").exists():
            raise DataError(
                "There is no run '{run}' on this machine. Fit one, or look at the list of runs.", run=str(run)[:200]
            )
        return cls(folder)

    @classmethod
    def exists(cls, id: str) -> bool:
        return bool(_ID.fullmatch(id)) and (workspace() / "runs" / id / "request.json").exists()

    @classmethod
    def all(cls) -> list[Self]:
        """Runs of the workspace that are finished, newest first."""
        return [cls(folder) for folder in _newest_first([p.parent for p in (workspace() / "runs").glob("*/run.json")])]

    def read(self, name: str) -> Any:
        """A JSON file of this run, or None when it was not written."""
        return read_json(self.folder / name) if (self.folder / name).exists() else None

    def write(self, name: str, value: Any) -> None:
        write_json(self.folder / name, value)

    def rename(self, title: str) -> None:
        self.write("title.json", {"title": title.strip()[:120] or self.id})

    def append(self, event: Mapping[str, Any]) -> None:
        """Adds one line to events.jsonl: a single short write, so that readers never see half a line for long."""
        line = json.dumps({"time": time.time(), **event}, ensure_ascii=False) + "\n"
        with open(self.folder / "events.jsonl", "ab") as file:
            file.write(line.encode())

    def events(self) -> Iterator[dict[str, Any]]:
        """All events so far, oldest first; a line that is still being written is left out."""
        with suppress(FileNotFoundError):
            for line in (self.folder / "events.jsonl").read_bytes().splitlines():
                with suppress(ValueError):
                    yield json.loads(line)

    def last_event(self) -> dict[str, Any] | None:
        """The newest event, reading only the end of the file: pages ask once a second."""
        with suppress(FileNotFoundError), open(self.folder / "events.jsonl", "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
            for line in reversed(file.read().splitlines()):
                with suppress(ValueError):
                    return dict(json.loads(line))
        return None

    def forget(self) -> None:
        """Deletes what was learned, and keeps what was asked, what happened and the title."""
        (self.folder / "run.json").unlink(missing_ok=True)  # first: from here on it is not listed
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in ("request.json", "events.jsonl", "title.json"):
                path.unlink(missing_ok=True)

    def delete(self) -> None:
        _remove(self.folder)


def _remove(folder: Path) -> None:
    """Moved aside first, so that a folder half deleted is never listed."""
    aside = folder.with_name(f".gone-{secrets.token_hex(6)}")
    with suppress(FileNotFoundError):
        os.replace(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


# --- learned state ----------------------------------------------------------------------------------------------------


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """state: CPU tensors by name.  safetensors holds numbers and nothing that runs."""
    from safetensors.torch import save

    write_bytes(path, save({name: value.contiguous() for name, value in state.items()}, {"format": f"adlib/{VERSION}"}))


def load_state(path: Path, check: Callable[[Mapping[str, Any]], None] | None = None) -> dict[str, Any]:
    """The tensors, read after the file's own list of shapes has been looked at.

    check: given {name: (dtype, shape)} before any tensor is allocated; raises to refuse.
    Raises DataError when the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (the file is no mapping)
            shapes = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            if check is not None:
                check(shapes)
            return {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            "'{file}' is missing or damaged ({why}). Fit the run again.", file=path.name, why=type(error).__name__
        ) from None
