"""The task without a teacher: what must not matter, what must, and that the two are told apart where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.change import Change, defects, drawn_over, nearby, nuisance, seen
from training.outlines import CHANNELS, outlines
from training.pictures import picture
from training.pool import batch
from training.train import Recipe, Run


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack([picture(0, index, 64) for index in range(8)])


def smooth(count: int, side: int) -> torch.Tensor:
    """Pictures without detail, so that resampling them twice loses nothing."""
    noise = torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return (0.5 + 0.2 * F.interpolate(noise, size=(side, side), mode="bicubic")).clamp(0, 1)


def test_the_second_view_shows_the_place_that_is_computed():
    x, place = smooth(6, 64), nearby(np.random.default_rng(1), 6)
    view = seen(x, place, 64)
    for i, (u, v) in enumerate([(0.5, -0.25), (0.0, 0.0), (-0.5, 0.5), (0.2, 0.2), (-0.1, -0.5), (0.5, 0.5)]):
        there = place[i, :, :2] @ torch.tensor([u, v]) + place[i, :, 2]  # in the first view, -1 to 1
        wanted = F.grid_sample(x[i : i + 1], there[None, None, None], align_corners=False).flatten()
        found = F.grid_sample(view[i : i + 1], torch.tensor([[[[u, v]]]]), align_corners=False).flatten()
        torch.testing.assert_close(found, wanted, atol=0.01, rtol=0)


def test_maps_are_seen_at_the_same_places_as_pictures():
    x, place = smooth(4, 128), nearby(np.random.default_rng(2), 4)
    wanted, coarse = F.avg_pool2d(seen(x, place, 128), 8), F.avg_pool2d(x, 8)
    inside = F.affine_grid(place, [4, 1, 16, 16], align_corners=False).abs().amax(-1) < 0.9

    def gap(found: torch.Tensor) -> float:
        return float((found - wanted).abs().mean(1)[inside].mean())

    assert gap(seen(coarse, place, 16)) < 0.1 * gap(coarse)


def test_a_defect_changes_the_picture_where_its_mask_is_and_nowhere_else():
    rng = np.random.default_rng(3)
    x, mask = batch(np.stack([picture(0, i, 64) for i in range(8)]), rng, 8, 48), defects(rng, 8, 48)
    spoilt = drawn_over(x, mask, rng)
    assert mask.min() >= 0
    assert 0.5 < mask.max() <= 1
    assert spoilt.min() >= 0
    assert spoilt.max() <= 1
    assert torch.equal(spoilt[(mask == 0).expand_as(x)], x[(mask == 0).expand_as(x)])
    assert (spoilt - x).abs().mean(1, keepdim=True)[mask > 0.5].mean() > 0.05


def test_nuisances_leave_shapes_in_place():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = (((x - 40) ** 2 + (y - 20) ** 2) < 144).float()
    views = (0.2 + 0.6 * disc).expand(8, 3, 64, 64)
    found = nuisance(views, np.random.default_rng(4))
    assert (found - views).abs().mean() > 0.02
    flat = [(z - z.mean((2, 3), keepdim=True)).mean(1).flatten(1) for z in (views, found)]
    assert F.cosine_similarity(*flat).min() > 0.8


def test_every_draw_comes_from_the_generator(pictures):
    x = batch(pictures, np.random.default_rng(9), 4, 48)

    def views(seed: int) -> torch.Tensor:
        rng = np.random.default_rng(seed)
        return nuisance(drawn_over(seen(x, nearby(rng, 4), 48), defects(rng, 4, 48), rng), rng)

    assert torch.equal(views(5), views(5))
    assert not torch.equal(views(5), views(6))


def test_training_lowers_the_loss(pictures):
    run = Run(Recipe(("change",), steps=200, pixels=8 * 48 * 48, sides=((48, 1),), rate=0.02), pictures)

    def loss() -> float:
        rng = np.random.default_rng(100)
        with torch.no_grad():
            return float(run.tasks[0].loss(run.student, batch(pictures, rng, 8, 48), rng))

    before = loss()
    for _ in range(20):
        run.step()
    assert loss() < 0.95 * before


def codes(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_second_question_is_the_logistic_loss_of_both_kinds_of_cells():
    task = Change()
    one, two = codes(2, 64, 4, 4), codes(2, 64, 4, 4, seed=1)
    kinds = np.random.default_rng(0).choice([0, 1, 2], (2, 4, 4))  # untouched, drawn over, left out
    same, other = torch.from_numpy(kinds == 0), torch.from_numpy(kinds == 1)
    found = float(task._changed(one, two, same, other, 1).detach())
    lost: dict[int, list[float]] = {0: [], 1: []}
    for b, y, x in np.ndindex(2, 4, 4):
        if (kind := int(kinds[b, y, x])) < 2:
            chance = 1 / (1 + np.exp(-(5 * float(one[b, :, y, x] @ two[b, :, y, x]) - 2)))
            lost[kind].append(-np.log(chance if kind == 0 else 1 - chance))
    assert found == pytest.approx(np.mean(lost[0]) + np.mean(lost[1]), rel=1e-4)


def test_the_first_question_spares_other_untouched_cells_of_the_same_picture():
    """With codes of a picture all equal, only cells drawn over and other pictures are wrong answers."""
    task = Change()
    each = torch.eye(64)[:2]  # one code a picture
    one = each[:, :, None, None].expand(2, 64, 8, 8).contiguous()
    same, other = torch.ones(2, 8, 8, dtype=torch.bool), torch.zeros(2, 8, 8, dtype=torch.bool)
    n, right = task.cells, float(np.exp(1 / task.warmth))
    found = float(task._which(one, one, same, other, np.random.default_rng(0)))
    assert found == pytest.approx(np.log((right + n) / right), rel=1e-3)  # n cells of the other picture
    same[:, :, 4:], other[:, :, 4:] = False, True
    harder = float(task._which(one, one, same, other, np.random.default_rng(0)))
    assert harder > 1.0  # cells drawn over look the same here, and are now wrong answers


def test_a_batch_without_defects_still_has_a_loss(pictures, monkeypatch):
    monkeypatch.setattr("training.change.defects", lambda rng, count, side: torch.zeros(count, 1, side, side))
    run = Run(Recipe(("change",), steps=2, pixels=4 * 32 * 32, sides=((32, 1),)), pictures)
    assert isinstance(run.tasks[0], Change)
    assert np.isfinite(run.step()["change"])


def test_outlines_tell_direction_and_not_light():
    side = torch.linspace(-1, 1, 64)
    told = {}
    for name, ramp in (("upright", side[None, :].expand(64, 64)), ("flat", side[:, None].expand(64, 64))):
        bar = (0.2 + 0.5 * (ramp.abs() < 0.3))[None, None].expand(1, 3, -1, -1)
        told[name] = outlines(bar, 8)[0]
        assert told[name].shape == (CHANNELS, 8, 8)
        darker = outlines(0.6 * bar, 8)[0]
        torch.testing.assert_close(darker[:8], told[name][:8], atol=0.35, rtol=0.1)
    torch.testing.assert_close(told["flat"][0].T, told["upright"][4])  # the first angle and the one across
    assert told["upright"][:8].sum((1, 2)).argmax() == 0
    assert told["flat"][:8].sum((1, 2)).argmax() == 4
    plain = outlines(torch.full((1, 3, 64, 64), 0.4), 8)
    assert plain[:, :8].abs().max() < 0.01 > plain[:, -3:].abs().max()


def test_a_student_can_be_asked_for_outlines_too(pictures):
    run = Run(Recipe(("change+outlines",), steps=30, pixels=6 * 64 * 64, sides=((64, 1),)), pictures)
    assert {"mean0", "std2"} <= run.tasks[0].state_dict().keys()  # kept with the run
    first = run.step()["change+outlines"]
    for _ in range(12):
        last = run.step()["change+outlines"]
    assert last < 0.9 * first
