"""The work of an experiment: its parts in order, each fitted, judged and kept at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from adlib import class_sets, experiments, holdout, registry, store, trial_time, trials
from adlib.batches import part
from adlib.contract import AdlibError, DataError, Tick, TooLarge, silent
from adlib.experiments import Classes, Setup
from adlib.trial_parts import Part, parts
from adlib.trials import Plan, Trial


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


def work(trial: Trial, tick: Tick = silent) -> None:
    """Does every part that is not finished and keeps each at once.  Raises DataError, WeightsMissing, Stopped.

    A method that cannot take part, for lack of pictures or memory, is noted and the next one follows.
    """
    plan = trial.plan
    tick(0.0, "reading the pictures")
    classes = classes_of(trial, part(tick, 0.0, trials.READING))
    todo = parts(plan, classes.names)
    outline = class_sets.outline_of(classes)
    counts = {split: len(labels) for split, labels in classes.labels.items()}
    names = {"classes": classes.names, "pictures": counts, "parts": [one.name for one in todo]}
    store.write_json(trial.folder / "about.json", names)
    failure: AdlibError | None = None
    for i, one in enumerate(todo):
        kept = trial.run.read(f"parts/{one.name}.json")
        if kept is not None and "failed" not in kept:
            continue
        start, end = (trials.READING + (1 - trials.READING) * n / len(todo) for n in (i, i + 1))
        now = _told(part(tick, start, end), i, len(todo), one)
        trial_time.note(trial, outline, todo[i:])
        now(0.0, "")
        asked = {"label": one.method.label, "samples": one.samples}
        try:
            found = _done(plan, one, classes, now)
        except (DataError, TooLarge) as error:
            found, failure = {"failed": error.sentence.as_json()}, error
        trial.run.write(f"parts/{one.name}.json", {**asked, **found, "finished": time.time()})
        if "failed" not in found:
            trial_time.remember(trial, one, outline, found)
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
    limit, tests = one.samples or (plan.samples[0] if plan.samples else None), plan.tests or None
    if plan.kind == "one-vs-one":
        return experiments.one_vs_one(classes, plan.normal, plan.anomaly, setup, tick, limit)
    if plan.kind == "one-class":
        return {"normal": one.normal, **experiments.one_class(classes, setup, [one.normal], tick, limit, tests)}
    case = holdout.rotations(classes.names, plan.anomalous, plan.cases)[one.case]
    asked = {"method": setup.method, "settings": registry.checked(setup.method, setup.settings), "seed": plan.seed}
    asked["backbone"] = backbone.name if backbone else None
    found = holdout.one_case(classes, case, setup, limit, tests, plan.distances, plan.neighbours, tick)
    return {"experiment": plan.kind, **asked, **found}
