"""The mathematics of the methods, against naive twins, scikit-learn and numbers worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chi2
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from adlib.contract import Backbone, DataError, Stopped, silent
from adlib.features import embed, extractor, resolve
from adlib.maps import upsample_blur
from adlib.methods import patchcore
from adlib.methods._memory import Reservoir, k_centre, on_grid, project
from adlib.methods._moments import Stream
from adlib.methods._neighbours import Bank
from adlib.methods._positions import Moments, lengths, packed, unpacked, whitening
from adlib.methods._state import take
from adlib.methods.gaussian import Gaussian, principal
from adlib.methods.knn import KNN
from adlib.methods.padim import Padim
from adlib.methods.patchcore import PatchCore
from adlib.methods.pixel_median import PixelMedian
from adlib.threads import in_slices, one_thread
from promises import Pictures, damaged, parts


def offline(*stages: int, precision: str = "auto") -> Backbone:
    return Backbone("offline", stages=stages, size=64, precision=precision)


# --- coreset ----------------------------------------------------------------------------------------------------------


def naive_k_centre(points: np.ndarray, wanted: int, start: int) -> list[int]:
    """The plain loop: after each pick, all distances are updated; the first of the farthest is picked."""
    grid = on_grid(points).astype(np.int64)
    far = ((grid - grid[start]) ** 2).sum(1)
    picks = [start]
    while len(picks) < wanted and far.max() > 0:
        picks.append(int(far.argmax()))
        far = np.minimum(far, ((grid - grid[picks[-1]]) ** 2).sum(1))
    return picks


def test_k_centre_on_a_line_jumps_to_the_far_ends_first():
    line = np.array([[0], [1], [2], [3], [10], [11]], np.float32)
    assert k_centre(line, 3, start=0).tolist() == [0, 5, 3]


@pytest.mark.parametrize("kind", ["spread", "clustered", "ties", "duplicates", "flat", "outlier"])
def test_the_pool_picks_exactly_what_the_plain_loop_picks(kind):
    rng = np.random.default_rng(0)
    for trial in range(6):
        n, d = int(rng.integers(2, 700)), int(rng.integers(1, 40))
        points = rng.normal(size=(n, d))
        if kind == "clustered":
            points = 0.05 * points + rng.normal(size=(5, d))[rng.integers(0, 5, n)]
        if kind == "ties":
            points = rng.integers(0, 3, (n, d)).astype(float)
        if kind == "duplicates":
            points = points[rng.integers(0, max(1, n // 3), n)]
        if kind == "flat":
            points[:] = points[0]
        if kind == "outlier":
            points[n // 2] *= 1000
        points = points.astype(np.float32)
        wanted, start = int(rng.integers(1, n + 1)), int(rng.integers(0, n))
        picks = k_centre(points, wanted, start, pool=int(rng.integers(2, 200)))
        assert picks.tolist() == naive_k_centre(points, wanted, start), f"trial {trial}: n={n}, d={d}, wanted={wanted}"


def test_the_coreset_does_not_depend_on_the_number_of_threads():
    points = np.random.default_rng(1).normal(size=(3000, 24)).astype(np.float32)
    alone = k_centre(points, 400, 7)
    torch.set_num_threads(3)
    try:
        together = k_centre(points, 400, 7)
    finally:
        torch.set_num_threads(1)
    assert np.array_equal(alone, together)


def test_whole_numbers_on_the_grid_make_distances_exact_in_float32():
    points = (np.random.default_rng(0).normal(size=(500, 300)) * 37 + 11).astype(np.float32)
    grid = on_grid(points)
    assert np.array_equal(grid, np.rint(grid))
    exact = grid.astype(np.int64)
    assert (exact**2).sum(1).max() < 2**22
    assert np.array_equal((grid @ grid.T).astype(np.int64), exact @ exact.T)
    before = np.linalg.norm(points[:50, None] - points[50:100], axis=2)
    after = np.linalg.norm(grid[:50, None] - grid[50:100], axis=2)
    assert np.allclose(after / before, (after / before).mean(), rtol=2e-3)


def test_the_covering_radius_never_grows_and_is_within_twice_the_best():
    points = np.random.default_rng(2).normal(size=(60, 2)).astype(np.float32)
    grid = on_grid(points)
    picks = k_centre(points, 20, 0)
    radii = [np.linalg.norm(grid[:, None] - grid[picks[:m]], axis=2).min(1).max() for m in range(1, 21)]
    assert all(later <= sooner for sooner, later in itertools.pairwise(radii))
    pairs = [(a, b) for a in range(60) for b in range(a)]
    best = min(np.linalg.norm(grid[:, None] - grid[list(pair)], axis=2).min(1).max() for pair in pairs)
    assert radii[1] <= 2 * best


def test_stop_works_inside_the_coreset():
    points = np.random.default_rng(0).normal(size=(4000, 16)).astype(np.float32)
    told = []

    def stop(fraction: float, message: str, /, **numbers: int) -> None:
        told.append((fraction, message.format(**numbers)))
        if len(told) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        k_centre(points, 2000, 0, stop)
    assert 0 < told[1][0] < told[2][0] < 1


def test_a_projection_keeps_distances_on_average():
    rows = torch.randn(40, 600, generator=torch.Generator().manual_seed(0))
    small = project(rows, 128, torch.Generator().manual_seed(1))
    assert small.shape == (40, 128)
    assert float((F.pdist(small) / F.pdist(rows)).mean()) == pytest.approx(1, abs=0.05)
    assert project(rows, 0, torch.Generator()) is rows
    assert project(rows, 600, torch.Generator()) is rows


# --- reservoir --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capacity", "pictures", "patches"), [(10, 7, 5), (100, 7, 5), (3, 7, 5), (35, 7, 5), (1, 1, 1)]
)
def test_a_reservoir_is_bounded_and_takes_each_row_at_most_once(capacity, pictures, patches):
    sample = Reservoir(capacity, pictures, torch.Generator().manual_seed(0))
    rows = torch.arange(pictures * patches).float()[:, None]
    for part in rows.split(patches):
        sample.add(part)
    kept = sample.rows()[:, 0]
    assert len(kept) == min(capacity, pictures * patches)
    assert (kept.diff() > 0).all()  # in the order of the stream, none twice
    per_picture = torch.bincount((kept // patches).long(), minlength=pictures)
    assert per_picture.max() - per_picture.min() <= 1


def test_every_row_has_the_same_chance_to_be_in_the_reservoir():
    counts = torch.zeros(40)
    for seed in range(600):
        sample = Reservoir(10, 4, torch.Generator().manual_seed(seed))
        for part in torch.arange(40.0)[:, None].split(10):
            sample.add(part)
        counts[sample.rows()[:, 0].long()] += 1
    expected = 600 * 10 / 40
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert statistic < chi2.ppf(0.999, 39)


# --- nearest neighbours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "k"), [(1, 1), (2, 2), (63, 5), (64, 9), (65, 65), (1000, 1), (5000, 7)])
@pytest.mark.parametrize("coarse", [False, True])
def test_neighbours_equal_scikit_learns_brute_force(m, k, coarse):
    chance = torch.Generator().manual_seed(m)
    rows, queries = torch.randn(m, 33, generator=chance) + 5, torch.randn(300, 33, generator=chance) + 5
    distances, found = Bank(rows, coarse).search(queries, k)
    wanted, where = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows.double()).kneighbors(queries.double())
    assert np.allclose(distances, wanted, rtol=1e-5)
    assert np.array_equal(found, where)


@pytest.mark.parametrize("coarse", [False, True])
def test_a_bank_searched_in_parts_gives_the_same_neighbours(coarse, monkeypatch):
    chance = torch.Generator().manual_seed(3)
    rows, queries = torch.randn(1500, 17, generator=chance), torch.randn(150, 17, generator=chance)
    whole = Bank(rows, coarse).search(queries, 6)
    monkeypatch.setattr("adlib.methods._neighbours.ROWS_AT_ONCE", 256)
    monkeypatch.setattr("adlib.methods._neighbours.QUERIES_AT_ONCE", 64)
    in_parts = Bank(rows, coarse).search(queries, 6)
    assert torch.equal(whole[0], in_parts[0])
    assert torch.equal(whole[1], in_parts[1])


@pytest.mark.parametrize("kind", ["spread", "crowded", "outlier", "duplicates", "far"])
def test_neighbours_proposed_in_bf16_are_the_same_to_the_bit(kind):
    """Also where bf16 cannot tell the rows apart: then the query is searched again."""
    chance = torch.Generator().manual_seed(0)
    rows, queries = torch.randn(3000, 24, generator=chance), torch.randn(200, 24, generator=chance)
    if kind == "crowded":
        rows, queries = 1 + 1e-3 * rows, 1 + 1e-3 * queries
        rows[:5] = 100
    if kind == "outlier":
        rows[17] *= 1e4
    if kind == "duplicates":
        rows = rows[torch.randint(0, 50, (3000,), generator=chance)]
    if kind == "far":
        queries += 50
    for k in (1, 4):
        exact, proposed = (Bank(rows, coarse).search(queries, k)[0] for coarse in (False, True))
        assert torch.equal(exact, proposed)


@pytest.mark.parametrize("coarse", [False, True])
def test_a_query_that_is_in_the_bank_is_at_distance_exactly_zero(coarse):
    rows = 1000 + torch.randn(700, 20, generator=torch.Generator().manual_seed(0))  # far from 0: products cancel badly
    distances, found = Bank(rows, coarse).search(rows, 1)
    assert (distances == 0).all()
    assert torch.equal(found[:, 0], torch.arange(700))


def test_searching_leaves_the_bank_as_it_was():
    bank = Bank(torch.randn(64, 8, generator=torch.Generator().manual_seed(0)))
    query = torch.ones(1, 8)
    first = bank.search(query, 3)
    for _ in range(3):
        assert torch.equal(bank.search(query, 3)[0], first[0])


# --- PatchCore --------------------------------------------------------------------------------------------------------


def test_with_all_patches_a_training_picture_scores_exactly_zero():
    pictures = parts(5)
    detector = PatchCore(offline(), coreset=1.0).fit(Pictures(pictures))
    prediction = detector.score(pictures)
    assert (prediction.scores == 0).all()
    assert (prediction.maps == 0).all()


def test_patchcore_equals_its_naive_twin():
    normals, tests = parts(6), torch.cat([parts(2, seed=5), damaged(parts(2, seed=6))])
    detector = PatchCore(offline(1, 2), coreset=1.0, k=2, sigma=3.0).fit(Pictures(normals))
    look = extractor(resolve(offline(1, 2), ""))

    def patches(pixels: torch.Tensor) -> torch.Tensor:
        """Each level averaged over 3x3 with zeros beyond the border, at its own resolution, then resized."""
        first, second = (
            F.unfold(m, 3, padding=1).view(len(m), m.shape[1], 9, -1).mean(2).view_as(m) for m in look(pixels)
        )
        both = torch.cat([first, F.interpolate(second, size=first.shape[-2:], mode="bilinear")], dim=1)
        return both.flatten(2).transpose(1, 2)

    bank = patches(normals).flatten(0, 1)
    grid = torch.cdist(patches(tests).double(), bank.double()).sort(2).values[..., :2].mean(2)  # (B, P)
    prediction = detector.score(tests)
    assert np.allclose(prediction.scores, grid.amax(1), rtol=1e-4)
    assert np.allclose(prediction.maps, upsample_blur(grid.view(-1, 8, 8).float(), 64, 3.0), rtol=1e-3, atol=1e-4)


def test_the_coreset_is_a_part_of_the_patches_and_as_large_as_asked():
    pictures = parts(4)
    everything = PatchCore(offline(), coreset=1.0).fit(Pictures(pictures)).state()["bank"]
    some = PatchCore(offline(), coreset=0.25).fit(Pictures(pictures)).state()["bank"]
    assert len(some) == round(0.25 * len(everything))
    assert (some[:, None] == everything).all(2).any(1).all()
    bounded = PatchCore(offline(), coreset=1.0, max_patches=100).fit(Pictures(pictures)).state()["bank"]
    assert len(bounded) == 100


def test_the_weight_of_a_patch_is_one_minus_the_softmax_of_its_nearest():
    assert float(patchcore.weight(torch.tensor([1.0, 2.0, 3.0]), torch.tensor(1.0))) == pytest.approx(
        0.909969, abs=1e-6
    )
    far = patchcore.weight(torch.tensor([501.0, 502.0, 503.0]), torch.tensor(501.0))  # exp(503) overflows float32
    assert float(far) == pytest.approx(0.909969, abs=1e-6)


def test_reweighting_follows_the_papers_formula():
    normals, tests = parts(6), damaged(parts(3, seed=6))
    plain = PatchCore(offline(), coreset=0.5).fit(Pictures(normals))
    weighted = PatchCore(offline(), reweight=True, neighbourhood=4).restore(plain.state())
    bank = plain.state()["bank"].double()
    look = extractor(resolve(offline(), "middle"))
    for pixels, score in zip(tests, weighted.score(tests).scores, strict=True):
        distances = torch.cdist(embed(look(pixels[None]), pool=3)[0].flatten(1).T.double().contiguous(), bank)
        worst = int(distances.amin(1).argmax())
        nearest = int(distances[worst].argmin())
        around = torch.cdist(bank[nearest : nearest + 1], bank)[0].argsort()[:4]
        softmax = math.exp(distances[worst, nearest]) / sum(math.exp(d) for d in distances[worst, around])
        assert score == pytest.approx(float((1 - softmax) * distances[worst, nearest]), rel=1e-4)
    alone = PatchCore(offline(), reweight=True, neighbourhood=1).restore(plain.state())
    assert np.array_equal(
        alone.score(tests).scores, plain.score(tests).scores
    )  # a weight of 0 for all would say nothing


# --- PaDiM ------------------------------------------------------------------------------------------------------------


def test_running_moments_equal_numpys_covariance():
    x = np.random.default_rng(0).normal(size=(3, 80, 7)) * [1, 2, 5, 0.1, 1, 1, 1] + 100  # (P, n, C), far from 0
    given = torch.from_numpy(x).float()
    moments = Moments(80, given.transpose(0, 1)[:1])
    for part in given.transpose(0, 1).split([8, 1, 20, 51]):
        moments.add(part)
    mean, covariance = moments.mean(), moments.covariance()
    for p in range(3):
        exact = np.cov(given[p].double().numpy(), rowvar=False)
        assert np.allclose(covariance[p], exact, rtol=1e-5, atol=1e-5)
        assert np.allclose(mean[p], given[p].double().mean(0), rtol=1e-6)


def test_whitening_is_the_inverse_of_the_regularised_covariance():
    a = torch.randn(5, 9, 30, generator=torch.Generator().manual_seed(0))
    covariance = a @ a.mT / 30
    wanted = torch.linalg.inv(covariance.double() + 0.01 * torch.eye(9))
    factor = whitening(covariance.clone(), 0.01).double()
    assert torch.allclose(factor @ factor.mT, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("c", [1, 3, 9, 30])
def test_a_packed_triangle_holds_every_value_that_is_not_zero(c, dtype):
    factor = torch.randn(5, c, c, generator=torch.Generator().manual_seed(0)).triu().to(dtype)
    strips = unpacked(packed(factor, dtype), 5, c)
    columns = [torch.nn.functional.pad(strip, (0, 0, 0, c - strip.shape[1])) for strip in strips]
    assert torch.equal(torch.cat(columns, dim=2), factor)


def test_a_covariance_that_cannot_be_inverted_is_said_so():
    with pytest.raises(DataError, match=r"2 positions.*Regularisation"):
        whitening(-torch.eye(3).repeat(2, 1, 1), 0.01)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
def test_lengths_of_whitened_vectors_are_mahalanobis_distances_whatever_the_batch(dtype, close):
    chance = torch.Generator().manual_seed(0)
    a = torch.randn(70, 100, 150, generator=chance)
    a[:, 1:] += 3 * a[:, :1]  # channels that go together: small differences of large values decide the distance
    covariance, mean = a @ a.mT / 150, torch.randn(70, 100, generator=chance)
    x = mean + torch.linalg.cholesky(covariance + 0.01 * torch.eye(100)).matmul(
        torch.randn(19, 70, 100, 1, generator=chance)
    ).squeeze(-1)
    offset = (x - mean).double()
    inverse = torch.linalg.inv(covariance.double() + 0.01 * torch.eye(100))
    wanted = torch.einsum("bpi,pij,bpj->bp", offset, inverse, offset).sqrt()
    strips = unpacked(packed(whitening(covariance, 0.01), dtype), 70, 100)
    found = lengths(x, mean, strips)
    assert torch.allclose(found.double(), wanted, rtol=close, atol=0)
    for few in (1, 2, 7):
        assert torch.equal(lengths(x[:few], mean, strips), found[:few])


def test_a_padim_fitted_in_float32_keeps_its_distances_where_the_network_runs_in_bf16():
    tests = parts(3, seed=5)
    fitted = Padim(offline(precision="fp32"), channels=12).fit(Pictures(parts(9)))
    low = resolve(offline(precision="bf16"), "early")
    former = Padim(low, channels=12).restore(fitted.state())  # as it was kept before factors followed the network
    assert former.state()["factor"].dtype == torch.float32
    assert np.allclose(former.score(tests).scores, fitted.score(tests).scores, rtol=0.05)
    now = Padim(low, channels=12).fit(Pictures(parts(9)))
    assert now.state()["factor"].dtype == torch.bfloat16
    assert np.allclose(now.score(tests).scores, fitted.score(tests).scores, rtol=0.05)


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-4), ("bf16", 0.01)])
def test_padim_equals_its_naive_twin(precision, close):
    normals, tests = parts(9), torch.cat([parts(2, seed=5), damaged(parts(3, seed=6))])
    backbone = offline(0, 1, 2, precision=precision)
    detector = Padim(backbone, channels=12, epsilon=0.02, seed=3).fit(Pictures(normals))
    subset = detector.state()["subset"]
    look = extractor(resolve(backbone, ""))

    def vectors(pixels: torch.Tensor) -> np.ndarray:
        first, *deeper = look(pixels)
        same = [first, *(F.interpolate(m, size=first.shape[-2:], mode="nearest") for m in deeper)]
        return torch.cat(same, dim=1)[:, subset].flatten(2).double().numpy()  # (B, C, P)

    x, y = vectors(normals), vectors(tests)
    distances = np.empty((5, 256))
    for p in range(256):
        inverse = np.linalg.inv(np.cov(x[:, :, p], rowvar=False) + 0.02 * np.eye(12))
        offset = y[:, :, p] - x[:, :, p].mean(0)
        distances[:, p] = np.sqrt(np.einsum("bi,ij,bj->b", offset, inverse, offset))
    maps = upsample_blur(torch.from_numpy(distances).float().view(5, 16, 16), 64, 4.0)
    prediction = detector.score(tests)
    assert np.allclose(prediction.maps, maps, rtol=close, atol=close)
    assert np.allclose(prediction.scores, maps.amax(dim=(1, 2)), rtol=close)


def test_the_channels_are_drawn_once_and_travel_with_the_state():
    fitted = Padim(offline(), channels=10, seed=1).fit(Pictures(parts(4)))
    other = Padim(offline(), channels=10, seed=2).fit(Pictures(parts(4)))
    assert not torch.equal(fitted.state()["subset"], other.state()["subset"])
    restored = Padim(offline(), channels=10, seed=2).restore(fitted.state())
    assert np.array_equal(restored.score(parts(2)).scores, fitted.score(parts(2)).scores)
    assert len(Padim(offline(0), channels=4000).fit(Pictures(parts(2))).state()["subset"]) == 64  # all there are
    with pytest.raises(DataError, match="10 channels"):
        Padim(offline(), channels=11).restore(fitted.state())


def test_padim_refuses_pictures_of_another_size_than_the_fit():
    fitted = Padim(offline(), channels=5).fit(Pictures(parts(3)))
    with pytest.raises(DataError, match="16×16"):
        fitted.score(parts(1, height=96, width=96))


def test_a_part_that_has_moved_scores_higher_in_padim():
    fitted = Padim(offline(), channels=20).fit(Pictures(parts(20)))
    tests = parts(4, seed=9)
    assert (fitted.score(tests.roll(6, dims=-1)).scores > fitted.score(tests).scores.max()).all()


# --- Gaussian-AD ------------------------------------------------------------------------------------------------------


def streamed(x: np.ndarray, *cuts: int) -> Stream:
    stream = Stream()
    for part in np.split(x, cuts):
        stream.add(torch.from_numpy(part))
    return stream


def test_ledoit_wolf_of_the_four_points_in_the_textbook():
    mean, covariance, shrinkage = streamed(np.array([[1.0, 2], [3, 4], [5, 7], [2, 1]]), 1, 3).shrunk()
    assert np.allclose(mean, [2.75, 3.5])
    assert np.allclose(covariance, [[2.84712, 1.77884], [1.77884, 4.59038]], atol=1e-5)
    assert shrinkage == pytest.approx(0.430772, abs=1e-6)


@pytest.mark.parametrize(("n", "k"), [(20, 5), (30, 80), (300, 40), (7, 1), (3, 200)])
def test_streamed_ledoit_wolf_equals_scikit_learns(n, k):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, k)) * rng.gamma(1, 3, k) + rng.normal(size=k) * 50
    mean, covariance, shrinkage = streamed(x, n // 3, n // 2).shrunk()
    reference = LedoitWolf().fit(x)
    assert np.allclose(mean, reference.location_)
    assert shrinkage == pytest.approx(reference.shrinkage_, abs=1e-9)
    assert np.allclose(covariance, reference.covariance_, rtol=1e-7, atol=1e-7 * np.abs(reference.covariance_).max())


def test_the_score_is_the_sum_over_levels_of_scikit_learns_mahalanobis():
    normals, tests = parts(30), torch.cat([parts(2, seed=5), damaged(parts(2, seed=6))])
    look = extractor(resolve(offline(), "all"))
    wanted = np.zeros(4)
    for train, test in zip(look(normals), look(tests), strict=True):
        model = LedoitWolf().fit(train.mean(dim=(2, 3)).double().numpy())
        wanted += np.sqrt(model.mahalanobis(test.mean(dim=(2, 3)).double().numpy()))
    assert np.allclose(Gaussian(offline()).fit(Pictures(normals)).score(tests).scores, wanted, rtol=1e-6)


def test_the_plain_distances_are_roots_of_means_over_channels():
    normals, tests = parts(12), damaged(parts(3, seed=6))
    look = extractor(resolve(offline(), "all"))
    pairs = [
        (a.mean(dim=(2, 3)).double(), b.mean(dim=(2, 3)).double())
        for a, b in zip(look(normals), look(tests), strict=True)
    ]
    sed = sum((((b - a.mean(0)) / a.std(0)) ** 2).mean(1).sqrt() for a, b in pairs)
    l2 = sum(((b - a.mean(0)) ** 2).mean(1).sqrt() for a, b in pairs)
    assert np.allclose(Gaussian(offline(), distance="sed").fit(Pictures(normals)).score(tests).scores, sed, rtol=1e-4)
    assert np.allclose(Gaussian(offline(), distance="l2").fit(Pictures(normals)).score(tests).scores, l2, rtol=1e-5)


SIX_AXES = np.random.default_rng(0).normal(size=(300, 6)) * [10, 5, 2, 1, 0.1, 0.01]


@pytest.mark.parametrize(("share", "pca", "npca"), [(0.95, 2, 6), (0.99, 3, 5), (0.9999, 4, 4)])
def test_pca_and_npca_keep_as_many_directions_as_the_authors_code(share, pca, npca):
    stream = streamed(SIX_AXES)
    assert principal(stream, share).shape == (6, pca)
    assert principal(stream, share, tail=True).shape == (6, npca)
    reference = PCA(share).fit(SIX_AXES)
    cosines = np.abs(reference.components_ @ principal(stream, share).numpy())
    assert np.allclose(cosines, np.eye(pca), atol=1e-8)


def test_small_directions_decide_and_shrinkage_hides_them():
    stream, point = streamed(SIX_AXES), SIX_AXES.mean(0) + np.array([0, 0, 0, 0, 0, 0.5])
    offset = torch.from_numpy(point) - stream.mean()
    exact = offset @ torch.linalg.inv(stream.covariance() * 300 / 299) @ offset
    assert float(exact.sqrt()) == pytest.approx(50.797, abs=2e-3)
    shrunk = offset @ torch.linalg.inv(stream.shrunk().covariance) @ offset
    assert float(shrunk.sqrt()) == pytest.approx(1.018, abs=1e-3)


def test_directions_without_variance_are_left_out():
    x = np.random.default_rng(0).normal(size=(10, 40))
    assert principal(streamed(x), 0.99999, tail=True).shape[1] <= 9
    assert principal(streamed(np.ones((5, 4))), 0.99).shape == (4, 1)


def test_distances_turn_and_scale_with_the_features():
    """Ledoit-Wolf is invariant to rotations and one common scale."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(50, 8)) * range(1, 9), rng.normal(size=8) * 5
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0] * 7.3

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        mean, covariance, _ = streamed(x).shrunk()
        offset = torch.from_numpy(y) - mean
        return float(offset @ torch.linalg.solve(covariance, offset))

    assert distance(x @ turn, y @ turn) == pytest.approx(distance(x, y), rel=1e-9)


# --- deep kNN and pixel median ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", ["deepest", "all"])
def test_knn_is_the_mean_distance_that_scikit_learn_finds(levels):
    normals, tests = parts(15), damaged(parts(4, seed=6))
    look = extractor(resolve(offline(), "all"))

    def rows(pixels: torch.Tensor) -> np.ndarray:
        chosen = look(pixels) if levels == "all" else look(pixels)[-1:]
        return np.concatenate([F.normalize(m.mean(dim=(2, 3)), dim=1).numpy() for m in chosen], axis=1)

    wanted = NearestNeighbors(n_neighbors=4).fit(rows(normals)).kneighbors(rows(tests))[0].mean(1)
    detector = KNN(offline(), k=4, levels=levels).fit(Pictures(normals))
    assert np.allclose(detector.score(tests).scores, wanted, rtol=1e-4)
    assert np.allclose(detector.score(tests).embeddings, rows(tests), atol=1e-6)


def test_knn_asks_all_normals_when_they_are_fewer_than_k():
    normals = parts(3)
    few, exact = (KNN(offline(), k=k).fit(Pictures(normals)).score(parts(2, seed=5)).scores for k in (50, 3))
    assert np.array_equal(few, exact)


def test_pixel_median_learns_the_median_and_the_usual_deviation():
    pictures = parts(7)
    state = PixelMedian().fit(Pictures(pictures)).state()
    stack = pictures.double().numpy()
    median = np.median(stack, axis=0)
    assert np.allclose(state["median"], median, atol=1e-6)
    assert np.allclose(state["spread"], 1.4826 * np.median(np.abs(stack - median), axis=0), atol=1e-6)


def test_pixel_median_shrugs_off_a_bad_picture_among_the_normals():
    pictures = parts(15)
    spoiled = torch.cat([pictures, torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))])
    tests = damaged(parts(3, seed=6))
    clean, dirty = (PixelMedian().fit(Pictures(x)).score(tests).scores for x in (pictures, spoiled))
    assert np.allclose(clean, dirty, rtol=0.3)


# --- shared -----------------------------------------------------------------------------------------------------------


def test_a_state_is_checked_axis_by_axis():
    state = {"mean": torch.zeros(4, 2), "factor": torch.zeros(4, 2, 2)}
    mean, factor = take(state, "demo", mean="PC", factor="PCC")
    assert mean.shape == (4, 2)
    assert factor.shape == (4, 2, 2)
    for wrong in ({"mean": "PPC"}, {"mean": "PP"}, {"mean": ("P", 3)}, {"mean": "PC", "factor": "CPC"}, {"other": "P"}):
        with pytest.raises(DataError, match="demo"):
            take(state, "demo", **wrong)


def test_slices_do_everything_once_and_give_the_threads_back():
    torch.set_num_threads(2)
    try:
        done = torch.zeros(103)

        def add(part: slice) -> None:
            done[part] += 1

        assert list(in_slices(103, 10, add)) == [*range(10, 101, 10), 103]
        assert (done == 1).all()
        with one_thread() as before:
            assert (before, torch.get_num_threads()) == (2, 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_stop_inside_slices_gives_the_threads_back():
    points = np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)

    def stop(fraction: float, message: str, /, **numbers: int) -> None:
        raise Stopped

    torch.set_num_threads(2)
    try:
        with pytest.raises(Stopped):
            k_centre(points, 100, 0, stop)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_fault_inside_a_slice_comes_out():
    def fail(part: slice) -> None:
        raise ValueError(part)

    with pytest.raises(ValueError):
        list(in_slices(10, 2, fail))
    silent(1.0, "done")
