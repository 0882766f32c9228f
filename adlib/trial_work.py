"""The work of an experiment: its parts in order, each fitted, judged and kept at once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adlib import class_sets, experiments, holdout, registry, store, trials
from adlib.batches import part
from adlib.contract import AdlibError, DataError, Tick, TooLarge, silent
from adlib.experiments import Classes, Setup
from adlib.trials import Method, Plan, Trial


@dataclass(frozen=True)
class Part:
    """One step.  name: of its file.  method: which of the plan's.  samples: None = all.  case: of class-holdout.
    normal: the class of one-class."""

    name: str
    method: Method
    samples: int | None = None
    case: int = 0
    normal: str = ""


def classes_of(trial: Trial, tick: Tick = silent) -> Classes:
    """The plan's labelled set, read.  Raises DataError, WeightsMissing."""
    kind, _, rest = trial.plan.source.partition(":")
    side = trial.plan.backbone.size
    if kind == "digits":
        return class_sets.digits()
    if kind == "dataset":
        return class_sets.from_dataset(store.Dataset.open(rest), side, tick)
    if kind == "upload":
        return class_sets.from_path(trial.folder / trials.file_name(rest), side, tick)
    if kind == "opened":
        return class_sets.from_path(trials.opened(rest), side, tick, links=False)
    return class_sets.from_path(Path(rest), side, tick)


def parts(plan: Plan, names: Sequence[str]) -> list[Part]:
    """All parts in the order in which they are done.  names: the classes.  Raises AdlibError for classes there are not."""
    if plan.kind == "one-vs-one":
        return [Part(_named(one), one) for one in plan.methods]
    if plan.kind == "one-class":
        wanted = plan.only or tuple(names)
        return [
            Part(_named(m, f"class-{names.index(n) if n in names else n}"), m, normal=n)
            for n in wanted
            for m in plan.methods
        ]
    cases = holdout.rotations(names, plan.anomalous, plan.cases)
    return [
        Part(_named(method, f"case-{case.number}", f"n-{n or 'all'}"), method, n, case.number)
        for n in plan.samples or (None,) for case in cases for method in plan.methods
    ]  # fmt: skip


def _named(method: Method, *words: str) -> str:
    tag = hashlib.sha256(method.label.encode()).hexdigest()[:8]
    return "-".join([method.key, tag, *words])


def work(trial: Trial, tick: Tick = silent) -> None:
    """Does every part that is not finished and keeps each at once.  Raises DataError, WeightsMissing, Stopped.

    A method that cannot take part, for lack of pictures or memory, is noted and the next one follows.
    """
    plan = trial.plan
    tick(0.0, "reading the pictures")
    classes = classes_of(trial, part(tick, 0.0, 0.02))
    todo = parts(plan, classes.names)
    counts = {split: len(labels) for split, labels in classes.labels.items()}
    names = {"classes": classes.names, "pictures": counts, "parts": [one.name for one in todo]}
    store.write_json(trial.folder / "about.json", names)
    failure: AdlibError | None = None
    for i, one in enumerate(todo):
        kept = trial.run.read(f"parts/{one.name}.json")
        if kept is not None and "failed" not in kept:
            continue
        now = _told(part(tick, 0.02 + 0.98 * i / len(todo), 0.02 + 0.98 * (i + 1) / len(todo)), i, len(todo), one)
        now(0.0, "")
        asked = {"label": one.method.label, "samples": one.samples}
        try:
            found = _done(plan, one, classes, now)
        except (DataError, TooLarge) as error:
            found, failure = {"failed": error.sentence.as_json()}, error
        trial.run.write(f"parts/{one.name}.json", {**asked, **found, "finished": time.time()})
    if failure is not None and not trial.finished():
        raise failure
    tick(1.0, "experiment finished")


def _told(tick: Tick, i: int, total: int, one: Part) -> Tick:
    """One sentence for all that happens inside a part."""
    title = registry.card(one.method.key).title

    def inner(fraction: float, message: str, /, **numbers: Any) -> None:
        tick(fraction, "part {i} of {total}: {method}", i=i + 1, total=total, method=title)

    return inner


def _done(plan: Plan, one: Part, classes: Classes, tick: Tick) -> dict[str, Any]:
    backbone = None
    if registry.uses_backbone(one.method.key):
        from adlib import features

        backbone = features.resolve(plan.backbone, registry.card(one.method.key).stages)
    setup = Setup(one.method.key, one.method.settings, backbone, plan.seed)
    limit = one.samples or (plan.samples[0] if plan.samples else None)
    if plan.kind == "one-vs-one":
        return experiments.one_vs_one(classes, plan.normal, plan.anomaly, setup, tick, limit)
    if plan.kind == "one-class":
        return {"normal": one.normal, **experiments.one_class(classes, setup, [one.normal], tick, limit)}
    case = holdout.rotations(classes.names, plan.anomalous, plan.cases)[one.case]
    asked = {"method": setup.method, "settings": registry.checked(setup.method, setup.settings), "seed": plan.seed}
    asked["backbone"] = backbone.name if backbone else None
    found = holdout.one_case(classes, case, setup, limit, plan.tests or None, plan.distances, plan.neighbours, tick)
    return {"experiment": plan.kind, **asked, **found}
