"""How many normals are enough?  The same fit on 5, 10, 20 … normals, several times over, and what the last doubling gained.

Each repeat shuffles the normals by its own seed, sets a quarter aside to measure false alarms on, and fits the first 5,
10, 20 … of the rest exactly as the run was fitted: divided, calibrated and given its threshold by the same rule.  So the
sizes of one repeat are nested, and its gain from one size to the next is a difference of pairs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adlib import datasets, inspection, machine, metrics, registry, remembered, store, thresholds
from adlib.batches import divide, labelled_tests, part, predictions
from adlib.contract import DataError, Detector, Sample, Sentence, Tick, say, silent
from adlib.inspection import Fitted
from adlib.request import Request

REPEATS = 3
SMALLEST = 5
SET_ASIDE = 0.25
LEAST_NORMALS = 8
WORTH = 0.01  # a gain of a hundredth of the AUROC, or of false alarms, is worth taking more pictures
MEMORY_SHARE = 0.25  # of the free memory, for feature maps that are used again


def sizes(most: int, least: int = SMALLEST) -> list[int]:
    """5, 10, 20 … and at last `most`.

    >>> sizes(70)
    [5, 10, 20, 40, 70]
    """
    found = []
    size = max(least, SMALLEST)
    while size < most:
        found.append(size)
        size *= 2
    return [*found, most]


# --- the study --------------------------------------------------------------------------------------------------------


def study(run: store.Run, tick: Tick = silent) -> dict[str, Any]:
    """The learning curve of a finished run's own request, as JSON; see `keys`.

    normals: sizes (S,).  auroc, false_alarms, seconds: one list of REPEATS values a size; auroc None without labelled
    defects.  seconds: of one fit without its calibration, the network's share included.
    measured_on: how many normals were set aside, good tests and defects.  answer: "more", "enough" or "unclear".
    sentence, promise: why, and what the number of normals means for the false-alarm rate that is promised.
    Raises DataError when there are too few normals or their pictures are not here, Stopped.
    """
    fitted = inspection.load(run)
    request = Request.from_json({"dataset": run.card["dataset"], **run.card})
    normals, tests = pictures_of(fitted)
    aside = max(1, round(SET_ASIDE * len(normals)))
    least = registry.card(request.method).needs + 1
    steps = sizes(len(normals) - aside, least)
    plan = [(repeat, size) for repeat in range(REPEATS) for size in steps]
    weights = np.cumsum(
        [0.0] + [size * (len(divide(normals[:size], request.method).folds) + 1) + 20 for _, size in plan]
    )
    weights /= weights[-1]
    found: list[dict[str, float | None]] = []
    with remembered.maps(int(MEMORY_SHARE * machine.free_bytes())) as memory:
        for i, (repeat, size) in enumerate(plan):
            order = np.random.default_rng([request.seed, repeat]).permutation(len(normals))
            shuffled = [normals[place] for place in order]
            inner = _named(part(tick, weights[i], weights[i + 1]), size, repeat)
            found.append(
                _point(fitted, request, shuffled[aside : aside + size], shuffled[:aside], tests, inner, memory)
            )
    table: dict[str, list[list[float | None]]] = {
        name: [[found[r * len(steps) + s][name] for r in range(REPEATS)] for s in range(len(steps))]
        for name in ("auroc", "false_alarms", "seconds")
    }
    labelled = table["auroc"][0][0] is not None
    judged = np.array(table["auroc" if labelled else "false_alarms"], dtype=float).T  # (R, S)
    answer, sentence = verdict(steps, judged, "auroc" if labelled else "false_alarms")
    good = sum(s.label == 0 for s in tests)
    return {
        "format": "adlib-curve/1", "created": time.time(), "repeats": REPEATS, "alpha": request.alpha, "normals": steps,
        **table, "auroc": table["auroc"] if labelled else None,
        "measured_on": {"normals": aside, "good": good, "defects": len(tests) - good},
        "answer": answer, "sentence": sentence.as_json(),
        "promise": promise(divide(normals, request.method).calibrating, request.alpha).as_json(),
    }  # fmt: skip


def _named(tick: Tick, size: int, repeat: int) -> Tick:
    """One sentence for all that happens inside a fit of the study."""

    def inner(fraction: float, message: str, /, **numbers: Any) -> None:
        tick(fraction, "fitting {n} normals, repeat {i} of {repeats}", n=size, i=repeat + 1, repeats=REPEATS)

    return inner


def _point(
    fitted: Fitted,
    request: Request,
    subset: Sequence[Sample],
    aside: Sequence[Sample],
    tests: Sequence[Sample],
    tick: Tick,
    memory: remembered.Memory,
) -> dict[str, float | None]:
    """One fit of the curve, measured on normals that it never saw and on the tests."""

    def learned(chosen: Sequence[Sample], tick: Tick) -> Detector:
        detector = registry.build(request.method, request.settings, request.backbone, request.seed)
        return detector.fit(fitted.batches(chosen), tick)

    def scores(detector: Detector, chosen: Sequence[Sample], tick: Tick) -> list[float]:
        return [float(x) for p, _ in predictions(detector, fitted.batches(chosen), tick) for x in p.scores]

    division = divide(subset, request.method)
    folds = len(division.folds)
    calibrating: list[float] = []
    for i, fold in enumerate(division.folds):
        inside = {s.digest for s in fold}
        detector = learned(
            [s for s in division.fit if s.digest not in inside], part(tick, 0.7 * i / folds, 0.7 * (i + 0.8) / folds)
        )
        calibrating += scores(detector, fold, part(tick, 0.7 * (i + 0.8) / folds, 0.7 * (i + 1) / folds))
    computed, began = memory.seconds, time.perf_counter()
    detector = learned(division.fit, part(tick, 0.7, 0.8))
    seconds = time.perf_counter() - began - (memory.seconds - computed) + memory.seconds_each * len(division.fit)
    calibrating += scores(detector, division.held_out, part(tick, 0.8, 0.85))
    line = thresholds.at_false_alarm_rate(calibrating, request.alpha).value
    judged = np.array(scores(detector, [*aside, *tests], part(tick, 0.85, 1.0)))
    labels = np.array([0] * len(aside) + [s.label for s in tests])
    own = slice(
        len(aside) if (labels[len(aside) :] == 0).any() else 0, None
    )  # without good tests, those set aside serve
    return {
        "auroc": metrics.auroc(labels[own], judged[own]),
        "false_alarms": float((judged[labels == 0] > line).mean()),
        "seconds": seconds,
    }


def pictures_of(fitted: Fitted) -> tuple[list[Sample], list[Sample]]:
    """(all normals of the run, labelled tests that are here).  Raises DataError when normals are missing or too few."""
    run = fitted.run
    rows = run.read("normals.json") or []
    paths: dict[str, Path] = {}
    tests: list[Sample] = []
    if store.Dataset.exists(run.card["dataset"]):
        dataset = store.Dataset.open(run.card["dataset"])
        paths = datasets.files(dataset)
        tests = labelled_tests(datasets.samples(dataset)[0])
    here = [row for row in rows if row["digest"] in paths and paths[row["digest"]].exists()]
    if len(here) < len(rows):
        raise DataError(
            "{missing} of the {n} normal pictures of this run are not on this machine, so it cannot be fitted again.",
            missing=len(rows) - len(here), n=len(rows),
        )  # fmt: skip
    if len(rows) < LEAST_NORMALS:
        raise DataError(
            "A study needs at least {least} normal pictures, and this run has {n}. Add more on the Data page and fit again.",
            least=LEAST_NORMALS, n=len(rows),
        )  # fmt: skip
    if not tests:  # judged elsewhere (command line): the tests of its last evaluation, where they still lie
        judged = run.read("scores.json") or []
        tests = [
            Sample(Path(row["path"]), row["label"], row["kind"], None, "test", row["digest"], row["name"])
            for row in judged
            if row["path"] and Path(row["path"]).is_file()
        ]
    normals = [Sample(paths[row["digest"]], 0, row["kind"], None, "train", row["digest"], row["name"]) for row in here]
    return normals, [s for s in tests if s.digest not in fitted.digests]


# --- the answer -------------------------------------------------------------------------------------------------------


def gains(normals: Sequence[int], values: np.ndarray) -> np.ndarray:
    """(R,): what the last doubling of the normals changed in each repeat.

    normals: sizes (S,), ascending.  values: (R, S).  Half of the last size is reached by a straight line in its logarithm.
    """
    half = normals[-1] / 2
    before = [np.interp(np.log(half), np.log(normals), row) for row in values]
    return np.asarray(values[:, -1] - np.array(before))


def verdict(normals: Sequence[int], values: np.ndarray, figure: str = "auroc") -> tuple[str, Sentence]:
    """("more" | "enough" | "unclear", why): the gain of the last doubling against its spread over the repeats.

    values: (R, S) of the figure, "auroc" (larger is better) or "false_alarms" (smaller is better).
    more: at least WORTH on average, and no repeat lost.  enough: less on average, and no repeat won or lost 2 WORTH.
    unclear: the repeats differ by more than the gain is worth.
    """
    gain = gains(normals, values) if len(normals) > 1 else np.zeros(len(values))
    if figure == "false_alarms":
        gain = -gain
    mean, low, high = float(gain.mean()), float(gain.min()), float(gain.max())
    numbers: dict[str, Any] = {
        "half": max(1, normals[-1] // 2), "n": normals[-1], "mean": 100 * mean, "low": 100 * low, "high": 100 * high,
        "worth": 100 * WORTH, "r": len(values),
    }  # fmt: skip
    if mean >= WORTH and low >= 0:
        answer = "more"
    elif mean < WORTH and max(high, -low) < 2 * WORTH:
        answer = "enough"
    else:
        answer = "unclear"
    return answer, _said(answer, figure, numbers)


def _said(answer: str, figure: str, v: dict[str, Any]) -> Sentence:
    if figure == "auroc":
        if answer == "more":
            return say(
                "Add more: going from {half} to {n} normals raised the AUROC by {mean:.1f} points ({low:.1f} to {high:.1f} "
                "over {r} repeats), so the next doubling is likely to help too.",
                **v,
            )
        if answer == "enough":
            return say(
                "Enough: going from {half} to {n} normals changed the AUROC by {mean:+.1f} points ({low:+.1f} to {high:+.1f} "
                "over {r} repeats), less than the {worth:.0f} that is worth more pictures.",
                **v,
            )
        return say(
            "Cannot tell: going from {half} to {n} normals changed the AUROC by {mean:+.1f} points, but the {r} repeats "
            "differ too much ({low:+.1f} to {high:+.1f}). More labelled tests would show it.",
            **v,
        )
    if answer == "more":
        return say(
            "Add more: going from {half} to {n} normals lowered the false alarms by {mean:.1f} points ({low:.1f} to "
            "{high:.1f} over {r} repeats). Without labelled defects, what it does for finding them cannot be known.",
            **v,
        )
    if answer == "enough":
        return say(
            "Enough for the false alarms: going from {half} to {n} normals lowered them by {mean:+.1f} points ({low:+.1f} to "
            "{high:+.1f} over {r} repeats). Without labelled defects, what more would do for finding them cannot be known.",
            **v,
        )
    return say(
        "Cannot tell: going from {half} to {n} normals lowered the false alarms by {mean:+.1f} points, but the {r} repeats "
        "differ too much ({low:+.1f} to {high:+.1f}). Labelled tests, good ones and defects, would show it.",
        **v,
    )


def promise(calibrating: int, alpha: float) -> Sentence:
    """What the number of held-out normals means for the false-alarm rate, whatever the curve says."""
    needed = thresholds.normals_needed(alpha)
    if calibrating >= needed:
        return say(
            "{n} normals set the threshold, enough to promise {percent:g} % false alarms.",
            n=calibrating, percent=100 * alpha,
        )  # fmt: skip
    return say(
        "{n} normals set the threshold; to promise {percent:g} % false alarms it takes {needed}, whatever the curve says.",
        n=calibrating, percent=100 * alpha, needed=needed,
    )  # fmt: skip
