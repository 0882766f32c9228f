"""python -m adlib …: the terminal's door, and the worker's.

Exit code 0: done; 1: one sentence on the error stream says what is wrong; 2: the command itself was mistyped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adlib import commands, experiment_command, report, rules, study_commands, worker
from adlib.contract import AdlibError, Stopped
from adlib.terminal import tell, tick

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
    verbs = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, help: str, run: Any) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=help, description=help)
        made.set_defaults(run=run)
        return made

    made = command("methods", "list the methods and their settings", commands.list_methods)
    made.add_argument("--json", action="store_true", help="print JSON")

    made = command(
        "weights", "list the backbones' weights on this machine, or fetch some by name", commands.list_weights
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="timm architectures to fetch")
    made.add_argument("--json", action="store_true", help="print JSON")

    made = command("fit", "learn from normal pictures", commands.fit)
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

    made = command("evaluate", "judge labelled test pictures", commands.evaluate)
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

    made = command("score", "judge new pictures", commands.score)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE_OR_DIR")
    made.add_argument("--csv", type=Path, metavar="FILE")
    made.add_argument("--heatmaps", type=Path, metavar="DIR", help="write one PNG with legend for each picture")
    made.add_argument("--json", action="store_true", help="print JSON")

    made = command("report", "write the report for the people who decide: one HTML file", study_commands.write_report)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument("--out", required=True, type=Path, metavar="FILE.html")
    made.add_argument("--lang", default="en", choices=tuple(report.LANGUAGES), help="its language (default: en)")
    made.add_argument("--scores", type=Path, metavar="FILE.csv", help="write every score here, too")
    made.add_argument("--heatmaps", type=Path, metavar="FILE.zip", help="write a heatmap of each test here, too")

    made = command("curve", "how many normals are enough: fit on more and more of them", study_commands.curve)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")

    made = command("directions", "which directions tell defects from normals (Gaussian-AD)", study_commands.directions)
    made.add_argument("run_name", metavar="RUN")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")

    made = command("doctor", "look for copies, odd ones and mixed pictures in a data set", study_commands.examine)
    made.add_argument("pictures", metavar="DATASET_OR_FOLDER", help="id in the workspace, or a folder, zip or .npz")
    made.add_argument("--size", default=256, type=int, help="side of the network's square (default: 256)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the findings here")

    made = command(
        "experiment",
        "repeat an experiment of the articles on labelled classes (MNIST, CIFAR-10, your own)",
        _experiment,
    )
    experiment_command.options(made)

    made = command("worker", "work on queued fits (started by the dashboard by itself)", study_commands.serve)
    made.add_argument(
        "--idle", default=worker.IDLE_SECONDS, type=float, metavar="SECONDS", help="go home after so long without work"
    )
    return parser


def _experiment(args: argparse.Namespace) -> None:
    experiment_command.run(args, tick, tell)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    args = _parser().parse_args(arguments)
    try:
        args.run(args)
    except AdlibError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt:
        tell(f"\n{Stopped()}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
