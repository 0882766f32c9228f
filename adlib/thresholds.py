"""Rules that turn scores into decisions: an alarm is score > value.

Each rule returns a Threshold that carries how it was set, on what, and the false-alarm rate it promises.
Which pictures are held out is decided by `batches`; the areas that need no line are in `metrics`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adlib import metrics
from adlib.contract import Calibration, DataError, Sentence, Threshold, say


def normals_needed(alpha: float) -> int:
    """Fewest held-out normals with which a false-alarm rate of `alpha` can be promised: 99 for 1 %, 19 for 5 %."""
    return math.ceil(1 / _rate(alpha) - 1e-9) - 1


def at_false_alarm_rate(scores: Any, alpha: float, *, cross_fitted: bool = False) -> Threshold:
    """The line that a new normal crosses with a chance of at most `alpha`, whatever the scores' distribution.

    scores: (n,) of normals that were not fitted, in the method's unit.
    alpha: wanted false-alarm rate, in (0, 1).
    cross_fitted: each was scored by a fit of the others.  The proof then only reaches about 2 alpha, and the rule says so.
    The value is the k-th smallest score, k = ceil((n + 1)(1 - alpha)).  When k > n no score will do: the value is the
    largest, the Threshold's alpha is the 1 / (n + 1) that it does promise, and the rule tells how many normals are needed.
    Raises DataError when there is no score or `alpha` is out of range.
    Source: split conformal prediction (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173); cross-fitting after
    Barber et al. 2021, arXiv:1905.02928.

    >>> at_false_alarm_rate([3.0, 1.0, 2.0, 5.0, 4.0, 6.0, 7.0, 9.0, 8.0], 0.2).value
    8.0
    """
    values = ordered(scores)
    n = len(values)
    k = place(n, alpha)
    promised = alpha if k <= n else 1 / (n + 1)
    rule = _rule(min(k, n), n, promised, alpha, cross_fitted)
    fitted_on = resting_on(n, cross_fitted)
    return Threshold(float(values[min(k, n) - 1]), rule, fitted_on, promised, "quantile")


def resting_on(n: int, cross_fitted: bool) -> Sentence:
    """Which normals a line was learned on."""
    if cross_fitted:
        return say("{n} normals, each scored by a fit that had not seen it", n=n)
    return say("{n} normals that were kept out of the fit", n=n)


def _rule(k: int, n: int, promised: float, alpha: float, cross_fitted: bool) -> Sentence:
    """Four sentences: the wanted rate is promised or out of reach, by held-out or by cross-fitted normals."""
    percent, worst = 100 * promised, min(100.0, 200 * promised)
    if promised == alpha and cross_fitted:
        return say(
            "About {percent:.3g} % of normals raise an alarm on average, at worst about {worst:.3g} % because few normals "
            "had to be cross-fitted: the line is score {k} of {n}, counted from the smallest.",
            percent=percent, worst=worst, k=k, n=n,
        )  # fmt: skip
    if promised == alpha:
        return say(
            "At most {percent:.3g} % of normals raise an alarm on average: the line is score {k} of {n}, counted from the "
            "smallest.",
            percent=percent, k=k, n=n,
        )  # fmt: skip
    wanted, needed = 100 * alpha, normals_needed(alpha)
    if cross_fitted:
        return say(
            "{n} normals are too few for {wanted:.3g} % false alarms, which takes {needed}: the line is their largest score, "
            "about {percent:.3g} % on average and at worst about {worst:.3g} % because they had to be cross-fitted.",
            n=n, wanted=wanted, needed=needed, percent=percent, worst=worst,
        )  # fmt: skip
    return say(
        "{n} normals are too few to promise {wanted:.3g} % false alarms, which takes {needed}: the line is their largest "
        "score, which promises {percent:.3g} % on average.",
        n=n, wanted=wanted, needed=needed, percent=percent,
    )  # fmt: skip


def false_alarm_range(n: int, alpha: float, level: float = 0.9) -> tuple[float, float]:
    """Between which false-alarm rates the line of n held-out normals will really lie, in `level` of all draws of them.

    The promise holds on average over draws; a person has one draw, and its rate follows Beta(n + 1 - k, k).
    """
    from scipy.special import betaincinv

    k = min(place(n, alpha), n)
    tail = (1 - level) / 2
    return float(betaincinv(n + 1 - k, k, tail)), float(betaincinv(n + 1 - k, k, 1 - tail))


def best_f1(labels: Any, scores: Any) -> Threshold:
    """The line with the best F1 on these very pictures: an oracle, marked as one; it promises no false-alarm rate.

    labels: (N,) 0 normal, 1 defect.  scores: (N,).  Raises DataError when a class is absent.
    """
    defects = int(np.count_nonzero(labels))
    normals = len(labels) - defects
    found = metrics.best_f1(labels, scores)
    if found is None:
        raise DataError(
            "The best F1 needs labelled pictures of both kinds; there are {normals} normal and {defects} defect ones.",
            normals=normals, defects=defects,
        )  # fmt: skip
    rule = say(
        "Oracle: best F1, {f1:.3f}, chosen on the pictures it is reported on; a bound, not a promise.", f1=found[0]
    )
    on = say("{normals} normal and {defects} defect test pictures", normals=normals, defects=defects)
    return Threshold(found[1], rule, on, key="f1", oracle=True)


def by_hand(value: float, scores: Any = ()) -> Threshold:
    """A person's own line.  scores: (n,) of held-out normals, to say how many of them it would alarm; may be empty."""
    held_out = np.asarray(scores, dtype=np.float64)
    over, n = int((held_out > value).sum()), len(held_out)
    rule = (
        say("Set by hand: {over} of {n} held-out normals raise an alarm.", over=over, n=n)
        if n
        else say("Set by hand; no false-alarm rate is promised.")
    )
    return Threshold(float(value), rule, say("a person's choice"), key="hand")


def calibrate(scores: Any, map_peaks: Any, alpha: float, cross_fitted: bool = False) -> Calibration:
    """What n held-out normals say about a method's scores and maps.

    scores: (n,) in the method's unit.  map_peaks: (n,) largest value of each one's map, or None without maps.
    unit: mean of |score|.  That is the mean wherever scores are distances, and it stays positive, so that dividing keeps
    the order, where they are log-likelihoods; 1 when every score is 0.
    map_unit: `at_false_alarm_rate` of the peaks, so that at most `alpha` of good parts show anything beyond 1x.
    Raises DataError as `at_false_alarm_rate`.
    """
    held_out = ordered(scores)
    map_unit = None
    if map_peaks is not None:
        map_unit = at_false_alarm_rate(map_peaks, alpha, cross_fitted=cross_fitted).value
        if map_unit <= 0:  # nothing can be shown in multiples of it; any larger unit keeps the promise
            map_unit = _size(np.asarray(map_peaks, dtype=np.float64))
    return Calibration(
        unit=_size(held_out),
        threshold=at_false_alarm_rate(held_out, alpha, cross_fitted=cross_fitted),
        map_unit=map_unit,
        normals=len(held_out),
        cross_fitted=cross_fitted,
        scores=tuple(np.asarray(scores, dtype=np.float64).tolist()),
        peaks=None if map_peaks is None else tuple(np.asarray(map_peaks, dtype=np.float64).tolist()),
    )


def _size(values: np.ndarray) -> float:
    """Mean distance from zero, or 1 when it is too small to divide float32 by."""
    mean = float(np.abs(values).mean())
    return mean if mean > 1e-30 else 1.0


def _rate(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise DataError("A false-alarm rate lies between 0 and 1, got {alpha}. Example: 0.01 for 1 %.", alpha=alpha)
    return alpha


def place(n: int, alpha: float) -> int:
    """k = ceil((n + 1)(1 - alpha)); written so that (99 + 1) x 0.99 is 99 and not a hair more."""
    return n + 1 - math.floor((n + 1) * _rate(alpha) + 1e-9)


def ordered(scores: Any) -> np.ndarray:
    """(n,) float64, smallest first.  Raises DataError when there is none."""
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"scores have shape {values.shape} or hold a value that is not finite")
    if len(values) == 0:
        raise DataError(
            "A threshold needs the score of at least one normal that was kept out of the fit; there is none."
        )
    return values
