"""How well adlib finds defects in real pictures, and how well anomalib 2.7 does with the same pictures and weights.

    python benchmarks/accuracy.py [--sets cookies aliens] [--backbones resnet18 offline]
    python benchmarks/accuracy.py --peer-python /path/to/anomalib/bin/python [--sets …] [--seeds 0 1 2]

ADLIB_TEST_DATA names the folder with `datasets/` and `weights/`.  Without a peer: every method on every set through the
command line's fit and evaluate.  With one: PaDiM and PatchCore on both sides, measured by the same code (ours), so that
only the methods differ.  Every figure is kept in `--keep FILE` as soon as it is there, so a long run can be cut into
pieces and continued; tables are written into results.md from all that is kept.
"""

# ruff: noqa: E402  (the project's folder is put on the path first)

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import numpy as np
import tables

from adlib import metrics, registry
from adlib.frames import read_mask
from adlib.results import PixelTally

HERE = Path(__file__).resolve().parent
SIZE = 256
PIPED = ("bdp01_tl", "brg01_rl", "brg03_tl", "flr01_tl", "fvn01_tl", "gla01_tl")
SETS = (
    "magnetic_tile", "elpv_mono", "cookies", "aliens", *(f"piped_pa_{name}" for name in PIPED),
    "mvtec_hazelnut_reduced", "mvtec_transistor_reduced",
)  # fmt: skip
SMOKE = ("mvtec_hazelnut_reduced", "mvtec_transistor_reduced")  # two good tests each: no more than a smoke test
AT_MOST = {"padim": 10_000, "patchcore": 50}  # normals on both sides: anomalib's coreset takes the square of them
FIGURES = ("image_auroc", "image_ap", "pixel_auroc", "aupro")
# anomalib's coreset takes and gives back tens of MB a pick; under 32 MB glibc keeps them on a heap that then only grows.
HEAP = {"MALLOC_MMAP_THRESHOLD_": "1000000"}
ALLOWED = 0.005  # of mean image AUROC below the peer


class Kept:
    """Figures by key, in a file of JSON lines that grows as they come."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self.found = {row["key"]: row for row in map(json.loads, path.read_text().splitlines())}

    def once(self, key: str, make: Any) -> dict[str, Any]:
        if key not in self.found:
            start = time.perf_counter()
            row = {"key": key, **make(), "commit": tables.commit(), "took_s": time.perf_counter() - start}
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self.found[key] = row
            sys.stderr.write(f"{key}: {row['image_auroc']:.4f} in {row['took_s']:.0f} s\n")
        return self.found[key]


# --- a set as lists ---------------------------------------------------------------------------------------------------


def normals(folder: Path, most: int) -> list[Path]:
    """At most so many, evenly spaced in the order of names."""
    found = sorted(path for path in (folder / "train" / "good").iterdir() if path.is_file())
    chosen = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
    return [found[i] for i in chosen]


def tests(folder: Path) -> list[tuple[Path, int, Path | None]]:
    """(picture, label, mask) of every test."""
    found = []
    for path in sorted((folder / "test").rglob("*.*")):
        kind = path.parent.name
        mask = folder / "ground_truth" / kind / f"{path.stem}_mask.png"
        found.append((path, int(kind != "good"), mask if mask.exists() else None))
    return found


def measured(scores: np.ndarray, maps: np.ndarray, known: Sequence[tuple[Path, int, Path | None]]) -> dict[str, Any]:
    labels, tally = np.array([label for _, label, _ in known]), PixelTally()
    for grid, (_, label, mask) in zip(maps, known, strict=True):
        tally.add(grid, label, None if mask is None else read_mask(mask, SIZE, False))
    pixels = (tally.counts.auroc(), tally.counts.aupro()) if tally.masked else (None, None)
    images = (metrics.auroc(labels, scores), metrics.average_precision(labels, scores))
    return dict(zip(FIGURES, (*images, *pixels), strict=True))


# --- every method -----------------------------------------------------------------------------------------------------


def every_method(
    data: Path, kept: Kept, sets: Sequence[str], backbones: Sequence[str], precision: str, methods: Sequence[str]
) -> None:
    for backbone in backbones:
        weights = str(data / "weights")
        for name in sets:
            for method in methods:
                if not registry.uses_backbone(method) and backbone != "offline":
                    continue  # the same whatever the backbone: kept once
                if backbone.startswith("mobilenet") and method != "gaussian":
                    continue
                asked = ["--method", method, "--data", data / "datasets" / name, "--backbone", backbone]
                asked += ["--weights", weights if backbone != "offline" else "", "--precision", precision]
                command = [tables.python(), HERE / "ours.py", "figures", *asked]
                kept.once(f"cli {backbone} {method} {name} {precision}", lambda c=command: tables.answer(c))


def method_table(kept: Kept, backbone: str, precision: str) -> list[str]:
    rows = []
    for method, card in registry.METHODS.items():
        if backbone.startswith("mobilenet") and method != "gaussian":
            continue
        source = backbone if registry.uses_backbone(method) else "offline"
        found = {name: kept.found.get(f"cli {source} {method} {name} {precision}") for name in SETS}
        for name, row in found.items():
            if row:
                cells = [f"{row[figure]:.4f}" if row[figure] is not None else None for figure in FIGURES]
                seconds, memory = f"{row['fit_seconds']:.1f}", f"{row['peak_mb']:.0f}"
                rows.append(
                    [card.title, name, *cells, seconds, f"{row['ms_per_image']:.0f}", memory, f"{row['state_mb']:.1f}"]
                )
        solid = [row for name, row in found.items() if row and name not in SMOKE]
        if len(solid) > 1:
            means = [mean_of(solid, figure) for figure in FIGURES]
            rows.append([f"**{card.title}**", f"**mean of {len(solid)}**", *means, None, None, None, None])
    head = (
        "method",
        "set",
        "image AUROC",
        "AP",
        "pixel AUROC",
        "AU-PRO",
        "fit s",
        "ms a picture",
        "peak MB",
        "state MB",
    )
    return tables.table(head, rows)


def mean_of(rows: Sequence[dict[str, Any]], figure: str) -> str | None:
    known = [row[figure] for row in rows if row[figure] is not None]
    return f"**{statistics.mean(known):.4f}**" if known else None


# --- beside the peer --------------------------------------------------------------------------------------------------


def beside(method: str, name: str, data: Path, kept: Kept, peer: Path, seed: int, precision: str) -> None:
    folder, weights = data / "datasets" / name, data / "weights" / "resnet18.safetensors"
    known = tests(folder)
    chosen = normals(folder, AT_MOST[method])

    def run(python: str | Path, script: str, *more: str, channels: list[int] | None = None) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as place:
            task = Path(place, "task.json")
            pictures = {"normals": list(map(str, chosen)), "tests": [str(path) for path, _, _ in known]}
            task.write_text(json.dumps({**pictures, "channels": channels}))
            asked = ["accuracy", "--method", method, "--weights", weights, "--seed", str(seed)]
            command = [python, HERE / script, *asked, "--task", task, "--out", place, *more]
            found = tables.answer(command, timeout_s=3600, **HEAP)
            scores, maps = np.load(Path(place, "scores.npy")), np.load(Path(place, "maps.npy"))
        return {**found, **measured(scores, maps, known), "learned_from": len(chosen)}

    ours = kept.once(
        f"ours {precision} {method} {name} {seed}",
        lambda: run(tables.python(), "ours.py", "--precision", precision),
    )
    kept.once(f"theirs {method} {name} {seed}", lambda: run(peer, "peer.py"))
    if method == "padim":  # the same channels on both sides: what is left is the method itself
        key = f"theirs-same {method} {name} {seed}"
        kept.once(key, lambda: run(peer, "peer.py", channels=ours["channels"]))


def peer_table(kept: Kept, method: str, seeds: Sequence[int], precision: str) -> list[str]:
    rows, per_seed = [], {seed: ([], []) for seed in seeds}
    for name in SETS:
        for seed in seeds:
            mine, yours = (
                kept.found.get(key)
                for key in (f"ours {precision} {method} {name} {seed}", f"theirs {method} {name} {seed}")
            )
            if not mine or not yours:
                continue
            per_seed[seed][0].append(mine["image_auroc"])
            per_seed[seed][1].append(yours["image_auroc"])
            same = kept.found.get(f"theirs-same {method} {name} {seed}")
            cells = [f"{100 * (mine[f] - yours[f]):+.2f}" if mine[f] is not None else None for f in FIGURES]
            image = [
                f"{mine['image_auroc']:.4f}",
                f"{yours['image_auroc']:.4f}",
                f"{same['image_auroc']:.4f}" if same else None,
            ]
            pixel = [f"{r['pixel_auroc']:.4f}" if r["pixel_auroc"] is not None else None for r in (mine, yours)]
            times = f"{mine['fit_s']:.0f} / {yours['fit_s']:.0f}"
            rows.append([name, seed, mine["learned_from"], *image, cells[0], *pixel, cells[2], cells[3], times])
    head = (
        "set", "seed", "normals", "image AUROC ours", "anomalib", "anomalib, our channels", "difference, points",
        "pixel AUROC ours", "anomalib", "difference", "AU-PRO difference", "fit s, ours / anomalib",
    )  # fmt: skip
    lines = tables.table(head, rows)
    gaps = [statistics.mean(a) - statistics.mean(b) for a, b in per_seed.values() if a]
    for seed, (ours, theirs) in per_seed.items():
        if ours:
            gap = statistics.mean(ours) - statistics.mean(theirs)
            met = "met" if gap >= -ALLOWED else "**not met**"
            lines += [
                "",
                f"Mean image AUROC of {len(ours)} sets, seed {seed}: ours {statistics.mean(ours):.4f}, anomalib "
                f"{statistics.mean(theirs):.4f}: {100 * gap:+.2f} points (not below -{100 * ALLOWED:.1f}: {met}).",
            ]
    pairs = [
        (mine["image_auroc"], same["image_auroc"])
        for name in SETS
        for seed in seeds
        if (mine := kept.found.get(f"ours {precision} {method} {name} {seed}"))
        and (same := kept.found.get(f"theirs-same {method} {name} {seed}"))
    ]
    if pairs:
        gap = statistics.mean(mine - same for mine, same in pairs)
        widest = max(abs(mine - same) for mine, same in pairs)
        lines += [
            "",
            f"With our channels on both sides, {len(pairs)} fits: {100 * gap:+.2f} points, at most {100 * widest:.2f} apart; "
            "what differs above is the draw of channels.",
        ]
    if len(gaps) > 1:
        lines += ["", f"Over {len(gaps)} seeds the difference is {100 * statistics.mean(gaps):+.2f} points."]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument(
        "--methods", nargs="+", choices=list(registry.METHODS), help="all; beside the peer, padim and patchcore"
    )
    parser.add_argument("--backbones", nargs="*", default=["resnet18", "offline"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--precision", default="auto")
    parser.add_argument(
        "--keep", type=Path, default=tables.ROOT / "workspace" / "accuracy.jsonl", help="where figures are kept"
    )
    parser.add_argument("--table", action="store_true", help="only write the tables again")
    given = parser.parse_args()
    kept, started = Kept(given.keep), time.perf_counter()
    data = Path(os.environ["ADLIB_TEST_DATA"])
    if not given.table and given.peer_python:
        for method in given.methods or AT_MOST:
            for seed in given.seeds:
                for name in given.sets:
                    beside(method, name, data, kept, given.peer_python, seed, given.precision)
    elif not given.table:
        every_method(data, kept, given.sets, given.backbones, given.precision, given.methods or list(registry.METHODS))
    line = tables.circumstances(time.perf_counter() - started)
    for backbone in ("resnet18", "offline", "offline_pure", "mobilenetv2_100"):
        if any(key.startswith(f"cli {backbone} ") for key in kept.found):
            tables.write(f"accuracy {backbone}", [*method_table(kept, backbone, given.precision), "", line])
    for method in ("padim", "patchcore"):
        if any(key.startswith(f"theirs {method} ") for key in kept.found):
            tables.write(f"beside {method}", [*peer_table(kept, method, given.seeds, given.precision), "", line])


if __name__ == "__main__":
    main()
