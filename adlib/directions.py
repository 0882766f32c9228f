"""Which directions matter?  The PCA / NPCA study of the Gaussian-AD paper on a run's own pictures.

At each level of the network the directions in which normals vary are ordered by their variance.  The study keeps those
that hold a share of it, once the largest (PCA) and once the smallest (NPCA), and measures each choice anew.
Source: Rippel et al. 2020, arXiv:2005.14140, sections III and IV; shrinkage after Ledoit and Wolf 2004.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adlib import inspection, metrics, store, thresholds, why
from adlib.batches import divide, part, predictions
from adlib.contract import AdlibError, Backbone, Sample, Sentence, Tick, say, silent
from adlib.inspection import Fitted
from adlib.learning_curve import WORTH, pictures_of

SHARES = (1.0, 0.999, 0.99, 0.95, 0.9, 0.5, 0.1, 0.05, 0.01, 0.001, 0.0001)
SIDES = ("top", "bottom")
METHOD = "gaussian"
_FLOOR = 1e-9  # least shrinkage, as the method's own


# --- one level --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axes:
    """The principal axes of n vectors in k dimensions, by falling variance, those without variance left out.

    mean: (k,).  directions: (k, r).  variances: (r,), with n in the denominator.  rows: (n, r), the vectors on the axes.
    """

    mean: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Axes:
        """vectors: (n, k)."""
        x = np.asarray(vectors, dtype=np.float64)
        mean = x.mean(axis=0)
        _, singular, turned = np.linalg.svd(x - mean, full_matrices=False)
        variances = singular**2 / len(x)
        real = max(1, min(len(x) - 1, int((variances > 1e-12 * variances[0]).sum())))
        directions = turned[:real].T
        return cls(mean, directions, variances[:real], (x - mean) @ directions)

    def kept(self, share: float, side: str) -> slice:
        """Which axes hold `share` of the variance: the first ones ("top") or the last ones ("bottom").

        At the top the axis that crosses the share is included; at the bottom the one before the crossing, too (the index
        of the authors' code).  Never none.
        """
        if share >= 1:
            return slice(0, len(self.variances))
        ratio = np.cumsum(self.variances) / max(float(self.variances.sum()), 1e-300)
        if side == "top":
            return slice(0, min(int((ratio <= share).sum()) + 1, len(ratio)))
        return slice(min(max(int((ratio <= 1 - share).sum()) - 1, 0), len(ratio) - 1), len(ratio))

    def count(self, share: float, side: str) -> int:
        """How many directions hold `share` of the variance; all k of them for 1."""
        kept = self.kept(share, side)
        return len(self.mean) if share >= 1 else kept.stop - kept.start

    def distances(self, vectors: np.ndarray, share: float, side: str) -> np.ndarray:
        """(N,): Mahalanobis distances of (N, k) vectors within the kept axes, the covariance shrunk there anew.

        With a share of 1 nothing is reduced: directions in which no normal varied count too, at the shrunk variance.
        """
        kept = self.kept(share, side)
        rows, variances, k = self.rows[:, kept], self.variances[kept], self.count(share, side)
        n = len(rows)
        target = float(variances.sum()) / k
        squares = (rows**2).sum(axis=1)
        spread = (float((squares**2).mean()) - float((variances**2).sum())) / (k * n)
        apart = (float((variances**2).sum()) - k * target**2) / k
        rho = min(spread, apart) / apart if min(spread, apart) > 0 else 0.0
        rho = max(rho, _FLOOR)
        least = rho * target or 1e-12
        moved = np.asarray(vectors, dtype=np.float64) - self.mean
        seen = moved @ self.directions[:, kept]
        found = (seen**2 / ((1 - rho) * variances + least)).sum(axis=1)
        if share >= 1:
            found += ((moved**2).sum(axis=1) - (seen**2).sum(axis=1)).clip(min=0) / least
        return np.asarray(np.sqrt(found))


# --- the study --------------------------------------------------------------------------------------------------------


def study(run: store.Run, tick: Tick = silent) -> dict[str, Any]:
    """The study of a finished run of Gaussian-AD, as JSON.

    shares: of the variance kept, (S,).  levels: a sentence each, the sum over all levels last.
    top, bottom: {"auroc", "false_alarms", "inflation", "kept"}, each a row of S values a level; AUROC and false alarms
    None without the labelled tests that they need.  inflation: mean distance of normals that were not fitted / of those that
    were; 1 = a new normal looks like an old one.  kept: how many axes.
    Raises AdlibError for another method, DataError when pictures are missing, Stopped.
    """
    if run.card["method"] != METHOD:
        raise AdlibError("Which directions matter is a question to Gaussian-AD alone. Fit that method first.")
    fitted = inspection.load(run)
    normals, tests = pictures_of(fitted)
    channels = _channels(fitted)
    vectors = _vectors(fitted, [*normals, *tests], part(tick, 0.0, 0.6))
    levels = np.split(vectors, np.cumsum(channels)[:-1], axis=1)
    place = {s.digest: i for i, s in enumerate(normals)}
    division = divide(normals, METHOD)
    fitting = [place[s.digest] for s in division.fit]
    folds = [[place[s.digest] for s in fold] for fold in division.folds] or [
        [place[s.digest] for s in division.held_out]
    ]
    measured = []
    for i, level in enumerate(levels):
        inner = part(tick, 0.6 + 0.4 * i / len(levels), 0.6 + 0.4 * (i + 1) / len(levels))
        measured.append(_level(level, fitting, folds, len(normals), inner, i))
    labels = np.array([s.label for s in tests])
    names = [why.level_name(i, len(levels)).as_json() for i in range(len(levels))]
    found: dict[str, Any] = {
        side: _figures([one[side] for one in measured], labels, run.card["alpha"]) for side in SIDES
    }
    good = int((labels == 0).sum())
    answer, sentence = verdict(found["top"], found["bottom"])
    return {
        "format": "adlib-directions/1", "created": time.time(), "alpha": run.card["alpha"], "shares": list(SHARES),
        "levels": [*names, say("all levels together").as_json()], "channels": channels, **found,
        "measured_on": {"normals": sum(map(len, folds)), "good": good, "defects": len(tests) - good},
        "answer": answer, "sentence": sentence.as_json(),
    }  # fmt: skip


def _channels(fitted: Fitted) -> list[int]:
    from adlib import features

    about = fitted.run.card["backbone"]
    backbone = Backbone(**{**about, "stages": tuple(about["stages"])})
    return [c for c, _, _ in features.shapes(backbone, fitted.size, fitted.size)]


def _vectors(fitted: Fitted, samples: Sequence[Sample], tick: Tick) -> np.ndarray:
    """(N, D): the means of every level, side by side, as the method itself embeds a picture."""
    rows = [p.embeddings for p, _ in predictions(fitted.detector, fitted.batches(samples), tick)]
    return np.concatenate([row for row in rows if row is not None]).astype(np.float64)


@dataclass(frozen=True)
class _Measured:
    """Distances for each share: of held-out normals (S, H), fitted ones (S, F), tests (S, T); and axes kept (S,)."""

    held: np.ndarray
    fit: np.ndarray
    tests: np.ndarray
    kept: list[int]


def _level(
    vectors: np.ndarray, fitting: list[int], folds: list[list[int]], n: int, tick: Tick, level: int
) -> dict[str, _Measured]:
    """vectors: (N, k) of all normals, then the tests.  folds: held-out normals, each part judged by a fit without it."""
    tick(0.0, "turning level {level} to its principal axes", level=level + 1)
    final = Axes.of(vectors[fitting])
    inner = []
    for i, fold in enumerate(folds):
        inside = set(fold)
        rest = [row for row in fitting if row not in inside]
        inner.append((final if len(rest) == len(fitting) else Axes.of(vectors[rest]), vectors[fold]))
        tick((i + 1) / (len(folds) + 1), "turning level {level} to its principal axes", level=level + 1)
    found = {}
    for side in SIDES:
        held = [np.concatenate([a.distances(x, share, side) for a, x in inner]) for share in SHARES]
        fit = [final.distances(vectors[fitting], share, side) for share in SHARES]
        tests = [final.distances(vectors[n:], share, side) for share in SHARES]
        counts = [final.count(share, side) for share in SHARES]
        found[side] = _Measured(np.array(held), np.array(fit), np.array(tests), counts)
    return found


def _figures(levels: list[_Measured], labels: np.ndarray, alpha: float) -> dict[str, list[list[Any]]]:
    """Rows for each level, and for the sum of distances over all levels last."""
    summed = [np.sum([getattr(one, name) for one in levels], axis=0) for name in ("held", "fit", "tests")]
    together = [sum(kept) for kept in zip(*(one.kept for one in levels), strict=True)]
    every = [*levels, _Measured(summed[0], summed[1], summed[2], together)]
    figures: dict[str, list[list[Any]]] = {"auroc": [], "false_alarms": [], "inflation": [], "kept": []}
    for one in every:
        lines = [thresholds.at_false_alarm_rate(held, alpha).value for held in one.held]
        good = one.tests[:, labels == 0]
        figures["auroc"].append([metrics.auroc(labels, row) for row in one.tests])
        figures["false_alarms"].append(
            [float((row > line).mean()) if len(row) else None for row, line in zip(good, lines, strict=True)]
        )
        figures["inflation"].append(
            [float(h / f) if f > 0 else 1.0 for h, f in zip(one.held.mean(1), one.fit.mean(1), strict=True)]
        )
        figures["kept"].append(list(one.kept))
    return figures


# --- the answer -------------------------------------------------------------------------------------------------------


def verdict(top: dict[str, Any], bottom: dict[str, Any]) -> tuple[str, Sentence]:
    """("small" | "large" | "same" | "unknown", why), for all levels together: PCA 99 % against NPCA 1 % and against all."""
    most, least = SHARES.index(0.99), SHARES.index(0.01)
    if top["auroc"][-1][0] is None:
        return "unknown", say(
            "Without good tests and defects it cannot be known which directions show defects. What the normals tell: one that "
            "was not fitted lies {large:.2f} times as far as those that were in the large directions (99 % of the variance), "
            "and {small:.2f} times in the small ones (1 %).",
            large=top["inflation"][-1][most], small=bottom["inflation"][-1][least],
        )  # fmt: skip
    every, large, small = top["auroc"][-1][0], top["auroc"][-1][most], bottom["auroc"][-1][least]
    values = {"every": every, "large": large, "small": small}
    if small - large >= WORTH:
        return "small", say(
            "The small directions tell defects from normals: with the 1 % of the variance that PCA would drop the AUROC is "
            "{small:.3f}, with the other 99 % it is {large:.3f}, with all directions {every:.3f}.",
            **values,
        )
    if large - small >= WORTH:
        return "large", say(
            "The large directions tell defects from normals: with 99 % of the variance the AUROC is {large:.3f}, with the "
            "last 1 % it is {small:.3f}, with all directions {every:.3f}.",
            **values,
        )
    return "same", say(
        "It makes no difference worth a change: the AUROC is {large:.3f} with 99 % of the variance, {small:.3f} with the last "
        "1 %, {every:.3f} with all directions.",
        **values,
    )
