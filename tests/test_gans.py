"""Networks against each other: their mathematics beside closed forms, least squares and naive formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib import registry
from adlib.methods import anogan, egbad
from adlib.methods._gan import CALM, EAGER, Discriminator, Generator, adversarial, follow, gradient_penalty, within
from promises import Pictures, parts

QUICK: dict[str, dict[str, Any]] = {
    "anogan": {"size": 16, "width": 4, "code": 6, "epochs": 1, "steps": 8, "candidates": 8},
    "f_anogan": {"size": 16, "width": 4, "code": 6, "epochs": 1, "encoder_epochs": 1},
    "egbad": {"size": 16, "width": 4, "code": 6, "epochs": 1},
}


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grey(n: int, seed: int = 0, side: int = 16) -> Tensor:
    return parts(n, seed=seed, height=side, width=side).mean(1, keepdim=True).expand(-1, 3, -1, -1)


# --- the steps --------------------------------------------------------------------------------------------------------


def test_the_penalty_of_a_linear_critic_is_known_wherever_it_is_looked_at():
    a = torch.randn(1, 2, 3, generator=chance())
    found = gradient_penalty(
        lambda x: (a * x).flatten(1).sum(1), torch.rand(5, 1, 2, 3), torch.rand(5, 1, 2, 3), chance()
    )
    assert float(found) == pytest.approx((float(a.norm()) - 1) ** 2, rel=1e-5)
    assert float(gradient_penalty(lambda x: a.norm() * x[:, 0], torch.rand(5, 1), torch.rand(5, 1), chance())) == (
        pytest.approx((float(a.norm()) - 1) ** 2, rel=1e-5)
    )


def test_the_penalty_can_be_descended_and_looks_between_real_and_drawn_pictures():
    seen: list[Tensor] = []
    weight = torch.tensor(3.0, requires_grad=True)

    def critic(x: Tensor) -> Tensor:
        seen.append(x)
        return weight * x.flatten(1).sum(1)

    real, fake = torch.zeros(200, 1, 2, 2), torch.ones(200, 1, 2, 2)
    gradient_penalty(critic, real, fake, chance()).backward()
    assert weight.grad.item() == pytest.approx(2 * (6 - 1) * 2, rel=1e-5)  # d/dw (2w - 1)²
    flat = seen[0].detach().flatten(1)
    assert (flat == flat[:, :1]).all()  # one share for a whole picture
    assert flat.min() < 0.05
    assert flat.max() > 0.95
    assert abs(flat.mean() - 0.5) < 0.1


def test_a_penalised_critic_tells_how_far_two_shifted_bells_are_apart():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimiser = torch.optim.Adam(critic.parameters(), lr=0.01)
    at, shift, distances = chance(), 2.0, []
    for _ in range(400):
        real, fake = torch.randn(128, 1, generator=at) + shift, torch.randn(128, 1, generator=at)
        distance = critic(real).mean() - critic(fake).mean()
        loss = 10 * gradient_penalty(lambda x: critic(x)[:, 0], real, fake, at) - distance
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        distances.append(float(distance.detach()))
    assert 0.9 * shift < np.mean(distances[-100:]) < 1.1 * shift


@pytest.mark.parametrize("start", [CALM, EAGER])
def test_a_generator_begins_with_the_mean_of_the_normals_and_an_eager_one_leaves_it_faster(start):
    torch.manual_seed(0)
    generator, z = Generator(1, 8, 4, 8, start), torch.randn(16, 4, generator=chance())
    generator.mean.copy_(torch.linspace(0, 1, 64).view(1, 8, 8))
    edge, gain = start
    with torch.no_grad():
        apart = torch.logit(generator(z)) - torch.logit(generator.mean.clamp(edge, 1 - edge))
        torch.testing.assert_close(apart, gain * generator.layers(z), rtol=1e-3, atol=1e-5)
        assert (generator(z) - generator.mean).abs().mean() < 0.1


@pytest.mark.parametrize(("start", "rate", "steps"), [(CALM, 0.005, 250), (EAGER, 0.002, 400)])
def test_a_generator_learns_to_draw_both_kinds_of_normal(start, rate, steps):
    kinds = torch.full((2, 1, 8, 8), 0.2)
    kinds[0, :, :, :4] = kinds[1, :, :, 4:] = 0.8
    torch.manual_seed(0)
    generator, discriminator = Generator(1, 8, 4, 8, start), Discriminator(1, 8, 8)
    generator.mean.fill_(0.5)
    z = torch.randn(64, 4, generator=chance(1))
    step = adversarial(generator, discriminator, rate, chance())
    for _ in range(steps):
        step(kinds.repeat(16, 1, 1, 1))
    with torch.no_grad():
        apart = (generator(z)[:, None] - kinds).abs().mean((2, 3, 4))  # (64, 2)
    assert apart.min(1).values.mean() < 0.15  # 0.3 for the mean of both, with which it begins
    assert 5 < int(apart.argmin(1).sum()) < 59  # neither kind is forgotten


def test_the_running_mean_moves_quickly_at_first_and_then_slowly():
    steady, learner = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    value = 0.0
    nn.init.zeros_(steady.weight)
    for i in range(30):
        nn.init.constant_(learner.weight, float(i % 3))
        follow(steady, learner, i)
        keep = (1 + i) / (10 + i)
        value = keep * value + (1 - keep) * (i % 3)
        assert steady.weight.item() == pytest.approx(value, abs=1e-5)
    follow(steady, learner, 10**9)
    assert steady.weight.item() == pytest.approx(0.998 * value + 0.002 * 2, abs=1e-5)


def test_codes_within_reach_stay_and_longer_ones_are_cut_to_it():
    z = torch.randn(50, 9, generator=chance())
    cut = within(z, 1.0)
    lengths = z.norm(dim=1)
    assert torch.equal(cut[lengths <= 3], z[lengths <= 3])
    assert cut[lengths > 3].norm(dim=1).numpy() == pytest.approx(3, rel=1e-5)
    assert F.cosine_similarity(cut, z).numpy() == pytest.approx(1, abs=1e-5)
    assert torch.equal(within(torch.zeros(2, 9), 1.0), torch.zeros(2, 9))


# --- AnoGAN -----------------------------------------------------------------------------------------------------------


class Flat(nn.Module):
    """A linear generator and its least squares, in place of a learned one."""

    def __init__(self, matrix: Tensor, side: int) -> None:
        super().__init__()
        self.matrix, self.code, self.side = matrix, matrix.shape[1], side

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.matrix.T).view(len(z), 1, self.side, self.side)


class Stub(nn.Module):
    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, Discriminator(1, 8, 4)


def test_the_search_in_a_linear_generator_ends_at_the_least_squares_of_each_picture():
    matrix = torch.randn(64, 5, generator=chance())
    x = torch.randn(16, 1, 8, 8, generator=chance(1))
    settings = {"weight": 0.0, "norm": "l2", "reach": 1000.0, "candidates": 4, "restarts": 1, "code": 5}
    detector = registry.build("anogan", settings | {"steps": 400, "step_length": 0.05})
    detector.starts_ = torch.randn(4, 5, generator=chance(2))
    z = detector.search(Stub(Flat(matrix, 8)), x)
    wanted = np.linalg.lstsq(matrix.numpy(), x.flatten(1).numpy().T, rcond=None)[0].T
    assert z.numpy() == pytest.approx(wanted, abs=0.002)


def test_a_picture_that_the_generator_draws_scores_lower_than_the_same_with_a_patch():
    detector = registry.build("anogan", {**QUICK["anogan"], "steps": 60, "epochs": 4}).fit(Pictures(grey(12)))
    net = detector.network_
    with torch.no_grad():
        x = net.generator(torch.randn(4, 6, generator=chance(5))).expand(-1, 3, -1, -1).contiguous()
    broken = x.clone()
    broken[:, :, 4:8, 4:8] = 1 - broken[:, :, 4:8, 4:8].round()
    calm, alarmed = detector.score(x), detector.score(broken)
    assert alarmed.scores.min() > 3 * calm.scores.max()
    assert (alarmed.maps[:, 4:8, 4:8].mean((1, 2)) > 5 * calm.maps[:, 4:8, 4:8].mean((1, 2))).all()


def test_more_steps_and_more_searches_come_nearer():
    detector = registry.build("anogan", {**QUICK["anogan"], "epochs": 3, "weight": 0.0}).fit(Pictures(grey(12)))
    x, net, found = grey(16, seed=3)[:, :1], detector.network_, []
    for detector.steps, detector.restarts in ((1, 1), (10, 1), (60, 1), (60, 8)):
        with torch.no_grad():
            found.append(float((net.generator(detector.search(net, x)) - x).abs().mean()))
    assert found == sorted(found, reverse=True)
    assert found[0] > found[2]


@pytest.mark.parametrize("method", QUICK)
def test_a_picture_scores_the_same_beyond_the_rows_that_are_scored_at_once(method):
    detector = registry.build(method, QUICK[method]).fit(Pictures(grey(6)))
    tests = grey(19, seed=7)
    whole = detector.score(tests)
    for some in ([18], [17, 2], [5]):
        alone = detector.score(tests[some])
        assert np.array_equal(alone.scores, whole.scores[some])
        assert np.array_equal(alone.maps, whole.maps[some])


# --- scores beside naive formulas -----------------------------------------------------------------------------------------


def pair(method: str, **settings: Any) -> tuple[Any, Tensor, Tensor]:
    """A fitted detector, six grey pictures, and what it draws in their place, both (6, 1, 16, 16)."""
    detector = registry.build(method, QUICK[method] | settings).fit(Pictures(grey(6)))
    x = grey(6, seed=7)
    with torch.no_grad():
        drawn = detector.network_(x[:, :1])
    assert (drawn - x[:, :1]).abs().max() > 0.01
    return detector, x, drawn


def test_the_score_of_f_anogan_is_that_of_the_paper():
    detector, x, drawn = pair("f_anogan", weight=0.25)
    net = detector.network_
    with torch.no_grad():
        apart = net.critic.body(2 * x[:, :1] - 1) - net.critic.body(2 * drawn - 1)
        pixels = (x[:, :1] - drawn).square().numpy()
    wanted = [0.75 * pixels[i].mean() + 0.25 * (apart[i].numpy() ** 2).mean() for i in range(6)]
    assert detector.score(x).scores == pytest.approx(wanted, rel=1e-4)
    code = net.code(x[:, :1])
    assert code.norm(dim=1).max() <= math.sqrt(6) * 1.0001
    assert detector.score(x).embeddings == pytest.approx(code.numpy(), abs=1e-5)


def test_the_score_of_egbad_takes_the_same_code_in_both_pairs():
    detector, x, drawn = pair("egbad", weight=0.3)
    net = detector.network_
    with torch.no_grad():
        z = net.encoder(x[:, :1])
        apart = [net.discriminator.features(one, z) for one in (x[:, :1], drawn)]
        wanted = 0.7 * (x[:, :1] - drawn).abs().mean((1, 2, 3)) + 0.3 * (apart[0] - apart[1]).abs().mean(1)
    assert detector.score(x).scores == pytest.approx(wanted.numpy(), rel=1e-4)


def test_the_score_of_egbad_is_zero_where_the_encoder_undoes_the_generator():
    detector = registry.build("egbad", {"code": 64})
    net = egbad.Net(1, 8, 64, 4)
    turned = torch.linalg.qr(torch.randn(64, 64, generator=chance()))[0]
    net.generator = Flat(turned, 8)  # orthogonal, so that its transpose is its inverse
    net.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 64, bias=False))
    net.encoder[1].weight = nn.Parameter(turned.T)
    with torch.no_grad():
        drawn, apart, _ = detector._look(net, x := torch.rand(3, 1, 8, 8, generator=chance(1)))
    assert drawn.numpy() == pytest.approx(x.numpy(), abs=1e-5)
    assert apart.numpy() == pytest.approx(0, abs=1e-5)


def test_the_encoder_and_the_generator_of_a_bigan_have_opposite_labels():
    torch.manual_seed(0)
    net = egbad.Net(1, 8, 5, 4)
    net.discriminator.head.bias = nn.Parameter(torch.tensor([0.7]))  # so that the labels matter
    x = torch.rand(12, 1, 8, 8, generator=chance(1))
    z = torch.randn(12, 5, generator=chance())
    with torch.no_grad():
        real = torch.sigmoid(net.discriminator(x, net.encoder(x)))
        false = torch.sigmoid(net.discriminator(net.generator(z), z))
    losses = egbad.bidirectional(net, 1e-7, chance())(x)
    assert float(losses["discriminator"]) == pytest.approx(
        float(-(real.log().mean() + (1 - false).log().mean())), rel=1e-3
    )
    assert float(losses["generator"]) == pytest.approx(float(-false.log().mean()), rel=1e-3)
    assert float(losses["encoder"]) == pytest.approx(float(-(1 - real).log().mean()), rel=1e-3)


# --- seen while it trains -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", QUICK)
def test_every_epoch_tells_the_same_losses_and_the_strips_show_what_is_drawn(method):
    told: list[tuple[int, frozenset[str]]] = []
    strips: dict[int, np.ndarray] = {}

    def hear(fraction: float, message: str, /, **numbers: Any) -> None:
        if "losses" in numbers:
            told.append((numbers["epoch"], frozenset(numbers["losses"])))
            assert numbers["epochs"] == 3
        if "pictures" in numbers:
            strips[numbers["epoch"]] = numbers["pictures"]

    settings = (
        {**QUICK[method], "epochs": 2, "encoder_epochs": 1} if method == "f_anogan" else {**QUICK[method], "epochs": 3}
    )
    registry.build(method, settings).fit(Pictures(grey(20)), hear)
    assert [epoch for epoch, _ in told] == [1, 2, 3]
    assert len({names for _, names in told}) == 1
    assert {"generator"} < told[0][1]
    assert {1, 2} <= strips.keys()
    below = strips[2][:, 16:]
    assert strips[2].shape[1:] == (32, 16, 3)
    assert below.std() > 5


@pytest.mark.parametrize("method", ["f_anogan", "egbad"])
def test_a_reconstruction_resembles_the_picture_more_than_its_negative(method):
    detector = registry.build(method, QUICK[method]).fit(Pictures(parts(6)))
    pixels = parts(3, seed=7, height=61, width=83)
    drawn = detector.reconstruct(pixels)
    assert drawn.shape == pixels.shape
    assert (drawn - pixels).abs().mean() < (1 - drawn - pixels).abs().mean()


def test_a_discriminator_asked_for_its_features_says_what_its_head_judges_by():
    torch.manual_seed(0)
    net = anogan.Net(3, 16, 5, 4)
    x = torch.rand(4, 3, 16, 16)
    judged = net.discriminator.features(x) @ net.discriminator.head.weight[0] + net.discriminator.head.bias
    assert net.discriminator(x).detach().numpy() == pytest.approx(judged.detach().numpy(), abs=1e-5)
