"""python -m adlib …: the terminal's door, and the worker's.

Exit code 0: done; 1: one sentence on the error stream says what is wrong; 2: the command itself was mistyped.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adlib import (
    datasets,
    decisions,
    doctor,
    doubts,
    experiment_command,
    intake,
    jobs,
    metrics,
    regions,
    registry,
    report,
    rules,
    store,
    studies,
    weights,
    workflow,
)
from adlib.contract import AdlibError, Backbone, DataError, Sample, Sentence, Stopped

_EPILOG = """\
examples:
  python -m adlib fit bottle --normals parts/good --method patchcore --backbone resnet18 --weights weights/
  python -m adlib evaluate bottle --test parts/test --json figures.json
  python -m adlib evaluate bottle --test parts/test --rules --rule cost --miss 50 --share 0.01
  python -m adlib curve bottle
  python -m adlib score bottle new/*.png --csv scores.csv --heatmaps heat/
  python -m adlib report bottle --out bottle.html --lang ja

RUN is a name or id in the workspace, or the path of a run folder.
ADLIB_WORKSPACE  where data sets and runs are kept (default: ./workspace)
ADLIB_WEIGHTS    file or folder with backbone weights       ADLIB_DATA  folder that the browser may read pictures from
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m adlib",
        description="Visual anomaly detection: normal pictures in, heatmaps out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, help: str, run: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        made.set_defaults(run=run)
        return made

    made = command("methods", "list the methods and their settings", _methods)
    made.add_argument("--json", action="store_true", help="print JSON")

    made = command("weights", "list the backbones' weights on this machine, or fetch some by name", _weights)
    made.add_argument("names", nargs="*", metavar="NAME", help="timm architectures to fetch")
    made.add_argument("--json", action="store_true", help="print JSON")

    made = command("fit", "learn from normal pictures", _fit)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument(
        "--normals", required=True, type=Path, metavar="DIR", help="folder, zip or .npz of normal pictures"
    )
    made.add_argument("--method", default="patchcore", metavar="KEY", help="one of `methods` (default: patchcore)")
    made.add_argument(
        "--backbone", default="offline", metavar="NAME", help="timm architecture (default: offline, built in)"
    )
    made.add_argument("--weights", default="", metavar="FILE_OR_DIR", help="where to look for the weights first")
    made.add_argument(
        "--stages", default="", metavar="1,2,3", help="levels of the network (default: the method's usual ones)"
    )
    made.add_argument(
        "--size", default=256, type=int, help="side of the square every picture is resized to (default: 256)"
    )
    made.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    made.add_argument("--letterbox", action="store_true", help="keep the pictures' proportions")
    made.add_argument(
        "--region", default="", metavar="x0,y0,x1,y1", help="only this part of each picture counts, in shares of its sides; "
        "more pairs make a polygon",
    )  # fmt: skip
    made.add_argument(
        "--set", action="append", default=[], metavar="key=value", dest="settings", help="a setting of the method"
    )
    made.add_argument("--seed", default=0, type=int)
    made.add_argument(
        "--alpha", default=0.01, type=float, help="share of good parts that may raise an alarm (default: 0.01)"
    )
    made.add_argument("--json", action="store_true", help="print JSON")

    made = command("evaluate", "judge labelled test pictures", _evaluate)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument(
        "--test", required=True, type=Path, metavar="DIR", help="good/ and one folder for each kind of defect"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    made.add_argument("--rules", action="store_true", help="compare all rules for the threshold on these tests")
    made.add_argument(
        "--rule", choices=("learned", *rules.RULES), metavar="KEY",
        help=f"decide by this rule from now on: learned, {', '.join(rules.RULES)}",
    )  # fmt: skip
    made.add_argument("--alpha", type=float, help="quantile, chi2: false-alarm rate (default: that of the fit)")
    usual = rules.Wishes()
    made.add_argument(
        "--sigmas", type=float, default=usual.sigmas, help="sigma: k of mean + k·σ (default: %(default)g)"
    )
    made.add_argument(
        "--recall", type=float, default=usual.recall, help="recall: share to catch (default: %(default)g)"
    )
    made.add_argument(
        "--miss", type=float, default=usual.miss, help="cost: price of a missed defect (default: %(default)g)"
    )
    made.add_argument(
        "--alarm", type=float, default=usual.alarm, help="cost: price of a false alarm (default: %(default)g)"
    )
    made.add_argument("--share", type=float, help="cost: share of defects in production (default: as in the tests)")

    made = command("score", "judge new pictures", _score)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE_OR_DIR")
    made.add_argument("--csv", type=Path, metavar="FILE")
    made.add_argument("--heatmaps", type=Path, metavar="DIR", help="write one PNG with legend for each picture")
    made.add_argument("--json", action="store_true", help="print JSON")

    made = command("report", "write the report for the people who decide: one HTML file", _report)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument("--out", required=True, type=Path, metavar="FILE.html")
    made.add_argument("--lang", default="en", choices=tuple(report.LANGUAGES), help="its language (default: en)")
    made.add_argument("--scores", type=Path, metavar="FILE.csv", help="write every score here, too")
    made.add_argument("--heatmaps", type=Path, metavar="FILE.zip", help="write a heatmap of each test here, too")

    made = command("curve", "how many normals are enough: fit on more and more of them", _curve)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")

    made = command("directions", "which directions tell defects from normals (Gaussian-AD)", _directions)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")

    made = command("doctor", "look for copies, odd ones and mixed pictures in a data set", _doctor)
    made.add_argument("pictures", metavar="DATASET_OR_FOLDER", help="id in the workspace, or a folder, zip or .npz")
    made.add_argument("--size", default=256, type=int, help="side of the network's square (default: 256)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the findings here")

    made = command(
        "experiment",
        "repeat an experiment of the articles on labelled classes (MNIST, CIFAR-10, your own)",
        _experiment,
    )
    experiment_command.options(made)

    made = command("worker", "work on queued fits (started by the dashboard by itself)", _worker)
    made.add_argument(
        "--idle", default=jobs.IDLE_SECONDS, type=float, metavar="SECONDS", help="go home after so long without work"
    )
    return parser


# --- helpers ----------------------------------------------------------------------------------------------------------


def _tick(fraction: float, message: str, /, **numbers: Any) -> None:
    """Progress on the error stream, on one line, and only for a person who is looking."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{fraction:4.0%} {message.format(**numbers)}" + ("\n" if fraction >= 1 else ""))
        sys.stderr.flush()


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _dump(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1))


def _run_folder(name: str) -> Path:
    """Where a new run goes: a plain name lies in the workspace, anything with a separator is a path."""
    is_path = Path(name).is_absolute() or os.sep in name or "/" in name or name.startswith(".")
    folder = Path(name).expanduser().resolve() if is_path else store.workspace() / "runs" / store.checked_id(name)
    if folder.exists() and not (folder / "request.json").exists() and any(folder.iterdir()):
        raise DataError(
            "'{folder}' holds other files. Choose a new or an empty folder for the run.", folder=str(folder)
        )
    return folder


def _items(path: Path, prefix: str = "") -> Iterator[intake.Item | intake.Refused]:
    if not path.exists():
        raise DataError("'{path}' does not exist. Give a folder, a zip or a .npz file.", path=str(path))
    for item in intake.from_folder(path, links=True) if path.is_dir() else intake.from_file(path):
        yield dataclasses.replace(item, name=prefix + item.name)


def _gather(path: Path, items: Iterator[intake.Item | intake.Refused]) -> tuple[store.Dataset, intake.Taken]:
    """A data set of the pictures where they lie; the same path is the same data set, listed anew."""
    id = "cli-" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:20]
    dataset = store.Dataset.create(path.resolve().name, f"folder {path.resolve()}", id)
    taken = intake.take(dataset, items, _tick, in_place=path.is_dir())
    return dataset, taken


def _print_refused(refused: Sequence[Any]) -> None:
    if refused:
        _tell(f"{len(refused)} refused:")
        for one in refused:
            _tell(f"  {one.name}: {one.reason}")


def _refused_json(refused: Sequence[Any]) -> list[dict[str, str]]:
    return [{"name": one.name, "reason": str(one.reason)} for one in refused]


# --- commands ---------------------------------------------------------------------------------------------------------


def _methods(args: argparse.Namespace) -> None:
    found = []
    for key, card in registry.METHODS.items():
        known = [
            {"name": s.name, "default": s.default, "takes": registry.allowed(s), "help": s.help}
            for s in registry.settings(key)
        ]
        found.append({"key": key, **dataclasses.asdict(card), "settings": known})
    if args.json:
        return _dump(found)
    for method in found:
        print(f"{method['key']:<14}{method['title']}: {method['good_at']}")
        for known in method["settings"]:
            print(f"{'':<14}--set {known['name']}={known['default']}  {known['takes']}. {known['help']}")
    return None


def _weights(args: argparse.Namespace) -> None:
    for name in args.names:
        path = weights.fetch(name, _tick)
        _tell(f"{name}: {path}")
    found: list[dict[str, Any]] = []
    for one in weights.ready():
        row = {"name": one.name, "ready": one.offline or one.path is not None, "file": str(one.path or "")}
        found.append({**row, "megabytes": one.megabytes, "licence": one.licence})
    if args.json:
        return _dump(found)
    for row in found:
        state = "ready  " if row["ready"] else "missing"
        print(f"{state}  {row['name']:<40}{row['megabytes']:>8.1f} MB  {row['licence']:<18}{row['file']}")
    return None


def _fit(args: argparse.Namespace) -> None:
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
    folder = _run_folder(args.run_name)
    dataset, taken = _gather(args.normals, _items(args.normals))
    request = workflow.Request(
        dataset.id, args.method, settings, backbone if registry.uses_backbone(args.method) else None,
        args.seed, args.alpha, args.letterbox, regions.parse(args.region) if args.region else None,
    )  # fmt: skip
    run = store.Run.create(folder)
    run.forget()
    _, calibration = workflow.fit(request, dataset, run, _tick)
    _, refused = datasets.samples(dataset)
    card = run.card
    if args.json:
        _dump(
            {
                "run": str(run.folder), **{name: card[name] for name in ("method", "settings", "backbone", "seed", "normals")},
                "layout": str(taken.layout), "refused": _refused_json(refused),
                "notes": [{"name": name, "note": str(note)} for name, note in taken.notes],
                "threshold": calibration.threshold.value, "rule": str(calibration.threshold.rule),
                "unit": calibration.unit, "fit_seconds": card["fit_seconds"], "peak_mb": card["peak_mb"],
            }
        )  # fmt: skip
        return
    _tell(str(taken.layout))
    _print_refused(refused)
    for name, note in taken.notes[:20]:
        _tell(f"  {name}: {note}")
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
        yield from _items(path, "test/")
        yield from _items(masks, "ground_truth/")
    else:
        yield from _items(path)


def _as_tests(dataset: store.Dataset, samples: Sequence[Sample]) -> list[Sample]:
    """Everything labelled is a test here, unless the folders themselves say which good pictures are for testing."""
    if any(folder["role"] == "test_normal" for folder in dataset.meta["folders"].values()):
        return workflow.labelled_tests(samples)
    return [dataclasses.replace(s, split="test") for s in samples if s.label is not None]


def _evaluate(args: argparse.Namespace) -> None:
    fitted = workflow.load(store.Run.open(args.run_name))
    dataset, _ = _gather(args.test, _test_items(args.test))
    samples, refused = datasets.samples(dataset)
    report = workflow.evaluate(fitted, _as_tests(dataset, samples), _tick, white=dataset.meta["white"])
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
        "refused": _refused_json(refused),
    }
    if args.json:
        store.write_json(args.json, figures)
    _print_refused(refused)
    for name in ("image_auroc", "image_ap", "image_f1_oracle", "pixel_auroc", "aupro", "f1", "fpr", "tpr"):
        value, interval = figures[name], figures["intervals"].get(name)
        shown = "–" if value is None else f"{value:.4f}"
        print(f"{name:<16}{shown}" + (f"  [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""))
    print(f"{'pictures':<16}{report.n_normal} normal, {report.n_defect} defective, {report.ms_per_image:.1f} ms each")
    print(f"{'threshold':<16}{line.value:.6g}{' (oracle: chosen on these tests)' if line.oracle else ''}: {line.rule}")
    if args.rules:
        _print_rules(compared)
    for sentence in (*report.skipped, *metrics.warnings_of(report), *doubted):
        _tell(str(sentence))


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


def _experiment(args: argparse.Namespace) -> None:
    experiment_command.run(args, _tick, _tell)


def _pictures(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = (p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() in intake.SUFFIXES)
            yield from (p for p in found if not p.name.startswith("."))
        else:
            yield path


def _score(args: argparse.Namespace) -> None:
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
        _dump({"pictures": rows, "refused": failed})
    for line_ in failed:
        _tell(line_)
    if not rows:
        raise DataError("None of the pictures could be judged.")


def _report(args: argparse.Namespace) -> None:
    run = store.Run.open(args.run_name)
    _save(args.out, report.page(run, args.lang).encode())
    if args.scores:
        _save(args.scores, report.sheet(run))
    if args.heatmaps:
        _save(args.heatmaps, report.heatmaps(run))


def _save(path: Path, data: bytes) -> None:
    try:
        store.write_bytes(path, data)
    except OSError as error:
        raise AdlibError(
            "'{file}' cannot be written ({why}). Choose another place.", file=str(path), why=type(error).__name__
        ) from None
    print(f"{path}  {len(data) / 1e6:.2f} MB")


def _study(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    found = studies.work(store.Run.open(args.run_name), kind, _tick)
    if args.json:
        store.write_json(args.json, found)
    on = found["measured_on"]
    _tell(f"measured on {on['normals']} normals kept out, {on['good']} good tests, {on['defects']} defects")
    return found


def _curve(args: argparse.Namespace) -> None:
    found = _study(args, "curve")
    print(f"{'normals':>8}{'AUROC':>22}{'false alarms':>22}{'seconds':>9}")
    for i, size in enumerate(found["normals"]):
        area = "–" if found["auroc"] is None else _band(found["auroc"][i])
        seconds = sum(found["seconds"][i]) / len(found["seconds"][i])
        print(f"{size:>8}{area:>22}{_band(found['false_alarms'][i]):>22}{seconds:>9.1f}")
    print(Sentence.from_json(found["sentence"]))
    print(Sentence.from_json(found["promise"]))


def _directions(args: argparse.Namespace) -> None:
    found = _study(args, "directions")
    figure = "inflation" if found["top"]["auroc"][-1][0] is None else "auroc"
    print(f"{figure:<12}" + "".join(f"{100 * share:>8g} %" for share in found["shares"]))
    for side in ("top", "bottom"):
        print(f"{side:<12}" + "".join(f"{value:>10.3f}" for value in found[side][figure][-1]))
    print(Sentence.from_json(found["sentence"]))


def _band(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def _doctor(args: argparse.Namespace) -> None:
    if store.Dataset.exists(args.pictures):
        dataset = store.Dataset.open(args.pictures)
    else:
        dataset, _ = _gather(Path(args.pictures), _items(Path(args.pictures)))
    report = doctor.check(dataset, _tick)
    findings = [finding for finding in report.findings if doctor.is_open(finding)]
    if not findings:
        print(f"Nothing suspicious in {report.pictures} pictures")
    for finding in findings:
        print(f"{finding.what}\n  {finding.why}")
        for one in finding.suspects[:20]:
            print(f"    {one.name}: {one.note}")
        if len(finding.suspects) > 20:
            print(f"    … and {len(finding.suspects) - 20} more")
    spot = doctor.smallest_of(dataset, args.size)
    print(f"At {args.size} pixels a defect keeps half its contrast from {spot:.1f} original pixels on")
    if report.defects:
        small = sum(side < spot for side in report.defects)
        print(f"  {small} of {len(report.defects)} masked defects are smaller")
    if args.json:
        told = [
            {"kind": f.kind, "what": str(f.what), "why": str(f.why), "pictures": _suspects_json(f.suspects)}
            for f in findings
        ]
        unusual = _suspects_json(report.unusual)
        figures = {"pictures": report.pictures, "seconds": report.seconds, "size": args.size, "smallest": spot}
        store.write_json(args.json, {**figures, "findings": told, "unusual": unusual, "defects": report.defects})


def _suspects_json(suspects: Sequence[doctor.Suspect]) -> list[dict[str, str]]:
    return [{"name": s.name, "sha256": s.digest, "note": str(s.note), "beside": s.beside} for s in suspects]


def _worker(args: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    jobs.work(args.idle)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    args = _parser().parse_args(arguments)
    try:
        args.run(args)
    except AdlibError as error:
        _tell(str(error))
        return 1
    except KeyboardInterrupt:
        _tell(f"\n{Stopped()}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
