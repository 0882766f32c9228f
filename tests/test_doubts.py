"""Doubts are raised where there is cause, and not where there is none."""

from __future__ import annotations

import numpy as np
from kit_runs import made as made
from kit_runs import run as run
from scipy import stats

from adlib import decisions, doubts, store


def test_few_pictures_say_in_numbers_what_they_cannot_show(run):
    found = [str(s) for s in doubts.of(run)]
    assert any("only 4 good tests" in s and "60 %" in s for s in found)
    assert any("only 4 defects" in s for s in found)
    assert doubts.few(20, 20) == ()
    assert doubts.few(0, 0) == ()


def test_tests_from_other_conditions_are_noticed_with_effect_and_numbers():
    rng = np.random.default_rng(0)
    normals = rng.gamma(5, 100, 60)
    told = str(doubts.drift(normals, rng.gamma(5, 100, 40) * 2))
    assert "60 and 40 pictures" in told
    assert "of pairs" in told
    assert doubts.drift(normals, rng.gamma(5, 100, 40)) is None
    assert doubts.drift(normals[:2], normals[:2] + 1e6) is None, "four pictures can show nothing"


def test_alike_normals_are_seldom_called_different():
    rng = np.random.default_rng(1)
    called = sum(doubts.drift(rng.random(25), rng.random(15)) is not None for _ in range(600))
    assert called <= stats.binom.ppf(0.999, 600, 0.01)


def test_cross_fitted_scores_that_lie_high_are_no_drift_downwards():
    rng = np.random.default_rng(2)
    high, low = rng.normal(12, 1, 30), rng.normal(10, 1, 30)
    assert doubts.drift(high, low) is not None
    assert doubts.drift(high, low, cross_fitted=True) is None
    assert doubts.drift(low, high, cross_fitted=True) is not None


def test_a_test_that_is_almost_a_normal_is_named(run):
    assert not [s for s in doubts.of(run) if "almost exactly" in str(s)]
    tests = np.array(store.read_array(run.folder / "embeddings.npy"))
    normals = np.asarray(store.read_array(run.folder / "normals.npy"))
    tests[2] = normals[5] + 1e-4 * (normals[6] - normals[5])
    store.write_array(run.folder / "embeddings.npy", tests)
    (told,) = [str(s) for s in doubts.of(run) if "almost exactly" in str(s)]
    assert run.read("scores.json")[2]["name"] in told
    assert "1 in all" in told


def test_a_line_above_most_defects_names_the_normals_that_hold_it_up():
    labels = np.array([0] * 10 + [1] * 6)
    scores = np.array([1.0] * 10 + [3.0, 3.1, 3.2, 3.3, 3.4, 9.0])
    normals = [{"name": f"n{i}.png", "score": 1.0} for i in range(8)] + [{"name": "x.png", "score": None}]
    odd = [{"name": "smudge.png", "score": 5.0}]
    told = str(doubts.lifted(5.0, scores, labels, normals + odd))
    assert "5 of 6 defects" in told
    assert "AUROC 1.00" in told
    assert "1 of which" in told
    assert "smudge.png" in told
    assert "n0.png" not in told
    assert "another rule" in str(doubts.lifted(5.0, scores, labels, normals)), "a line by hand is held up by no picture"
    assert doubts.lifted(3.15, scores, labels, normals + odd) is None, "most defects are caught"
    assert doubts.lifted(5.0, np.ones(16), labels, normals + odd) is None, (
        "scores that tell nothing have no better line"
    )
    assert doubts.lifted(5.0, scores[10:], labels[10:], normals + odd) is None, "without good tests nothing can be told"


def test_pictures_in_a_burst_are_no_leak():
    rng = np.random.default_rng(3)
    same = rng.normal(0, 1, (1, 30)) + rng.normal(0, 0.01, (20, 30))
    assert not len(doubts.almost_equal(same[:5] + rng.normal(0, 0.01, (5, 30)), same[5:]))
    assert not len(doubts.almost_equal(same[:2], same[:2])), "two normals say nothing of what is usual"


def test_a_threshold_in_use_that_breaks_its_promise_is_doubted(run):
    rows = run.read("scores.json")
    run.write("scores.json", [row | {"score": 1e6} for row in rows])
    assert any("promises" in str(s) for s in doubts.of(run))
    decisions.set_by_hand(run, 1.0)
    assert not any("promises" in str(s) for s in doubts.of(run)), "a line by hand promises nothing"


def test_without_an_evaluation_there_is_nothing_to_doubt(run):
    (run.folder / "report.json").unlink()
    assert doubts.of(run) == ()
