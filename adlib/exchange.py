"""A run as one zip, out of this workspace and into another: safetensors, JSON and a CSV, nothing that could run.

What comes in is a stranger's: member names are compared with a list and never used as paths, sizes and ratios are
looked at before a byte is unpacked, the JSON is vetted field by field (`vetting`), and the tensors' shapes are read from
the file's own list before any is allocated.  A run in the list afterwards has passed all of it.
"""

from __future__ import annotations

import io
import json
import shutil
import stat
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from adlib import registry, results, store, vetting
from adlib.contract import Backbone, DataError, Sample, say
from adlib.items import UNREADABLE

STATE, ARRAYS, SHEET = "state.safetensors", "arrays.safetensors", "scores.csv"
_NPY = ("maps", "embeddings", "normals")  # kept as .npy beside a run, as one safetensors file in the zip
_NEEDED = ("run.json", "calibration.json", "normals.json", STATE)
MOST_BYTES = 2_000_000_000  # unpacked, all together
MOST_JSON = 64_000_000
MOST_RATIO = 200  # scores of calm pictures pack well; a bomb packs a thousandfold
_DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL"}


# --- out --------------------------------------------------------------------------------------------------------------


def pack(run: store.Run) -> bytes:
    """The finished run as a zip.  Where its pictures lie on this machine is left out.  Raises DataError when unfinished."""
    if not run.finished:
        raise DataError("Run '{run}' has not finished, so there is nothing to download yet.", run=run.id)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in vetting.NAMES:
            content = run.read(name)
            if name == "scores.json" and content is not None:
                content = [{key: value for key, value in row.items() if key not in ("path", "mask")} for row in content]
            if content is not None:
                archive.writestr(name, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False))
        if (run.folder / SHEET).exists():
            archive.write(run.folder / SHEET, SHEET)
        archive.write(run.folder / STATE, STATE, zipfile.ZIP_STORED)
        arrays = {n: store.read_array(run.folder / f"{n}.npy") for n in _NPY if (run.folder / f"{n}.npy").exists()}
        if arrays:
            from safetensors.numpy import save

            archive.writestr(ARRAYS, save({n: np.ascontiguousarray(a) for n, a in arrays.items()}))
    return out.getvalue()


# --- in ---------------------------------------------------------------------------------------------------------------


def unpack(file: IO[bytes] | Path) -> store.Run:
    """A run from a zip that `pack` made here or elsewhere, under a new id.

    file: a path, or an open file that can seek.  Raises DataError, and leaves nothing behind, when anything in it is not
    as it should be.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = _members(archive)
            contents = {
                name: vetting.file(name, _json(archive, members[name])) for name in vetting.NAMES if name in members
            }
            return _write(archive, members, contents)
    except UNREADABLE:
        raise DataError("This zip is damaged or was cut off. Download the run again.") from None


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name, all of them known ones.  Looks at the zip's own list; nothing is unpacked here."""
    known = {*vetting.NAMES, STATE, ARRAYS, SHEET}
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if name not in known or name in members or info.is_dir():
            raise DataError(
                "'{name}' does not belong into a run's zip. Import a zip from a Models page.", name=name[:80]
            )
        if info.flag_bits & 1 or stat.S_ISLNK(info.external_attr >> 16):
            raise DataError("'{name}' is encrypted or a link, which a run's zip never holds.", name=name)
        if info.file_size > MOST_RATIO * max(info.compress_size, 1000) or (
            name.endswith(".json") and info.file_size > MOST_JSON
        ):
            raise DataError("'{name}' is larger unpacked than a run's file can be.", name=name)
        members[name] = info
    if missing := [name for name in _NEEDED if name not in members]:
        raise DataError("This zip is not a run: {names} is missing.", names=", ".join(missing))
    if sum(info.file_size for info in members.values()) > MOST_BYTES:
        raise DataError("This zip unpacks to more than {limit:.0f} GB, the limit for a run.", limit=MOST_BYTES / 1e9)
    return members


def _json(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    with archive.open(info) as part:
        data = part.read(MOST_JSON + 1)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise DataError("'{name}' in this zip is damaged. Download the run again.", name=info.filename) from None


def _write(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], contents: Mapping[str, Any]) -> store.Run:
    """All files into a folder that is not listed; run.json, which makes it a run, last."""
    run = store.Run.create()
    try:
        _unpack_tensors(archive, members[STATE], run.folder / STATE)
        _check_state(run.folder / STATE, contents["run.json"])
        if ARRAYS in members:
            _unpack_tensors(archive, members[ARRAYS], run.folder / ARRAYS)
            _write_arrays(run, contents)
        if "scores.json" in contents:
            results.write_rows(run, [_row(row) for row in contents["scores.json"]])
        for name, content in contents.items():
            if name not in ("run.json", "scores.json"):
                run.write(name, content)
        card = contents["run.json"]
        asked = ("dataset", "method", "settings", "backbone", "seed", "alpha", "letterbox", "region")
        run.write(
            "request.json", {name: card[name] for name in asked if name in card}
        )  # no key: a stranger's run never stands in for a fit
        run.append({"status": "done", "message": say("taken in from a file").as_json()})
        size = (run.folder / STATE).stat().st_size
        run.write(
            "run.json",
            {"format": "adlib-run/1", **card, "id": run.id, "state_bytes": size, "imported": time.time()},
        )
    except BaseException:
        run.delete()
        raise
    return run


def _row(row: dict[str, Any]) -> results.Row:
    """A judged picture that lies elsewhere: its path is empty."""
    sample = Sample(Path(), row["label"], row["kind"], None, "test", row["digest"], row["name"])
    return results.Row(sample, row["score"], row["normalised"], row["alarm"], row.get("peak"))


# --- tensors ----------------------------------------------------------------------------------------------------------


def _unpack_tensors(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """In pieces, to a name of our own; a member that lies about its size ends in BadZipFile."""
    with archive.open(info) as part, open(target, "wb") as file:
        shutil.copyfileobj(part, file, 1 << 20)


def _plausible(shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Looked at before a tensor is allocated; the file's own length bounds what they take together."""
    for dtype, shape in shapes.values():
        if dtype not in _DTYPES or len(shape) > 6 or any(side < 0 for side in shape):
            raise DataError("The learned state in this zip is not one that adlib can take in.")
    if len(shapes) > 500:
        raise DataError("The learned state in this zip is not one that adlib can take in.")


def _check_state(path: Path, card: Mapping[str, Any]) -> None:
    """The method itself says whether the state is one of its own."""
    state = store.load_state(path, _plausible)
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise DataError("The learned state in this zip holds a value that is not a number.")
    backbone = card["backbone"] and Backbone(**{**card["backbone"], "stages": tuple(card["backbone"]["stages"])})
    detector = registry.build(card["method"], card["settings"], backbone, card["seed"])
    try:
        detector.restore(state)
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError):
        raise DataError(
            "The learned state in this zip does not fit its method '{name}'.", name=card["method"]
        ) from None


def _write_arrays(run: store.Run, contents: Mapping[str, Any]) -> None:
    """Maps and embeddings as .npy, each row belonging to a line of scores.json or explored.json."""
    counts = {
        "maps": (3, len(contents.get("scores.json", ()))),
        "embeddings": (2, len(contents.get("scores.json", ()))),
        "normals": (2, len(contents.get("explored.json", ()))),
    }

    def fits(shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        _plausible(shapes)
        for name, (dtype, shape) in shapes.items():
            if name not in counts or dtype != "F32" or (len(shape), shape[0]) != counts[name]:
                raise DataError("'{name}' in this zip does not fit its list of pictures.", name=name[:80])

    arrays = store.load_state(run.folder / ARRAYS, fits)
    for name, tensor in arrays.items():
        array = tensor.numpy()
        if not np.isfinite(array).all():
            raise DataError("'{name}' in this zip holds a value that is not a number.", name=name)
        store.write_array(run.folder / f"{name}.npy", array)
    del arrays
    with suppress(OSError):
        (run.folder / ARRAYS).unlink()
