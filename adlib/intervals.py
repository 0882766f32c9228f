"""How sure one can be of an evaluation's figures: 95 % intervals from redrawn pictures, never from redrawn pixels.

Good pictures and defects are redrawn apart, with a seed.  A bootstrap alone says [1, 1] where nothing went wrong, so each
interval is the wider, at each end, of the bootstrap's and of one that knows how few pictures there are.
The intervals of rates and of the AUROC are in `metrics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adlib import metrics
from adlib.contract import Confusion
from adlib.pixel_counts import PixelCounts

Intervals = dict[str, tuple[float, float]]


def f1(counts: Confusion) -> float | None:
    """F1 at one line; None without a defect."""
    defects, alarms = counts.true_positive + counts.false_negative, counts.true_positive + counts.false_positive
    return 2 * counts.true_positive / (defects + alarms) if defects else None


# --- pictures ---------------------------------------------------------------------------------------------------------


def of_pictures(
    labels: Any, scores: Any, line: float, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Intervals:
    """Intervals by the names of `Report`: image_auroc, image_ap, image_f1_oracle, f1, fpr, tpr; only those that exist.

    labels: (N,) 0 normal, 1 defect.  scores: (N,).  line: the threshold in use, alarm when score > line.
    fpr and tpr: exact (Clopper and Pearson).  AP and F1 are shares of defects that are right, so that their second
    interval is the exact one of such a share, k of n not whole.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    counts = metrics.confusion(labels, scores, line)
    normals, defects = int((labels == 0).sum()), int((labels == 1).sum())
    found: Intervals = {}
    if normals:
        found["fpr"] = metrics.rate_interval(counts.false_positive, normals, level)
    if defects:
        found["tpr"] = metrics.rate_interval(counts.true_positive, defects, level)
    area = metrics.auroc_interval(labels, scores, level, draws, seed)
    best = metrics.best_f1(labels, scores)
    if area is None or best is None:
        return found
    found["image_auroc"] = area
    rank = np.unique(scores, return_inverse=True)[1]
    drawn = np.concatenate(
        [
            _curves(hits, alarms)
            for hits, alarms in metrics.recounted(
                rank[labels == 1], rank[labels == 0], draws, np.random.default_rng(seed)
            )
        ],
        axis=1,
    )  # (2, draws)
    precision = metrics.average_precision(labels, scores) or 0.0
    found["image_ap"] = _wider(drawn[0], precision, defects, level)
    at_best = metrics.confusion(labels, scores, best[1])
    found["image_f1_oracle"] = _wider(drawn[1], best[0], _size(at_best), level)
    rng = np.random.default_rng(seed)
    hits = rng.binomial(defects, counts.true_positive / defects, draws)
    alarms = rng.binomial(normals, counts.false_positive / normals, draws)
    found["f1"] = _wider(2 * hits / (defects + hits + alarms), f1(counts) or 0.0, _size(counts), level)
    return found


def _curves(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    """(2, rows): average precision and best F1 of each draw.  hits, alarms: (rows, K) counts at each score."""
    caught, false = (np.cumsum(counts[:, ::-1], axis=1) for counts in (hits, alarms))  # highest score first
    defects = caught[:, -1:]
    precision = caught / np.maximum(caught + false, 1)
    return np.stack(
        [(hits[:, ::-1] * precision).sum(axis=1) / defects[:, 0], (2 * caught / (caught + false + defects)).max(axis=1)]
    )


def _size(counts: Confusion) -> float:
    """F1 = true positives / this: half of the defects and alarms together."""
    return counts.true_positive + (counts.false_positive + counts.false_negative) / 2


def _wider(drawn: np.ndarray, value: float, n: float, level: float) -> tuple[float, float]:
    """Percentiles of the draws, or the exact interval of a share `value` of n where that reaches further."""
    tail = (1 - level) / 2
    low, high = (float(end) for end in np.quantile(drawn, (tail, 1 - tail)))
    exact = _share(value, n, tail)
    return min(low, exact[0]), max(high, exact[1])


def _share(value: float, n: float, tail: float) -> tuple[float, float]:
    """Clopper and Pearson's interval for k = value * n of n, k not whole (so Boyd, Eng and Page 2013 for AP)."""
    from scipy.special import betaincinv

    k = value * n
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high


# --- pixels -----------------------------------------------------------------------------------------------------------


def of_pixels(
    counts: PixelCounts, limit: float = 0.3, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Intervals:
    """Intervals of pixel_auroc and aupro from redrawn pictures; {} with fewer than two pictures that have a region.

    Each picture was counted in coarse bins, so that memory does not grow with the number of pixels; the draws are moved
    to where the exact figure lies.  The percentiles are widened for few pictures (Hesterberg 2015, expanded percentile).
    """
    exact = counts.auroc(), counts.aupro(limit)
    defective = [one for one in counts.single if one.regions]
    good = [one for one in counts.single if not one.regions]
    if len(defective) < 2 or exact[0] is None or exact[1] is None:
        return {}
    pictures = defective + good
    bins = np.unique(np.concatenate([one.bins for one in pictures]))
    normal, defect, found = (_table(pictures, bins, name) for name in ("normal", "defect", "found"))  # (N, K)
    regions = np.array([one.regions for one in pictures], dtype=np.float64)

    rng = np.random.default_rng(seed)
    weights = [
        rng.multinomial(len(part), np.full(len(part), 1 / len(part)), draws) for part in (defective, good) if part
    ]
    tail = _expanded((1 - level) / 2, len(defective))
    areas: list[tuple[np.ndarray, np.ndarray]] = []
    for times in (np.ones((1, len(pictures))), np.concatenate(weights, axis=1)):
        drawn = times.astype(np.float32)  # (B, N)
        areas.append(_areas(drawn @ normal, drawn @ defect, drawn @ found, drawn @ regions, limit))
    made: Intervals = {}
    for i, (name, value) in enumerate((("pixel_auroc", exact[0]), ("aupro", exact[1]))):
        low, high = np.quantile(areas[1][i], (tail, 1 - tail)) + (value - areas[0][i][0])
        made[name] = float(np.clip(min(low, value), 0, 1)), float(np.clip(max(high, value), 0, 1))
    return made


def _table(pictures: list[Any], bins: np.ndarray, name: str) -> np.ndarray:
    """(N, K) float32, one row a picture, highest bin first."""
    table = np.zeros((len(pictures), len(bins)), dtype=np.float32)
    for row, one in zip(table, pictures, strict=True):
        row[np.searchsorted(bins, one.bins)] = getattr(one, name)
    return np.ascontiguousarray(table[:, ::-1])


def _areas(
    normal: np.ndarray, defect: np.ndarray, found: np.ndarray, regions: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel AUROC and AU-PRO of each draw.  normal, defect, found: (B, K), highest first.  regions: (B,)."""
    alarms = np.cumsum(normal, axis=1, dtype=np.float64)
    pixels = defect.sum(axis=1, dtype=np.float64)
    above = alarms - normal / 2
    area = 1 - (defect * above).sum(axis=1) / (pixels * alarms[:, -1])
    rate = np.pad(alarms / alarms[:, -1:], ((0, 0), (1, 0)))
    share = np.pad(np.cumsum(found, axis=1, dtype=np.float64) / regions[:, None], ((0, 0), (1, 0)))
    step = np.diff(rate, axis=1)
    width = np.minimum(rate[:, 1:], limit) - np.minimum(rate[:, :-1], limit)  # the last one is cut at the limit
    rise = np.diff(share, axis=1) * np.divide(width, step, out=np.zeros_like(step), where=step > 0)
    return area, (width * (share[:, :-1] + rise / 2)).sum(axis=1) / limit


def _expanded(tail: float, n: int) -> float:
    """The percentile whose place on the bootstrap's curve is that of Student's law with n - 1 degrees of freedom."""
    from scipy.special import ndtr, stdtrit

    return float(ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, tail)))
