"""What should make a person doubt an evaluation: too few pictures, tests that leaked, tests from other conditions.

Everything comes from the run folder: scores, embeddings, labels.  Silence means that nothing was found in it, no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adlib import metrics, rules, store
from adlib.contract import Sentence, say
from adlib.results import calibration_of

FEW = 20  # good tests, or defects: with fewer, a rate of 0 may be one of 17 % and more
_NEAR = 0.05  # of the usual distance between a normal and the normal most like it
_SURE = 0.01  # chance below which a difference is called one
_NAMED = 3
_TELLS = 0.8  # AUROC from which scores are called able to tell defects from good parts


def of(run: store.Run) -> tuple[Sentence, ...]:
    """What to doubt in an evaluated run, the gravest first; () without an evaluation."""
    report = run.read("report.json")
    return (*grave(run), *few(report["n_normal"], report["n_defect"])) if report else ()


def grave(run: store.Run) -> tuple[Sentence, ...]:
    """As `of`, without what only says that pictures are few."""
    report, rows = run.read("report.json"), run.read("scores.json")
    if not report or not rows:
        return ()
    calibration = calibration_of(run)
    scores, labels = np.array([row["score"] for row in rows]), np.array([row["label"] for row in rows])
    good = scores[labels == 0]
    found = [
        *leaks(run, rows),
        drift(np.array(calibration.scores), good, calibration.cross_fitted),
        promise(calibration.threshold, good),
        lifted(calibration.threshold.value, scores, labels, run.read("normals.json") or []),
    ]
    return tuple(sentence for sentence in found if sentence is not None)


def promise(line: Any, good: np.ndarray) -> Sentence | None:
    """The threshold's promise against what the good tests did.  good: (n,) scores."""
    return rules.broken(line, 0, 0, int((good > line.value).sum()), len(good))


def lifted(line: float, scores: np.ndarray, labels: np.ndarray, normals: list[dict[str, Any]]) -> Sentence | None:
    """A line above most defects whose scores are told from those of good tests: what lifts it, and what to do.

    scores, labels: (N,) of the tests.  normals: lines of normals.json.  None where all is well, or the scores tell nothing.
    """
    defects = scores[labels == 1]
    missed = int((defects <= line).sum())
    if 2 * missed <= len(defects) or not (labels == 0).any():
        return None
    auroc = metrics.auroc(labels, scores)
    if auroc is None or auroc < _TELLS:
        return None
    middle = float(np.median(defects))
    strange = [row for row in normals if row["score"] is not None and row["score"] > middle]
    if not strange:
        return say(
            "{missed} of {n} defects lie below the threshold, although their scores differ from those of good tests (AUROC "
            "{auroc:.2f}). Choose another rule for the threshold on the Evaluate page.",
            missed=missed, n=len(defects), auroc=auroc,
        )  # fmt: skip
    strange.sort(key=lambda row: -row["score"])
    return say(
        "{missed} of {n} defects lie below the threshold, although their scores differ from those of good tests (AUROC "
        "{auroc:.2f}). It is held up by unusual normals, {count} of which score above half of the defects: {names}. Look at "
        "them: where one is no good part, leave it out on the Data page and fit again; else choose another rule for the "
        "threshold on the Evaluate page.",
        missed=missed, n=len(defects), auroc=auroc, count=len(strange),
        names=", ".join(row["name"] for row in strange[:_NAMED]),
    )  # fmt: skip


def few(normals: int, defects: int) -> tuple[Sentence, ...]:
    """How little a handful of tests can show, in numbers."""
    found = []
    if 0 < normals < FEW:
        high = 100 * metrics.rate_interval(0, normals)[1]
        found.append(
            say(
                "There are only {n} good tests: even without one false alarm among them the rate may be {high:.0f} %. "
                "Add good pictures to the tests.",
                n=normals,
                high=high,
            )
        )
    if 0 < defects < FEW:
        high = 100 * metrics.rate_interval(0, defects)[1]
        found.append(
            say(
                "There are only {n} defects: even if all of them are caught, {high:.0f} % may be missed. "
                "Add defects to the tests.",
                n=defects,
                high=high,
            )
        )
    return tuple(found)


# --- tests from other conditions --------------------------------------------------------------------------------------


def drift(held_out: np.ndarray, good: np.ndarray, cross_fitted: bool = False) -> Sentence | None:
    """Do held-out normals and good tests score alike?  The test of Mann and Whitney 1947, with its effect in words.

    held_out: (n,), good: (m,) scores.  cross_fitted: the held-out ones came from fits of fewer normals and lie a little
    high for that reason alone, so that only higher tests count.
    None when there are too few for any difference to show, or it does not.
    """
    n, m = len(held_out), len(good)
    if least_chance(n, m) > _SURE:
        return None
    chance, effect = alike(held_out, good)
    if chance >= _SURE or (cross_fitted and effect < 0.5):
        return None
    return say(
        "Good tests and held-out normals do not score alike: a good test scores higher in {percent:.0f} % of pairs, 50 % would "
        "be alike ({n} and {m} pictures, chance of this {chance:.2g}). Camera, light or parts differ, and a false-alarm rate "
        "promised on the normals does not hold for the tests.",
        percent=100 * effect, n=n, m=m, chance=chance,
    )  # fmt: skip


def alike(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """(two-sided p, share of pairs in which `second` is higher, ties half).  Neither is empty."""
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(second, first)
    return float(found.pvalue), float(found.statistic) / (len(first) * len(second))


def least_chance(n: int, m: int) -> float:
    """The smallest p that n and m pictures can give, when all of one lie above all of the other."""
    from scipy.special import comb

    return 2 / float(comb(n + m, n)) if n and m else 1.0


# --- tests that leaked ------------------------------------------------------------------------------------------------


def leaks(run: store.Run, rows: list[dict[str, Any]]) -> tuple[Sentence, ...]:
    """Tests that are almost a normal of the fit: cropped, saved again or taken twice; exact copies are left out anyway.

    Compares embeddings with those of the normals that the run keeps, at most a few hundred.
    """
    tests, normals = run.folder / "embeddings.npy", run.folder / "normals.npy"
    if not tests.exists() or not normals.exists():
        return ()
    near = almost_equal(np.asarray(store.read_array(tests)), np.asarray(store.read_array(normals)))
    if not len(near):
        return ()
    names = ", ".join(rows[i]["name"] for i in near[:_NAMED] if i < len(rows))
    return (
        say(
            "Tests that look almost exactly like a normal picture of the fit, too much to be another part: {names} ({count} "
            "in all). Such a test flatters the figures; take it out of the tests or out of the normals ({n} normals were "
            "compared).",
            count=len(near), names=names, n=len(np.asarray(store.read_array(normals))),
        ),
    )  # fmt: skip


def almost_equal(tests: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Indices of tests (T, D) far nearer to a normal (M, D) than normals are to each other.

    () with fewer than three normals, and where normals are as near to each other: burst pictures say nothing.
    """
    if len(normals) < 3 or tests.shape[1] != normals.shape[1]:
        return np.array([], dtype=int)
    between = _distances(normals, normals)
    np.fill_diagonal(between, np.inf)
    usual = float(np.median(between.min(axis=1)))
    return np.flatnonzero(_distances(tests, normals).min(axis=1) < _NEAR * usual)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, B) Euclidean, in float64 about the mean, so that near ones do not drown in rounding."""
    middle = b.astype(np.float64).mean(axis=0)
    a, b = a.astype(np.float64) - middle, b.astype(np.float64) - middle
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))
