"""The main job in the terminal: list, fit, evaluate, score."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adlib import (
    datasets,
    decisions,
    doubts,
    intake,
    metrics,
    regions,
    registry,
    rules,
    store,
    weights,
    workflow,
)
from adlib.contract import AdlibError, Backbone, DataError, Sample
from adlib.terminal import dump, gather, items, print_refused, refused_json, run_folder, tell, tick


def list_methods(args: argparse.Namespace) -> None:
    """`methods`: every method with its settings."""
    found = []
    for key, card in registry.METHODS.items():
        known = [
            {"name": s.name, "default": s.default, "takes": registry.allowed(s), "help": s.help}
            for s in registry.settings(key)
        ]
        found.append({"key": key, **dataclasses.asdict(card), "settings": known})
    if args.json:
        return dump(found)
    for method in found:
        print(f"{method['key']:<14}{method['title']}: {method['good_at']}")
        for known in method["settings"]:
            print(f"{'':<14}--set {known['name']}={known['default']}  {known['takes']}. {known['help']}")
    return None


def list_weights(args: argparse.Namespace) -> None:
    """`weights`: what is on this machine, after fetching the names given."""
    for name in args.names:
        path = weights.fetch(name, tick)
        tell(f"{name}: {path}")
    found: list[dict[str, Any]] = []
    for one in weights.ready():
        row = {"name": one.name, "ready": one.offline or one.path is not None, "file": str(one.path or "")}
        found.append({**row, "megabytes": one.megabytes, "licence": one.licence})
    if args.json:
        return dump(found)
    for row in found:
        state = "ready  " if row["ready"] else "missing"
        print(f"{state}  {row['name']:<40}{row['megabytes']:>8.1f} MB  {row['licence']:<18}{row['file']}")
    return None


def fit(args: argparse.Namespace) -> None:
    """`fit`: learns from normal pictures; tells every picture that was refused."""
    settings = registry.parse(args.method, args.settings)
    if not registry.uses_backbone(args.method) and args.size != 256:
        raise AdlibError(
            "{method} uses no network; --size has no effect on it.", method=registry.card(args.method).title
        )
    try:
        stages = tuple(int(level) for level in args.stages.split(",") if level.strip())
    except ValueError:
        raise AdlibError(
            "--stages takes whole numbers with commas between, such as 1,2,3; got '{got}'.", got=args.stages
        ) from None
    backbone = Backbone(args.backbone, stages, args.size, args.weights, args.precision)
    folder = run_folder(args.run_name)
    dataset, taken = gather(args.normals, items(args.normals))
    request = workflow.Request(
        dataset.id, args.method, settings, backbone if registry.uses_backbone(args.method) else None,
        args.seed, args.alpha, args.letterbox, regions.parse(args.region) if args.region else None,
    )  # fmt: skip
    run = store.Run.create(folder)
    run.forget()
    _, calibration = workflow.fit(request, dataset, run, tick)
    _, refused = datasets.samples(dataset)
    card = run.card
    if args.json:
        dump(
            {
                "run": str(run.folder), **{name: card[name] for name in ("method", "settings", "backbone", "seed", "normals")},
                "layout": str(taken.layout), "refused": refused_json(refused),
                "notes": [{"name": name, "note": str(note)} for name, note in taken.notes],
                "threshold": calibration.threshold.value, "rule": str(calibration.threshold.rule),
                "unit": calibration.unit, "fit_seconds": card["fit_seconds"], "peak_mb": card["peak_mb"],
            }
        )  # fmt: skip
        return
    tell(str(taken.layout))
    print_refused(refused)
    for name, note in taken.notes[:20]:
        tell(f"  {name}: {note}")
    normals = card["normals"]
    print(f"run        {run.folder}")
    print(f"fitted     {normals['fitted']} normals in {card['fit_seconds']:.1f} s, peak {card['peak_mb']:.0f} MB")
    print(
        f"calibrated {normals['calibrating']} normals"
        + (" in 5 folds or one by one" if normals["cross_fitted"] else " held out")
    )
    print(f"threshold  {calibration.threshold.value:.6g}: {calibration.threshold.rule}")


def _test_items(path: Path) -> Iterator[intake.Item | intake.Refused]:
    """The tests; when the folder is the `test` of an MVTec AD tree, with the masks that lie beside it."""
    masks = path.resolve().parent / "ground_truth"
    if path.is_dir() and path.resolve().name == "test" and masks.is_dir():
        yield from items(path, "test/")
        yield from items(masks, "ground_truth/")
    else:
        yield from items(path)


def _as_tests(dataset: store.Dataset, samples: Sequence[Sample]) -> list[Sample]:
    """Everything labelled is a test here, unless the folders themselves say which good pictures are for testing."""
    if any(folder["role"] == "test_normal" for folder in dataset.meta["folders"].values()):
        return workflow.labelled_tests(samples)
    return [dataclasses.replace(s, split="test") for s in samples if s.label is not None]


def evaluate(args: argparse.Namespace) -> None:
    """`evaluate`: judges labelled tests, and compares rules for the threshold."""
    fitted = workflow.load(store.Run.open(args.run_name))
    dataset, _ = gather(args.test, _test_items(args.test))
    samples, refused = datasets.samples(dataset)
    report = workflow.evaluate(fitted, _as_tests(dataset, samples), tick, white=dataset.meta["white"])
    run, wishes = fitted.run, rules.Wishes(sigmas=args.sigmas, recall=args.recall, miss=args.miss, alarm=args.alarm)
    alpha = decisions.wishes_of(run).alpha if args.alpha is None else args.alpha
    wishes = dataclasses.replace(wishes, alpha=alpha, share=args.share)
    if args.rule:
        decisions.use_learned(run) if args.rule == "learned" else decisions.use_rule(run, args.rule, wishes)
    line, compared = workflow.calibration_of(run).threshold, decisions.compare(run, wishes)
    doubted = doubts.of(run)
    # After another rule was taken, the figures at the line are those of the run folder.
    at_line = {k: v for k, v in run.read("report.json").items() if k not in ("skipped", "tests_hash")}
    figures = {
        **dataclasses.asdict(report),
        **at_line,
        "rule": {**dataclasses.asdict(line), "rule": str(line.rule), "fitted_on": str(line.fitted_on)},
        "rules": [_outcome_json(one) for one in compared],
        "doubts": [str(s) for s in doubted],
        "skipped": [str(s) for s in report.skipped],
        "refused": refused_json(refused),
    }
    if args.json:
        store.write_json(args.json, figures)
    print_refused(refused)
    for name in ("image_auroc", "image_ap", "image_f1_oracle", "pixel_auroc", "aupro", "f1", "fpr", "tpr"):
        value, interval = figures[name], figures["intervals"].get(name)
        shown = "–" if value is None else f"{value:.4f}"
        print(f"{name:<16}{shown}" + (f"  [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""))
    print(f"{'pictures':<16}{report.n_normal} normal, {report.n_defect} defective, {report.ms_per_image:.1f} ms each")
    print(f"{'threshold':<16}{line.value:.6g}{' (oracle: chosen on these tests)' if line.oracle else ''}: {line.rule}")
    if args.rules:
        _print_rules(compared)
    for sentence in (*report.skipped, *metrics.warnings_of(report), *doubted):
        tell(str(sentence))


def _outcome_json(one: rules.Outcome) -> dict[str, Any]:
    line = None if one.line is None else {"value": one.line.value, "alpha": one.line.alpha, "rule": str(one.line.rule)}
    sentences = {name: None if (s := getattr(one, name)) is None else str(s) for name in ("why_not", "warning")}
    return {**dataclasses.asdict(one), "line": line, **sentences}


_BASES = {"unseen": "", "folds": " in folds", "oracle": " ORACLE"}


def _print_rules(compared: Sequence[rules.Outcome]) -> None:
    """One line a rule, then what speaks against it."""
    print(f"\n{'rule':<10}{'line':>12}{'promised':>10}{'false alarms':>22}{'caught':>12}{'cost a part':>13}")
    for one in compared:
        if one.line is None:
            print(f"{one.key:<10}  cannot be used: {one.why_not}")
            continue
        promised = "–" if one.line.alpha is None else f"{100 * one.line.alpha:.3g} %"
        (k, n), (hits, m) = one.alarms, one.caught
        low, high = metrics.rate_interval(k, n)
        false = f"{k}/{n} [{100 * low:.1f}, {100 * high:.1f} %]" if n else "–"
        cost = "–" if one.cost is None else f"{one.cost:.4g}"
        print(
            f"{one.key:<10}{one.line.value:>12.6g}{promised:>10}{false:>22}{f'{hits}/{m}':>12}{cost:>13}{_BASES[one.basis]}"
        )
        if one.warning is not None:
            print(f"{'':<10}  {one.warning}")


def _pictures(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = (p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() in intake.SUFFIXES)
            yield from (p for p in found if not p.name.startswith("."))
        else:
            yield path


def score(args: argparse.Namespace) -> None:
    """`score`: judges new pictures, one line each."""
    import csv

    fitted = workflow.load(store.Run.open(args.run_name))
    line = fitted.calibration.threshold.value
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    taken: set[str] = set()
    for path in _pictures(args.pictures):
        try:
            look = workflow.look(fitted, path)
        except AdlibError as error:
            failed.append(f"{path}: {error}")
            continue
        verdict = "defect" if look.alarm else "normal"
        rows.append(
            {
                "path": str(path),
                "score": look.score,
                "normalised": look.normalised,
                "threshold": line,
                "verdict": verdict,
            }
        )
        if not args.json:
            print(
                f"{verdict:<8}{look.ratio:6.2f}x threshold  score {look.score:.6g}  normalised {look.normalised:.3f}  {path}"
            )
        if args.heatmaps and look.heat is not None:
            from adlib import overlays

            stem, n = path.stem, 2
            while stem in taken:  # pictures of one name from two folders
                stem, n = f"{path.stem}-{n}", n + 1
            taken.add(stem)
            png = overlays.heatmap_png(look, fitted.run.title)
            store.write_bytes(args.heatmaps / f"{stem}.png", png)
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            sheet = csv.DictWriter(file, ["path", "score", "normalised", "threshold", "verdict"])
            sheet.writeheader()
            sheet.writerows(rows)
    if args.json:
        dump({"pictures": rows, "refused": failed})
    for line_ in failed:
        tell(line_)
    if not rows:
        raise DataError("None of the pictures could be judged.")
