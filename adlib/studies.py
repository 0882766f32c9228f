"""Long questions to a finished run, answered by the worker and kept in the run's folder as JSON.

A study is a job of its own: its events lie in `runs/<id>/<study>/`, its result in `runs/<id>/<study>.json`, where a new fit
into the same folder deletes it.
"""

from __future__ import annotations

import importlib
from typing import Any

from adlib import store
from adlib.contract import DataError, NotFitted, Tick, silent

STUDIES = {"curve": "adlib.learning_curve", "directions": "adlib.directions", "chi_square": "adlib.gaussian_study"}


def offered(run: store.Run) -> list[str]:
    """The studies that make sense for this run."""
    return [kind for kind in STUDIES if kind == "curve" or run.card["method"] == "gaussian"]


def place(run: store.Run, kind: str) -> store.Run:
    """The folder of a study's events inside the run's.  Raises DataError for an unknown study."""
    if kind not in STUDIES:
        raise DataError("There is no study '{kind}'. Known: {known}.", kind=kind[:40], known=", ".join(STUDIES))
    return store.Run(run.folder / kind)


def result(run: store.Run, kind: str) -> dict[str, Any] | None:
    """The study's last result, None when it was never finished.  Raises DataError when its file is damaged."""
    found = run.read(f"{place(run, kind).id}.json")
    return None if found is None else dict(found)


def work(run: store.Run, kind: str, tick: Tick = silent) -> dict[str, Any]:
    """Does the study and keeps its result.  Raises NotFitted, DataError, WeightsMissing, Stopped; nothing is kept then."""
    place(run, kind)
    if not run.finished:
        raise NotFitted("Run '{run}' has not finished. Wait for it on the Fit page, or choose another.", run=run.id)
    found: dict[str, Any] = importlib.import_module(STUDIES[kind]).study(run, tick)
    run.write(f"{kind}.json", found)
    tick(1.0, "study finished")
    return found
