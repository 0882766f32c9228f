"""Each line keeps its law: by simulation, by brute force, by scipy and by the printed values of the paper's check."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adlib import lines, metrics, thresholds
from adlib.contract import DataError

SIGMAS = 2 * stats.norm.sf([1, 2, 3, 4, 5])  # 31.7 %, 4.55 %, ...


@pytest.mark.parametrize(
    ("dimension", "printed"),
    [
        (192, (14.1696, 15.0438, 15.8436, 16.6248, 17.4027)),
        (272, (16.8093, 17.6812, 18.4768, 19.2523, 20.0232)),
        (1792, (42.6606, None, None, None, 45.8092)),
    ],
)
def test_chi_square_lines_are_scipys_and_the_printed_ones(dimension, printed):
    found = [lines.chi_square(alpha, dimension, 0.1, 50).value for alpha in SIGMAS]
    assert found == pytest.approx(np.sqrt(stats.chi2.isf(SIGMAS, dimension)), rel=1e-10)
    assert [round(x, 4) for x, p in zip(found, printed, strict=True) if p] == [p for p in printed if p]


def test_chi_square_says_what_it_rests_on():
    line = lines.chi_square(0.01, 192, 0.4307, 209)
    assert (line.alpha, line.key, line.oracle) == (0.01, "chi2", False)
    assert all(word in str(line.rule) for word in ("192", "209", "0.431", "Gaussian"))
    with pytest.raises(DataError, match="between 0 and 1"):
        lines.chi_square(0.0, 3, 0, 5)


def test_a_gaussian_with_a_known_covariance_alarms_as_chi_square_expects():
    away = np.linalg.norm(np.random.default_rng(0).normal(size=(40_000, 30)), axis=1)
    for alpha in (0.1, 0.01):
        rate = (away > lines.chi_square(alpha, 30, 0, 1).value).mean()
        assert rate == pytest.approx(alpha, abs=4 * (alpha / 40_000) ** 0.5)


@pytest.mark.parametrize(("n", "sigmas"), [(8, 2.0), (20, 3.0), (200, 1.5)])
def test_mean_plus_sigmas_promises_the_rate_that_normal_scores_really_have(n, sigmas):
    rng = np.random.default_rng(1)
    made = [lines.mean_plus(rng.normal(300, 20, n), sigmas) for _ in range(3000)]
    rates = stats.norm(300, 20).sf([line.value for line in made])
    assert rates.mean() == pytest.approx(made[0].alpha, abs=4 * rates.std() / 3000**0.5)
    assert made[0].alpha > stats.norm.sf(sigmas), "few normals make the rate larger than the table says"


def test_mean_plus_sigmas_is_the_plain_formula_and_needs_eight():
    scores = np.arange(10.0)
    assert lines.mean_plus(scores, 2).value == pytest.approx(scores.mean() + 2 * scores.std(ddof=1))
    with pytest.raises(DataError, match=r"at least 8 held-out normals.*there are 7"):
        lines.mean_plus(scores[:7], 2)
    with pytest.raises(DataError, match="standard deviations"):
        lines.mean_plus(scores, 0)


@pytest.mark.parametrize("n", [1, 9, 50])
def test_the_largest_normal_is_exceeded_as_often_as_it_says(n):
    rng = np.random.default_rng(2)
    made = [lines.largest(rng.random(n)) for _ in range(4000)]
    rates = np.array([1 - line.value for line in made])
    assert made[0].alpha == 1 / (n + 1)
    assert rates.mean() == pytest.approx(1 / (n + 1), abs=4 * rates.std() / 4000**0.5)


# --- recall -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "recall"), [(19, 0.95), (40, 0.9), (30, 0.5), (99, 0.99)])
def test_a_new_defect_is_caught_as_often_as_promised(m, recall):
    rng = np.random.default_rng(3)
    caught = []
    for _ in range(1500):
        scores = np.concatenate([rng.random(20) * 0.5, rng.random(m)])
        line = lines.at_recall(np.repeat([0, 1], (20, m)), scores, recall)
        caught.append(1 - line.value)
    assert np.mean(caught) >= recall - 3 * np.std(caught) / 1500**0.5
    assert np.mean(caught) <= recall + 1 / (m + 1) + 0.02, "and not by catching everything"


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.95, 0.99])
def test_defects_needed_is_the_least_number_that_can_promise(recall):
    needed = lines.defects_needed(recall)
    assert needed / (needed + 1) >= recall - 1e-12
    assert (needed - 1) / needed < recall
    few = lines.at_recall([0] + [1] * (needed - 1), [0.0, *np.arange(1.0, needed)], recall) if needed > 1 else None
    assert few is None or f"takes {needed}" in str(few.rule)
    assert "At least" in str(lines.at_recall([0] + [1] * needed, [0.0, *np.arange(1.0, needed + 1)], recall).rule)


def test_the_recall_line_lies_just_under_its_defect_even_with_ties_and_large_scores():
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    scores = np.array([100.0, 400.0, 700.0, 400.0, 700.0, 700.0, 900.0])
    line = lines.at_recall(labels, scores, 0.6)  # k = 3: a defect at 700
    assert 400.0 <= line.value < 700.0
    assert metrics.confusion(labels, scores, line.value).true_positive == 3
    assert line.oracle
    assert line.alpha is None
    with pytest.raises(DataError, match=r"needs labelled defects.*19 of them"):
        lines.at_recall([0, 0], [1.0, 2.0], 0.95)
    with pytest.raises(DataError, match=r"0.95 for 95 %"):
        lines.at_recall(labels, scores, 1.0)


# --- cost -------------------------------------------------------------------------------------------------------------


def _cost_by_force(labels, scores, line, miss, alarm, share):
    alarms = scores > line
    fpr, missed = alarms[labels == 0].mean(), (~alarms[labels == 1]).mean()
    share = labels.mean() if share is None else share
    return share * miss * missed + (1 - share) * alarm * fpr


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("miss", "alarm", "share"), [(1, 1, None), (50, 1, 0.01), (0, 1, None), (5, 0, 0.5), (1, 30, None)]
)
def test_no_line_at_all_is_cheaper(seed, miss, alarm, share):
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, 30)]
    scores = rng.integers(0, 12, 32) * 50.0 + 200 + 60 * labels  # hundreds, with ties
    line = lines.cheapest(labels, scores, miss, alarm, share)
    everywhere = [*(scores - 1e-6), *scores]
    best = min(_cost_by_force(labels, scores, x, miss, alarm, share) for x in everywhere)
    assert _cost_by_force(labels, scores, line.value, miss, alarm, share) == pytest.approx(best, abs=1e-12)
    higher = [x for x in everywhere if x > line.value]
    alarms = (scores > line.value).sum()
    cheaper = [x for x in higher if _cost_by_force(labels, scores, x, miss, alarm, share) < best + 1e-12]
    assert all((scores > x).sum() == alarms for x in cheaper), "of equal lines it is the one with the fewest alarms"


def test_a_dearer_miss_never_raises_the_line():
    rng = np.random.default_rng(0)
    labels, scores = np.repeat([0, 1], 60), np.r_[rng.normal(0, 1, 60), rng.normal(1, 1, 60)]
    found = [lines.cheapest(labels, scores, miss, 1).value for miss in (0.1, 1, 10, 100, 1000)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_costs_that_make_no_sense_are_refused():
    with pytest.raises(DataError, match="not negative"):
        lines.cheapest([0, 1], [1, 2], -1, 1)
    with pytest.raises(DataError, match="share of defects"):
        lines.cheapest([0, 1], [1, 2], 1, 1, 1.0)
    with pytest.raises(DataError, match="2 normal and 0 defect"):
        lines.cheapest([0, 0], [1, 2], 1, 1)


# --- outlines ---------------------------------------------------------------------------------------------------------


def test_as_many_normals_show_an_outline_as_raise_an_alarm():
    rng = np.random.default_rng(4)
    scores, peaks = rng.gamma(3, 100, 60), rng.gamma(2, 5, 60)
    for value in np.quantile(scores, (0.1, 0.5, 0.9, 0.97)):
        line = thresholds.by_hand(value)
        assert (peaks > lines.outline_at(line, scores, peaks)).sum() == (scores > value).sum()


def test_where_the_score_is_the_maps_peak_outline_and_verdict_are_one_line():
    peaks = np.random.default_rng(5).gamma(3, 1, 40)
    for value in (*np.quantile(peaks, (0, 0.33, 0.7, 1)), 0.5 * peaks.min(), 3 * peaks.max()):
        assert lines.outline_at(thresholds.by_hand(value), peaks, peaks) == pytest.approx(value, rel=1e-12)


def test_the_quantile_rule_keeps_its_promise_for_outlines_too():
    rng = np.random.default_rng(6)
    shown = []
    for _ in range(300):
        scores, peaks = rng.random(40), rng.gamma(3, 1, 40)
        line = thresholds.at_false_alarm_rate(scores, 0.1)
        shown.append((rng.gamma(3, 1, 200) > lines.outline_at(line, scores, peaks)).mean())
    assert np.mean(shown) <= 0.1 + 3 * np.std(shown) / 300**0.5
    assert np.mean(shown) > 0.06
