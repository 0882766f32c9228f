"""Which pictures of a set stand out, by numbers alone: twins, strangers, outliers of exposure and focus, clusters.

Each rule compares a picture with its own set, by medians and their deviations, so that what is usual in the set is
never a suspect.  Limits were set on defect-free sets (benchmarks/results.md); words and undo are left to `doctor`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adlib.contract import Tick, silent
from adlib.traits import Traits

FEWEST = 8  # pictures; with fewer, "unlike the others" means nothing
_MAD = 1.4826  # median absolute deviation → standard deviation of a normal law


def robust_z(values: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """(values - median) / (1.4826 MAD), the deviation never below `floor`."""
    centre = np.median(values)
    return (values - centre) / max(_MAD * float(np.median(np.abs(values - centre))), floor, 1e-9)


def upper_z(values: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """As `robust_z`, with the deviation of the upper half where that is wider: a long tail is no outlier."""
    centre, high = np.quantile(values, [0.5, 0.9])
    return robust_z(values, max(floor, float(high - centre) / 1.2816))


# --- twins ------------------------------------------------------------------------------------------------------------

TWIN = 0.95  # correlation of what two pictures have of their own
_APART = 0.9  # and so far, in Fisher's z, beyond what neighbours of this set usually have in common
_RANK = 6  # the neighbour that says what is usual: more than five copies of one picture are rare


def twins(prints: np.ndarray, block: int = 512) -> list[tuple[int, int, float]]:
    """Pairs (i, j, likeness) of pictures that are nearly the same, each picture with its earliest twin, i < j.

    prints: (N, h, w) grey thumbnails.  What all pictures have in common, their mean, is taken off first: parts in the
    same place under the same light are alike without being copies.  Likeness is the correlation of the rest, which
    survives another size, another format or another brightness.
    """
    n = len(prints)
    if n < 3:
        return []
    flat = prints.reshape(n, -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(flat.std(axis=1, keepdims=True), 1e-3)
    own = flat - np.median(flat, axis=0)
    reach = 3 * _MAD * np.median(np.abs(own), axis=1, keepdims=True) + 1e-3
    np.clip(own, -reach, reach, out=own)  # two parts with the same defect at the same place are no copies
    own -= own.mean(axis=1, keepdims=True)
    own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-6)
    usual = np.empty(n)
    rank = min(_RANK, n - 2)
    for start in range(0, n, block):
        likeness = own[start : start + block] @ own.T
        likeness[np.arange(len(likeness)), start + np.arange(len(likeness))] = -1
        usual[start : start + block] = np.partition(likeness, n - 1 - rank, axis=1)[:, n - 1 - rank]
    z = np.arctanh(np.clip(usual, -0.999, 0.999))
    spread = max(_APART, 4 * _MAD * float(np.median(np.abs(z - np.median(z)))))
    line = np.tanh(np.maximum(z + _APART, np.median(z) + spread))  # a picture in a dense crowd needs more to be a copy
    twin = np.full(n, -1)
    how = np.zeros(n)
    for i in range(n - 1):
        if twin[i] >= 0:
            continue  # what is like a copy is like its original, or nothing much
        likeness = own[i + 1 :] @ own[i]
        hits = np.flatnonzero((likeness > TWIN) & (likeness > np.maximum(line[i], line[i + 1 :]))) + i + 1
        fresh = hits[twin[hits] < 0]
        twin[fresh], how[fresh] = i, likeness[fresh - i - 1]
    found = np.flatnonzero(twin >= 0)
    return sorted(((int(twin[j]), int(j), float(how[j])) for j in found), key=lambda pair: -pair[2])


# --- strangers --------------------------------------------------------------------------------------------------------

_PLACE = 2.0  # weight of a cell's place beside its look
_BANK = 4000  # cells to compare with
_WORST = 5  # cells that make a picture's score


def unlike(cells: np.ndarray, seed: int = 0, tick: Tick = silent) -> tuple[np.ndarray, np.ndarray]:
    """How unlike all others each picture is, and where: scores (N,), maps (N, 16, 16), both about 1 for a usual picture.

    cells: (N, 16, 16, D).  Each cell's distance to the nearest cell, near the same place, of any other picture
    (leave one out), divided by what is usual at its place; a picture's score is the mean of its five worst cells.
    A quick detector, to bring up what deserves a look; never a verdict.
    """
    n, height, width, _ = cells.shape
    values = cells.astype(np.float32)
    deviation = values.std(axis=(0, 1, 2)) + 1e-4
    values = (values - np.median(values, axis=(0, 1, 2))) / deviation
    grid = np.moveaxis(np.mgrid[:height, :width], 0, -1).astype(np.float32) / height
    place = np.broadcast_to(_PLACE * np.sqrt(values.shape[-1]) * grid, (n, height, width, 2))
    rows = np.concatenate([values, place], axis=-1).reshape(n, height * width, -1)
    each = min(height * width, max(8, _BANK // n))
    rng = np.random.default_rng(seed)
    chosen_from = np.arange(n) if n * 8 <= 4 * _BANK else rng.permutation(n)[: _BANK // 2]
    picked = np.stack([rng.permutation(height * width)[:each] for _ in chosen_from])
    bank = np.take_along_axis(rows[chosen_from], picked[..., None], axis=1).reshape(len(chosen_from) * each, -1)
    owner, squares = np.repeat(chosen_from, each), (bank**2).sum(axis=1)
    maps = np.empty((n, height * width), np.float32)
    across = np.ascontiguousarray(-2 * bank.T)
    for i in range(n):
        distance = rows[i] @ across
        distance += squares
        distance[:, owner == i] = np.inf
        maps[i] = np.sqrt(np.maximum(distance.min(axis=1) + (rows[i] ** 2).sum(axis=1), 0))
        tick((i + 1) / n, "compared {n} of {total} normal pictures", n=i + 1, total=n)
    maps /= np.maximum(np.median(maps, axis=0), 0.3 * np.median(maps) + 1e-6)
    scores = np.sort(maps, axis=1)[:, -_WORST:].mean(axis=1)
    return scores / max(float(np.median(scores)), 1e-6), maps.reshape(n, height, width)


# --- outliers ---------------------------------------------------------------------------------------------------------


def exposure(traits: Traits) -> dict[str, np.ndarray]:
    """Strengths (N,) by "dark", "bright" and "clipped": above 1 for a picture that stands out that way.

    Dark and bright: the mean grey, or the end of the range it should reach, lies both 6 deviations and 6 % of the range
    from the median.  Clipped: 5 % more of its pixels are black or white than is usual.
    """
    level = np.minimum(
        np.abs(robust_z(traits.column("level"), 0.004)) / 6, np.abs(_shift(traits.column("level"))) / 0.06
    )
    shift = _shift(traits.column("level"))
    lost = traits.column("dark") + traits.column("bright")
    clipped = np.minimum(robust_z(lost, 0.004) / 6, _shift(lost) / 0.05)
    return {"dark": np.where(shift < 0, level, 0), "bright": np.where(shift > 0, level, 0), "clipped": clipped}


def _shift(values: np.ndarray) -> np.ndarray:
    return values - np.median(values)


def blurred(traits: Traits, shortest: float) -> np.ndarray:
    """Strengths (N,), above 1 for a picture that is less sharp than the set.

    shortest: the usual shorter side in original pixels; detail is measured no finer than the pictures have it.
    Compared is the energy of the finest detail with that of detail twice as coarse: a ratio that brightness and contrast
    leave alone and a blur lowers.
    """
    level = next((i for i, side in enumerate((256, 128)) if side <= shortest), 2)
    strengths = []
    for finer in range(
        level, min(level + 2, 3)
    ):  # a strong blur leaves nothing at two levels, and their ratio as it was
        ratio = traits.column(f"fine{finer}") - traits.column(f"fine{finer + 1}")
        strengths.append(np.minimum(-robust_z(ratio, 0.03) / 6, -_shift(ratio) / 0.5))
    return np.maximum.reduce(strengths)


# --- clusters ---------------------------------------------------------------------------------------------------------

_APART_D = 6.0  # Ashman's D; a single normal law split at its middle has 2.65, a uniform one 3.5
_FEW = 24.0  # and 24 / n more: of 150 sets of 16 random points 4 are split at 6, none at 7.5
_LEAST_SHARE, _LEAST_COUNT = 0.05, 4
_MOST = 1500  # pictures to find the clusters with; the others join the nearest


def clusters(cells: np.ndarray, seed: int = 0) -> np.ndarray:
    """(N,) int: 0 for the largest cluster, 1 for the next …; all 0 for one kind of picture.

    cells: (N, 16, 16, D).  Pictures are split in two where that leaves a clear gap, and each part again: on the line
    through both centres, D = |m1 - m2| / sqrt((s1² + s2²) / 2) must exceed 6 + 24 / n and no picture may lie in the middle of
    the gap.  The few axes looked at (one for each eight pictures, at most four) keep chance from splitting small sets.
    Source of D: Ashman, Bird, Zepf 1994, doi:10.1086/117248.
    """
    n, height, _, d = cells.shape
    if n > _MOST:
        rng = np.random.default_rng(seed)
        some = rng.permutation(n)[:_MOST]
        known = clusters(cells[some], seed)
        if not known.any():
            return np.zeros(n, int)
        coarse = cells.reshape(n, 4, height // 4, 4, height // 4, d).mean(axis=(2, 4), dtype=np.float32).reshape(n, -1)
        coarse /= coarse.std(axis=0) + 1e-3
        centres = np.stack([coarse[some[known == label]].mean(axis=0) for label in range(known.max() + 1)])
        return ((coarse[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    k = height // 4
    coarse = cells.astype(np.float32).reshape(n, 4, k, 4, k, d).mean(axis=(2, 4)).reshape(n, 16, d)
    coarse /= coarse.std(axis=(0, 1)) + 1e-3
    labels = np.zeros(n, int)
    waiting = [np.arange(n)]
    done: list[np.ndarray] = []
    while waiting:
        rows = waiting.pop()
        halves = _halves(coarse[rows].reshape(len(rows), -1), seed)
        if halves is None:
            done.append(rows)
        else:
            waiting += [rows[halves], rows[~halves]]
    for label, rows in enumerate(sorted(done, key=lambda rows: (-len(rows), rows[0]))):
        labels[rows] = label
    return labels


def _halves(rows: np.ndarray, seed: int) -> np.ndarray | None:
    """(n,) bool of one half, None when the rows are of one kind."""
    n = len(rows)
    axes = min(4, n // FEWEST)
    if axes < 1:
        return None
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    spread = vectors[:, -axes:] * np.sqrt(np.maximum(values[-axes:], 0))  # (n, axes)
    best: tuple[float, np.ndarray] | None = None
    for axis in range(axes):  # each axis gives a first split: at its largest gap
        half = _two_means(spread, spread[:, -1 - axis] > np.median(spread[:, -1 - axis]))
        apart = _ashman(spread, half)
        if best is None or apart > best[0]:
            best = apart, half
        order = np.sort(spread[:, -1 - axis])
        edge = max(_LEAST_COUNT, int(_LEAST_SHARE * n))
        if n > 2 * edge:
            gap = edge - 1 + int(np.argmax(np.diff(order[edge - 1 : n - edge + 1])))
            half = _two_means(spread, spread[:, -1 - axis] > (order[gap] + order[gap + 1]) / 2)
            apart = _ashman(spread, half)
            if apart > best[0]:
                best = apart, half
    return best[1] if best is not None and best[0] > _APART_D + _FEW / n else None


def _two_means(rows: np.ndarray, half: np.ndarray) -> np.ndarray:
    for _ in range(50):
        if half.all() or not half.any():
            return half
        a, b = rows[half].mean(axis=0), rows[~half].mean(axis=0)
        moved = ((rows - a) ** 2).sum(axis=1) < ((rows - b) ** 2).sum(axis=1)
        if (moved == half).all():
            break
        half = moved
    return half


def _ashman(rows: np.ndarray, half: np.ndarray) -> float:
    """Ashman's D along the line through both centres; 0 when a half is too small or the gap is not empty."""
    least = max(_LEAST_COUNT, _LEAST_SHARE * len(rows))
    if min(half.sum(), (~half).sum()) < least:
        return 0.0
    a, b = rows[half].mean(axis=0), rows[~half].mean(axis=0)
    along = (rows - b) @ (a - b) / max(float((a - b) @ (a - b)), 1e-12)  # 1 at centre a, 0 at centre b
    if ((along > 0.37) & (along < 0.63)).any():
        return 0.0
    return float(1 / np.sqrt((along[half].var() + along[~half].var()) / 2 + 1e-12))


# --- odd ones ---------------------------------------------------------------------------------------------------------


def minority(values: Sequence[object]) -> list[int]:
    """Rows whose value is not the commonest; of equally common ones the earliest counts."""
    counts: dict[object, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    if len(counts) < 2:
        return []
    usual = max(counts, key=lambda value: counts[value])
    return [i for i, value in enumerate(values) if value != usual]
