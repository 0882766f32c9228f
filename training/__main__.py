"""Makes a backbone from nothing but formulas, and measures how well it finds defects.

    python -m training make offline                              make a file that ships, from nothing; goes on after a cut
    python -m training pictures                                  make the pool of pictures, once
    python -m training train runs/one --tasks distil:resnet18    train; --resume goes on after a cut
    python -m training export runs/one offline.safetensors       write the file that adlib reads
    python -m training judge offline.safetensors resnet18        image AUROC and AU-PRO on real sets
    python -m training speed                                     beside resnet18, up to the same layer

Tasks, one or several at once: `distil:NAME` for any network of timm whose weights adlib finds; `contrast`, `change` and
`change+outlines` learn from formulas alone, and are exported with `--answers own`.
`judge` reads the real sets in the folder that ADLIB_TEST_DATA names; nothing else needs them.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from training import judge, pool, shipped, speed
from training.export import ANSWERS, export
from training.student import PADDINGS
from training.train import Recipe, Run, recipe_of, train

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "workspace" / "training"
COUNT, SIDE = 8000, 192  # pictures of the pool, and their pixels


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m training", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    commands = parser.add_subparsers(dest="command", required=True)

    whole = commands.add_parser("make", help="make a file that ships, from nothing")
    whole.add_argument("name", choices=list(shipped.SHIPPED))
    whole.add_argument("--folder", type=Path, help="of the run and of the file; workspace/training/NAME, if left out")

    making = commands.add_parser("pictures", help="make the pool")
    making.add_argument("--count", type=int, default=COUNT)
    making.add_argument("--side", type=int, default=SIDE, help="pixels")
    making.add_argument("--seed", type=int, default=0)

    training = commands.add_parser("train", help="train a student")
    training.add_argument("--tasks", nargs="+", default=["distil:resnet18"])
    training.add_argument("--steps", type=int, help="may be changed with --resume, to end sooner or later")
    training.add_argument(
        "--fall", type=float, help="share of the steps over which the learning rate falls, 0 for none"
    )
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--sides", type=int, nargs="+", help="pixels of the crops, drawn equally often")
    training.add_argument("--batch", type=int, help="crops of 128 pixels in a step, or as many pixels in others")
    training.add_argument("--width", type=float, help="channels of the student, times those of the one that ships")
    training.add_argument(
        "--probes", type=int, help="batches that the channels of targets are measured on; 12 is steadier"
    )
    training.add_argument("--padding", choices=PADDINGS, help="what student and teachers see beyond the border")
    training.add_argument("--resume", action="store_true")

    writing = commands.add_parser("export", help="write the file that adlib reads")
    for command in (training, writing):
        command.add_argument("folder", type=Path, help="where the checkpoint lies")
    writing.add_argument("file", type=Path)
    writing.add_argument("--answers", choices=ANSWERS, default="standardised")
    writing.add_argument("--padding", choices=PADDINGS, default="", help="beyond the border; as trained, if left out")
    weights = "scale of each stage's answers in relation, as 1 1 1; as they come, if left out"
    writing.add_argument("--weights", type=float, nargs=3, default=(), help=weights)

    for command in (whole, making, training, writing):
        command.add_argument("--pool", type=Path, default=HOME / "pool.npy")

    judging = commands.add_parser("judge", help="measure backbones on real pictures")
    judging.add_argument("backbones", nargs="+", help="files, or names that adlib knows")
    judging.add_argument("--sets", nargs="+", default=[*judge.CHOOSING, *judge.REPORTED])
    judging.add_argument("--methods", nargs="+", default=judge.METHODS)
    judging.add_argument("--seeds", type=int, nargs="+", default=[0])
    judging.add_argument("--write", action="store_true", help="write the table into benchmarks/results.md")
    judging.add_argument("--keep", type=Path, default=HOME / "judged.jsonl")

    timing = commands.add_parser("speed", help="time it beside another backbone")
    timing.add_argument("--ours", choices=list(shipped.SHIPPED), default="offline")
    timing.add_argument("--other", default="resnet18")
    timing.add_argument("--side", type=int, default=256, help="pixels")
    timing.add_argument("--rounds", type=int, default=21)

    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    verbs = {"make": _make, "pictures": _pictures, "train": _train, "export": _export, "judge": _judge, "speed": _speed}
    verbs[given.command](given)


def _make(given: argparse.Namespace) -> None:
    if not given.pool.exists():
        pool.make(given.pool, COUNT, SIDE, seed=0)
    folder = given.folder or HOME / given.name
    try:
        shipped.make(given.name, _pool(given), folder, folder / f"{given.name}.safetensors")
    except ValueError as error:
        sys.exit(str(error))
    print(f"{folder / given.name}.safetensors")


def _pictures(given: argparse.Namespace) -> None:
    pool.make(given.pool, given.count, given.side, given.seed)


def _train(given: argparse.Namespace) -> None:
    recipe = recipe_of(given.folder) if given.resume else Recipe(tuple(given.tasks), seed=given.seed)
    if given.sides:
        recipe = replace(recipe, sides=tuple((side, 1) for side in given.sides))
    if given.batch:
        recipe = replace(recipe, pixels=given.batch * 128 * 128)
    said = {name: getattr(given, name) for name in ("steps", "fall", "width", "probes", "padding")}
    recipe = replace(recipe, **{name: value for name, value in said.items() if value is not None})
    run = Run(recipe, _pool(given))
    if given.resume:
        run.restore(given.folder)
    train(run, given.folder)


def _export(given: argparse.Namespace) -> None:
    run = Run(recipe_of(given.folder), _pool(given))
    run.restore(given.folder)
    export(run, given.file, given.answers, given.padding, given.weights)


def _judge(given: argparse.Namespace) -> None:
    begun = time.perf_counter()
    for name in given.backbones:
        backbone = judge.backbone_of(name)
        for seed in given.seeds:
            found = judge.judge(backbone, name, given.keep, given.sets, given.methods, seed)
        for method in (None, *given.methods):
            image, region = judge.means(found, given.sets, method)
            print(f"{name}  {method or 'all methods'}  image AUROC {image:.4f}  AU-PRO {region:.4f}")
    if given.write:
        sys.path.append(str(ROOT / "benchmarks"))
        import tables

        head, body = judge.table(judge.rows(given.keep), given.backbones)
        about = (
            f"Image AUROC / AU-PRO, {judge.SIZE} pixels, at most {judge.NORMALS} normals and {judge.TESTS} tests a set."
        )
        line = tables.circumstances(time.perf_counter() - begun)
        tables.write("offline backbone", [about, "", *tables.table(head, body), "", line])


def _speed(given: argparse.Namespace) -> None:
    for pace in speed.paces(given.ours, given.other, given.side, given.rounds):
        print(
            f"{pace.precision}, {pace.count} at once: {pace.ms:.2f} ms a picture; {given.other} takes {pace.plain:.2f} times "
            f"as long as timm gives it, {pace.ready:.2f} as adlib runs it"
        )


def _pool(given: argparse.Namespace) -> np.ndarray:
    if not given.pool.exists():
        sys.exit(f"There is no pool of pictures at {given.pool}. Make it with: python -m training pictures")
    return np.load(given.pool, mmap_mode="r")


if __name__ == "__main__":
    main()
