"""python -m adlib experiment …: the experiments of the articles in the terminal."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adlib import experiments, holdout, registry, store, trial_results, trial_time, trial_work, trials
from adlib.contract import AdlibError, Backbone, Tick


class Interrupted(AdlibError):
    """Stopped at the keyboard."""


def options(made: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    made.add_argument(
        "which", choices=trials.KINDS,
        help="one class against one other, each class against all others, or some classes held out in turn",
    )  # fmt: skip
    made.add_argument(
        "--dataset", required=True, metavar="NAME",
        help="mnist, cifar10, digits (scikit-learn's, needs no --data), or any name for your own class folders",
    )  # fmt: skip
    made.add_argument(
        "--data", type=Path, metavar="FILE_OR_DIR",
        help="as the set is published, or a folder or zip of class folders, with train/ and test/ around them or without",
    )  # fmt: skip
    made.add_argument("--normal", default="1", metavar="CLASS", help="class to learn from (one-vs-one; default: 1)")
    made.add_argument("--anomaly", default="9", metavar="CLASS", help="class to find out (one-vs-one; default: 9)")
    made.add_argument("--classes", default="", metavar="0,1,2", help="normal classes to try (one-class; default: all)")
    made.add_argument("--limit", type=int, metavar="N", help="at most so many pictures of each class to learn from")
    made.add_argument("--tests", type=int, metavar="N", help="at most so many test pictures of each class (one-class)")
    made.add_argument("--method", default="autoencoder", metavar="KEY", help="one of `methods` (default: autoencoder)")
    made.add_argument(
        "--backbone", default="offline", metavar="NAME", help="for methods that use one (default: offline)"
    )
    made.add_argument("--weights", default="", metavar="FILE_OR_DIR", help="where to look for the weights first")
    made.add_argument("--size", default=64, type=int, help="side that a backbone sees (default: 64)")
    made.add_argument(
        "--set", action="append", default=[], metavar="key=value", dest="settings", help="a setting of the method"
    )
    made.add_argument("--seed", default=0, type=int)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    rotated = made.add_argument_group("class-holdout: kept in the workspace; the same command goes on where it stopped")
    rotated.add_argument(
        "--anomalous", type=int, default=1, metavar="A", help="classes held out at a time (default: 1)"
    )
    rotated.add_argument(
        "--methods", default="", metavar="A,B:key=value",
        help="methods that take part, each with settings of its own (default: --method)",
    )  # fmt: skip
    rotated.add_argument(
        "--distances", default=",".join(holdout.DISTANCES), metavar="A,B",
        help="distances between embeddings by which a method that gives them is judged, too (default: %(default)s)",
    )  # fmt: skip
    rotated.add_argument(
        "--neighbours", default=",".join(map(str, holdout.NEIGHBOURS)), metavar="K,K",
        help="how many smallest distances are averaged (default: %(default)s)",
    )  # fmt: skip
    rotated.add_argument("--cases", type=int, default=10, help="rotations (default: 10, at most one a class)")
    rotated.add_argument(
        "--samples-per-class",
        default="",
        metavar="N,N",
        help="pictures of each normal class to learn from (default: all)",
    )
    rotated.add_argument("--tests-per-class", type=int, default=0, metavar="N", help="test pictures (default: all)")
    rotated.add_argument("--again", action="store_true", help="forget the finished cases and do all anew")
    rotated.add_argument("--csv", type=Path, metavar="FILE", help="write a line a case and figure here")


def run(args: argparse.Namespace, tick: Tick, tell: Callable[[str], None]) -> None:
    """Does what was asked and prints the figures.  tell: writes to the error stream."""
    if args.data is None and args.dataset != "digits":
        raise AdlibError("Say with --data where '{name}' lies. Only 'digits' needs no file.", name=args.dataset)
    if args.which == "class-holdout":
        return _class_holdout(args, tick, tell)
    settings = registry.parse(args.method, args.settings)
    setup = experiments.Setup(args.method, settings, _backbone(args), args.seed)
    classes = _classes(args)
    if args.which == "one-class":
        only = _words(args.classes)
        found = experiments.one_class(classes, setup, only, tick, args.limit, args.tests)
    else:
        found = experiments.one_vs_one(classes, args.normal, args.anomaly, setup, tick, args.limit)
    found = {"dataset": args.dataset, **found}
    if args.json:
        store.write_json(args.json, found)
    print("\n".join(experiments.told(found)))
    return None


def _backbone(args: argparse.Namespace) -> Backbone | None:
    if not registry.uses_backbone(args.method):
        return None
    from adlib import features

    asked = Backbone(args.backbone, size=args.size, weights=args.weights)
    return features.resolve(asked, registry.card(args.method).stages)


def _classes(args: argparse.Namespace) -> experiments.Classes:
    from adlib import class_sets

    if args.data is None:
        return class_sets.digits()
    if args.dataset in experiments.DATASETS:
        return experiments.load(args.dataset, args.data)
    return class_sets.from_path(args.data, args.size)


def _class_holdout(args: argparse.Namespace, tick: Tick, tell: Callable[[str], None]) -> None:
    plan = trials.Plan(
        args.which, "digits" if args.data is None else f"path:{args.data.resolve()}", _methods(args), args.dataset,
        Backbone(args.backbone, size=args.size, weights=args.weights), args.seed, anomalous=args.anomalous,
        cases=args.cases, samples=_numbers("--samples-per-class", args.samples_per_class or str(args.limit or "")),
        tests=args.tests_per_class, distances=_words(args.distances), neighbours=_numbers("--neighbours", args.neighbours),
    )  # fmt: skip
    trial = trials.take(plan)
    if args.again:
        shutil.rmtree(trial.folder / "parts", ignore_errors=True)
    tell(f"experiment {trial.folder}")
    try:
        trial_work.work(trial, _telling(trial, tick, tell))
    except KeyboardInterrupt:
        sentence = trials.stopped(trial)
        raise Interrupted(sentence.template, **sentence.values) from None
    finally:
        if args.json:
            store.write_json(args.json, trial_results.figures(trial))
        if args.csv:
            store.write_bytes(args.csv, trial_results.sheet(trial))
    print("\n".join(trial_results.told(trial)))


def _telling(trial: trials.Trial, tick: Tick, tell: Callable[[str], None]) -> Tick:
    """The tick, with a line on how much is left before the first part, and before each case after it."""
    per_case = len(trial.plan.methods)
    told: set[int] = set()

    def inner(fraction: float, message: str, /, **numbers: Any) -> None:
        now = numbers.get("i")
        if now is not None and now not in told:
            if not told or (now - 1) % per_case == 0:
                left = trial_time.left(trial)
                if left is not None:
                    tell(f"{left.fits} fits to do, {trial_time.spoken(left)}")
            told.add(now)
        tick(fraction, message, **numbers)

    return inner


def _methods(args: argparse.Namespace) -> tuple[trials.Method, ...]:
    """`knn,metric_learning:loss=arcface`; --set goes to every method that has such a setting."""
    found = []
    used: set[str] = set()
    for text in _words(args.methods or args.method):
        key, *pairs = text.split(":")
        known = {one.name for one in registry.settings(key)}
        shared = [pair for pair in args.settings if pair.partition("=")[0].strip() in known]
        used.update(shared)
        found.append(trials.Method(key, registry.parse(key, [*shared, *pairs])))
    for pair in args.settings:
        if pair not in used:
            registry.parse(found[0].key, [pair])  # says what is wrong with it
    return tuple(found)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(word) for word in _words(text))
    except ValueError:
        found = (0,)
    if any(n < 1 for n in found):
        raise AdlibError("{option} takes whole numbers from 1 on with commas between, such as 50,100; got '{got}'.",
                         option=option, got=text)  # fmt: skip
    return found
