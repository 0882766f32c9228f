"""How long an experiment takes, from what its methods took on this machine before; never from a guess.

Every finished part leaves its seconds in the workspace's trial_times.json.  A part to come is reckoned from the latest of
them of the same method, network and size: the fit by its operations (`Detector.cost`), the judging by its pictures.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from adlib import registry, store, trials
from adlib.class_sets import Outline
from adlib.contract import AdlibError, Backbone
from adlib.trial_parts import Part, load, parts
from adlib.trials import Method, Plan, Trial

FILE = "trial_times.json"
_KEPT = 10  # parts kept for each method, network and size


@dataclass(frozen=True)
class Expected:
    """What is still to be done.

    fits: parts.  seconds: of all of them, rough; None where `untimed` names a method that was never timed here.
    first: seconds of the first of them.  untimed: keys of methods.
    """

    fits: int
    seconds: float | None
    first: float = 0.0
    untimed: tuple[str, ...] = ()

    def within(self, share: float) -> float | None:
        """Seconds, when `share` of the first part is behind, in [0, 1]."""
        return None if self.seconds is None else self.seconds - min(1.0, max(0.0, share)) * self.first


def _operations(plan: Plan, method: Method, outline: Outline, n: int) -> float:
    """Of one fit.  Raises WeightsMissing."""
    backbone, (height, width) = None, outline.shape
    if registry.uses_backbone(method.key):
        from adlib import features

        backbone = features.resolve(plan.backbone, registry.card(method.key).stages)
        height = width = backbone.size
    made = registry.build(method.key, registry.checked(method.key, method.settings), backbone, plan.seed)
    return max(1.0, made.cost(n, height, width).operations)


# --- what was measured ------------------------------------------------------------------------------------------------


def _key(plan: Plan, method: Method, outline: Outline) -> str:
    backbone: Backbone = plan.backbone
    seen = (
        f"{backbone.name} {backbone.size}" if registry.uses_backbone(method.key) else "x".join(map(str, outline.shape))
    )
    return f"{method.key} {seen} {plan.kind}"


def _known() -> dict[str, list[dict[str, Any]]]:
    with suppress(Exception):
        return dict(store.read_json(store.workspace() / FILE))
    return {}


def changed() -> int:
    """Another number after every part that was timed."""
    path = store.workspace() / FILE
    return path.stat().st_mtime_ns if path.exists() else 0


def remember(trial: Trial, one: Part, outline: Outline, found: dict[str, Any]) -> None:
    """Keeps what a finished part took.  found: its figures."""
    plan = trial.plan
    with suppress(AdlibError, KeyError):
        work = load(plan, one, outline)
        row = {
            "trial": trial.id, "label": one.method.label, "pictures": work.judged,
            "operations": _operations(plan, one.method, outline, work.fit),
            "fit_seconds": found.get("fit_seconds", found["seconds"]), "seconds": found["seconds"],
        }  # fmt: skip
        known, key = _known(), _key(plan, one.method, outline)
        known[key] = [*known.get(key, []), row][-_KEPT:]
        store.write_json(store.workspace() / FILE, known)


def _nearest(rows: Sequence[dict[str, Any]], label: str, trial: str) -> list[dict[str, Any]]:
    """The rows that tell most: of this very experiment, else with the same settings, else of the method at all."""
    alike = [row for row in rows if row["label"] == label]
    return [row for row in alike if row["trial"] == trial] or alike or list(rows)


# --- what is to come --------------------------------------------------------------------------------------------------


def before(plan: Plan, outline: Outline) -> Expected:
    """What a whole experiment will take.  Raises AdlibError for what its start would refuse, too."""
    plan = trials.tidy(plan)
    return _expected(plan, outline, parts(plan, outline.names))


def note(trial: Trial, outline: Outline, todo: Sequence[Part]) -> None:
    """Writes down, where the work is done, what is still to be done; a page that watches has nothing to reckon."""
    with suppress(AdlibError):
        expected = _expected(trial.plan, outline, todo, trial.id)
        trial.run.write("left.json", dataclasses.asdict(expected))


def left(trial: Trial) -> Expected | None:
    """What was to be done when the part that is being worked on began; None before its pictures have been read."""
    found = trial.run.read("left.json")
    return None if found is None else Expected(**{**found, "untimed": tuple(found["untimed"])})


def _expected(plan: Plan, outline: Outline, todo: Sequence[Part], trial: str = "") -> Expected:
    known = _known()
    rows = {one.method.label: known.get(_key(plan, one.method, outline), []) for one in todo}
    untimed = tuple(dict.fromkeys(one.method.key for one in todo if not rows[one.method.label]))
    if untimed:
        return Expected(len(todo), None, untimed=untimed)
    operations: dict[tuple[str, int], float] = {}
    seconds = []
    for one in todo:
        work, label = load(plan, one, outline), one.method.label
        if (label, work.fit) not in operations:
            operations[label, work.fit] = _operations(plan, one.method, outline, work.fit)
        near = _nearest(rows[label], label, trial)
        fit = statistics.median(row["fit_seconds"] / row["operations"] for row in near)
        judging = statistics.median((row["seconds"] - row["fit_seconds"]) / max(1, row["pictures"]) for row in near)
        seconds.append(fit * operations[label, work.fit] + judging * work.judged)
    return Expected(len(todo), sum(seconds), seconds[0] if seconds else 0.0)


def spoken(expected: Expected) -> str:
    """For the terminal."""
    if expected.seconds is None:
        names = ", ".join(registry.card(key).title for key in expected.untimed)
        return f"not timed here before: {names}; the time left is told after each case"
    seconds = expected.seconds
    return f"about {max(1, round(seconds))} s" if seconds < 90 else f"about {round(seconds / 60)} min"
