"""Rules side by side: each says what it rests on, is judged fairly, and tells when its promise is broken or it cannot help."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from adlib import lines, rules, thresholds
from adlib.contract import DataError, say
from adlib.rules import Evidence, Wishes


def evidence(normals=200, good=40, bad=40, shift=2.0, seed=0, **more):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], (good, bad))
    scores = np.r_[rng.normal(10, 1, good), rng.normal(10 + shift, 1, bad)]
    return Evidence(rng.normal(10, 1, normals), False, labels, scores, rng.random(good + bad), **more)


def by_key(seen, wishes=Wishes()):  # noqa: B008  (frozen)
    return {one.key or one.line.key: one for one in rules.compare(seen, wishes)}


def test_every_rule_has_a_law_conditions_and_its_key_on_its_line():
    seen = evidence(dimension=5, shrinkage=0.2, fitted=100)
    for key, rule in rules.RULES.items():
        assert all(str(text) for text in (rule.title, rule.law, rule.needs))
        line = rules.line_of(key, seen, Wishes())
        assert line.key == key
        assert line.oracle == (rule.learns_on == "tests")


def test_rules_that_need_no_defect_are_judged_on_all_tests_as_they_are():
    seen = evidence()
    found = by_key(seen, Wishes(alpha=0.05))
    line = thresholds.at_false_alarm_rate(seen.normals, 0.05)
    assert found["quantile"].line == line
    assert found["quantile"].basis == "unseen"
    assert found["quantile"].alarms == (int((seen.scores[seen.labels == 0] > line.value).sum()), 40)
    assert found["quantile"].caught == (int((seen.scores[seen.labels == 1] > line.value).sum()), 40)


def test_figures_in_folds_are_worse_than_the_oracles_and_are_the_ones_reported():
    """On pure noise the best F1 of these very pictures looks fair; no line learned on other pictures does as well."""
    folds, oracles = [], []
    for seed in range(20):
        seen = evidence(good=12, bad=12, shift=0.0, seed=seed)
        one = by_key(seen, Wishes(miss=1, share=0.5))["cost"]
        assert one.basis == "folds"
        oracle = rules.outcome(one.line, seen, Wishes(miss=1, share=0.5), seen.scores > one.line.value, "oracle")
        folds.append(one.cost)
        oracles.append(oracle.cost)
    assert np.mean(oracles) < 0.42
    assert np.mean(folds) > 0.47, "0.5 is guessing"


def test_each_fold_is_judged_by_a_line_of_the_others():
    seen = evidence(good=11, bad=7)
    fold = rules.folds_of(seen.labels, seen.places)
    assert all(
        abs(np.bincount(fold[seen.labels == label]) - (seen.labels == label).sum() / 5).max() < 1 for label in (0, 1)
    )
    alarm = rules.in_folds("f1", seen, Wishes())
    for one in range(5):
        others = seen.only(fold != one)
        line = thresholds.best_f1(others.labels, others.scores).value
        assert (alarm[fold == one] == (seen.scores[fold == one] > line)).all()


def test_folds_depend_on_content_and_not_on_order():
    seen = evidence(good=9, bad=6)
    order = np.random.default_rng(1).permutation(15)
    assert (
        rules.folds_of(seen.labels[order], seen.places[order]) == rules.folds_of(seen.labels, seen.places)[order]
    ).all()


def test_with_one_defect_the_word_oracle_stands_beside_it():
    found = by_key(evidence(bad=1))
    assert {key: found[key].basis for key in ("recall", "f1", "cost")} == dict.fromkeys(
        ("recall", "f1", "cost"), "oracle"
    )


def test_a_rule_that_cannot_be_used_says_why_and_what_it_takes():
    found = by_key(evidence(normals=5, bad=0, lawless=say("PaDiM is not one Gaussian.")))
    reasons = {key: str(one.why_not) for key, one in found.items() if one.line is None}
    assert reasons.keys() == {"chi2", "sigma", "recall", "f1", "cost"}
    assert reasons["chi2"] == "PaDiM is not one Gaussian."
    assert "at least 8" in reasons["sigma"]
    assert "19 of them" in reasons["recall"]
    assert "0 defect" in reasons["cost"]
    assert "takes 99" in str(found["quantile"].line.rule)
    assert all(one.line is None and one.why_not for one in rules.compare(evidence(normals=0, bad=0, good=0), Wishes()))


def test_an_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"no rule 'magic'.*quantile"):
        rules.line_of("magic", evidence(), Wishes())


def test_chi_square_says_by_itself_that_it_fails():
    rng = np.random.default_rng(0)
    honest = np.linalg.norm(rng.normal(size=(150, 20)), axis=1)
    tailed = np.linalg.norm(rng.standard_t(3, size=(150, 20)), axis=1)
    law = {"dimension": 20, "shrinkage": 0.0, "fitted": 500}
    for normals, holds in ((honest, True), (tailed, False)):
        seen = dataclasses.replace(evidence(good=0, bad=0, **law), normals=normals)
        warning = by_key(seen, Wishes(alpha=0.05))["chi2"].warning
        assert (warning is None) == holds
    over = int((tailed > lines.chi_square(0.05, 20, 0, 1).value).sum())
    assert f"expects 5 % false alarms, and {over} of 150 held-out normals raise one" in str(warning)


def test_a_broken_promise_is_told_and_a_kept_one_is_not():
    seen = evidence(good=60)
    assert by_key(seen)["quantile"].warning is None
    drifted = dataclasses.replace(seen, scores=seen.scores + 2)
    told = by_key(drifted)["quantile"].warning
    assert "promises 1 % false alarms" in str(told)
    assert "of 60 good tests" in str(told)


def test_chance_of_so_many_alarms_is_the_binomial_one():
    from scipy import stats

    for count, total, rate in [(0, 5, 0.1), (1, 5, 0.1), (7, 20, 0.3), (20, 20, 0.5)]:
        assert rules.at_least(count, total, rate) == pytest.approx(stats.binom.sf(count - 1, total, rate))


def test_cost_of_a_part_weighs_prices_by_the_expected_share_of_defects():
    seen = evidence(good=10, bad=10)
    line = thresholds.by_hand(float(np.median(seen.scores)))
    one = rules.outcome(line, seen, Wishes(miss=50, alarm=2, share=0.1))
    (false, n), (hits, m) = one.alarms, one.caught
    assert one.cost == pytest.approx(0.1 * 50 * (1 - hits / m) + 0.9 * 2 * false / n)
