"""Intervals cover the truth as often as they say, in simulations with a known truth; AU-PRO is cut at exactly 0.3."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from adlib import intervals, metrics
from adlib.metrics import PixelCounts

WORLD = (3.0, 1.0)  # shift of defects, line
TRUTH = {"fpr": stats.norm.sf(1.0), "tpr": stats.norm.sf(1.0 - 3.0)}


def drawn(rng, normals, defects, shift=WORLD[0]):
    return np.repeat([0, 1], (normals, defects)), np.r_[rng.normal(0, 1, normals), rng.normal(shift, 1, defects)]


@pytest.mark.parametrize(("normals", "defects", "shift"), [(15, 10, 3.0), (60, 40, 1.0)])
def test_intervals_of_pictures_cover_the_truth(normals, defects, shift):
    rng = np.random.default_rng(0)
    share = normals / (normals + defects)
    labels, scores = drawn(rng, round(200_000 * share), round(200_000 * (1 - share)), shift)
    truth = {
        "fpr": stats.norm.sf(1.0), "tpr": stats.norm.sf(1.0 - shift), "image_auroc": stats.norm.cdf(shift / 2**0.5),
        "image_ap": metrics.average_precision(labels, scores), "image_f1_oracle": metrics.best_f1(labels, scores)[0],
    }  # fmt: skip
    truth["f1"] = 2 * defects * truth["tpr"] / (defects * (1 + truth["tpr"]) + normals * truth["fpr"])
    inside = dict.fromkeys(truth, 0)
    rounds = 150
    for seed in range(rounds):
        found = intervals.of_pictures(*drawn(rng, normals, defects, shift), 1.0, draws=200, seed=seed)
        assert found.keys() == truth.keys()
        for name, (low, high) in found.items():
            assert 0 <= low <= high <= 1
            inside[name] += low <= truth[name] <= high
    least = stats.binom.ppf(0.001, rounds, 0.95)  # what a true 95 % falls below once in a thousand
    assert all(count >= least for count in inside.values()), inside


def test_intervals_come_again_with_their_seed_and_hold_the_figure():
    labels, scores = drawn(np.random.default_rng(1), 30, 20)
    found = intervals.of_pictures(labels, 500 + 100 * scores.round(1), 600.0, seed=3)
    assert found == intervals.of_pictures(labels, 500 + 100 * scores.round(1), 600.0, seed=3)
    figures = {
        "image_ap": metrics.average_precision(labels, scores.round(1)),
        "image_f1_oracle": metrics.best_f1(labels, scores.round(1))[0],
        "f1": intervals.f1(metrics.confusion(labels, scores.round(1), 1.0)),
    }
    assert all(found[name][0] <= value <= found[name][1] for name, value in figures.items())


def test_perfect_figures_of_few_pictures_are_no_certainty():
    found = intervals.of_pictures([0] * 6 + [1] * 4, [1.0] * 6 + [2.0] * 4, 1.5)
    assert found["image_ap"][0] < 0.5
    assert found["f1"][0] < 0.5
    assert found["fpr"][1] > 0.4
    assert all(found[name][1] == 1.0 for name in ("image_ap", "image_f1_oracle", "f1", "tpr"))


def test_without_a_class_there_is_no_interval_of_what_needs_it():
    assert intervals.of_pictures([0, 0, 0], [1, 2, 3], 2).keys() == {"fpr"}
    assert intervals.of_pictures([1, 1], [1, 2], 0).keys() == {"tpr"}
    assert intervals.f1(metrics.confusion([0, 0], [1, 2], 1)) is None


# --- pixels -----------------------------------------------------------------------------------------------------------


def picture(rng, defect):
    """(16, 16) map and mask: noise, and in the defect a strength of its own."""
    mask = np.zeros((16, 16), bool)
    values = rng.normal(0, 1, (16, 16))
    if defect:
        y, x = rng.integers(0, 11, 2)
        mask[y : y + 4, x : x + 4] = True
        values[mask] += rng.gamma(2, 0.7)
    return values.astype(np.float32), mask


def counted(pictures):
    counts = PixelCounts()
    for values, mask in pictures:
        counts.add(values, mask)
    return counts


def test_intervals_of_pixels_cover_the_truth():
    rng = np.random.default_rng(0)
    world = counted([picture(rng, i % 2) for i in range(400)])
    truth = {"pixel_auroc": world.auroc(), "aupro": world.aupro()}
    inside = dict.fromkeys(truth, 0)
    rounds = 50
    for seed in range(rounds):
        found = intervals.of_pixels(counted([picture(rng, i % 2) for i in range(12)]), draws=200, seed=seed)
        for name, (low, high) in found.items():
            inside[name] += low <= truth[name] <= high
    least = stats.binom.ppf(0.001, rounds, 0.95)
    assert all(count >= least for count in inside.values()), inside


def test_intervals_of_pixels_are_narrower_with_more_pictures_and_come_again():
    rng = np.random.default_rng(2)
    few, many = (counted([picture(rng, i % 2) for i in range(n)]) for n in (8, 60))
    width = [np.diff(intervals.of_pixels(c, seed=1)["aupro"])[0] for c in (few, many)]
    assert width[0] > 1.5 * width[1]
    assert intervals.of_pixels(few, seed=1) == intervals.of_pixels(few, seed=1)


def test_one_defective_picture_says_nothing_of_the_next():
    rng = np.random.default_rng(3)
    assert intervals.of_pixels(counted([picture(rng, i == 0) for i in range(6)])) == {}
    assert intervals.of_pixels(PixelCounts()) == {}


def test_kept_pictures_take_kilobytes_however_large_their_maps():
    rng = np.random.default_rng(4)
    counts = counted([(rng.gamma(2, 100, (512, 512)).astype(np.float32), np.eye(512, dtype=bool)) for _ in range(2)])
    kept = sum(part.nbytes for one in counts.single for part in one[:4]) / 2
    assert kept < 32_000, "a map has a megabyte"


def by_force(pictures, weights, limit):
    """AU-PRO of pictures that each count `weights` times: every value is a threshold, cut at the limit, never rescaled."""
    normal, regions = [], []
    for (values, mask), times in zip(pictures, weights, strict=True):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        normal += [values[~mask]] * times
        regions += [values[labelled == i + 1] for i in range(count)] * times
    normal = np.concatenate(normal)
    marks = np.unique(np.concatenate([values.ravel() for values, _ in pictures]))[::-1]
    x = [0.0, *((normal >= mark).mean() for mark in marks)]
    y = [0.0, *(np.mean([(region >= mark).mean() for region in regions]) for mark in marks)]
    at_limit = np.interp(limit, x, y)
    below = [(a, b) for a, b in zip(x, y, strict=True) if a < limit]
    x, y = zip(*below, (limit, at_limit), strict=True)
    return np.trapezoid(y, x) / limit


@pytest.mark.parametrize("limit", [0.3, 0.05, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_redrawn_aupro_is_that_of_the_redrawn_pictures(seed, limit):
    """The curve behind the interval against brute force, pictures drawn twice, once or never; values of few levels."""
    rng = np.random.default_rng(seed)
    pictures = [picture(rng, i % 2) for i in range(6)]
    pictures = [(np.round(values * 2) + 300, mask) for values, mask in pictures]  # hundreds, with ties
    weights = [2, 1, 0, 1, 1, 3]
    counts = counted(pictures)
    bins = np.unique(np.concatenate([one.bins for one in counts.single]))
    tables = [intervals._table(counts.single, bins, name) for name in ("normal", "defect", "found")]
    drawn = np.array([weights], dtype=np.float32)
    regions = np.array([one.regions for one in counts.single])
    area, pro = intervals._areas(*(drawn @ table for table in tables), drawn @ regions, limit)
    chosen = [pictures[i] for i, times in enumerate(weights) for _ in range(times)]
    assert counted(pictures).aupro(limit) == pytest.approx(by_force(pictures, [1] * 6, limit), abs=1e-9)
    assert pro[0] == pytest.approx(by_force(pictures, weights, limit), abs=1e-6)
    assert pro[0] == pytest.approx(counted(chosen).aupro(limit), abs=1e-6)
    assert area[0] == pytest.approx(counted(chosen).auroc(), abs=1e-6)
