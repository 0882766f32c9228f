"""How well scores and maps tell defects from normals: areas, rates, and how sure one can be of them.

Everything counts raw scores, never rescaled or clipped ones, and ties are exact.  A defect is the positive class, and an
alarm is score > value.  What is undefined, because a class is absent, is None and never a made-up 0.5.
Choosing a threshold is left to `thresholds`; drawing to `plots`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from adlib.contract import Confusion, Report, Sentence, say
from adlib.pixel_counts import PixelCounts as PixelCounts

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]


# --- pictures ---------------------------------------------------------------------------------------------------------


def _checked(labels: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool, True for a defect, and (N,) float64.  Raises ValueError: wrong input is a fault of the caller."""
    defect, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if defect.ndim != 1 or defect.shape != values.shape:
        raise ValueError(f"labels have shape {defect.shape}, scores {values.shape}; one label a score is needed")
    if not np.isin(defect, (0, 1)).all():
        raise ValueError("a label is neither 0 (normal) nor 1 (defect)")
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    return defect.astype(bool), values


def _steps(labels: Any, scores: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Defects and normals caught as the line sinks below each distinct score, highest first; None without both classes.

    Returns (K,) int64, (K,) int64 and (K,) float64: the score next below, where a line catches just these, -inf at last.
    """
    defect, values = _checked(labels, scores)
    if defect.all() or not defect.any():
        return None
    distinct, rank = np.unique(values, return_inverse=True)
    caught = [np.cumsum(np.bincount(rank[which], minlength=len(distinct))[::-1]) for which in (defect, ~defect)]
    return caught[0], caught[1], np.append(distinct[:-1][::-1], -np.inf)


def roc(labels: Any, scores: Any) -> Curve | None:
    """(false-alarm rates, shares of defects caught, thresholds), each (K + 1,) from (0, 0) to (1, 1).

    labels: (N,) 0 normal, 1 defect.  scores: (N,) larger = more anomalous.
    A line at `score > thresholds[i]` gives point i; the last threshold is -inf.  None when a class is absent.
    """
    steps = _steps(labels, scores)
    if steps is None:
        return None
    hits, alarms, below = steps
    top = np.asarray(scores, dtype=np.float64).max()
    return np.append(0, alarms) / alarms[-1], np.append(0, hits) / hits[-1], np.append(top, below)


def auroc(labels: Any, scores: Any) -> float | None:
    """Chance that a defect scores above a normal, ties counting half.  Exact: it counts the pairs.

    In [0, 1]; 0.5 is guessing.  None when a class is absent.
    """
    steps = _steps(labels, scores)
    if steps is None:
        return None
    hits, alarms, _ = (step.tolist() for step in steps)  # Python's integers: the product overflows nothing
    twice = sum((a1 - a0) * (h0 + h1) for a0, a1, h0, h1 in zip([0, *alarms], alarms, [0, *hits], hits, strict=False))
    return twice / (2 * hits[-1] * alarms[-1])


def pr(labels: Any, scores: Any) -> Curve | None:
    """(recalls, precisions, thresholds), each (K,), one a distinct score, highest first; `score > thresholds[i]`.

    No point is added at recall 0, where precision is not defined.  None when a class is absent.
    """
    steps = _steps(labels, scores)
    if steps is None:
        return None
    hits, alarms, below = steps
    return hits / hits[-1], hits / (hits + alarms), below


def average_precision(labels: Any, scores: Any) -> float | None:
    """Sum of precision x growth of recall, without interpolation.  Guessing gives the share of defects, not 0.5."""
    curve = pr(labels, scores)
    if curve is None:
        return None
    recall, precision, _ = curve
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def best_f1(labels: Any, scores: Any) -> tuple[float, float] | None:
    """(F1, threshold) of the best line there is, the highest of equals.  None when a class is absent.

    An oracle: the line is chosen on the pictures it is judged on.  It lies midway between two scores, and keeps its
    verdicts when scores are compared in float32.
    """
    steps = _steps(labels, scores)
    if steps is None:
        return None
    hits, alarms, below = steps
    f1 = 2 * hits / (hits + alarms + hits[-1])
    best = int(np.argmax(f1))
    values = np.unique(np.asarray(scores, dtype=np.float64))
    return float(f1[best]), midway(below[best], values[len(values) - 1 - best])


def midway(lower: float, upper: float) -> float:
    """A line between two scores that keeps its verdicts when scores are compared in float32: `lower` <= line < `upper`.

    lower: -inf when no score lies below; the line is then just under `upper`.
    """
    if not np.isfinite(lower):
        lower = min(np.nextafter(np.float32(upper), np.float32(-np.inf)).item(), np.nextafter(upper, -np.inf))
    middle = float(np.float32(lower + (upper - lower) / 2))
    return middle if lower <= middle < upper else float(lower)


def confusion(labels: Any, scores: Any, threshold: float) -> Confusion:
    """Counts at one line; alarm when score > threshold."""
    defect, values = _checked(labels, scores)
    alarm = values > float(threshold)
    true, false = int((alarm & defect).sum()), int((alarm & ~defect).sum())
    return Confusion(true, false, int((~defect).sum()) - false, int(defect.sum()) - true)


def rates(counts: Confusion) -> tuple[float | None, float | None]:
    """(false-alarm rate, share of defects caught); None for the class that is absent."""
    normals = counts.false_positive + counts.true_negative
    defects = counts.true_positive + counts.false_negative
    return (
        counts.false_positive / normals if normals else None,
        counts.true_positive / defects if defects else None,
    )


# --- how sure ---------------------------------------------------------------------------------------------------------


def rate_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a rate seen k times in n (Clopper and Pearson 1934).  n = 0 says nothing: (0, 1)."""
    from scipy.special import betaincinv

    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a count")
    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high


def auroc_interval(
    labels: Any, scores: Any, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Where the AUROC of many more such pictures lies.  None when a class is absent.

    The wider, at each end, of two: percentiles of a bootstrap that redraws defects and normals apart, and the score
    interval of Newcombe (2006, method 5).  The bootstrap alone collapses to [1, 1] when all pairs are in order: with five
    defects and an AUROC of 0.95 it covers the truth half of the time, both together at least as often as promised.
    """
    steps = _steps(labels, scores)
    area = auroc(labels, scores)
    if steps is None or area is None:
        return None
    defect, values = _checked(labels, scores)
    rank = np.unique(values, return_inverse=True)[1]
    redrawn = np.concatenate(list(_redrawn(rank[defect], rank[~defect], draws, np.random.default_rng(seed))))
    tail = (1 - level) / 2
    low, high = np.quantile(redrawn, (tail, 1 - tail))
    score_low, score_high = _score_interval(area, int(defect.sum()), int((~defect).sum()), level)
    return min(float(low), score_low), max(float(high), score_high)


def _redrawn(defects: np.ndarray, normals: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """AUROCs of bootstrap draws.  defects, normals: ranks among the distinct scores."""
    for hits, alarms in recounted(defects, normals, draws, rng):
        below = np.cumsum(alarms, axis=1) - alarms / 2  # (rows, K) normals below, ties half
        yield (hits * below).sum(axis=1) / (len(defects) * len(normals))


def recounted(
    defects: np.ndarray, normals: np.ndarray, draws: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Bootstrap draws of defects and of normals apart, as counts at each rank: (rows, K) twice, in blocks of a few MB.

    defects, normals: ranks among the K distinct scores, lowest first.
    """
    m, n, k = len(defects), len(normals), int(max(defects.max(), normals.max())) + 1
    block = max(1, 1_000_000 // (m + n))
    for start in range(0, draws, block):
        rows = np.arange(min(block, draws - start))[:, None]
        counts = [
            np.bincount(
                (rows * k + ranks[rng.integers(0, len(ranks), (len(rows), len(ranks)))]).ravel(),
                minlength=len(rows) * k,
            ).reshape(len(rows), k)
            for ranks in (defects, normals)
        ]
        yield counts[0], counts[1]


def _score_interval(area: float, m: int, n: int, level: float) -> tuple[float, float]:
    """Every true area t that the seen one does not speak against: |area - t| <= z sd(t), found by halving."""
    from scipy.special import ndtri

    z2 = float(ndtri((1 + level) / 2)) ** 2
    half = (m + n) / 2 - 1

    def far(t: float) -> bool:
        variance = t * (1 - t) / (m * n) * (1 + half * ((1 - t) / (2 - t) + t / (1 + t)))
        return (t - area) ** 2 > z2 * variance

    ends = []
    for outside in (0.0, 1.0):
        inside = area
        for _ in range(50 if inside != outside else 0):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if far(middle) else (middle, outside)
        ends.append(inside)
    return ends[0], ends[1]


# --- what to tell a person --------------------------------------------------------------------------------------------


def warnings_of(report: Report) -> tuple[Sentence, ...]:
    """What a person should not overlook in an evaluation: areas under 0.5, and too few pictures to tell."""
    found = []
    area, interval = report.image_auroc, report.intervals.get("image_auroc")
    if area is not None and area < 0.5:
        found.append(
            say(
                "The AUROC is {auroc:.3f}, below 0.5: normals score higher than defects more often than not. "
                "Check whether the labels are swapped and whether the normals learned from look like the tested ones.",
                auroc=area,
            )
        )
    elif interval is not None and interval[0] <= 0.5:
        found.append(
            say(
                "With {normal} normal and {defect} defect pictures the AUROC may lie anywhere from {low:.2f} to {high:.2f}: "
                "this cannot be told from guessing. Add test pictures.",
                normal=report.n_normal, defect=report.n_defect, low=interval[0], high=interval[1],
            )
        )  # fmt: skip
    if report.pixel_auroc is not None and report.pixel_auroc < 0.5:
        found.append(
            say(
                "The pixel AUROC is {auroc:.3f}, below 0.5: the map is lower on the defects than around them. "
                "Check whether the masks are inverted (defect = white).",
                auroc=report.pixel_auroc,
            )
        )
    return tuple(found)
