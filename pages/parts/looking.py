"""Pictures judged on the spot: taken in, looked at once, shown with verdict and heat, and packed to take away.

Uploads are written to `workspace/inbox/` by their digest at once, so that Streamlit can let go of its copy and another run
can look at the same pictures; a day later they are deleted.  What a run says about a picture is kept by both their ids.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from adlib import frames, intake, overlays, store, workflow
from adlib.contract import DataError, Sample, Sentence
from pages.parts import findings, overlay, state
from pages.parts.words import bare

MOST = 300  # pictures of one drop
_KEPT_SECONDS = 86_400
_SIDE = 900  # pixels of the longer side on the screen; downloads have all pixels
_WARY = 0.1  # so near the threshold, in multiples of it, a verdict is called a close one


@dataclass(frozen=True)
class Item:
    """A picture to look at.  kind: what a labelled test is known to be, "" when unknown."""

    name: str
    digest: str
    path: Path
    kind: str = ""


@dataclass(frozen=True)
class Seen:
    """What a run says about one picture.  size: (width, height) of the original.  heat: as `overlay.cells` makes it."""

    photo: bytes
    size: tuple[int, int]
    score: float
    normalised: float
    ratio: float
    alarm: bool
    heat: np.ndarray | None
    notes: tuple[Sentence, ...]


# --- taking in --------------------------------------------------------------------------------------------------------


def take(files: Iterable[tuple[str, bytes]]) -> tuple[list[Item], list[tuple[str, Sentence]]]:
    """Uploads, zips opened → pictures in the inbox, and what was refused.  Whether they can be read is seen later."""
    inbox = store.workspace() / "inbox"
    inbox.mkdir(exist_ok=True)
    _sweep(inbox)
    items: dict[str, Item] = {}
    refused: list[tuple[str, Sentence]] = []
    for one in intake.from_uploads(files):
        if isinstance(one, intake.Refused):
            refused.append((one.name, one.reason))
            continue
        data = one.data if isinstance(one.data, bytes) else one.data.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if len(items) >= MOST and digest not in items:
            refused.append((one.name, Sentence(bare("heatmaps.too_many", limit=MOST))))
            continue
        path = inbox / digest
        if path.exists():
            path.touch()  # counts as new again
        else:
            store.write_bytes(path, data)
        items.setdefault(digest, Item(one.name, digest, path))
    return list(items.values()), refused


def _sweep(inbox: Path) -> None:
    for path in inbox.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                path.unlink()


def tests_of(run: store.Run) -> list[Item]:
    """The labelled and unlabelled tests of the run's data set, one of each kind in turn."""
    id = run.card["dataset"]
    if not store.Dataset.exists(id):
        return []
    samples, _ = state.samples(store.Dataset.open(id))
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.split == "test":
            kinds.setdefault(sample.kind, []).append(sample)
    longest = max(map(len, kinds.values()), default=0)
    mixed = [group[i] for i in range(longest) for group in kinds.values() if i < len(group)]
    return [Item(sample.name, sample.digest, sample.path, sample.kind) for sample in mixed]


# --- looking ----------------------------------------------------------------------------------------------------------


def see(run: store.Run, item: Item) -> Seen | Sentence:
    """The run's view of one picture, or why it cannot be read.  Looked at once for all visitors."""
    return _see(run.id, findings.stamp(run)[2:], item.digest, item.path)


@st.cache_resource(max_entries=500, show_spinner=False)
def _see(run_id: str, changed: Any, digest: str, _path: Path) -> Seen | Sentence:
    try:
        look = _look(run_id, _path)
    except DataError as error:
        return error.sentence
    picture = look.picture
    heat = None if look.heat is None else overlay.cells(look.heat)
    return Seen(
        frames.thumbnail(picture, _SIDE), (picture.width, picture.height), look.score, look.normalised, look.ratio,
        look.alarm, heat, picture.notes,
    )  # fmt: skip


def _look(run_id: str, path: Path) -> workflow.Look:
    data = path.read_bytes() if path.exists() else path  # a file that is gone gets the reader's own sentence
    with state.fitted(run_id) as fitted:
        return workflow.look(fitted, data)


def see_all(run: store.Run, items: Sequence[Item]) -> list[Seen | Sentence]:
    """In the items' order, with a bar while there is work to do."""
    seen, bar, began = [], st.empty(), time.monotonic()
    for i, item in enumerate(items, start=1):
        seen.append(see(run, item))
        if time.monotonic() - began > 0.3 and len(items) > 1:
            bar.progress(i / len(items), text=bare("heatmaps.looking", n=i, total=len(items)))
    bar.empty()
    return seen


# --- words ------------------------------------------------------------------------------------------------------------


def verdict(seen: Seen) -> tuple[str, str, str]:
    """(words, icon, colour) of a verdict; colour is never the only sign."""
    if seen.alarm:
        near = seen.ratio < 1 + _WARY
        return bare("heatmaps.alarm_near" if near else "heatmaps.alarm"), ":material/error:", "red"
    near = seen.ratio > 1 - _WARY
    words = bare("heatmaps.normal_near" if near else "heatmaps.normal")
    return words, ":material/check_circle:", "orange" if near else "green"


def times(seen: Seen) -> str:
    return bare("overlay.value", x=f"{seen.ratio:.2f}")


# --- taking away ------------------------------------------------------------------------------------------------------


def png(run: store.Run, item: Item) -> Callable[[], bytes]:
    """Makes the overlay in the original's pixels with its legend, when it is asked for."""
    id, model = run.id, f"{item.name} - {state.run_title(run)} - run {run.id}"

    def draw() -> bytes:
        return overlays.heatmap_png(_look(id, item.path), model)

    return draw


def table(items: Sequence[Item], seen: Sequence[Seen | Sentence]) -> bytes:
    """CSV, UTF-8 with a mark for Excel; a name is never taken for a formula."""
    text = io.StringIO()
    sheet = csv.writer(text)
    sheet.writerow(["name", "verdict", "score", "times_threshold", "normalised", "sha256"])
    for item, one in zip(items, seen, strict=True):
        name = f"'{item.name}" if item.name[:1] in ("=", "+", "-", "@") else item.name
        if isinstance(one, Sentence):
            sheet.writerow([name, f"unreadable: {one}", "", "", "", item.digest])
        else:
            said = "alarm" if one.alarm else "normal"
            figures = [f"{value:.6g}" for value in (one.score, one.ratio, one.normalised)]
            sheet.writerow([name, said, *figures, item.digest])
    return text.getvalue().encode("utf-8-sig")


def packed(run: store.Run, items: Sequence[Item], seen: Sequence[Seen | Sentence]) -> Callable[[], bytes]:
    """Makes a zip of all overlays and the table, when it is asked for."""
    readable = [(i, item, png(run, item)) for i, item in enumerate(items, 1) if isinstance(seen[i - 1], Seen)]
    sheet = table(items, seen)

    def pack() -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("scores.csv", sheet)
            for i, item, draw in readable:
                archive.writestr(file_name(item, i), draw())
        return out.getvalue()

    return pack


def file_name(item: Item, place: int) -> str:
    """A name of our own making, after the person's: letters, digits, dot, dash."""
    stem = re.sub(r"[^\w.-]+", "_", item.name.rpartition(".")[0] or item.name)[-60:]
    return f"{place:03}-{stem.strip('._') or 'picture'}.png"
