"""The parts of an experiment in their order, and how many pictures each of them learns from and scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adlib import holdout
from adlib.class_sets import Outline
from adlib.trials import Method, Plan


@dataclass(frozen=True)
class Part:
    """One step.  name: of its file.  method: which of the plan's.  samples: None = all.  case: of class-holdout.
    normal: the class of one-class."""

    name: str
    method: Method
    samples: int | None = None
    case: int = 0
    normal: str = ""


@dataclass(frozen=True)
class Load:
    """Pictures that a part learns from, and pictures that it scores."""

    fit: int
    judged: int


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


def load(plan: Plan, one: Part, outline: Outline) -> Load:
    """What the part has to do with a set of this outline."""
    limit = one.samples or (plan.samples[0] if plan.samples else None)
    train, test = outline.counts["train"], outline.counts["test"]

    def of(counts: dict[str, int], names: Iterable[str], most: int | None) -> int:
        return sum(min(counts.get(name, 0), most or counts.get(name, 0)) for name in names)

    if plan.kind == "one-vs-one":
        return Load(of(train, [plan.normal], limit), of(test, [plan.normal, plan.anomaly], limit))
    if plan.kind == "one-class":
        return Load(of(train, [one.normal], limit), of(test, test, plan.tests))
    case = holdout.rotations(outline.names, plan.anomalous, plan.cases)[one.case]
    fit = of(train, case.normal, limit)
    return Load(fit, of(test, outline.names, plan.tests) + fit)  # the normals' own embeddings are needed, too
