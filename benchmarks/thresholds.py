"""What each rule for a threshold promises on real pictures, and what it keeps.

    nice -n 10 python benchmarks/thresholds.py [--sets cookies aliens] [--methods gaussian padim] [--seeds 10] [--keep FILE]

ADLIB_TEST_DATA names the folder with `datasets/` and `weights/`.  All normals of a set, those of its test folder too, are
divided by chance, ten times: half to fit, a quarter to learn the line from, a quarter to judge it.  Pictures go through the
network once a set; the detectors then read its maps from memory.  Rules that need defects choose on one half of them and
of the normals to be judged, and are judged on the other.  Scores are kept in `--keep`, so that a cut run goes on.
"""

# ruff: noqa: E402  (the project's folder is put on the path first)

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import numpy as np
import tables
import torch

from adlib import features, frames, images, lines, registry, thresholds
from adlib.contract import Backbone, Batch
from adlib.methods import gaussian, padim, patchcore

SIZE = 128
MOST = 420  # normals of a set, and half as many defects
ALPHAS = (0.01, 0.05, 0.10)
METHODS = {  # name: (registry key, levels of the network, settings)
    "gaussian": ("gaussian", "all", {}),
    "gaussian, level 4 of 5": ("gaussian", (3,), {}),
    "gaussian, level 4, PCA 99 %": ("gaussian", (3,), {"reduction": "pca", "variance": 0.99}),
    "padim": ("padim", "early", {}),
    "patchcore": ("patchcore", "middle", {}),
}
SETS = (
    "magnetic_tile", "elpv_mono", "cookies", "aliens",
    *(f"piped_pa_{name}" for name in ("bdp01_tl", "brg01_rl", "brg03_tl", "flr01_tl", "fvn01_tl", "gla01_tl")),
    "mvtec_hazelnut_reduced", "mvtec_transistor_reduced", "mnist 3", "cifar10 horse",
)  # fmt: skip


# --- pictures ---------------------------------------------------------------------------------------------------------


def sources(data: Path, name: str) -> tuple[list[Any], list[Any]]:
    """(normals, defects) of a set, as paths or bytes, at most MOST and MOST / 2 of them, drawn with a fixed seed."""
    if name.startswith("mnist"):
        with np.load(data / "mnist.npz") as file:
            x, y = file["x_train"], file["y_train"]
        digit = int(name.split()[1])
        good, bad = ([png(x[i]) for i in drawn(np.flatnonzero(which), n)] for which, n in
                     ((y == digit, MOST), (y != digit, MOST // 2)))  # fmt: skip
        return good, bad
    if name.startswith("cifar10"):
        with zipfile.ZipFile(data / "cifar10_jpg_dev.zip") as file:
            names = [n for n in file.namelist() if n.endswith(".jpg")]
            mine = [n for n in names if f"/{name.split()[1]}/" in n]
            others = [n for n in names if f"/{name.split()[1]}/" not in n]
            return [file.read(n) for n in drawn(mine, MOST)], [file.read(n) for n in drawn(others, MOST // 2)]
    folder = data / name
    good = sorted([*(folder / "train/good").iterdir(), *(folder / "test/good").iterdir()])
    bad = sorted(p for kind in (folder / "test").iterdir() if kind.name != "good" for p in kind.iterdir())
    return drawn(good, MOST), drawn(bad, MOST // 2)


def drawn(items: Any, n: int) -> list[Any]:
    items = list(items)
    return [items[i] for i in np.random.default_rng(0).permutation(len(items))[:n]]


def png(grey: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()


# --- detectors that read the network's maps from memory -----------------------------------------------------------------


class Memory:
    """An extractor whose pictures went through the network before: a picture's first value is its number."""

    def __init__(self, look: features.Extractor, pictures: Sequence[Any]) -> None:
        self.look, self.channels = look, look.channels
        parts = []
        for start in range(0, len(pictures), 16):
            pixels = [frames.to_pixels(images.read(one), SIZE)[0] for one in pictures[start : start + 16]]
            parts.append([level.clone() for level in look(torch.from_numpy(np.stack(pixels)))])
        self.maps = [torch.cat(level) for level in zip(*parts, strict=True)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.look, name)

    def __call__(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        which = pixels[:, 0, 0, 0].long()
        return [level[which] for level in self.maps]


class Numbers:
    """Pictures by their numbers, as `Images`."""

    size = SIZE

    def __init__(self, which: Sequence[int]) -> None:
        self.which = list(which)

    def __len__(self) -> int:
        return len(self.which)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.which), 16):
            part = self.which[start : start + 16]
            pixels = torch.zeros(len(part), 3, SIZE, SIZE)
            pixels[:, 0, 0, 0] = torch.tensor(part, dtype=torch.float32)
            yield Batch(pixels, ("good",) * len(part))


def divided(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half to fit, a quarter to learn the line from, a quarter to judge it."""
    order = np.random.default_rng(1000 + seed).permutation(n)
    return order[: n // 2], order[n // 2 : n // 2 + n // 4], order[n // 2 + n // 4 :]


def scores_of(data: Path, name: str, method: str, seeds: int) -> dict[str, Any]:
    """Scores of held-out normals, judged normals and defects for each seed; the law's dimension where there is one."""
    key, stages, settings = METHODS[method]
    weights = str(data.parent / "weights" / "resnet18.safetensors")
    backbone = Backbone("resnet18", stages if isinstance(stages, tuple) else (), SIZE, weights, "fp32")
    backbone = features.resolve(backbone, stages if isinstance(stages, str) else "all")
    good, bad = sources(data, name)
    started = time.process_time()
    memory = Memory(features.extractor(backbone), [*good, *bad])
    for module in (gaussian, padim, patchcore):
        module.extractor = lambda backbone: memory  # type: ignore[assignment]
    found: dict[str, Any] = {"normals": len(good), "defects": len(bad), "seeds": []}
    for seed in range(seeds):
        fit, held, judged = divided(len(good), seed)
        detector = registry.build(key, settings, backbone, seed).fit(Numbers(fit))

        def score(which: Sequence[int], detector: Any = detector) -> list[float]:
            return [float(x) for batch in Numbers(which) for x in detector.score(batch.pixels).scores]

        one = {"held": score(held), "good": score(judged), "bad": score(range(len(good), len(good) + len(bad)))}
        if key == "gaussian" and len(backbone.stages) == 1:
            state = detector.state()
            one |= {"k": state["factor0"].shape[1], "rho": float(state["shrinkage"][0])}
        found["seeds"].append({"fitted": len(fit), **one})
    return {**found, "cpu_s": time.process_time() - started}


# --- promises and what became of them ---------------------------------------------------------------------------------


def within_law(n: int, k: int, count: int, total: int) -> bool:
    """Is `count` of `total` what a line at the k-th of n scores gives in 95 % of all draws (beta-binomial)?"""
    from scipy.stats import betabinom

    law = betabinom(total, n + 1 - k, k)
    return bool(law.cdf(count) > 0.025 and law.sf(count - 1) > 0.025)


def normals_row(name: str, method: str, kept: dict[str, Any]) -> tuple[list[Any], list[tuple[float, bool]]]:
    """A line of the table of rules that need no defect, and for each (alpha, seed) whether the quantile kept its law."""
    from scipy.special import ndtri

    cells: dict[str, list[tuple[float, int]]] = {}
    promised: dict[str, float] = {}
    held_law = []
    for one in kept["seeds"]:
        held, good = np.array(one["held"]), np.array(one["good"])
        n = len(held)

        def add(rule: str, line: Any, alpha: float | None = None, good: np.ndarray = good) -> None:
            cells.setdefault(rule, []).append((int((good > line.value).sum()), len(good)))
            promised[rule] = line.alpha if alpha is None else alpha

        for alpha in ALPHAS:
            line = thresholds.at_false_alarm_rate(held, alpha)
            add(f"quantile {alpha}", line)
            k = min(thresholds.place(n, alpha), n)
            held_law.append((alpha, within_law(n, k, cells[f"quantile {alpha}"][-1][0], len(good))))
            if n >= lines.LEAST_FOR_A_SPREAD:
                add(f"sigma {alpha}", lines.mean_plus(held, float(-ndtri(alpha))))
            if "k" in one:
                add(f"chi2 {alpha}", lines.chi_square(alpha, one["k"], one["rho"], one["fitted"]))
        add("largest", lines.largest(held))
    first = kept["seeds"][0]
    row: list[Any] = [name, method, f"{first['fitted']} / {len(first['held'])} / {len(first['good'])}"]
    row.append(f"{first['k']}, {first['rho']:.2f}" if "k" in first else None)
    for rule in ("quantile", "sigma", "chi2"):
        for alpha in ALPHAS:
            row.append(
                cell(
                    cells.get(f"{rule} {alpha}"), promised.get(f"{rule} {alpha}"), rule == "quantile" or rule == "sigma"
                )
            )
    row.append(cell(cells["largest"], promised["largest"], True))
    row.append(f"{sum(ok for _, ok in held_law)} of {len(held_law)}")
    return row, held_law


def cell(counts: list[tuple[int, int]] | None, promised: float | None, show: bool) -> str | None:
    """Realised percentage over all seeds, after the promised one where it is not the column's."""
    if not counts or promised is None:
        return None
    realised = 100 * sum(k for k, _ in counts) / sum(n for _, n in counts)
    return f"{100 * promised:.1f} → {realised:.1f}" if show else f"{realised:.1f}"


def tests_row(name: str, method: str, kept: dict[str, Any]) -> list[Any]:
    """Rules that choose on labelled tests, chosen on one half and judged on the other: missed and false alarms."""
    sums: dict[str, list[int]] = {}
    promised: dict[str, float] = {}
    for seed, one in enumerate(kept["seeds"]):
        rng = np.random.default_rng(2000 + seed)
        halves = []
        for values in (np.array(one["good"]), np.array(one["bad"])):
            order = rng.permutation(len(values))
            halves.append((values[order[: len(values) // 2]], values[order[len(values) // 2 :]]))
        (good, good2), (bad, bad2) = halves
        labels, scores = np.r_[np.zeros(len(good)), np.ones(len(bad))], np.r_[good, bad]
        made = {f"recall {a}": lines.at_recall(labels, scores, 1 - a) for a in ALPHAS}
        made |= {"f1": thresholds.best_f1(labels, scores), "cost": lines.cheapest(labels, scores, 10, 1, 0.05)}
        for rule, line in made.items():
            for which, (x, y) in (("unseen", (good2, bad2)), ("oracle", (good, bad))):
                counts = sums.setdefault(f"{rule} {which}", [0, 0, 0, 0])
                for i, n in enumerate((int((y <= line.value).sum()), len(y), int((x > line.value).sum()), len(x))):
                    counts[i] += n
        for a in ALPHAS:
            m = len(bad)
            promised[f"recall {a}"] = a if m >= lines.defects_needed(1 - a) else 1 / (m + 1)
    row: list[Any] = [name, method, f"{len(good)} + {len(bad)}"]
    for a in ALPHAS:
        missed, m, false, n = sums[f"recall {a} unseen"]
        row.append(f"{100 * promised[f'recall {a}']:.1f} → {100 * missed / m:.1f}, {100 * false / n:.1f}")
    for rule in ("f1", "cost"):
        for which in ("oracle", "unseen"):
            missed, m, false, n = sums[f"{rule} {which}"]
            row.append(f"{100 * missed / m:.1f}, {100 * false / n:.1f}")
    return row


def write(found: dict[str, dict[str, Any]], seconds: float, seeds: int) -> None:
    head = ["set", "method", "fit / line / judged", "k, shrinkage"]
    head += [f"{rule} {100 * a:g} %" for rule in ("quantile", "mean + k·σ", "chi-square") for a in ALPHAS]
    head += ["largest", "quantile within its law"]
    rows, tests, laws = [], [], []
    for key, kept in found.items():
        name, _, method = key.partition(" | ")
        row, law = normals_row(name, method, kept)
        rows.append(row)
        laws.append((key, law))
        tests.append(tests_row(name, method, kept))
    kept_all = [ok for _, law in laws for _, ok in law]
    by_alpha = ", ".join(
        f"{sum(ok for _, law in laws for a, ok in law if a == alpha)} of {len(kept_all) // len(ALPHAS)} at {100 * alpha:g} %"
        for alpha in ALPHAS
    )
    groups = [np.mean([ok for a, ok in law if a == alpha]) for _, law in laws for alpha in ALPHAS]
    lines_ = [
        f"resnet18 (real weights), {SIZE} px, {seeds} random divisions of all normals of a set (at most {MOST}): half to "
        "fit, a quarter to learn the line from, a quarter to judge it. A cell is “promised → realised” false alarms in %, "
        "pooled over the divisions; a chi-square column promises its own head. With too few normals the "
        "quantile promises what it can, 1 / (n + 1). k of mean + k·σ is the normal law's for the rate in the head.",
        "",
        *tables.table(head, rows),
        "",
        f"The realised false alarms of the quantile rule lie inside the central 95 % of their law (beta-binomial: Beta(n + 1 - "
        f"k, k) for the rate, then the judged normals) in {sum(kept_all)} of {len(kept_all)} cases, "
        f"{100 * np.mean(kept_all):.1f} % ({by_alpha}); wanted: at least 90 % "
        f"({'met' if np.mean(kept_all) >= 0.9 else '**not met**'}). Of the {len(groups)} groups of {seeds} divisions (set, "
        f"method, rate) {sum(g >= 0.9 for g in groups)} have at least nine in ten inside; divisions of one set share pictures.",
        "",
        "Rules that need defects, chosen on one half of the judged normals and of the defects and judged on the other half: "
        "“missed, false alarms” in %. Target recall shows the promised share of missed defects first. Cost: a miss 10, a false "
        "alarm 1, 5 % defects. Oracle: judged on the pictures the line was chosen on.",
        "",
        *tables.table(
            ["set", "method", "chosen on (good + defects)", *(f"recall {100 * (1 - a):g} %" for a in ALPHAS),
             "best F1, oracle", "best F1, unseen", "cost, oracle", "cost, unseen"], tests,
        ),
        "",
        tables.circumstances(seconds),
    ]  # fmt: skip
    tables.write("thresholds", lines_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--keep", type=Path, default=Path("workspace/thresholds.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["ADLIB_TEST_DATA"]) / "datasets"
    args.keep.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    if args.keep.exists():
        found = {row["key"]: row for row in map(json.loads, args.keep.read_text().splitlines())}
    for method in args.methods:
        for name in args.sets:
            key = f"{name} | {method}"
            if key not in found:
                found[key] = {"key": key, **scores_of(data, name, method, args.seeds)}
                with open(args.keep, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found[key]) + "\n")
                print(f"{key}: {found[key]['cpu_s']:.1f} s", flush=True)
    order = {f"{name} | {method}": (i, j) for i, name in enumerate(SETS) for j, method in enumerate(METHODS)}
    found = {key: found[key] for key in sorted(found, key=order.__getitem__)}
    write(found, sum(one["cpu_s"] for one in found.values()), args.seeds)


if __name__ == "__main__":
    main()
