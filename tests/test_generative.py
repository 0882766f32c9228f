"""The networks that are trained here: their mathematics beside closed forms and naive twins, and the loop they share."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import bernoulli, norm
from sklearn.decomposition import PCA
from torch import Tensor, nn

from adlib import registry
from adlib.contract import DataError, silent
from adlib.methods import pixelcnn, vae
from adlib.methods._networks import Dense, Down, Up, native_side, traced
from adlib.methods._residual import one_number, residual, ssim
from adlib.methods._training import Plan, descend, divided, gather, steps_of, train
from promises import Pictures, parts


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- residuals --------------------------------------------------------------------------------------------------------


def naive_ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pixel by pixel, window by window: an 11×11 Gaussian, cut off at the border and brought back to a sum of 1."""
    side, found = len(x), np.empty(x.shape)
    for i, j in itertools.product(range(side), repeat=2):
        rows, columns = np.mgrid[max(0, i - 5) : min(side, i + 6), max(0, j - 5) : min(side, j + 6)]
        w = np.exp(-((rows - i) ** 2 + (columns - j) ** 2) / (2 * 1.5**2))
        w /= w.sum()
        a, b = x[rows, columns], y[rows, columns]
        ma, mb = (w * a).sum(), (w * b).sum()
        va, vb, both = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum(), (w * (a - ma) * (b - mb)).sum()
        found[i, j] = (2 * ma * mb + 1e-4) * (2 * both + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return found


def test_ssim_equals_a_loop_over_windows_in_every_channel():
    x, y = noise(2, 3, 14, 14), noise(2, 3, 14, 14, seed=1)
    found = ssim(x, y)
    for b, c in itertools.product(range(2), range(3)):
        assert found[b, c].numpy() == pytest.approx(
            naive_ssim(x[b, c].double().numpy(), y[b, c].double().numpy()), abs=1e-4
        )


def test_ssim_of_a_picture_with_itself_is_one_and_of_two_flat_ones_is_known():
    x = noise(1, 3, 16, 16)
    assert ssim(x, x).numpy() == pytest.approx(1, abs=1e-5)
    a, b = 0.3, 0.8
    flat = ssim(torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b))
    assert flat.numpy() == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=1e-4)


def test_the_l1_map_sums_to_the_score_and_top_and_max_are_those_of_the_smoothed_map():
    x, y = noise(3, 3, 8, 8), noise(3, 3, 8, 8, seed=1)
    grid, smooth = residual(x, y, "l1"), noise(3, 20, 20, seed=2)
    wanted = (x - y).abs().sum((1, 2, 3)).numpy()
    assert one_number(grid, smooth, "sum", 0.01).numpy() == pytest.approx(wanted, rel=1e-5)
    assert one_number(grid, smooth, "mean", 0.01).numpy() == pytest.approx(wanted / 64, rel=1e-5)
    ordered = np.sort(smooth.flatten(1).numpy(), axis=1)[:, ::-1]
    assert one_number(grid, smooth, "max", 0.01).numpy() == pytest.approx(ordered[:, 0])
    assert one_number(grid, smooth, "top", 0.05).numpy() == pytest.approx(ordered[:, :20].mean(1))
    assert residual(x, y, "l2").numpy() == pytest.approx(((x - y) ** 2).sum(1).numpy(), abs=1e-6)


# --- the loop ---------------------------------------------------------------------------------------------------------


def numbered(n: int) -> Tensor:
    """(n, 1, 8, 8): each picture is filled with its own number."""
    return torch.arange(n, dtype=torch.float16).view(n, 1, 1, 1).expand(-1, -1, 8, 8).clone()


def test_a_linear_autoencoder_reaches_the_error_of_pca_with_as_many_components():
    chance = torch.Generator().manual_seed(0)
    hidden, ways = torch.randn(150, 6, generator=chance), torch.randn(6, 64, generator=chance)
    pictures = (0.5 + 0.05 * hidden @ ways + 0.02 * torch.randn(150, 64, generator=chance)).view(150, 1, 8, 8).half()
    torch.manual_seed(0)
    net = nn.Sequential(Dense(64, 16, 3, linear=True), Dense(3, 16, 64, linear=True))
    flat = pictures.flatten(1).float()
    centre = flat.mean(0)

    def loss(x: Tensor) -> Tensor:
        return (net(x.flatten(1) - centre) + centre - x.flatten(1)).square().mean()

    for rate in (0.005, 0.0005):
        train(net.requires_grad_(True), pictures, Plan(40, batch=150), descend(net, loss, rate))
    pca = PCA(3).fit(flat)
    best = ((pca.inverse_transform(pca.transform(flat)) - flat.numpy()) ** 2).mean()
    with torch.no_grad():
        assert best * 0.999 <= float(loss(pictures.float())) <= best * 1.01


def test_pictures_that_decide_when_to_stop_are_never_learned_from_and_come_from_the_normals_alone():
    learned: set[int] = set()
    judged: set[int] = set()
    net = nn.Linear(1, 1)

    def step(x: Tensor) -> dict[str, Tensor]:
        learned.update(x[:, 0, 0, 0].int().tolist())
        return {"fit": torch.tensor(1.0)}

    def judge(x: Tensor) -> Tensor:
        judged.update(x[:, 0, 0, 0].int().tolist())
        return torch.ones(len(x))

    train(net, numbered(43), Plan(3), step, judge)
    assert not learned & judged
    assert learned | judged == set(range(43))
    assert len(judged) == 4  # a tenth
    learned.clear()
    train(net, numbered(43), Plan(3), step)  # without a judge, all are learned from
    assert learned == set(range(43))


def test_training_stops_when_patience_is_over_and_the_best_weights_are_kept():
    net = nn.Linear(1, 1, bias=False)
    losses = iter([5.0, 3.0, 4.0, 3.5, 6.0, 1.0])
    epochs = []

    def step(x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            net.weight.add_(1)
        return {"fit": torch.tensor(1.0)}

    def hear(fraction: float, message: str, /, **numbers) -> None:
        if "losses" in numbers:
            epochs.append((numbers["losses"]["held_out"], net.weight.item()))

    best = train(
        net, numbered(10), Plan(6, patience=3), step, lambda x: torch.full((len(x),), current(losses)), tick=hear
    )
    assert [loss for loss, _ in epochs] == [5.0, 3.0, 4.0, 3.5, 6.0]  # the sixth, better still, is never reached
    assert best == 2
    assert net.weight.item() == epochs[1][1]
    assert not net.training


def current(values) -> float:
    return next(values)


@pytest.mark.parametrize("n", [2, 9, 700, 9000])
def test_an_epoch_has_between_twenty_and_a_hundred_steps(n):
    steps = 0

    def step(x: Tensor) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        return {"fit": torch.tensor(1.0)}

    pictures = torch.zeros(n, 1, 1, 1, dtype=torch.float16)
    train(nn.Linear(1, 1), pictures, Plan(2), step, lambda x: torch.zeros(len(x)))
    assert 40 <= steps <= 200
    assert steps == steps_of(n, Plan(2))


def test_a_loss_that_is_no_number_is_said_and_not_kept():
    with pytest.raises(DataError, match="smaller learning rate"):
        train(nn.Linear(1, 1), numbered(5), Plan(2), lambda x: {"fit": torch.tensor(math.nan)})


def test_grey_normals_are_held_in_one_channel_until_one_of_them_has_colour():
    grey = noise(5, 1, 20, 20).expand(-1, 3, -1, -1)
    held = gather(Pictures(grey, 2), lambda height, width, grey: 20, 10, 0, silent)
    assert held.shape == (5, 1, 20, 20)
    assert held.float().numpy() == pytest.approx(grey[:, :1].numpy(), abs=1e-3)
    mixed = torch.cat([grey, noise(1, 3, 20, 20)])
    held = gather(Pictures(mixed, 2), lambda height, width, grey: 20, 10, 0, silent)
    assert held.float().numpy() == pytest.approx(mixed.numpy(), abs=1e-3)
    assert len(gather(Pictures(mixed, 2), lambda height, width, grey: 20, 4, 0, silent)) == 4


def test_who_is_held_out_depends_on_the_seed_alone():
    rows, held = divided(100, 3)
    assert sorted([*rows.tolist(), *held.tolist()]) == list(range(100))
    assert torch.equal(divided(100, 3)[1], held)
    assert not torch.equal(divided(100, 4)[1], held)


@pytest.mark.parametrize("side", [8, 16, 28, 32, 64, 128])
def test_what_a_network_costs_is_counted_without_building_it(side):
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = Down(3, side, 4, 5), Up(3, side, 4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.down(x))

    assert native_side(side, 256, 256, dense=False) == side
    made = Pair()
    assert made(noise(2, 3, side, side)).shape == (2, 3, side, side)
    weights, _, operations = traced(Pair, 3, side, side)
    assert weights == 4 * sum(p.numel() for p in made.parameters())
    first = (side // 2) ** 2 * 4 * 3 * 16  # the first convolution's multiply-adds; the last one has as many
    assert operations > 2 * first


@pytest.mark.parametrize("method", ["autoencoder", "vae", "pixelcnn"])
def test_a_reconstruction_is_a_picture_as_large_as_the_one_given_whoever_stands_beside_it(method):
    settings = {"size": 16, "epochs": 2, "rate": 0.01}
    settings |= {"features": 6, "blocks": 1, "levels": 8} if method == "pixelcnn" else {"width": 4}
    detector = registry.build(method, settings).fit(Pictures(parts(6)))
    pixels = parts(3, seed=7, height=61, width=83)
    drawn = detector.reconstruct(pixels)
    assert drawn.shape == pixels.shape
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert torch.equal(detector.reconstruct(pixels[1:2]), drawn[1:2])
    assert (drawn - pixels).abs().mean() < (1 - drawn - pixels).abs().mean()


# --- VAE --------------------------------------------------------------------------------------------------------------


def test_the_kl_term_equals_its_closed_form_and_a_monte_carlo_estimate():
    mean, log_variance = torch.tensor([[1.0, -0.5]]), torch.tensor([[0.0, -1.0]])
    assert float(vae.divergence(mean, log_variance)) == pytest.approx(0.808940, abs=1e-6)
    assert float(vae.divergence(torch.zeros(1, 7), torch.zeros(1, 7))) == 0
    rng = np.random.default_rng(0)
    scale = np.exp(0.5 * log_variance.numpy())
    z = mean.numpy() + scale * rng.standard_normal((400_000, 2))
    drawn = (norm.logpdf(z, mean.numpy(), scale) - norm.logpdf(z)).sum(1).mean()
    assert drawn == pytest.approx(0.808940, rel=0.01)


@pytest.mark.parametrize("kind", vae.DECODERS)
def test_the_surprise_of_a_pixel_is_its_minus_log_p_but_for_a_constant(kind):
    torch.manual_seed(0)
    net = vae.Net(1, 8, True, 3, 4, kind)
    net.mean.copy_(noise(1, 8, 8).clamp(0.1, 0.9))
    x, z = noise(2, 1, 8, 8, seed=1), torch.randn(2, 3)
    with torch.no_grad():
        found, centre = net.surprise(x, z)[:, None], net.drawn(z)
        if kind == "bernoulli":
            x = x.round()
            wanted = -bernoulli.logpmf(x.numpy(), centre.numpy())
            assert net.surprise(x, z)[:, None].numpy() == pytest.approx(wanted, rel=1e-4)
            return
        log_s2 = net.log_variance if kind == "gaussian" else net.spread(z).view(2, 1, 8, 8) - 4
        log_s2 = log_s2.clamp(vae.LEAST, vae.MOST)
        highest = -norm.logpdf(0, 0, math.exp(vae.LEAST / 2))
        wanted = -norm.logpdf(x.numpy(), centre.numpy(), (0.5 * log_s2).exp().numpy()) - highest
    assert found.numpy() == pytest.approx(wanted, rel=1e-3)
    assert (found >= 0).all()


def test_the_bound_is_the_reconstruction_probability_and_the_kl_term():
    settings = {"network": "dense", "size": 12, "code": 4, "epochs": 1, "draws": 3}
    detector = registry.build("vae", settings).fit(Pictures(parts(6)))
    scores = {}
    for detector.summary in ("elbo", "probability", "kl"):
        scores[detector.summary] = detector.score(parts(3, seed=7)).scores
    assert scores["elbo"] == pytest.approx(scores["probability"] + scores["kl"], rel=1e-6)
    mean, log_variance = detector.network_.encode(
        nn.functional.interpolate(parts(3, seed=7), 12, mode="bilinear", antialias=True)
    )
    wanted = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    assert scores["kl"] == pytest.approx(wanted.numpy(), rel=1e-4)


# --- PixelCNN ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colours", [1, 3])
def test_a_value_is_predicted_from_those_before_it_and_from_no_other(colours):
    torch.manual_seed(0)
    net = pixelcnn.Net(colours, 2, 12, 2)
    x = torch.randn(1, colours, 5, 5, requires_grad=True)
    logits = net.layers(x).view(2, colours, 5, 5)
    looked_at = 0
    for c, i, j in itertools.product(range(colours), range(5), range(5)):
        (slope,) = torch.autograd.grad(logits[:, c, i, j].sum(), x, retain_graph=True)
        for d, k, m in itertools.product(range(colours), range(5), range(5)):
            if (k, m, d) >= (i, j, c):
                assert slope[0, d, k, m] == 0
            else:
                looked_at += int(slope[0, d, k, m] != 0)
    assert looked_at > 25 * colours


@pytest.mark.parametrize(("colours", "levels", "height", "width"), [(1, 2, 2, 4), (3, 2, 1, 2), (1, 4, 2, 2)])
def test_the_probabilities_of_all_pictures_add_up_to_one(colours, levels, height, width):
    torch.manual_seed(1)
    net = pixelcnn.Net(colours, levels, 6, 1)
    every = torch.tensor(list(itertools.product(range(levels), repeat=colours * height * width)))
    x = (every.float() + 0.5).view(-1, colours, height, width) / levels
    with torch.no_grad():
        p = 2.0 ** -net.bits(x).double().flatten(1).sum(1)
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    assert p.max() > 1.5 * p.min()  # and they are not all the same


def test_a_model_that_knows_nothing_takes_eight_bits_a_value():
    net = pixelcnn.Net(1, 256, 4, 1)
    nn.init.zeros_(net.layers[-1].weight)
    nn.init.zeros_(net.layers[-1].bias)
    with torch.no_grad():
        assert net.bits(noise(2, 1, 6, 6)).numpy() == pytest.approx(8, abs=1e-5)


def test_the_corrected_score_is_the_likelihood_less_the_size_as_png():
    settings = {"size": 12, "levels": 4, "features": 6, "blocks": 1, "epochs": 1}
    detector = registry.build("pixelcnn", settings).fit(Pictures(parts(6)))
    flat, busy = torch.full((1, 3, 12, 12), 0.5), noise(1, 3, 12, 12)
    plain = [float(detector.score(one).scores[0]) for one in (flat, busy)]
    detector.summary = "corrected"
    corrected = [float(detector.score(one).scores[0]) for one in (flat, busy)]
    saved = [a - b for a, b in zip(plain, corrected, strict=True)]
    steps = (busy[0] * 4).long().clamp(0, 3).numpy().astype(np.uint8)
    assert saved[1] == pytest.approx(pixelcnn.png_bits(steps) / steps.size, abs=1e-4)
    assert saved[0] < saved[1]  # a flat picture takes fewer bits as PNG
