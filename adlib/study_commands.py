"""What one asks of a finished run or a data set in the terminal, and the worker's life."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adlib import doctor, report, store, studies, worker
from adlib.contract import AdlibError, Sentence
from adlib.terminal import gather, items, tell, tick


def write_report(args: argparse.Namespace) -> None:
    """`report`: the page for those who decide, and every score and heatmap beside it."""
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
    found = studies.work(store.Run.open(args.run_name), kind, tick)
    if args.json:
        store.write_json(args.json, found)
    on = found["measured_on"]
    tell(f"measured on {on['normals']} normals kept out, {on['good']} good tests, {on['defects']} defects")
    return found


def curve(args: argparse.Namespace) -> None:
    """`curve`: how many normals are enough."""
    found = _study(args, "curve")
    print(f"{'normals':>8}{'AUROC':>22}{'false alarms':>22}{'seconds':>9}")
    for i, size in enumerate(found["normals"]):
        area = "–" if found["auroc"] is None else _band(found["auroc"][i])
        seconds = sum(found["seconds"][i]) / len(found["seconds"][i])
        print(f"{size:>8}{area:>22}{_band(found['false_alarms'][i]):>22}{seconds:>9.1f}")
    print(Sentence.from_json(found["sentence"]))
    print(Sentence.from_json(found["promise"]))


def directions(args: argparse.Namespace) -> None:
    """`directions`: which directions tell defects from normals."""
    found = _study(args, "directions")
    figure = "inflation" if found["top"]["auroc"][-1][0] is None else "auroc"
    print(f"{figure:<12}" + "".join(f"{100 * share:>8g} %" for share in found["shares"]))
    for side in ("top", "bottom"):
        print(f"{side:<12}" + "".join(f"{value:>10.3f}" for value in found[side][figure][-1]))
    print(Sentence.from_json(found["sentence"]))


def _band(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def examine(args: argparse.Namespace) -> None:
    """`doctor`: what is suspicious in a data set."""
    if store.Dataset.exists(args.pictures):
        dataset = store.Dataset.open(args.pictures)
    else:
        dataset, _ = gather(Path(args.pictures), items(Path(args.pictures)))
    report = doctor.check(dataset, tick)
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


def serve(args: argparse.Namespace) -> None:
    """`worker`: works on queued jobs until it has been idle for long enough."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    worker.work(args.idle)
