"""Ways to a line beside the finite-sample quantile, each with its law and what it may promise.

The quantile itself, the person's own line and the calibration are in `thresholds`; which of all these a run may use, and
what each would do, in `rules`.  A line chosen on labelled tests carries `oracle=True`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adlib import metrics
from adlib.contract import DataError, Sentence, Threshold, say
from adlib.thresholds import at_false_alarm_rate, ordered, resting_on

LEAST_FOR_A_SPREAD = 8  # normals; the standard deviation of fewer is off by a quarter and more


# --- from normals alone -----------------------------------------------------------------------------------------------


def largest(scores: Any, cross_fitted: bool = False) -> Threshold:
    """The largest of n held-out normals, which a new one exceeds with a chance of 1 / (n + 1) on average.

    scores: (n,).  Raises DataError when there is none.
    """
    values = ordered(scores)
    n = len(values)
    rule = say(
        "No held-out normal raises an alarm: the line is the largest of {n} scores, which a new normal exceeds with a chance "
        "of {percent:.3g} % on average.",
        n=n, percent=100 / (n + 1),
    )  # fmt: skip
    return Threshold(float(values[-1]), rule, resting_on(n, cross_fitted), 1 / (n + 1), "largest")


def mean_plus(scores: Any, sigmas: float, cross_fitted: bool = False) -> Threshold:
    """Mean + `sigmas` standard deviations of n held-out normals.

    scores: (n,).  sigmas: above 0.  What it promises holds for normally distributed scores only: the chance that another
    draw of Student's law, n - 1 degrees of freedom, lies beyond sigmas / sqrt(1 + 1/n).
    Raises DataError with fewer than LEAST_FOR_A_SPREAD normals.
    """
    from scipy.special import stdtr

    values = ordered(scores)
    n = len(values)
    if not 0 < sigmas <= 100:
        raise DataError("The number of standard deviations lies between 0 and 100, got {sigmas}.", sigmas=sigmas)
    if n < LEAST_FOR_A_SPREAD:
        raise DataError(
            "Mean + k·σ needs at least {least} held-out normals to know their spread; there are {n}.",
            least=LEAST_FOR_A_SPREAD, n=n,
        )  # fmt: skip
    promised = float(stdtr(n - 1, -sigmas / math.sqrt(1 + 1 / n)))
    rule = say(
        "Mean + {sigmas:g} standard deviations of {n} scores: {percent:.3g} % of normals raise an alarm if scores are "
        "normally distributed, and nobody knows how many if they are not.",
        sigmas=sigmas, n=n, percent=100 * promised,
    )  # fmt: skip
    value = float(values.mean() + sigmas * values.std(ddof=1))
    return Threshold(value, rule, resting_on(n, cross_fitted), promised, "sigma")


def chi_square(alpha: float, dimension: int, shrinkage: float, n: int) -> Threshold:
    """The line of a Mahalanobis distance (rooted) in `dimension` directions: sqrt of the chi-square quantile at 1 - alpha.

    shrinkage: Ledoit-Wolf's share, in [0, 1].  n: normals fitted.
    Exact for Gaussian features and a known covariance; neither is ever the case, so that the promise is conditional.
    Source: Rippel et al. 2020, arXiv:2005.14140, section III.
    """
    from scipy.special import gammainccinv

    if not 0 < alpha < 1:
        raise DataError("A false-alarm rate lies between 0 and 1, got {alpha}. Example: 0.01 for 1 %.", alpha=alpha)
    rule = say(
        "{percent:.3g} % of normals raise an alarm if the {k} features are Gaussian with the covariance that was estimated "
        "from {n} normals (shrinkage {shrinkage:.3f}).",
        percent=100 * alpha, k=dimension, n=n, shrinkage=shrinkage,
    )  # fmt: skip
    value = math.sqrt(2 * float(gammainccinv(dimension / 2, alpha)))
    return Threshold(value, rule, say("the chi-square law; no score was looked at"), alpha, "chi2")


# --- from labelled tests ----------------------------------------------------------------------------------------------


def _both(labels: Any, scores: Any) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(N,) bool, (N,) float64, normals, defects."""
    defect, values = np.asarray(labels) == 1, np.asarray(scores, dtype=np.float64)
    return defect, values, int((~defect).sum()), int(defect.sum())


def _on_tests(normals: int, defects: int) -> Sentence:
    return say("{normals} normal and {defects} defect test pictures", normals=normals, defects=defects)


def defects_needed(recall: float) -> int:
    """Fewest defects with which `recall` can be promised: 19 for 95 %, 99 for 99 %."""
    return math.ceil(recall / (1 - recall) - 1e-9)


def at_recall(labels: Any, scores: Any, recall: float) -> Threshold:
    """The highest line that a new defect of the same kinds crosses with a chance of at least `recall`, on average.

    labels: (N,) 0 normal, 1 defect.  scores: (N,).  recall: in (0, 1).
    The line lies just under defect k = ceil((m + 1) recall) of m, counted from the highest: the finite-sample quantile,
    turned round.  With too few defects it lies under the lowest, and says what that promises.
    Raises DataError without a defect.
    """
    defect, values, normals, m = _both(labels, scores)
    if not 0 < recall < 1:
        raise DataError("A recall lies between 0 and 1, got {recall}. Example: 0.95 for 95 %.", recall=recall)
    if not m:
        raise DataError(
            "A target recall needs labelled defects and there is none; {needed} of them can promise {percent:.3g} %.",
            needed=defects_needed(recall), percent=100 * recall,
        )  # fmt: skip
    k = min(m, math.ceil((m + 1) * recall - 1e-9))
    upper = float(np.sort(values[defect])[::-1][k - 1])
    below = values[values < upper]
    line = metrics.midway(float(below.max()) if len(below) else -math.inf, upper)
    if m >= defects_needed(recall):
        rule = say(
            "At least {percent:.3g} % of such defects raise an alarm on average: the line lies just under defect {k} of {m}, "
            "counted from the highest.",
            percent=100 * recall, k=k, m=m,
        )  # fmt: skip
    else:
        rule = say(
            "{m} defects are too few to promise {wanted:.3g} % recall, which takes {needed}: the line lies just under the "
            "lowest of them, which promises {percent:.3g} % on average.",
            m=m, wanted=100 * recall, needed=defects_needed(recall), percent=100 * m / (m + 1),
        )  # fmt: skip
    return Threshold(line, rule, _on_tests(normals, m), key="recall", oracle=True)


def cost_of(fpr: float, miss_rate: float, miss: float, alarm: float, share: float) -> float:
    """What one inspected part costs on average.  share: of defects among all parts; miss, alarm: prices of a mistake."""
    return share * miss * miss_rate + (1 - share) * alarm * fpr


def cheapest(labels: Any, scores: Any, miss: float, alarm: float, share: float | None = None) -> Threshold:
    """The line at which mistakes on these pictures cost least; the highest of equals.

    labels: (N,) 0 normal, 1 defect.  scores: (N,).  miss, alarm: price of a missed defect and of a false alarm, any unit.
    share: of defects expected in production, in (0, 1); None = as many as among these pictures, seldom the truth.
    Raises DataError when a class is absent or a price is negative.
    """
    defect, values, normals, m = _both(labels, scores)
    if not (miss >= 0 and alarm >= 0 and miss + alarm > 0):
        raise DataError(
            "Prices are not negative, and one of them is above 0; got {miss} and {alarm}.", miss=miss, alarm=alarm
        )
    if share is not None and not 0 < share < 1:
        raise DataError("The share of defects lies between 0 and 1, got {share}. Example: 0.01 for 1 %.", share=share)
    if not m or not normals:
        raise DataError(
            "Weighing costs needs labelled pictures of both kinds; there are {normals} normal and {defects} defect ones.",
            normals=normals, defects=m,
        )  # fmt: skip
    expected = m / (m + normals) if share is None else share
    distinct, rank = np.unique(values, return_inverse=True)
    # Alarms when the line sinks below each distinct score, highest first; no alarm at all comes before them.
    hits, alarms = (
        np.append(0, np.cumsum(np.bincount(rank[part], minlength=len(distinct))[::-1])) for part in (defect, ~defect)
    )
    costs = expected * miss * (m - hits) / m + (1 - expected) * alarm * alarms / normals
    best = int(np.flatnonzero(costs <= costs.min() * (1 + 1e-12))[0])
    falling = distinct[::-1]
    if best == 0:
        line = float(falling[0])
    else:
        line = metrics.midway(float(falling[best]) if best < len(falling) else -math.inf, float(falling[best - 1]))
    rule = say(
        "Cheapest on these tests: {cost:.3g} a part, when a miss costs {miss:g}, a false alarm {alarm:g} and {percent:.3g} % "
        "of the parts are defective.",
        cost=float(costs[best]), miss=miss, alarm=alarm, percent=100 * expected,
    )  # fmt: skip
    return Threshold(line, rule, _on_tests(normals, m), key="cost", oracle=True)


# --- the line of the map ----------------------------------------------------------------------------------------------


def outline_at(line: Threshold, scores: Any, peaks: Any, cross_fitted: bool = False) -> float:
    """The map's value at 1x, so that an outline means what the verdict means.

    scores, peaks: (n,) of the same held-out normals: score, and largest value of the map.
    For the quantile rule: the same quantile of the peaks, so that at most alpha of good parts show any outlined pixel.
    For any other line: as many held-out normals show an outline as raise an alarm; between two of them in proportion,
    beyond all of them in proportion to the nearest.
    """
    marks, tops = ordered(scores), ordered(peaks)
    if line.key == "quantile" and line.alpha is not None:
        return at_false_alarm_rate(tops, line.alpha, cross_fitted=cross_fitted).value
    value = line.value
    if not marks[0] < value < marks[-1]:
        near = -1 if value >= marks[-1] else 0
        mark, top = float(marks[near]), float(tops[near])
        return top * value / mark if mark > 0 and top > 0 and value > 0 else top
    last = np.append(np.flatnonzero(np.diff(marks)), len(marks) - 1)  # of equal scores the one with the highest peak
    return float(np.interp(value, marks[last], tops[last]))
