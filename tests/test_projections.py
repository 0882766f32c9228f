"""A projection keeps neighbours together, comes again with its seed, and stands whatever it is given."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from adlib import projections


def _clusters(n: int = 60, dims: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    kinds = np.arange(n) % 3
    return rng.normal(size=(n, dims)) + 8 * np.eye(3, dims)[kinds], kinds


def test_pca_finds_the_axes_that_scikit_learn_finds():
    rows, _ = _clusters()
    np.testing.assert_allclose(np.abs(projections.pca(rows)), np.abs(PCA(2).fit_transform(rows)), atol=1e-9)


def test_the_randomised_pca_of_large_embeddings_agrees_with_the_exact_one():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(520, 510)) * np.append([60, 40], np.ones(508))
    exact = PCA(2, svd_solver="full").fit_transform(rows)
    np.testing.assert_allclose(np.abs(projections.pca(rows)), np.abs(exact), atol=0.05)


def test_pca_does_not_flip_when_the_rows_change_places():
    rows, _ = _clusters()
    np.testing.assert_allclose(projections.pca(rows[::-1])[::-1], projections.pca(rows), atol=1e-8)


def test_tsne_keeps_pictures_of_a_kind_together():
    rows, kinds = _clusters()
    points = projections.tsne(rows)
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert np.mean(kinds[apart.argmin(axis=1)] == kinds) == 1


def test_the_same_seed_gives_the_same_picture():
    rows, _ = _clusters()
    np.testing.assert_array_equal(projections.tsne(rows, seed=3), projections.tsne(rows, seed=3))
    assert not np.array_equal(projections.tsne(rows, seed=3), projections.tsne(rows, seed=4))


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((0, 5)),
        np.ones((1, 5)),
        np.arange(10.0).reshape(2, 5),
        np.arange(15.0).reshape(3, 5) ** 2,
        np.eye(4, 5),
        np.full((20, 8), 1e6),
        np.full((20, 8), 0.1),
        np.repeat(np.eye(3, 5), 4, axis=0),
        np.linspace(0, 300, 30)[:, None] + 1e4,
        np.hstack([np.eye(12), np.ones((12, 3))]),
    ],
    ids=[
        "none",
        "one",
        "two",
        "three",
        "four",
        "alike",
        "alike-rounded",
        "duplicates",
        "one-column",
        "constant-columns",
    ],
)
def test_few_equal_or_flat_embeddings_are_shown_all_the_same(rows):
    for points in (projections.tsne(rows), projections.pca(rows)):
        assert points.shape == (len(rows), 2)
        assert np.isfinite(points).all()


def test_perplexity_is_kept_below_what_the_number_of_pictures_allows():
    rows, _ = _clusters(12)
    np.testing.assert_array_equal(projections.tsne(rows, perplexity=500), projections.tsne(rows, perplexity=11 / 3))
    assert np.isfinite(projections.tsne(rows, perplexity=0.0)).all()


@pytest.mark.parametrize("rows", [np.zeros(5), np.full((5, 2), np.nan)])
def test_embeddings_of_another_shape_or_not_finite_are_refused(rows):
    with pytest.raises(ValueError):
        projections.tsne(rows)
