"""Metric learning: its losses against known answers, its distances against plain ones, and what it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from adlib import datasets, features, registry, store, thresholds, workflow
from adlib.contract import AdlibError, Backbone, Batch, Prediction
from adlib.methods import _margins, _metric
from adlib.methods._margins import Head, Kind
from promises import Pictures, parts
from worlds import dataset

SIXTY = torch.tensor([[0.5, math.cos(math.radians(80))]])
FIRST = torch.tensor([0])


def two_vectors(width: int = 3, classes: int = 3, n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    x = 5 * torch.randn(n, width, generator=chance)
    w = torch.randn(classes, width, generator=chance)
    return x, w, torch.randint(classes, (n,), generator=chance)


# --- the losses -------------------------------------------------------------------------------------------------------


def test_at_60_degrees_the_logits_are_the_published_ones():
    assert _margins.arcface(SIXTY, FIRST)[0, 0] == pytest.approx(0.7079, abs=5e-5)
    assert _margins.cosface(SIXTY, FIRST)[0, 0] == pytest.approx(3.0)
    assert _margins.arcface(SIXTY, FIRST)[0, 1] == pytest.approx(30 * math.cos(math.radians(80)))
    loss = torch.nn.functional.cross_entropy(_margins.arcface(SIXTY, FIRST), FIRST)
    assert float(loss) == pytest.approx(4.51258, abs=1e-4)
    assert _margins.phi(SIXTY[0])[0] == pytest.approx(-1.5)


def test_arcface_is_the_cosine_of_the_widened_angle_and_never_rises_beyond_it():
    theta = torch.linspace(0.01, math.pi - 0.01, 501)
    found = _margins.arcface(theta.cos()[:, None].repeat(1, 2), torch.zeros(501, dtype=torch.long))[:, 0] / 30
    usual = theta < math.pi - 0.5
    torch.testing.assert_close(found[usual], (theta[usual] + 0.5).cos(), rtol=0, atol=1e-3)
    assert (found.diff() < 0).all()


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_phi_falls_without_a_jump_from_1_to_1_less_twice_the_margin(margin):
    theta = torch.linspace(0, math.pi, 20001, dtype=torch.float64)
    found = _margins.phi(theta.cos(), margin)
    k = (margin * theta / math.pi).floor().clamp(max=margin - 1)
    torch.testing.assert_close(found, (-1) ** k * (margin * theta).cos() - 2 * k, rtol=0, atol=1e-9)
    assert (found.diff() <= 1e-12).all()
    assert float(found.diff().abs().max()) < margin * math.pi / 20000 * 1.01
    assert float(found[0]) == pytest.approx(1)
    assert float(found[-1]) == pytest.approx(1 - 2 * margin)


def test_without_a_margin_arcface_and_cosface_are_one_normalised_softmax():
    x, w, y = two_vectors()
    cos = _margins.cosines(x, w)
    arc, cosface = _margins.arcface(cos, y, 30, 0.0), _margins.cosface(cos, y, 30, 0.0)
    torch.testing.assert_close(arc, cosface, rtol=0, atol=1e-5)
    torch.testing.assert_close(cosface, 30 * cos)


def test_sphereface_without_a_margin_or_with_endless_annealing_is_softmax_on_unit_class_vectors():
    x, w, y = two_vectors()
    plain = x @ torch.nn.functional.normalize(w, dim=1).T
    torch.testing.assert_close(_margins.sphereface(x, w, y, annealing=0.0, margin=1), plain)
    torch.testing.assert_close(_margins.sphereface(x, w, y, annealing=1e9), plain)
    with_margin = _margins.sphereface(x, w, y, annealing=0.0)
    true = torch.nn.functional.one_hot(y, 3).bool()
    assert (with_margin[true] <= plain[true] + 1e-5).all()
    torch.testing.assert_close(with_margin[~true], plain[~true], rtol=1e-5, atol=1e-5)


def test_annealing_ends_after_two_thirds_of_the_training():
    assert _margins.annealing(0) == 1000
    x, w, y = two_vectors(width=4)
    head = Head(Kind("sphereface"), 3, 4)
    torch.testing.assert_close(head.logits(x, y, 0.7), head.logits(x, y, 1.0))
    assert not torch.allclose(head.logits(x, y, 0.1), head.logits(x, y, 1.0))
    assert w.shape == head.weight.shape


def test_every_row_of_the_l2_loss_has_the_length_alpha():
    x, _, _ = two_vectors()
    torch.testing.assert_close(_margins.on_sphere(x, 16.0).norm(dim=1), torch.full((40,), 16.0))


def test_centres_move_as_the_paper_says_and_those_of_absent_classes_stay():
    x, _, _ = two_vectors(n=5)
    y = torch.tensor([0, 0, 2, 0, 2])
    before = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    after = _margins.moved_centres(before, x, y, rate=0.5)
    for j in range(4):
        delta, n = torch.zeros(3), 0
        for row, label in zip(x, y, strict=True):
            if label == j:
                delta, n = delta + before[j] - row, n + 1
        torch.testing.assert_close(after[j], before[j] - 0.5 * delta / (1 + n))
    head = Head(Kind("center"), 4, 3)
    for _ in range(60):
        head.follow(x, y)
    torch.testing.assert_close(head.centres[0], x[y == 0].mean(0), rtol=1e-3, atol=1e-3)
    assert not head.centres[1].any()


@pytest.mark.parametrize("loss", _margins.LOSSES)
def test_no_loss_loses_its_slope_where_an_embedding_lies_on_a_class_vector_or_opposite(loss):
    head = Head(Kind(loss), 2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]))
    x = torch.tensor([[2.0, 0, 0], [-2.0, 0, 0], [0, 0, 0]], requires_grad=True)
    for y in (torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1])):
        for done in (0.0, 1.0):
            found = head(x, y, done)
            found.sum().backward()
            assert found.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert head.weight.grad is not None
    assert head.weight.grad.isfinite().all()


# --- distances --------------------------------------------------------------------------------------------------------


def test_distances_are_those_of_numpy():
    rng = np.random.default_rng(0)
    row, bank = rng.normal(size=6), rng.normal(size=(30, 6))
    cosine = 1 - bank @ row / np.linalg.norm(bank, axis=1) / np.linalg.norm(row)
    for measure, wanted in (("cosine", cosine), ("euclidean", np.linalg.norm(bank - row, axis=1))):
        found = _metric.distances(torch.from_numpy(row), torch.from_numpy(bank), measure).numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert (_metric.distances(torch.zeros(6), torch.from_numpy(bank), "cosine") == 1).all()


def test_one_neighbour_is_the_minimum_all_are_the_mean_and_a_share_is_counted():
    found = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert _metric.least_mean(found, 1) == found.min()
    assert float(_metric.least_mean(found, 50)) == pytest.approx(float(found.mean()))
    assert float(_metric.least_mean(found, 7)) == pytest.approx(float(found.sort().values[:7].mean()))
    assert [_metric.voters(10, share, 100) for share in (0.0, 0.1, 1.0)] == [10, 10, 100]


def test_turning_all_embeddings_leaves_the_distances():
    chance = torch.Generator().manual_seed(0)
    row, bank = torch.randn(8, generator=chance), torch.randn(20, 8, generator=chance)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=chance, dtype=torch.float64)).Q
    for measure in _metric.DISTANCES:
        before = _metric.distances(row, bank, measure)
        torch.testing.assert_close(_metric.distances(row.double() @ turn, bank.double() @ turn, measure), before)


# --- views ------------------------------------------------------------------------------------------------------------


def test_the_eight_views_of_a_picture_differ_and_the_first_is_the_picture():
    coloured = parts(1)
    for x in (coloured, coloured.mean(1, keepdim=True).expand(-1, 3, -1, -1)):
        views = [_metric.view(x, which) for which in range(_metric.VIEWS)]
        assert torch.equal(views[0], x)
        for i, one in enumerate(views):
            assert 0 <= one.min() <= one.max() <= 1
            assert not any(torch.equal(one, other) for other in views[:i])
            half_back = torch.rot90(one, -(i % 4), (2, 3))
            assert torch.equal(half_back, views[0] if i < 4 else views[4])


def test_augmentation_moves_little_mirrors_only_when_allowed_and_leaves_pictures_alone_at_strength_0():
    x = torch.zeros(64, 3, 33, 33)
    x[:, :, 10:22, 4:12] = 1.0  # left of the middle
    middle = torch.arange(33.0)

    def centre(y: Tensor) -> Tensor:
        return (y[:, 0].sum(1) * middle).sum(1) / y[:, 0].sum((1, 2))

    chance = torch.Generator().manual_seed(0)
    assert torch.equal(_metric.Jitter(0.0, False, chance)(x), x)
    plain, mirrored = (_metric.Jitter(1.0, mirror, chance)(x) for mirror in (False, True))
    assert (centre(plain) < 16).all()
    assert 10 < int((centre(mirrored) > 16).sum()) < 54
    assert 0 <= plain.min() <= plain.max() <= 1
    assert len({tuple(one.flatten().tolist()) for one in plain}) == 64


def test_one_cycle_rises_to_the_full_rate_and_falls_to_nothing():
    rates = [_metric.one_cycle(i / 100) for i in range(101)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[25] == max(rates) == 1
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] == pytest.approx(0)


# --- the method -------------------------------------------------------------------------------------------------------


class Kinds(Pictures):
    """Discs are one kind of normal, their rotated negatives the other."""

    def __iter__(self):
        n = len(self.pixels)
        names = ("disc",) * (n // 2) + ("hole",) * (n - n // 2)
        at = 0
        for batch in super().__iter__():
            yield Batch(batch.pixels, names[at : at + len(batch.pixels)])
            at += len(batch.pixels)


def world(n: int = 8, seed: int = 0) -> Tensor:
    return torch.cat([parts(n, seed), 1 - parts(n, seed + 1).transpose(2, 3)])


QUICK = {"size": 16, "embedding": 8, "warm_up": 1, "epochs": 1}


def made(seed: int = 0, **settings):
    return registry.build("metric_learning", {**QUICK, **settings}, Backbone("offline", size=64), seed)


@pytest.fixture(scope="module", params=_margins.LOSSES)
def fitted(request):
    return made(loss=request.param).fit(Kinds(world(4)))


def test_each_loss_finds_what_is_no_kind_of_normal_and_puts_kinds_beside_their_like(fitted):
    strange = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    tests = world(2, seed=50)
    found = fitted.score(torch.cat([tests, strange]))
    assert found.scores[4:].min() > found.scores[:4].max()
    nearest = [one.picture.normal for one in fitted.explain(tests)]
    assert [normal >= 4 for normal in nearest] == [False, False, True, True]
    lengths = np.linalg.norm(found.embeddings, axis=1)
    assert np.allclose(lengths, 16, rtol=1e-5) == (fitted.loss == "l2")


def test_the_trunk_learns_after_the_warm_up_and_belongs_to_the_state():
    learned = made(loss="softmax").fit(Kinds(world(4)))
    first = features.trunk(learned._backbone()).state_dict()
    kept = {name.removeprefix("network.trunk."): value for name, value in learned.state().items()}
    assert all(name in kept and kept[name].shape == value.shape for name, value in first.items())
    assert any(not torch.equal(kept[name], value) for name, value in first.items())


def test_one_kind_of_normals_is_told_by_its_views_and_the_person_hears_of_it():
    said: list[str] = []
    detector = made(k=5, share=0.5).fit(Pictures(parts(8)), lambda _, message, **numbers: said.append(message))
    assert any("of one kind only" in message for message in said)
    told = [str(sentence) for sentence in detector.remarks()]
    assert len(told) == 2
    assert "8 turned and recoloured views" in told[0]
    assert "4 smallest distances to 8 normal pictures" in told[1]
    both = made().fit(Kinds(world()))
    assert [str(sentence) for sentence in both.remarks()] == [
        "A score is the mean of the 1 smallest distances to 16 normal pictures."
    ]


def test_the_score_is_the_mean_of_the_k_smallest_distances_between_embeddings():
    state = made().fit(Kinds(world())).state()
    tests = world(2, seed=9)
    for distance in _metric.DISTANCES:
        for k in (1, 5, 16):
            found: Prediction = made(distance=distance, k=k).restore(state).score(tests)
            a, b = found.embeddings.astype(np.float64), state["bank"].double().numpy()
            if distance == "cosine":
                apart = 1 - (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
            else:
                apart = np.linalg.norm(a[:, None] - b, axis=2)
            np.testing.assert_allclose(found.scores, np.sort(apart, axis=1)[:, :k].mean(1), rtol=1e-4, atol=1e-6)


def test_the_mean_of_normalised_distances_of_the_calibrating_normals_is_exactly_1():
    scores = made().fit(Kinds(world())).score(world(6, seed=70)).scores
    calibration = thresholds.calibrate(scores, None, 0.05, cross_fitted=False)
    assert float(np.mean(scores.astype(np.float64) / calibration.unit)) == pytest.approx(1, abs=1e-9)


def test_mixup_is_for_the_losses_without_a_margin_alone():
    for loss in _margins.LOSSES:
        if loss in _margins.SOFT:
            made(loss=loss, mixup=0.4, embedding=4).fit(Kinds(world(2)))
        else:
            with pytest.raises(AdlibError, match="mixup to 0"):
                made(loss=loss, mixup=0.4).fit(Kinds(world(2)))


def test_a_timm_network_with_batch_statistics_keeps_them_and_comes_back_to_the_bit(tmp_path, monkeypatch):
    torch.manual_seed(3)
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "resnet10t.safetensors")
    monkeypatch.setenv("ADLIB_WEIGHTS", str(tmp_path))
    backbone = Backbone("resnet10t", size=64)
    learned = registry.build("metric_learning", {**QUICK, "size": 32, "loss": "softmax"}, backbone)
    before = features.trunk(learned._backbone()).state_dict()
    learned.fit(Kinds(world(3)))
    kept = {name.removeprefix("network.trunk."): value for name, value in learned.state().items()}
    changed = {name for name, value in before.items() if not torch.equal(kept[name], value)}
    assert any("conv" in name for name in changed)
    assert not any("running" in name for name in changed)
    again = registry.build("metric_learning", {**QUICK, "size": 32, "loss": "softmax"}, backbone, 1)
    tests = world(2, seed=5)
    assert np.array_equal(again.restore(learned.state()).score(tests).scores, learned.score(tests).scores)


def test_an_evaluation_tells_what_a_score_is_compared_with(workspace):
    made_set = dataset(normals=8, good=2, broken=2)
    run = store.Run.create()
    workflow.fit(workflow.Request(made_set.id, "metric_learning", QUICK, Backbone(size=64)), made_set, run)
    report = workflow.evaluate(workflow.load(run), datasets.samples(made_set)[0])
    told = [str(sentence) for sentence in report.skipped]
    fitted = run.card["normals"]["fitted"]
    assert f"A score is the mean of the 1 smallest distances to {fitted} normal pictures." in told
    assert any("8 turned and recoloured views" in sentence for sentence in told)
    assert report.image_auroc is not None
