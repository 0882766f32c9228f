"""A line keeps the false-alarm rate it promises, and says what it cannot promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adlib import metrics, thresholds
from adlib.contract import DataError


def test_the_place_of_the_line_is_the_finite_sample_quantile():
    for n, alpha, k in [
        (99, 0.01, 99),
        (19, 0.05, 19),
        (50, 0.05, 49),
        (100, 0.05, 96),
        (200, 0.05, 191),
        (999, 0.001, 999),
    ]:
        line = thresholds.at_false_alarm_rate(np.arange(1, n + 1)[::-1], alpha)
        assert line.value == k, f"n = {n}, alpha = {alpha}"
        assert line.alpha == alpha


@pytest.mark.parametrize(("n", "alpha"), [(99, 0.05), (40, 0.1), (20, 0.01)])
def test_false_alarms_follow_their_law_over_many_draws_of_normals(n, alpha):
    rng = np.random.default_rng(0)
    # Scores are uniform, so the false-alarm rate of a line is 1 - its value.
    seen = np.array([1 - thresholds.at_false_alarm_rate(rng.random(n), alpha).value for _ in range(4000)])
    k = min(int(np.ceil((n + 1) * (1 - alpha) - 1e-9)), n)
    law = stats.beta(n + 1 - k, k)
    assert abs(seen.mean() - law.mean()) < 3 * law.std() / 4000**0.5
    assert stats.kstest(seen, law.cdf).pvalue > 0.001
    promised = thresholds.at_false_alarm_rate(rng.random(n), alpha).alpha
    assert law.mean() <= promised + 1e-12
    low, high = thresholds.false_alarm_range(n, alpha, level=0.9)
    assert np.mean((seen >= low) & (seen <= high)) == pytest.approx(0.9, abs=0.02)


def test_too_few_normals_promise_what_they_can_and_say_how_many_are_needed():
    line = thresholds.at_false_alarm_rate([3.0, 9.0, 1.0], 0.01)
    assert line.value == 9.0
    assert line.alpha == pytest.approx(1 / 4)
    assert "3 normals" in str(line.rule)
    assert "takes 99" in str(line.rule)
    assert "25 %" in str(line.rule)
    assert str(line.fitted_on).startswith("3 normals")


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.05, 0.01, 0.003, 0.001])
def test_normals_needed_is_the_least_number_that_can_promise(alpha):
    needed = thresholds.normals_needed(alpha)
    assert thresholds.at_false_alarm_rate(np.arange(needed), alpha).alpha == alpha
    if needed > 1:
        assert thresholds.at_false_alarm_rate(np.arange(needed - 1), alpha).alpha > alpha


@pytest.mark.parametrize("n", [10, 300])
def test_cross_fitted_normals_say_that_the_promise_is_weaker(n):
    held_out = thresholds.at_false_alarm_rate(np.arange(n), 0.01)
    crossed = thresholds.at_false_alarm_rate(np.arange(n), 0.01, cross_fitted=True)
    assert (crossed.value, crossed.alpha) == (held_out.value, held_out.alpha)
    assert "cross-fitted" in str(crossed.rule)
    assert f"worst about {200 * crossed.alpha:.3g} %" in str(crossed.rule)
    assert "cross-fitted" not in str(held_out.rule)
    assert str(crossed.fitted_on) != str(held_out.fitted_on)


def test_ties_never_raise_more_alarms_than_promised():
    scores = np.repeat([1.0, 2.0], 100)
    assert np.mean(scores > thresholds.at_false_alarm_rate(scores, 0.05).value) == 0


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_rate_is_refused_with_an_example(alpha):
    with pytest.raises(DataError, match="between 0 and 1"):
        thresholds.at_false_alarm_rate([1.0], alpha)


def test_no_normals_no_line():
    with pytest.raises(DataError, match="at least one normal"):
        thresholds.at_false_alarm_rate([], 0.01)
    with pytest.raises(ValueError):
        thresholds.at_false_alarm_rate([1.0, np.inf], 0.01)


def test_best_f1_is_marked_as_an_oracle_and_promises_nothing():
    labels, scores = [0, 0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.35, 0.4, 0.3, 0.6, 0.8]
    line = thresholds.best_f1(labels, scores)
    assert line.value == metrics.best_f1(labels, scores)[1]
    assert line.alpha is None
    assert "Oracle" in str(line.rule)
    assert "0.800" in str(line.rule)
    assert "4 normal and 3 defect" in str(line.fitted_on)
    with pytest.raises(DataError, match="2 normal and 0 defect"):
        thresholds.best_f1([0, 0], [1.0, 2.0])


def test_a_line_set_by_hand_tells_whom_it_alarms():
    assert thresholds.by_hand(2.0).alpha is None
    line = thresholds.by_hand(2.0, [1.0, 2.0, 3.0])
    assert line.value == 2.0
    assert "1 of 3" in str(line.rule)


# --- calibration ------------------------------------------------------------------------------------------------------


def test_a_normal_picture_reads_about_one_and_the_rule_travels_along():
    scores, peaks = np.array([200.0, 300.0, 400.0]), np.array([5.0, 7.0, 6.0])
    made = thresholds.calibrate(scores, peaks, 0.4, cross_fitted=True)
    assert (made.unit, made.normals, made.cross_fitted) == (300.0, 3, True)
    assert made.threshold == thresholds.at_false_alarm_rate(scores, 0.4, cross_fitted=True)
    assert made.map_unit == thresholds.at_false_alarm_rate(peaks, 0.4).value == 7.0
    assert made.scores == (200.0, 300.0, 400.0), "in the order they came"
    assert thresholds.calibrate(scores, None, 0.4).map_unit is None


def test_good_parts_show_something_beyond_one_in_at_most_alpha():
    rng = np.random.default_rng(1)
    shown = []
    for _ in range(300):
        made = thresholds.calibrate(np.ones(60), rng.gamma(3.0, 1.0, 60), 0.05)
        shown.append(np.mean(rng.gamma(3.0, 1.0, 200) / made.map_unit >= 1))
    assert np.mean(shown) <= 0.05 + 3 * np.std(shown) / 300**0.5


@pytest.mark.parametrize("scores", [[0.0, 0.0], [-500.0, -520.0], [-1.0, 1.0], [1e-45, 0.0]])
def test_the_unit_is_always_positive_so_that_dividing_keeps_the_order(scores):
    made = thresholds.calibrate(scores, scores, 0.1)
    assert made.unit > 0
    assert made.map_unit > 0
    assert made.map_unit >= max(scores), "no held-out normal lies beyond 1x"
    ratio = np.array([*scores, 5.0], dtype=np.float32) / np.float32(made.unit)
    assert np.isfinite(ratio).all()


def test_log_likelihoods_are_divided_by_their_size_and_not_turned_round():
    assert thresholds.calibrate([-500.0, -520.0], None, 0.1).unit == 510.0
