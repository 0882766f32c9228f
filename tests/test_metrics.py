"""Areas, rates and intervals equal what other people's code, brute force and pencil give."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from adlib import metrics
from adlib.contract import Confusion, Report

LABELS, SCORES = (0, 0, 0, 0, 1, 1, 1), (0.1, 0.2, 0.35, 0.4, 0.3, 0.6, 0.8)


def _some(seed: int, n: int = 200, levels: int = 9, shift: float = 0.0):
    """Labels and heavily tied scores."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, n), rng.integers(0, levels, n) * 0.5 + shift


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_the_worked_example_gives_its_known_numbers():
    assert metrics.auroc(LABELS, SCORES) == pytest.approx(5 / 6, abs=1e-12)
    assert metrics.average_precision(LABELS, SCORES) == pytest.approx(13 / 15, abs=1e-12)
    f1, threshold = metrics.best_f1(LABELS, SCORES)
    assert f1 == pytest.approx(0.8)
    assert 0.4 <= threshold < 0.6
    assert metrics.auroc((0, 0, 1, 1), (1, 2, 2, 3)) == 0.875


@pytest.mark.parametrize("seed", range(5))
def test_auroc_equals_counting_pairs_even_with_ties(seed):
    labels, scores = _some(seed)
    bad, good = scores[labels == 1], scores[labels == 0]
    pairs = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
    assert metrics.auroc(labels, scores) == pytest.approx(pairs, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 500.0, -3.0])
def test_areas_and_curves_agree_with_scikit_learn(shift):
    labels, scores = _some(7, shift=shift)
    assert metrics.auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.average_precision(labels, scores) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )
    for mine, other in zip(
        metrics.roc(labels, scores)[:2], roc_curve(labels, scores, drop_intermediate=False), strict=False
    ):
        np.testing.assert_allclose(mine, other, atol=1e-12)
    precision, recall, _ = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(metrics.pr(labels, scores)[0], recall[-2::-1], atol=1e-12)
    np.testing.assert_allclose(metrics.pr(labels, scores)[1], precision[-2::-1], atol=1e-12)


def test_every_point_of_a_curve_is_what_its_threshold_does():
    labels, scores = _some(3, n=60)
    fpr, tpr, thresholds = metrics.roc(labels, scores)
    for i, threshold in enumerate(thresholds):
        assert metrics.rates(metrics.confusion(labels, scores, threshold)) == pytest.approx((fpr[i], tpr[i]))
    recall, precision, thresholds = metrics.pr(labels, scores)
    for i, threshold in enumerate(thresholds):
        counts = metrics.confusion(labels, scores, threshold)
        assert recall[i] == pytest.approx(metrics.rates(counts)[1])
        assert precision[i] == pytest.approx(counts.true_positive / (counts.true_positive + counts.false_positive))


@pytest.mark.parametrize("seed", range(5))
def test_best_f1_is_the_best_of_all_lines_and_its_threshold_gives_it(seed):
    labels, scores = _some(seed, n=40)

    def f1_at(threshold):
        c = metrics.confusion(labels, scores, threshold)
        return 2 * c.true_positive / (2 * c.true_positive + c.false_positive + c.false_negative)

    f1, threshold = metrics.best_f1(labels, scores)
    assert f1 == pytest.approx(max(f1_at(t) for t in [-1.0, *scores]))
    assert f1_at(threshold) == pytest.approx(f1)


def test_the_best_line_keeps_its_verdicts_in_float32():
    upper = np.float32(1.0)
    scores = np.array([np.nextafter(upper, np.float32(0)), upper], dtype=np.float32)
    assert (scores > metrics.best_f1([0, 1], scores)[1]).tolist() == [False, True]
    same = np.full(2, 300.0, dtype=np.float32)
    assert (same > metrics.best_f1([0, 1], same)[1]).all(), "with equal scores the best line lies below them all"


def test_of_equally_good_lines_the_one_with_fewer_alarms_is_taken():
    f1, threshold = metrics.best_f1([1, 0, 0, 1], [4.0, 3.0, 2.0, 1.0])  # F1 is 2/3 above 3 and again below 1
    assert f1 == pytest.approx(2 / 3)
    assert 3.0 <= threshold < 4.0


def test_areas_do_not_change_under_an_increasing_map():
    labels, scores = _some(5)
    for other in (np.exp(scores), 700 + 3 * scores, -1 / (1 + scores)):
        assert metrics.auroc(labels, other) == metrics.auroc(labels, scores)
        assert metrics.average_precision(labels, other) == metrics.average_precision(labels, scores)


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_what_is_undefined_is_none_and_never_a_half(labels):
    scores = np.arange(len(labels))
    for measure in (metrics.auroc, metrics.average_precision, metrics.best_f1, metrics.roc, metrics.pr):
        assert measure(labels, scores) is None
    assert metrics.auroc_interval(labels, scores) is None


@pytest.mark.parametrize(("labels", "scores"), [([0, 1], [1.0]), ([0, 2], [1.0, 2.0]), ([0, 1], [1.0, np.nan])])
def test_wrong_input_is_a_fault_of_the_caller(labels, scores):
    with pytest.raises(ValueError):
        metrics.auroc(labels, scores)


def test_a_score_on_the_line_is_no_alarm():
    assert metrics.confusion([0, 0, 1, 1], [1.0, 2.0, 2.0, 3.0], 2.0) == Confusion(1, 0, 2, 1)
    assert metrics.rates(Confusion(0, 1, 3, 0)) == (0.25, None)


# --- how sure ---------------------------------------------------------------------------------------------------------


def test_rate_interval_is_the_exact_one():
    for k, n in [(0, 20), (3, 10), (10, 10), (1, 1000)]:
        exact = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert metrics.rate_interval(k, n) == pytest.approx(tuple(exact), abs=1e-9)
    assert metrics.rate_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError):
        metrics.rate_interval(3, 2)


def test_the_interval_holds_the_area_and_comes_again_with_its_seed():
    labels, scores = _some(1)
    low, high = metrics.auroc_interval(labels, scores, seed=4)
    assert low < metrics.auroc(labels, scores) < high
    assert metrics.auroc_interval(labels, scores, seed=4) == (low, high)
    assert metrics.auroc_interval(labels, scores, level=0.5)[0] > low


@pytest.mark.parametrize(("normals", "defects"), [(1, 1), (3, 2), (20, 20)])
def test_perfect_order_of_few_pictures_is_not_certainty(normals, defects):
    labels, scores = [0] * normals + [1] * defects, np.arange(normals + defects)
    low, high = metrics.auroc_interval(labels, scores, draws=200)
    assert high == 1
    assert low < 1 - 1 / (normals + defects), "an interval [1, 1] would promise what nobody knows"
    turned = metrics.auroc_interval(labels, -scores, draws=200)
    assert turned == pytest.approx((0.0, 1 - low))


@pytest.mark.parametrize(("area", "normals", "defects"), [(0.95, 5, 5), (0.99, 20, 20), (0.8, 30, 10), (0.5, 8, 8)])
def test_ninety_five_percent_intervals_cover_the_truth(area, normals, defects):
    rng = np.random.default_rng(0)
    labels = [0] * normals + [1] * defects
    shift = stats.norm.ppf(area) * 2**0.5
    hits = 0
    for _ in range(150):
        scores = np.append(rng.normal(0, 1, normals), rng.normal(shift, 1, defects))
        low, high = metrics.auroc_interval(labels, scores, draws=200)
        hits += low <= area <= high
    assert hits >= stats.binom.ppf(0.001, 150, 0.95)


# --- pixels -----------------------------------------------------------------------------------------------------------


def _counted(maps, masks) -> metrics.PixelCounts:
    counts = metrics.PixelCounts()
    for map, mask in zip(maps, masks, strict=True):
        counts.add(map, mask)
    return counts


def _aupro_by_force(maps, masks, limit):
    """Tries every value as a line, one after the other, and cuts the curve by hand."""
    regions = []
    for map, mask in zip(maps, masks, strict=True):
        named, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [map[named == i] for i in range(1, count + 1)]
    normal = np.concatenate([map[~mask] for map, mask in zip(maps, masks, strict=True)])
    area, x0, y0 = 0.0, 0.0, 0.0
    for line in sorted({v for map in maps for v in map.ravel()}, reverse=True):
        x1, y1 = np.mean(normal >= line), np.mean([np.mean(region >= line) for region in regions])
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            return (area + (limit - x0) * (y0 + y1) / 2) / limit
        area += (x1 - x0) * (y0 + y1) / 2
        x0, y0 = x1, y1
    return area / limit


def test_the_pixel_toy_gives_its_known_numbers():
    map, mask = np.zeros((4, 5)), np.zeros((4, 5), dtype=bool)
    for place, value in {(0, 0): 0.9, (0, 2): 0.7, (1, 1): 0.3, (2, 3): 0.5, (3, 3): 0.5, (3, 4): 0.1}.items():
        map[place] = value
    for place in [(0, 0), (2, 3), (3, 3), (3, 4)]:
        mask[place] = True
    counts = _counted([map], [mask])
    assert (counts.regions, counts.normal_pixels, counts.defect_pixels) == (2, 16, 4)
    assert counts.aupro(0.3) == pytest.approx(0.861111, abs=1e-6)
    assert counts.aupro(1.0) == pytest.approx(0.958333, abs=1e-6)
    assert counts.auroc() == pytest.approx(0.9375, abs=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_aupro_equals_brute_force_with_ties_and_good_pictures(seed, limit):
    rng = np.random.default_rng(seed)
    maps = [rng.integers(-4, 5, (9, 12)) / 4 for _ in range(4)]
    masks = [rng.random((9, 12)) < 0.15 for _ in range(3)] + [np.zeros((9, 12), dtype=bool)]
    maps = [map + mask * 0.75 for map, mask in zip(maps, masks, strict=True)]
    assert _counted(maps, masks).aupro(limit) == pytest.approx(_aupro_by_force(maps, masks, limit), abs=1e-12)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (150.0, 400.0), (1.0, -20.0), (1e-3, 1000.0)])
def test_pixel_auroc_agrees_with_scikit_learn_within_its_own_bound(scale, offset):
    rng = np.random.default_rng(2)
    masks = rng.random((6, 40, 50)) < 0.1
    maps = offset + scale * (rng.gamma(2.0, 1.0, masks.shape) + masks)
    counts = _counted(maps, masks)
    exact = roc_auc_score(masks.ravel(), maps.ravel())
    assert abs(counts.auroc() - exact) <= counts.tied() / 2 + 1e-12
    assert counts.tied() / 2 < 5e-4


def test_a_perfect_map_is_one_and_a_constant_map_is_chance():
    mask = np.zeros((20, 20), dtype=bool)
    mask[3:6, 4:9] = True
    assert (_counted([mask * 2.0], [mask]).aupro(), _counted([mask * 2.0], [mask]).auroc()) == pytest.approx((1, 1))
    for constant in (0.0, 7.0, -300.0):
        counts = _counted([np.full((20, 20), constant)], [mask])
        assert counts.aupro() == pytest.approx(0.15)
        assert counts.auroc() == 0.5


def test_regions_that_touch_by_a_corner_are_one():
    mask = np.eye(6, dtype=bool)
    assert _counted([np.zeros((6, 6))], [mask]).regions == 1


def test_order_of_pictures_and_kind_of_numbers_do_not_matter():
    rng = np.random.default_rng(5)
    maps, masks = rng.integers(0, 50, (5, 16, 16)), rng.random((5, 16, 16)) < 0.1
    areas = [_counted(maps, masks).aupro(), _counted(maps[::-1], masks[::-1]).aupro()]
    areas += [
        _counted(maps.astype(kind), masks.astype(np.uint8) * 3).aupro() for kind in (np.uint8, np.float16, np.float64)
    ]
    assert areas == pytest.approx([areas[0]] * 5, abs=1e-12)


def test_good_pictures_count_among_the_normal_pixels():
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0] = True
    counts = _counted([mask * 1.0], [mask])
    assert counts.auroc() == 1
    counts.add(np.full((3, 5), 2.0))
    assert (counts.pictures, counts.normal_pixels) == (2, 63 + 15)
    assert counts.auroc() == pytest.approx(63 / 78)


def test_minus_zero_equals_zero():
    mask = np.array([[True, False]])
    counts = _counted([np.zeros((1, 2)), np.array([[-0.0, 0.0]])], [mask, mask])
    assert counts.auroc() == 0.5


def test_pixel_areas_without_a_mask_or_without_background_are_none():
    counts = metrics.PixelCounts()
    assert (counts.auroc(), counts.aupro(), counts.tied()) == (None, None, 0.0)
    counts.add(np.ones((4, 4)))
    assert (counts.auroc(), counts.aupro()) == (None, None)
    assert _counted([np.ones((4, 4))], [np.ones((4, 4))]).aupro() is None


def test_a_map_or_mask_of_another_shape_or_not_finite_is_refused_and_not_counted():
    counts = metrics.PixelCounts()
    for map, mask in [
        (np.zeros((4, 4)), np.zeros((4, 5), dtype=bool)),
        (np.zeros((2, 4, 4)), None),
        (np.full((4, 4), np.nan), None),
    ]:
        with pytest.raises(ValueError):
            counts.add(map, mask)
    assert (counts.pictures, counts.normal_pixels) == (0, 0)


def test_memory_does_not_grow_with_the_pixels():
    counts, rng = metrics.PixelCounts(), np.random.default_rng(0)

    def held() -> int:
        return sum(value.nbytes for value in vars(counts).values() if isinstance(value, np.ndarray))

    before = held()
    for _ in range(3):
        counts.add(rng.normal(size=(300, 300)), rng.random((300, 300)) < 0.01)
    assert held() == before == 3 * 8 * 2**20


# --- what to tell a person --------------------------------------------------------------------------------------------

REPORT = Report(
    image_auroc=0.9, image_ap=0.9, image_f1_oracle=0.9, pixel_auroc=0.9, aupro=0.8, threshold=1.0, fpr=0.0, tpr=1.0,
    n_normal=4, n_defect=5, confusion=None, intervals={"image_auroc": (0.7, 1.0)}, ms_per_image=1.0, fit_seconds=1.0,
    peak_mb=1.0, skipped=(),
)  # fmt: skip


def test_an_area_under_a_half_is_called_out():
    assert metrics.warnings_of(REPORT) == ()
    bad = dataclasses.replace(REPORT, image_auroc=0.31, pixel_auroc=0.2, intervals={"image_auroc": (0.1, 0.6)})
    image, pixel = map(str, metrics.warnings_of(bad))
    assert "0.310" in image
    assert "0.200" in pixel


def test_too_few_pictures_to_tell_from_guessing_is_said():
    (only,) = metrics.warnings_of(dataclasses.replace(REPORT, intervals={"image_auroc": (0.44, 1.0)}))
    assert "4 normal and 5 defect" in str(only)
    assert "0.44" in str(only)


def test_what_was_never_measured_is_not_warned_about():
    empty = dataclasses.replace(REPORT, image_auroc=None, pixel_auroc=None, intervals={})
    assert metrics.warnings_of(empty) == ()
