"""How well a backbone finds defects in real pictures, none of which it was trained on: the yardstick for recipes.

Half of the sets choose between recipes, all are reported.  Every figure is kept in a file of JSON lines as it comes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from adlib import features, metrics, offline, registry, weights
from adlib.batches import Batches, predictions
from adlib.contract import Backbone, Sample
from adlib.frames import read_mask
from adlib.results import PixelTally

CHOOSING = ("cookies", "piped_pa_bdp01_tl", "piped_pa_brg03_tl", "piped_pa_fvn01_tl", "elpv_mono")
REPORTED = ("aliens", "magnetic_tile", "piped_pa_brg01_rl", "piped_pa_flr01_tl", "piped_pa_gla01_tl")
METHODS = ("patchcore", "padim", "gaussian")
SIZE = 256
NORMALS, TESTS = 60, 100  # at most, of each set


def judge(
    backbone: Backbone, label: str, kept: Path, sets: Iterable[str], methods: Iterable[str] = METHODS, seed: int = 0
) -> list[dict[str, Any]]:
    """Image AUROC and AU-PRO of each method on each set; rows that `kept` already holds are not computed again.

    label: what the rows are kept under.
    """
    known = rows(kept)
    for name in sets:
        for method in methods:
            key = [label, name, method, seed]
            if any(row["key"] == key for row in known):
                continue
            start = time.perf_counter()
            image, region = measure(backbone, method, seed, *pictures(name))
            row = {"key": key, "auroc": image, "aupro": region, "seconds": round(time.perf_counter() - start, 1)}
            known.append(row)
            kept.parent.mkdir(parents=True, exist_ok=True)
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    return [row for row in known if row["key"][0] == label]


def measure(
    backbone: Backbone, method: str, seed: int, normals: Sequence[Sample], tests: Sequence[Sample]
) -> tuple[float | None, float | None]:
    """Image AUROC, and AU-PRO where the set has masks.  Fitted on all these normals: no threshold is needed."""
    detector = registry.build(method, {}, backbone, seed).fit(Batches(normals, SIZE))
    scores, tally, rest = [], PixelTally(), iter(tests)
    for prediction, _ in predictions(detector, Batches(tests, SIZE)):
        scores.append(prediction.scores)
        if prediction.maps is not None:
            for grid in prediction.maps:
                sample = next(rest)
                tally.add(grid, sample.label, None if sample.mask is None else read_mask(sample.mask, SIZE))
    labels = np.array([sample.label for sample in tests])
    return metrics.auroc(labels, np.concatenate(scores)), tally.counts.aupro() if tally.masked else None


def pictures(name: str) -> tuple[list[Sample], list[Sample]]:
    """(normals, tests) of a real set, evenly spaced in the order of their names."""
    folder = Path(os.environ["ADLIB_TEST_DATA"]) / "datasets" / name
    normals = _some(sorted((folder / "train" / "good").iterdir()), NORMALS)
    good = _some(sorted((folder / "test" / "good").iterdir()), TESTS // 2)
    bad = [path for path in sorted((folder / "test").rglob("*.*")) if path.parent.name != "good"]
    bad = _some(bad, TESTS - len(good))
    return [_sample(p, folder, "train") for p in normals], [_sample(p, folder, "test") for p in [*good, *bad]]


def _sample(path: Path, folder: Path, split: str) -> Sample:
    kind = path.parent.name
    mask = folder / "ground_truth" / kind / f"{path.stem}_mask.png"
    found = mask if mask.exists() and split == "test" else None
    return Sample(path, int(kind != "good"), kind, found, split, "", path.name)


def _some(found: Sequence[Path], most: int) -> list[Path]:
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))]


def rows(kept: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []


def means(found: Sequence[dict[str, Any]], sets: Sequence[str], method: str | None = None) -> tuple[float, float]:
    """(image AUROC, AU-PRO) over these sets, and over all methods or one; AU-PRO over the sets that have masks."""
    these = [row for row in found if row["key"][1] in sets and method in (None, row["key"][2])]
    region = [row["aupro"] for row in these if row["aupro"] is not None]
    return mean(row["auroc"] for row in these), mean(region) if region else float("nan")


def backbone_of(name: str) -> Backbone:
    """A name that adlib knows, or a file that `export` wrote, which then stands behind "offline" in this process."""
    path = Path(name)
    if path.suffix == ".safetensors":
        offline.FILES[weights.OFFLINE] = path
        features._dry.cache_clear()
        return Backbone(weights.OFFLINE)
    return Backbone(name)


def table(found: Sequence[dict[str, Any]], labels: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of a results table: image AUROC / AU-PRO by method and set, means over seeds, one column a backbone."""
    body = []
    for method in METHODS:
        groups = [(name, [name]) for name in (*CHOOSING, *REPORTED)]
        groups += [("**mean of the sets that chose**", CHOOSING), ("**mean of the others**", REPORTED)]
        groups += [("**mean of all**", [*CHOOSING, *REPORTED])]
        for title, sets in groups:
            body.append([method, f"{title} (chose)" if title in CHOOSING else title])
            body[-1] += [_cell([row for row in found if row["key"][0] == label], sets, method) for label in labels]
    for title, sets in (("sets that chose", CHOOSING), ("others", REPORTED), ("ten", [*CHOOSING, *REPORTED])):
        body.append(["**all**", f"**mean of the {title}**"])
        body[-1] += [_cell([row for row in found if row["key"][0] == label], sets, None) for label in labels]
    return ["method", "set", *labels], body


def _cell(found: Sequence[dict[str, Any]], sets: Sequence[str], method: str | None) -> str:
    """Each method counts once, however many seeds it was run with."""
    methods = METHODS if method is None else (method,)
    if not all(any(r["key"][1] == name and r["key"][2] == m for r in found) for name in sets for m in methods):
        return "–"
    pairs = [means(found, sets, m) for m in methods]
    region = [pair[1] for pair in pairs if not np.isnan(pair[1])]
    return f"{mean(pair[0] for pair in pairs):.4f} / " + (f"{mean(region):.4f}" if region else "–")
