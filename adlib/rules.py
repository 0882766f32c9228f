"""All rules for a threshold side by side: their laws, what they need, and what each would do.

A rule learned on normals or taken from a formula is judged on the tests, which it never saw.  A rule that chooses on the
labelled tests is judged in folds: each fold by a line chosen on the others.  Where that is impossible its figures are an
oracle's, and say so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adlib import lines, metrics, thresholds
from adlib.contract import DataError, Sentence, Threshold, say

FOLDS = 5
ALARMING = 0.025  # a promise counts as broken when so many or more alarms were less likely than this


@dataclass(frozen=True)
class Wishes:
    """What a person asks of the rules.  alpha: false-alarm rate.  sigmas: k of mean + k·σ.  recall: share to catch.

    miss, alarm: prices of a missed defect and of a false alarm.  share: of defects in production; None = as in the tests.
    """

    alpha: float = 0.01
    sigmas: float = 3.0
    recall: float = 0.95
    miss: float = 10.0
    alarm: float = 1.0
    share: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What rules may look at, all scores in the method's unit.

    normals: (n,) held-out normals.  labels, scores: (N,) tests, may be empty.  places: (N,) in [0, 1), fixed by each
    test's content: they divide the tests into folds.  fitted: normals of the fit.
    dimension, shrinkage: of the one Gaussian whose distance the score is; else `lawless` says why there is none.
    """

    normals: np.ndarray
    cross_fitted: bool
    labels: np.ndarray
    scores: np.ndarray
    places: np.ndarray
    fitted: int = 0
    dimension: int | None = None
    shrinkage: float = 0.0
    lawless: Sentence = say("The score is not the distance of one Gaussian, so it follows no chi-square law.")

    def only(self, chosen: np.ndarray) -> Evidence:
        """With some of the tests.  chosen: (N,) bool."""
        return dataclasses.replace(
            self, labels=self.labels[chosen], scores=self.scores[chosen], places=self.places[chosen]
        )


@dataclass(frozen=True)
class Rule:
    """title: its name.  law: what it does and why.  needs: when it may be used.  learns_on: "normals", "tests", "formula".

    line: from evidence and wishes; raises DataError with the reason when it cannot be used.
    """

    title: Sentence
    law: Sentence
    needs: Sentence
    learns_on: str
    line: Callable[[Evidence, Wishes], Threshold]


class CannotBeUsed(DataError):
    """A rule does not suit this run; the sentence says why and what it would take."""

    def __init__(self, why: Sentence) -> None:
        Exception.__init__(self, str(why))
        self.sentence = why


def _chi_square(seen: Evidence, wishes: Wishes) -> Threshold:
    if seen.dimension is None:
        raise CannotBeUsed(seen.lawless)
    return lines.chi_square(wishes.alpha, seen.dimension, seen.shrinkage, seen.fitted)


RULES: dict[str, Rule] = {
    "quantile": Rule(
        say("False-alarm rate"),
        say(
            "The finite-sample quantile: a new normal crosses score ceil((n + 1)(1 - alpha)) of n held-out normals with a "
            "chance of at most alpha, whatever the law of the scores."
        ),
        say("Normals kept out of the fit, at least 1 / alpha - 1 of them: 99 for 1 %, 19 for 5 %, 9 for 10 %."),
        "normals",
        lambda seen, w: thresholds.at_false_alarm_rate(seen.normals, w.alpha, cross_fitted=seen.cross_fitted),
    ),
    "chi2": Rule(
        say("Chi-square"),
        say(
            "If features are Gaussian, a squared Mahalanobis distance follows chi-square with as many degrees of freedom as "
            "features; the line is its quantile. A formula, and no guarantee: compare what it expects with what happens."
        ),
        say("Gaussian-AD with the Mahalanobis distance, fitted on one level of the network."),
        "formula",
        _chi_square,
    ),
    "sigma": Rule(
        say("Mean + k·σ"),
        say(
            "Mean of the held-out normals plus k standard deviations. Its rate is only known if scores are normally "
            "distributed."
        ),
        say("At least 8 held-out normals, and scores that are normally distributed."),
        "normals",
        lambda seen, w: lines.mean_plus(seen.normals, w.sigmas, seen.cross_fitted),
    ),
    "largest": Rule(
        say("Largest normal"),
        say(
            "The largest score of n held-out normals; a new normal exceeds it with a chance of 1 / (n + 1) on average."
        ),
        say("Normals kept out of the fit; the rate follows from how many there are and cannot be chosen."),
        "normals",
        lambda seen, w: lines.largest(seen.normals, seen.cross_fitted),
    ),
    "recall": Rule(
        say("Target recall"),
        say(
            "Just under defect ceil((m + 1) recall) of m, counted from the highest: a new defect of the same kinds raises an "
            "alarm with a chance of at least the recall, on average."
        ),
        say("Labelled defects of the kinds to come, at least recall / (1 - recall): 19 for 95 %, 9 for 90 %."),
        "tests",
        lambda seen, w: lines.at_recall(seen.labels, seen.scores, w.recall),
    ),
    "f1": Rule(
        say("Best F1"),
        say("The line with the largest F1 on labelled tests. It depends on how many of the tests are defects."),
        say("Labelled good pictures and defects."),
        "tests",
        lambda seen, w: thresholds.best_f1(seen.labels, seen.scores),
    ),
    "cost": Rule(
        say("Lowest cost"),
        say(
            "The line at which misses and false alarms together cost least, weighed by their prices and by the share of "
            "defects that is expected."
        ),
        say("Labelled good pictures and defects, two prices, and the share of defects in production if it is known."),
        "tests",
        lambda seen, w: lines.cheapest(seen.labels, seen.scores, w.miss, w.alarm, w.share),
    ),
}


def line_of(key: str, seen: Evidence, wishes: Wishes) -> Threshold:
    """The line of one rule.  Raises DataError for an unknown rule, or with the reason why it cannot be used."""
    if key not in RULES:
        raise DataError("There is no rule '{key}'. Known: {known}.", key=key[:40], known=", ".join(RULES))
    if RULES[key].learns_on == "normals" and len(seen.normals) == 0:
        raise DataError("This rule needs normals that were kept out of the fit, and there is none.")
    return RULES[key].line(seen, wishes)


# --- what each would do -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """One rule on one run.  line: None when it cannot be used, and `why_not` says why and what it takes.

    basis: "unseen", the tests had no part in the line; "folds", each test was judged by a line chosen on other folds;
    "oracle", judged on the pictures the line was chosen on.
    alarms: (false alarms, good tests).  caught: (defects caught, defects).  cost: of a part, at the wishes' prices; None
    without both classes.  warning: the promise against what happened, when the two cannot both be true.
    """

    key: str
    line: Threshold | None
    why_not: Sentence | None = None
    basis: str = "unseen"
    alarms: tuple[int, int] = (0, 0)
    caught: tuple[int, int] = (0, 0)
    cost: float | None = None
    warning: Sentence | None = None


def compare(seen: Evidence, wishes: Wishes) -> tuple[Outcome, ...]:
    """Every rule of RULES, in their order, with the same wishes."""
    return tuple(judged(key, seen, wishes) for key in RULES)


def judged(key: str, seen: Evidence, wishes: Wishes) -> Outcome:
    try:
        line = line_of(key, seen, wishes)
    except DataError as error:
        return Outcome(key, None, error.sentence)
    if RULES[key].learns_on == "tests":
        alarm = in_folds(key, seen, wishes)
        basis = "oracle" if alarm is None else "folds"
        return outcome(line, seen, wishes, seen.scores > line.value if alarm is None else alarm, basis)
    return outcome(line, seen, wishes)


def outcome(
    line: Threshold, seen: Evidence, wishes: Wishes, alarm: np.ndarray | None = None, basis: str = ""
) -> Outcome:
    """What one line does to the tests.  alarm: (N,) bool when the verdicts are not simply score > line."""
    verdict = seen.scores > line.value if alarm is None else alarm
    defect = seen.labels == 1
    normals, defects = int((~defect).sum()), int(defect.sum())
    false, hits = int(verdict[~defect].sum()), int(verdict[defect].sum())
    cost = None
    if normals and defects:
        share = wishes.share if wishes.share is not None else defects / (normals + defects)
        cost = lines.cost_of(false / normals, 1 - hits / defects, wishes.miss, wishes.alarm, share)
    basis = basis or ("oracle" if line.oracle else "unseen")
    warning = None
    if basis == "unseen":
        over = int((seen.normals > line.value).sum())
        warning = broken(line, over, len(seen.normals), false, normals)
    return Outcome(line.key, line, None, basis, (false, normals), (hits, defects), cost, warning)


def folds_of(labels: np.ndarray, places: np.ndarray) -> np.ndarray | None:
    """(N,) fold of each test, each class spread evenly, by content alone; None when a class has fewer than two."""
    fewest = min(int((labels == 0).sum()), int((labels == 1).sum()))
    if fewest < 2:
        return None
    fold = np.zeros(len(labels), dtype=int)
    for label in (0, 1):
        which = np.flatnonzero(labels == label)
        fold[which[np.argsort(places[which], kind="stable")]] = np.arange(len(which)) % min(FOLDS, fewest)
    return fold


def in_folds(key: str, seen: Evidence, wishes: Wishes) -> np.ndarray | None:
    """(N,) alarms, each test judged by the rule's line on the other folds; None when there are too few for folds."""
    fold = folds_of(seen.labels, seen.places)
    if fold is None:
        return None
    alarm = np.zeros(len(fold), dtype=bool)
    for one in np.unique(fold):
        alarm[fold == one] = seen.scores[fold == one] > line_of(key, seen.only(fold != one), wishes).value
    return alarm


def broken(line: Threshold, over: int, held_out: int, false: int, normals: int) -> Sentence | None:
    """Says when a promise and what happened to normals cannot both be true; None when they can, or nothing was promised.

    over, held_out: alarms among held-out normals, which speak against a formula only: the other rules were set on them.
    false, normals: alarms among good tests.
    """
    if line.alpha is None:
        return None
    groups: Sequence[tuple[int, int, Callable[..., Sentence]]] = ((false, normals, _on_good_tests),)
    if line.key in RULES and RULES[line.key].learns_on == "formula":
        groups = ((over, held_out, _on_held_out), *groups)
    for count, total, words in groups:
        if total and at_least(count, total, line.alpha) < ALARMING:
            low, high = metrics.rate_interval(count, total)
            return words(count=count, total=total, percent=100 * line.alpha, low=100 * low, high=100 * high)
    return None


def at_least(count: int, total: int, rate: float) -> float:
    """Chance of `count` or more alarms among `total` normals at a false-alarm rate of `rate`."""
    from scipy.special import betainc

    return float(betainc(count, total - count + 1, rate)) if count else 1.0


def _on_held_out(**numbers: Any) -> Sentence:
    return say(
        "It expects {percent:.3g} % false alarms, and {count} of {total} held-out normals raise one (95 %: {low:.1f}–"
        "{high:.1f} %): these features do not follow its law. Prefer the false-alarm rate rule.",
        **numbers,
    )


def _on_good_tests(**numbers: Any) -> Sentence:
    return say(
        "It promises {percent:.3g} % false alarms, and {count} of {total} good tests raise one (95 %: {low:.1f}–{high:.1f} %): "
        "either its conditions do not hold, or the tests differ from the normals it was learned on.",
        **numbers,
    )
