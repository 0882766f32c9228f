"""The classical detectors score from their own arrays: beside scikit-learn, and against figures known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.ensemble import IsolationForest as SkForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KernelDensity as SkDensity
from sklearn.neighbors import LocalOutlierFactor as SkLOF
from sklearn.svm import OneClassSVM as SkSVM

from adlib.contract import Backbone, DataError, silent
from adlib.methods.isolation_forest import IsolationForest
from adlib.methods.kde import KernelDensity
from adlib.methods.lof import LocalOutlierFactor
from adlib.methods.ocsvm import OneClassSVM
from promises import Pictures, parts


@pytest.fixture(scope="module")
def gaussians():
    """500 normals, then 500 normals and 500 shifted by 1 on each of 8 axes."""
    chance = np.random.default_rng(0)
    learned, normal, shifted = (chance.standard_normal((500, 8)) for _ in range(3))
    return learned, np.concatenate([normal, shifted + 1]), np.repeat([0, 1], 500)


def scored(detector, learned, tests):
    arrays = detector._learn(learned, silent)
    return np.array([detector._strangeness(row, arrays) for row in tests])


def test_the_one_class_svm_is_scikit_learns(gaussians):
    learned, tests, labels = gaussians
    wanted = -SkSVM(kernel="rbf", gamma="scale", nu=0.1, tol=1e-6).fit(learned).decision_function(tests)
    found = scored(OneClassSVM(nu=0.1), learned, tests)
    assert np.allclose(found, wanted, rtol=1e-9, atol=1e-9)
    assert roc_auc_score(labels, found) == pytest.approx(0.87, abs=0.02)


@pytest.mark.parametrize("nu", [0.05, 0.2, 0.5])
def test_at_most_the_share_asked_for_lies_outside_and_at_least_so_many_shape_the_region(gaussians, nu):
    learned = gaussians[0]
    detector = OneClassSVM(nu=nu)
    outside = (scored(detector, learned, learned) > 1e-6).mean()
    shaping = len(detector._learn(learned, silent)["support"]) / len(learned)
    assert outside <= nu <= shaping
    if nu >= 0.2:  # with more normals outside, nu is nearly the share itself
        assert outside == pytest.approx(nu, abs=0.05)


def test_the_local_outlier_factor_is_scikit_learns(gaussians):
    learned, tests, labels = gaussians
    wanted = -SkLOF(n_neighbors=20, novelty=True, algorithm="brute").fit(learned).score_samples(tests)
    found = scored(LocalOutlierFactor(k=20), learned, tests)
    assert np.allclose(found, wanted, rtol=1e-9)
    assert roc_auc_score(labels, found) == pytest.approx(0.85, abs=0.02)


def test_inside_a_regular_grid_the_local_outlier_factor_is_one():
    grid = np.stack(np.meshgrid(*[np.arange(11.0)] * 2), axis=-1).reshape(-1, 2)
    assert scored(LocalOutlierFactor(k=4), grid, np.array([[5.0, 5.0]]))[0] == pytest.approx(1, abs=0.01)


def test_normals_that_are_one_picture_many_times_still_give_finite_factors():
    rows = np.concatenate([np.zeros((10, 3)), np.ones((1, 3))])
    assert np.isfinite(scored(LocalOutlierFactor(k=4), rows, np.array([[0.0, 0, 0], [5, 5, 5]]))).all()


def test_the_isolation_forest_is_scikit_learns(gaussians):
    learned, tests, labels = gaussians
    wanted = (
        -SkForest(n_estimators=10, max_samples=256, random_state=3)
        .fit(learned.astype(np.float32))
        .score_samples(tests.astype(np.float32))
    )
    assert np.allclose(scored(IsolationForest(trees=10, seed=3), learned, tests), wanted, rtol=1e-9)
    many = scored(IsolationForest(trees=100), learned, tests)  # grown ten at a time
    assert roc_auc_score(labels, many) == pytest.approx(0.857, abs=0.02)


def test_the_density_is_scikit_learns_and_of_one_normal_a_gaussians(gaussians):
    learned, tests, labels = gaussians
    wanted = -SkDensity(bandwidth=1.0).fit(learned).score_samples(tests)
    found = scored(KernelDensity(bandwidth=1.0), learned, tests)
    assert np.allclose(found, wanted, rtol=1e-6)  # scikit-learn sums in another order
    assert roc_auc_score(labels, found) == pytest.approx(0.863, abs=0.02)
    alone = scored(KernelDensity(bandwidth=0.7), learned[:1], tests[:5])
    assert np.allclose(alone, -multivariate_normal(learned[0], 0.49 * np.eye(8)).logpdf(tests[:5]))


def test_the_bandwidth_chosen_is_likelier_for_new_normals_than_one_far_from_it(gaussians):
    learned, tests, _ = gaussians
    detector = KernelDensity()
    chosen = float(detector._learn(learned, silent)["bandwidth"][0])
    likely = {
        h: -scored(KernelDensity(bandwidth=h), learned, tests[:500]).mean() for h in (chosen / 3, chosen, chosen * 3)
    }
    assert max(likely, key=likely.get) == chosen


def test_directions_that_are_kept_carry_the_normals_largest_variance():
    pictures = parts(12)
    detector = OneClassSVM(Backbone("offline", size=64), levels="all", dimensions=3).fit(Pictures(pictures))
    rows = detector.score(pictures).embeddings.astype(np.float64)
    moved = rows - rows.mean(axis=0)
    deviations = moved.std(axis=0)
    scaled = moved / np.maximum(deviations, 0.01 * np.sqrt((deviations**2).mean()))
    kept = ((moved @ detector.state()["axes"].numpy()) ** 2).sum()
    assert kept == pytest.approx(np.linalg.eigvalsh(scaled.T @ scaled)[-3:].sum(), rel=1e-6)


@pytest.mark.parametrize(
    "damage",
    [
        {"left": lambda x: x * 0},  # back to the root: a walk without an end
        {"feature": lambda x: x + 10_000},
        {"roots": lambda x: x - 1},
        {"right": lambda x: x.float()},
    ],
    ids=["circle", "feature", "roots", "type"],
)
def test_trees_that_lead_astray_are_refused(damage):
    fitted = IsolationForest(Backbone("offline", size=64), trees=10).fit(Pictures(parts(6)))
    state = fitted.state()
    (name, change), *_ = damage.items()
    with pytest.raises(DataError, match="trees are damaged"):
        IsolationForest(Backbone("offline", size=64), trees=10).restore({**state, name: change(state[name])})
    assert torch.equal(state["roots"], fitted.state()["roots"])
