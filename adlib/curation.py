"""What a person has decided about a data set: which pictures take no part, and which region of them counts.

Kept in `curation.json` beside dataset.json: a small file that is written in a moment, so that a long upload, which
rewrites dataset.json at its end, cannot undo a decision made meanwhile.  Every reader sees the newest state.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from adlib import regions, store
from adlib.contract import DataError, Sentence, say

FILE = "curation.json"
_ONE = threading.Lock()  # pages of one server are threads: reading, changing and writing is one step


@dataclass(frozen=True)
class Step:
    """Pictures that were left out together.  why: what was said of them.  when: seconds since 1970."""

    digests: tuple[str, ...]
    why: Sentence
    when: float


def _read(dataset: store.Dataset) -> dict[str, Any]:
    path = dataset.folder / FILE
    if path.exists():
        with suppress(DataError):  # a damaged file costs the decisions, never the pictures
            value = store.read_json(path)
            if isinstance(value, dict):
                return value
    return {}


def _write(dataset: store.Dataset, **changes: Any) -> None:
    store.write_json(dataset.folder / FILE, {**_read(dataset), **changes})


def hand_on(dataset: store.Dataset, to: store.Dataset) -> None:
    """All decisions about a data set, for a later version of it."""
    if decided := _read(dataset):
        _write(to, **decided)


# --- pictures that take no part ---------------------------------------------------------------------------------------


def steps(dataset: store.Dataset) -> list[Step]:
    """What was left out, oldest first; a picture stands in one step only."""
    found = []
    for one in _read(dataset).get("steps", []):
        with suppress(KeyError, TypeError, IndexError, ValueError):
            found.append(Step(tuple(map(str, one["digests"])), Sentence.from_json(one["why"]), float(one["when"])))
    return found


def excluded(dataset: store.Dataset) -> dict[str, Sentence]:
    """Digests of the pictures that take no part, oldest first, with the reason."""
    found = {str(digest): say("left out by hand") for digest in dataset.meta.get("excluded", ())}
    return found | {digest: step.why for step in steps(dataset) for digest in step.digests}


def exclude(dataset: store.Dataset, digests: Iterable[str], why: Sentence) -> Step | None:
    """Leaves pictures out of every step: fit, calibration, tests, counts.  They stay in the data set.

    digests: of pictures of this data set; others, and those that are out already, are passed over.
    Returns the step that `undo` takes back; None when nothing was left to do.
    """
    with _ONE:
        known, out = {picture["digest"] for picture in dataset.meta["pictures"]}, excluded(dataset)
        fresh = tuple(digest for digest in dict.fromkeys(digests) if digest in known and digest not in out)
        if not fresh:
            return None
        step = Step(fresh, why, time.time())
        _write_steps(dataset, [*steps(dataset), step])
        return step


def restore(dataset: store.Dataset, digests: Iterable[str]) -> int:
    """Takes pictures back in; returns how many were out."""
    with _ONE:
        back, out = set(digests), excluded(dataset)
        kept = [Step(tuple(d for d in step.digests if d not in back), step.why, step.when) for step in steps(dataset)]
        _write_steps(dataset, [step for step in kept if step.digests])
        if back & set(dataset.meta.get("excluded", ())):  # noted by an earlier version
            dataset.meta["excluded"] = [digest for digest in dataset.meta["excluded"] if digest not in back]
            dataset.save()
        return len(back & out.keys())


def undo(dataset: store.Dataset) -> Step | None:
    """Takes the newest step back, and returns it; None when nothing is left out."""
    done = steps(dataset)
    if not done:
        return None
    restore(dataset, done[-1].digests)
    return done[-1]


def _write_steps(dataset: store.Dataset, done: Sequence[Step]) -> None:
    _write(dataset, steps=[{"digests": s.digests, "why": s.why.as_json(), "when": s.when} for s in done])


# --- the region that counts -------------------------------------------------------------------------------------------


def region(dataset: store.Dataset) -> regions.Region:
    """The region of interest that fits asked for from now on use; none = the whole picture."""
    with suppress(DataError):
        return regions.from_json(_read(dataset).get("region"))
    return regions.WHOLE


def set_region(dataset: store.Dataset, region: regions.Region) -> None:
    """Keeps the region.  Runs that are fitted, waiting or at work keep the one they were asked with."""
    with _ONE:
        _write(dataset, region=regions.checked(region))


# --- runs -------------------------------------------------------------------------------------------------------------


def since(run: store.Run, dataset: store.Dataset) -> list[Sentence]:
    """What of the data set has changed since the run was fitted, a sentence each; [] when nothing has."""
    told = []
    fitted = {row["digest"] for row in run.read("normals.json") or []}
    gone = len(fitted & excluded(dataset).keys())
    if gone:
        told.append(
            say(
                "This run was fitted on {n} normal pictures; {gone} of them have been left out of the data set since. "
                "Fit again to learn without them.",
                n=len(fitted),
                gone=gone,
            )
        )
    then, now = regions.from_json(run.card.get("region")), region(dataset)
    if then != now:
        shares = {"then": regions.share(then), "now": regions.share(now)}
        told.append(
            say(
                "This run judges another region of the pictures ({then:.0%} of each) than the data set has now "
                "({now:.0%}). Fit again to use the new one.",
                **shares,
            )
        )
    return told
