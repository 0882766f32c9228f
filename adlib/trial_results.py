"""What an experiment has found so far, as tables: for the terminal, for files, and for the page that draws them."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from adlib import experiments
from adlib.results import cell
from adlib.trials import Trial

OWN = "own"  # a method judged by its own score
_LARGE = ("boxes", "plane", "missed", "false_alarms", "histogram", "distances", "finished")


def rows(trial: Trial) -> list[dict[str, Any]]:
    """A flat line a figure.  Of class-holdout: method, judged_by ("own" or a distance), neighbours (0 for "own"), samples,
    case, anomalous, auroc …; of the others: a line a part, as the part's file has it."""
    found = trial.finished()
    if trial.plan.kind == "class-holdout":
        return [line for one in found for line in _judged(one)]
    if trial.plan.kind == "one-class":
        return [
            {"method": one["label"], "normal": one["normal"], "auroc": one["auroc_mean"], "seconds": one["seconds"]}
            for one in found
        ]
    return [{"method": one["label"], **_plain(one)} for one in found]


def _plain(one: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name not in (*_LARGE, "method", "label", "settings")}


def _judged(one: dict[str, Any]) -> list[dict[str, Any]]:
    shared = {
        "method": one["label"], "samples": one["samples"], "case": one["case"], "anomalous": "+".join(one["anomalous"]),
        "seed": one["seed"], "n_fit": one["n_fit"], "n_reference": one["n_reference"],
        "n_test_normal": one["n_test_normal"], "n_test_anomaly": one["n_test_anomaly"],
    }  # fmt: skip
    own = {"judged_by": OWN, "neighbours": 0, "auroc": one["auroc"], "seconds": one["seconds"]}
    found = [shared | own]
    for distance, by_k in one["distances"].items():
        for k, area in by_k.items():
            found.append(
                shared | {"judged_by": distance, "neighbours": int(k), "auroc": area, "seconds": one["seconds"]}
            )
    return found


def sheet(trial: Trial) -> bytes:
    """`rows` as CSV; no cell is taken for a formula."""
    lines = rows(trial)
    names = list(dict.fromkeys(name for line in lines for name in line))
    out = io.StringIO()
    made = csv.DictWriter(out, names)
    made.writeheader()
    made.writerows({k: cell(v) if isinstance(v, str) else v for k, v in line.items()} for line in lines)
    return out.getvalue().encode()


def figures(trial: Trial) -> dict[str, Any]:
    """Everything but pictures, as plain values: the plan, the classes, summaries, every part."""
    parts = [
        {name: v for name, v in one.items() if name not in ("missed", "false_alarms", "plane")}
        for one in trial.finished()
    ]
    told = {"experiment": trial.plan.kind, "plan": trial.plan.as_json(), "about": trial.about, "parts": parts}
    if trial.plan.kind == "class-holdout":
        told["summary"] = [
            {"method": m, "judged_by": by, "neighbours": k, "samples": n, **spread(areas)}
            for (m, by, k, n), areas in grouped(rows(trial)).items()
        ]
    elif trial.plan.kind == "one-class":
        told["summary"] = [{"method": m, **spread(areas)} for m, areas in of_classes(trial).items()]
    told["failed"] = [{"method": label, "why": str(why)} for label, why in trial.failed()]
    return told


# --- summaries --------------------------------------------------------------------------------------------------------

Group = tuple[str, str, int, int | None]


def grouped(lines: Sequence[dict[str, Any]]) -> dict[Group, list[float]]:
    """(method, judged_by, neighbours, samples) → the AUROC of each finished case."""
    found: dict[Group, list[float]] = defaultdict(list)
    for line in lines:
        found[line["method"], line["judged_by"], line["neighbours"], line["samples"]].append(line["auroc"])
    return dict(found)


def of_classes(trial: Trial) -> dict[str, list[float]]:
    """Method → AUROC of each class that was tried, of one-class."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in rows(trial):
        found[line["method"]].append(line["auroc"])
    return dict(found)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """cases, mean, standard deviation over the cases (None for one), and the five numbers of a box."""
    held = np.asarray(values, np.float64)
    low, quarter, median, three, high = np.quantile(held, (0, 0.25, 0.5, 0.75, 1)).tolist()
    std = float(held.std(ddof=1)) if len(held) > 1 else None
    return {
        "cases": len(held), "mean": float(held.mean()), "std": std, "least": low, "quarter": quarter, "median": median,
        "three_quarters": three, "most": high,
    }  # fmt: skip


def told(trial: Trial) -> list[str]:
    """Lines for the terminal."""
    if trial.plan.kind == "one-vs-one":
        return [line for one in trial.finished() for line in (one["label"], *experiments.told(one), "")]
    lines = [f"{'method':<40}{'judged by':<12}{'pictures':>9}{'cases':>6}{'mean':>8}{'std':>8}{'least':>8}{'most':>8}"]
    if trial.plan.kind == "one-class":
        lines += [_line(label, OWN, None, areas) for label, areas in of_classes(trial).items()]
    else:
        table = grouped(rows(trial))
        by_k: dict[tuple[str, str, int | None], dict[int, float]] = defaultdict(dict)
        for (method, judged_by, k, samples), areas in table.items():
            if k <= 1:
                lines.append(_line(method, judged_by if k == 0 else f"{judged_by} 1", samples, areas))
            if k:
                by_k[method, judged_by, samples][k] = float(np.mean(areas))
        lines += ["", "mean by the number K of nearest embeddings that are averaged"]
        for (method, judged_by, samples), means in by_k.items():
            shown = "".join(f"  K={k} {mean:.4f}" for k, mean in means.items())
            lines.append(f"{method:<40}{judged_by:<12}{samples or 'all':>9}{shown}")
    return lines + [f"{label}: {why}" for label, why in trial.failed()]


def _line(method: str, judged_by: str, samples: int | None, areas: list[float]) -> str:
    found = spread(areas)
    std = "–" if found["std"] is None else f"{found['std']:.4f}"
    start = f"{method:<40}{judged_by:<12}{samples or 'all':>9}{found['cases']:>6}{found['mean']:>8.4f}"
    return f"{start}{std:>8}{found['least']:>8.4f}{found['most']:>8.4f}"
