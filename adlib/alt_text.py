"""What the charts of `plots` say: the words on them, and each chart as a paragraph for those who do not see it.

A constant names a figure's words in English; a page hands in its own under the same keys, and what is missing stays
English.  Words that begin with "alt" are templates of the paragraph, with the numbers in braces.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

Words = Mapping[str, str]

ROC_WORDS: Words = {
    "x": "False alarms (share of normals)",
    "y": "Defects caught",
    "curve": "this model",
    "chance": "guessing",
    "point": "working point",
    "alt": "ROC curve of {n} steps. The area under it is {area:.3f}.",
    "alt_point": "At the working point {tpr:.1%} of defects are caught and {fpr:.1%} of normals raise an alarm.",
}
PR_WORDS: Words = {
    "x": "Recall (defects caught)",
    "y": "Precision (alarms that are defects)",
    "curve": "this model",
    "chance": "guessing",
    "point": "working point",
    "alt": "Precision-recall curve of {n} steps. The average precision is {area:.3f}; guessing gives {base:.3f}.",
    "alt_point": "At the working point {recall:.1%} of defects are caught and {precision:.1%} of alarms are defects.",
}


BOXES_WORDS: Words = {
    "x": "Distance (1 = an average normal)",
    "normal": "normal",
    "defect": "defect",
    "threshold": "threshold",
    "alt": "Box plot of distances.",
    "alt_kind": "{kind}: {n} pictures, half of them from {low:.2f} to {high:.2f}, median {median:.2f}.",
    "alt_over": "{over} of them lie above the threshold of {threshold:.2f}.",
}
HISTOGRAM_WORDS: Words = {
    "x": "Distance (1 = an average normal)",
    "y": "Pictures",
    "normal": "normal tests",
    "defect": "defects",
    "calibration": "held-out normals",
    "threshold": "threshold",
    "alt": "Histogram of distances.",
    "alt_group": "{group}: {n} pictures from {low:.2f} to {high:.2f}.",
    "alt_over": "{over} of them lie above the threshold of {threshold:.2f}.",
}
LOSS_WORDS: Words = {
    "x": "Epoch",
    "y": "Loss",
    "fit": "normals it learns from",
    "held_out": "held-out normals",
    "best": "best epoch, kept",
    "alt": "Loss by epoch, {n} epochs so far.",
    "alt_curve": "{curve}: from {first:.3g} to {last:.3g}.",
}


def losses_text(curves: Mapping[str, Sequence[float]], words: Words = LOSS_WORDS) -> str:
    """The loss curves in words."""
    w = spoken(words, LOSS_WORDS)
    said = [w["alt"].format(n=len(curves["epoch"]))]
    for name in curves:
        if name != "epoch":
            said.append(w["alt_curve"].format(curve=w.get(name, name), first=curves[name][0], last=curves[name][-1]))
    return " ".join(said)


def roc_text(
    fpr: np.ndarray, tpr: np.ndarray, point: tuple[float, float] | None = None, words: Words = ROC_WORDS
) -> str:
    """The ROC curve in words, for those who do not see it."""
    w = spoken(words, ROC_WORDS)
    area = float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))
    said = [w["alt"].format(n=len(fpr), area=area)]
    if point is not None:
        said.append(w["alt_point"].format(fpr=point[0], tpr=point[1]))
    return " ".join(said)


def pr_text(
    recall: np.ndarray,
    precision: np.ndarray,
    point: tuple[float, float] | None = None,
    words: Words = PR_WORDS,
    base: float | None = None,
) -> str:
    """The precision-recall curve in words."""
    w = spoken(words, PR_WORDS)
    area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    said = [w["alt"].format(n=len(recall), area=area, base=float(precision[-1]) if base is None else base)]
    if point is not None:
        said.append(w["alt_point"].format(recall=point[0], precision=point[1]))
    return " ".join(said)


def boxes_text(
    kinds: Mapping[str, Sequence[float]],
    threshold: float | None = None,
    words: Words = BOXES_WORDS,
    normals: Collection[str] = ("good",),
) -> str:
    """The boxes in words: count, middle half, median and alarms of each kind."""
    w = spoken(words, BOXES_WORDS)
    said = [w["alt"]]
    for kind in in_order(kinds, normals):
        scores = np.asarray(kinds[kind], dtype=float)
        low, median, high = np.quantile(scores, (0.25, 0.5, 0.75))
        said.append(w["alt_kind"].format(kind=kind, n=len(scores), low=low, median=median, high=high))
        said += _over(scores, threshold, w)
    return " ".join(said)


def histogram_text(
    normal: Sequence[float],
    defect: Sequence[float],
    calibration: Sequence[float] = (),
    threshold: float | None = None,
    words: Words = HISTOGRAM_WORDS,
) -> str:
    """The histogram in words: count, range and alarms of each group that has pictures."""
    w = spoken(words, HISTOGRAM_WORDS)
    said = [w["alt"]]
    for group, given in (("normal", normal), ("defect", defect), ("calibration", calibration)):
        scores = np.asarray(given, dtype=float)
        if len(scores) == 0:
            continue
        said.append(w["alt_group"].format(group=w[group], n=len(scores), low=scores.min(), high=scores.max()))
        said += _over(scores, threshold, w)
    return " ".join(said)


def spoken(words: Words, english: Words) -> dict[str, str]:
    """The page's words, and English where it has none."""
    return {key: words.get(key, text) for key, text in english.items()}


def in_order(kinds: Mapping[str, Sequence[float]], normals: Collection[str]) -> list[str]:
    """Kinds that have pictures, normals first, otherwise as they came."""
    held = [kind for kind in kinds if len(kinds[kind])]
    return sorted(held, key=lambda kind: kind not in normals)  # stable


def _over(scores: np.ndarray, threshold: float | None, w: Words) -> list[str]:
    if threshold is None:
        return []
    return [w["alt_over"].format(over=int((scores > threshold).sum()), threshold=threshold)]
