"""GANomaly and Skip-GANomaly: their scores and steps beside the formulas, and what their networks may and may not do."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from adlib import metrics, registry
from adlib.contract import Tick
from adlib.methods import ganomaly, skip_ganomaly
from adlib.methods._networks import resized
from promises import Pictures, damaged, parts

SMALL = {"size": 16, "width": 4, "epochs": 2}
METHODS = ("ganomaly", "skip_ganomaly")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def networks(method: str, side: int = 16) -> nn.Module:
    torch.manual_seed(0)
    return ganomaly.Net(3, side, 6, 4) if method == "ganomaly" else skip_ganomaly.Net(3, side, 4)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_ganomalys_score_is_the_distance_of_the_two_codes():
    detector = registry.build("ganomaly", {**SMALL, "code": 6, "summary": "codes"}).fit(Pictures(parts(6)))
    tests = torch.cat([parts(3, seed=7), damaged(parts(2, seed=8))])
    found = detector.score(tests)
    net = detector.network_.generator
    for i, picture in enumerate(resized(tests, 16)):
        with torch.no_grad():
            code = net.encoder(picture[None])[0]
            again = net.again(net.decoder(code[None]))[0]
        wanted = sum(abs(float(a) - float(b)) for a, b in zip(code, again, strict=True)) / 6
        assert found.scores[i] == pytest.approx(wanted, rel=1e-4)
        assert found.embeddings[i] == pytest.approx(code.numpy(), rel=1e-3, abs=1e-5)


def test_the_codes_are_the_usual_score_of_small_grey_pictures_and_the_residual_that_of_others():
    grey, colour = noise(6, 1, 16, 16).expand(-1, 3, -1, -1), noise(6, 3, 16, 16)
    for pictures, usual in ((grey, "codes"), (colour, "top")):
        detector = registry.build("ganomaly", {**SMALL, "code": 6}).fit(Pictures(pictures))
        found = detector.score(pictures).scores
        detector.summary = usual
        assert np.array_equal(detector.score(pictures).scores, found)
        detector.summary = "top" if usual == "codes" else "codes"
        assert not np.allclose(detector.score(pictures).scores, found, rtol=0.01)


def test_a_picture_that_is_drawn_again_exactly_scores_nothing_with_the_same_encoder_twice():
    net, x = networks("ganomaly").generator, noise(3, 3, 16, 16)

    class Known(nn.Module):
        def forward(self, code: Tensor) -> Tensor:
            return x

    net.decoder = Known()
    assert (ganomaly.distance(net(x)[0], net(x)[2]) > 0).all()  # two encoders that have not met
    net.again.load_state_dict(net.encoder.state_dict())
    code, drawn, again = net(x)
    assert torch.equal(drawn, x)
    assert torch.equal(ganomaly.distance(code, again), torch.zeros(3))


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_skip_ganomalys_score_weighs_pixels_and_features(weight):
    detector = registry.build("skip_ganomaly", {**SMALL, "summary": "mean", "weight": weight}).fit(Pictures(parts(6)))
    tests = torch.cat([parts(2, seed=7), damaged(parts(2, seed=8))])
    found = detector.score(tests).scores
    net = detector.network_
    for score, picture in zip(found, resized(tests, 16), strict=True):
        with torch.no_grad():
            drawn = net.generator(picture[None])
            here, there = (net.discriminator.features(x).numpy().ravel() for x in (picture[None], drawn))
        pixels = ((picture - drawn[0]).numpy() ** 2).sum(0).mean()
        assert score == pytest.approx((1 - weight) * pixels + weight * ((here - there) ** 2).mean(), rel=1e-3)


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_training_and_test_are_the_same_function(method):
    net, x = networks(method), noise(4, 3, 16, 16)
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.Dropout) for layer in net.modules())
    with torch.no_grad():
        drawn = [net.train(training).generator(x) for training in (True, False)]
    for one, other in zip(*([d] if isinstance(d, Tensor) else d for d in drawn), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_ends_with_networks_that_cannot_learn_any_more(method):
    net = registry.build(method, SMALL).fit(Pictures(parts(6))).network_
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())


@pytest.mark.parametrize("side", [8, 16, 28, 32, 64, 128])
def test_every_size_comes_back_as_it_was(side):
    x = noise(2, 3, side, side)
    with torch.no_grad():
        code, drawn, again = networks("ganomaly", side).generator(x)
        assert code.shape == again.shape == (2, 6)
        assert drawn.shape == x.shape
        assert networks("skip_ganomaly", side).generator(x).shape == x.shape


@pytest.mark.parametrize("method", METHODS)
def test_an_untrained_network_draws_the_mean_of_the_normals(method):
    net, mean = networks(method), noise(3, 16, 16).clamp(0.1, 0.9)
    drawing = net.generator.decoder if method == "ganomaly" else net.generator
    drawing.mean.copy_(mean)
    with torch.no_grad():
        drawn = net.generator(noise(2, 3, 16, 16, seed=1))
    drawn = drawn[1] if method == "ganomaly" else drawn
    assert (drawn - mean).abs().mean() < 0.25 * (noise(2, 3, 16, 16, seed=1) - mean).abs().mean()


def test_what_is_drawn_depends_on_every_level_and_not_only_through_the_narrowest():
    net = networks("skip_ganomaly", 64).generator
    with torch.no_grad():
        one, other = net.levels(noise(1, 3, 64, 64)), net.levels(noise(1, 3, 64, 64, seed=1))
        assert [tuple(level.shape[1:]) for level in one] == [(4, 32, 32), (8, 16, 16), (16, 8, 8)]
        whole = net.drawn(one)
        for i in range(3):
            assert not torch.equal(net.drawn([*one[:i], other[i], *one[i + 1 :]]), whole)
        blind = [torch.zeros_like(one[-1])]  # nothing comes through the bottleneck: only the skips tell the two apart
        assert not torch.equal(net.drawn([*one[:-1], *blind]), net.drawn([*other[:-1], *blind]))


# --- steps ------------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, real: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_one_of_the_discriminator_and_then_one_of_the_generator_by_the_papers_losses(method):
    net, x = networks(method), noise(5, 3, 16, 16)
    twin = copy.deepcopy(net)
    if method == "ganomaly":
        found = ganomaly.redrawn(net, 0.01, 50.0)(x)
    else:
        found = skip_ganomaly.redrawn(net, 0.01, 50.0, 0.0, torch.Generator())(x)

    optimisers = [torch.optim.Adam(n.parameters(), 0.01, (0.5, 0.999)) for n in (twin.discriminator, twin.generator)]
    made = twin.generator(x)
    drawn = made[1] if method == "ganomaly" else made
    told = cross_entropy(twin.discriminator(x), 1.0) + cross_entropy(twin.discriminator(drawn.detach()), 0.0)
    told.backward()
    optimisers[0].step()
    features = (twin.discriminator.features(drawn) - twin.discriminator.features(x).detach()).square().mean()
    pixels = ((2 * x - 1) - (2 * drawn - 1)).abs().mean()  # in [-1, 1]
    last = (
        (made[2] - made[0]).square().mean() if method == "ganomaly" else cross_entropy(twin.discriminator(drawn), 1.0)
    )
    (features + 50 * pixels + last).backward()
    optimisers[1].step()

    assert float(found["discriminator"]) == pytest.approx(float(told.detach()), rel=1e-5)
    assert float(found["pixels"]) == pytest.approx(float(pixels.detach()), rel=1e-5)
    assert float(found["features"]) == pytest.approx(float(features.detach()), rel=1e-3)
    for (name, ours), theirs in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4), name
    assert all(weight.requires_grad for weight in net.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_every_epoch_tells_its_losses_and_shows_what_is_drawn(method):
    losses, strips = [], []

    def hear(fraction: float, message: str, /, **numbers) -> None:
        if "losses" in numbers:
            losses.append(numbers["losses"])
        if "pictures" in numbers:
            strips.append(numbers["pictures"])

    listening: Tick = hear
    detector = registry.build(method, {**SMALL, "epochs": 4, "rate": 0.003})
    detector.fit(Pictures(parts(9)), listening)
    assert [set(one) >= {"pixels", "features", "discriminator"} for one in losses] == [True] * 4
    assert losses[-1]["pixels"] < losses[0]["pixels"]
    assert [strip.shape[1:] for strip in strips] == [(32, 16, 3)] * 3  # after 1, 2 and 4 epochs, two pictures high


# --- together ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_reconstruction_is_a_picture_as_large_as_the_one_given_whoever_stands_beside_it(method):
    detector = registry.build(method, SMALL).fit(Pictures(parts(6)))
    pixels = parts(3, seed=7, height=61, width=83)
    drawn = detector.reconstruct(pixels)
    assert drawn.shape == pixels.shape
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert torch.equal(detector.reconstruct(pixels[1:2]), drawn[1:2])
    assert (drawn - pixels).abs().mean() < (1 - drawn - pixels).abs().mean()


def test_ganomaly_tells_a_digit_from_the_others_by_its_codes():
    digits = load_digits()
    pixels = torch.from_numpy(digits.images / 16).float()[:, None].expand(-1, 3, -1, -1)
    learned = (digits.target == 0) & (np.arange(len(pixels)) % 2 == 0)
    tests = ~learned & (np.arange(len(pixels)) % 3 == 0)
    detector = registry.build("ganomaly", {"epochs": 6, "width": 8, "code": 16}).fit(Pictures(pixels[learned], 32))
    area = metrics.auroc((digits.target[tests] != 0).astype(int), detector.score(pixels[tests]).scores)
    assert area > 0.85
