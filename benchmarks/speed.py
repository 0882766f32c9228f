"""How fast adlib is beside anomalib 2.7: the same pictures, weights and size, in turn, in processes of their own.

    python benchmarks/speed.py --peer-python /path/to/anomalib/bin/python [--rounds 5] [--normals 200] [--tests 60]
    python benchmarks/speed.py --pages          # what a visitor waits for; needs no peer

ADLIB_TEST_DATA names the folder with `datasets/` and `weights/`.  Rounds run ours, theirs, ours, theirs, so that a busy
minute hits both; the RATIOS of a round are the result, seconds are not.  anomalib's 10 % coreset is extrapolated from
timed picks of its own code (cost per pick does not change with their number), because making all of them takes about
half an hour a round; its memory is then filled at true size.  Tables go into results.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tables
import waiting

HERE = Path(__file__).resolve().parent
SIZE = 256
# (what, our figure, their figure, by method: least ratio wanted)
RATIOS = (
    ("fit", "fit_s", "fit_s", {"padim": 4.0, "patchcore": 50.0}),
    ("score, decoding included", "predict_ms", "predict_ms", {"padim": 4.0, "patchcore": 2.0}),
    ("score alone, batch 1", "forward_ms_1", "forward_ms_1", {"padim": 4.0, "patchcore": 2.0}),
    ("score alone, batch 16", "forward_ms_16", "forward_ms_16", {"padim": 4.0, "patchcore": 2.0}),
    ("peak memory", "peak_mb", "peak_mb", {"padim": 1.0, "patchcore": 1.0}),
)
OVERHEAD = 1.5  # scoring / bare network at the same precision, at most


def pictures(data: Path, folder: Path, normals: int, tests: int) -> None:
    """Real pictures, resized once, as PNG: folder/train/good and folder/test/good."""
    from PIL import Image

    source = sorted((data / "datasets" / "magnetic_tile" / "train" / "good").iterdir())[: normals + tests]
    for i, path in enumerate(source):
        target = folder / ("train" if i < normals else "test") / "good" / f"{i:04}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(target)


def one_round(method: str, peer: Path, folder: Path, weights: Path, given: argparse.Namespace) -> tuple[Any, Any]:
    """(ours, theirs), ours first."""
    same = ["speed", "--method", method, "--data", folder, "--weights", weights, "--threads", str(given.threads)]
    ours = tables.answer([tables.python(), HERE / "ours.py", *same, "--precision", given.precision])
    workers = ["--workers", str(given.workers), "--picks", str(given.picks)]
    return ours, tables.answer([peer, HERE / "peer.py", *same, *workers])


def spread(values: Sequence[float], digits: int = 1) -> str:
    """median (least to most)."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def report(method: str, rounds: Sequence[tuple[Any, Any]]) -> list[list[str]]:
    rows = []
    for what, mine, yours, wanted in RATIOS:
        ours, theirs = [r[0][mine] for r in rounds], [r[1][yours] for r in rounds]
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        met = "yes" if statistics.median(ratios) >= wanted[method] else "**no**"
        rows.append([method, what, spread(ours), spread(theirs), f"× {spread(ratios)}", f"≥ {wanted[method]:g}", met])
    for batch in (1, 16):
        ours, bare = [r[0][f"forward_ms_{batch}"] for r in rounds], [r[0][f"network_ms_{batch}"] for r in rounds]
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
        met = "yes" if statistics.median(ratios) <= OVERHEAD else "**no**"
        what = f"score / bare network, batch {batch}"
        rows.append([method, what, spread(ours), spread(bare), spread(ratios, 2), f"≤ {OVERHEAD}", met])
    return rows


def beside_the_peer(given: argparse.Namespace) -> list[str]:
    data = Path(os.environ["ADLIB_TEST_DATA"])
    weights = data / "weights" / "resnet18.safetensors"
    started = time.perf_counter()
    found: dict[str, list[tuple[Any, Any]]] = {method: [] for method in given.methods}
    with tempfile.TemporaryDirectory() as folder:
        pictures(data, Path(folder), given.normals, given.tests)
        for i in range(given.rounds):
            for method in given.methods:
                found[method].append(one_round(method, given.peer_python, Path(folder), weights, given))
                ours, theirs = found[method][-1]
                sys.stderr.write(f"round {i + 1} {method}: fit {ours['fit_s']:.1f} / {theirs['fit_s']:.1f} s\n")
    rows = [row for method in given.methods for row in report(method, found[method])]
    last = {method: found[method][-1] for method in given.methods}
    ours, theirs = next(iter(last.values()))
    lines = [
        f"{given.normals} normals and {given.tests} tests of {SIZE}×{SIZE}, resnet18 (real weights), {given.rounds} rounds, "
        f"{ours['threads']} threads, ours in {ours['precision']}, the peer in fp32. Median (least–most); seconds for fits, "
        "ms a picture for scores, MB for memory.",
        "",
        *tables.table(("method", "what", "ours", "anomalib 2.7", "ratio", "wanted", "met"), rows),
        "",
    ]
    if "patchcore" in last:
        core = [r[1]["coreset"] for r in found["patchcore"]]
        lines += [
            f"PatchCore: both keep {core[0]['picks']} of {core[0]['patches']} patches. anomalib's selection is extrapolated "
            f"from {core[0]['timed_picks']} timed picks a round ({spread([c['pick_ms'] for c in core])} ms each).",
            "",
        ]
    differ = max(theirs["features_differ"] for _, theirs in last.values())
    lines += [
        f"anomalib as its user runs it: Engine.fit and Engine.predict on a Folder, {theirs['workers']} loader processes, no "
        "validation, logging, checkpoints or post-processing; `score alone` is its bare model. Its features equal those of "
        f"a plain timm network with the same weights (largest difference {differ:.1e}).",
        "",
        tables.circumstances(time.perf_counter() - started),
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="the Python of an environment with anomalib 2.7")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--normals", type=int, default=200)
    parser.add_argument("--tests", type=int, default=60)
    parser.add_argument("--methods", nargs="+", default=["padim", "patchcore"])
    parser.add_argument("--precision", default="auto", help="ours: auto, fp32 or bf16")
    parser.add_argument("--threads", type=int, default=0, help="of torch, on both sides; 0: torch's own choice")
    parser.add_argument("--workers", type=int, default=0, help="the peer's loader processes")
    parser.add_argument("--picks", type=int, default=30, help="of the peer's coreset that are timed")
    parser.add_argument("--pages", action="store_true", help="only what a visitor waits for")
    parser.add_argument("--name", help="of the table in results.md; '-' prints it and keeps results.md as it is")
    given = parser.parse_args()
    if not given.pages and given.peer_python is None:
        parser.error("--peer-python or --pages")
    lines = waiting.report() if given.pages else beside_the_peer(given)
    name = given.name or ("waiting" if given.pages else f"speed {given.precision}")
    if name != "-":
        tables.write(name, lines)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
