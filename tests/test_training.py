"""The tool that makes the built-in backbone: its pictures, its steps, and the file that it leaves for the app."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from adlib import features, offline
from adlib.contract import Backbone
from adlib.weights import about
from training import __main__ as training_main
from training import pool, shipped, speed, textures
from training.export import export
from training.pictures import SCENES, picture
from training.student import plain, sized, standardised, trainable
from training.tasks import Teacher
from training.train import Recipe, Run, probe, rate, recipe_of, train

TINY = Recipe(("contrast",), steps=6, pixels=4 * 32 * 32, sides=((32, 1), (48, 1)))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack([picture(0, index, 64) for index in range(8)])


@pytest.fixture
def teacher(tmp_path, monkeypatch) -> None:
    torch.manual_seed(3)
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "resnet10t.safetensors")
    monkeypatch.setenv("ADLIB_WEIGHTS", str(tmp_path))


def test_a_picture_depends_on_seed_and_number_alone(tmp_path):
    pool.make(tmp_path / "pool.npy", count=3, side=40, seed=5, processes=2)
    made = np.load(tmp_path / "pool.npy")
    assert made.shape == (3, 40, 40, 3)
    assert all(np.array_equal(made[index], picture(5, index, 40)) for index in (2, 0, 1))
    assert not np.array_equal(made[0], picture(6, 0, 40))


@pytest.mark.parametrize("kind", textures.KINDS, ids=lambda kind: kind.__name__)
def test_a_texture_fills_its_square_between_black_and_white(kind):
    fields = [kind(np.random.default_rng(seed), 48) for seed in range(4)]
    assert all(field.shape == (48, 48) and field.min() >= 0 and field.max() <= 1 for field in fields)
    assert np.mean([field.std() for field in fields]) > 0.02


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_every_scene_has_colours_that_a_camera_can_take(scene):
    image = scene(np.random.default_rng(1), 48)
    assert image.shape == (48, 48, 3)
    assert np.isfinite(image).all()


@pytest.mark.parametrize("task", ["contrast", "distil:resnet10t"])
def test_training_lowers_the_loss(task, pictures, teacher):
    run = Run(replace(TINY, tasks=(task,), steps=30), pictures)
    x = pool.batch(pictures, np.random.default_rng(9), 8, 48)

    def loss() -> float:
        with torch.no_grad():
            return float(run.tasks[0].loss(run.student, x, np.random.default_rng(0)))

    before = loss()
    for _ in range(12):
        run.step()
    assert loss() < 0.9 * before


def test_a_run_that_was_cut_ends_as_one_that_was_not(pictures, tmp_path):
    whole = Run(TINY, pictures)
    train(whole, tmp_path / "whole")
    cut = Run(TINY, pictures)
    for _ in range(3):
        cut.step()
    cut.save(tmp_path / "cut")
    resumed = Run(recipe_of(tmp_path / "cut"), pictures)
    resumed.restore(tmp_path / "cut")
    train(resumed, tmp_path / "cut")
    for name, value in whole.student.state_dict().items():
        torch.testing.assert_close(resumed.student.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_rises_stays_and_falls_to_nothing():
    recipe = replace(TINY, steps=1000, rate=2.0, fall=0.25)
    assert rate(0, recipe) < rate(50, recipe) < 2.0
    assert rate(200, recipe) == rate(750, recipe) == 2.0
    assert rate(875, recipe) == pytest.approx(1.0)
    assert rate(999, recipe) == pytest.approx(0.0, abs=0.01)


def test_the_plain_network_answers_as_the_trained_one():
    torch.manual_seed(0)
    student = trainable()
    for _ in range(3):
        student(torch.randn(4, 3, 64, 64))  # lively statistics
    folded = offline.OfflineNet((0, 1, 2), offline.Form())
    folded.load_state_dict(plain(student))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for ours, wanted in zip(folded.eval()(x), student.eval()(x), strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("answers", "weights"), [("own", (2, 1.5, 1)), ("standardised", (1, 1, 1))])
def test_weights_set_the_scale_of_each_stage_and_nothing_else(
    answers, weights, pictures, teacher, tmp_path, monkeypatch
):
    run = Run(replace(TINY, tasks=("distil:resnet10t",)), pictures)
    run.step()
    x = pool.batch(pictures, np.random.default_rng(4), 32, 64)
    found = []
    for name, asked in (("as they come", ()), ("weighed", weights)):
        monkeypatch.setitem(offline.FILES, "offline", tmp_path / f"{name}.safetensors")
        export(run, offline.FILES["offline"], answers, weights=asked)
        found.append(features.extractor(Backbone("offline", (0, 1, 2), precision="fp32"))(x))
    apart, variance, channels = [], 0.0, 0
    for plain_maps, maps in zip(*found, strict=True):
        scale = float((maps * plain_maps).sum() / plain_maps.square().sum())
        torch.testing.assert_close(maps, scale * plain_maps, rtol=0.02, atol=0.02 * float(maps.std()))
        apart.append(float((maps - maps.mean((0, 2, 3), keepdim=True)).square().sum(1).mean().sqrt()))
        variance, channels = variance + apart[-1] ** 2, channels + maps.shape[1]
    # within what other crops of the same pictures differ by
    assert np.array(apart) / apart[2] == pytest.approx(np.array(weights) / weights[2], rel=0.3)
    assert 0.5 < variance / channels < 2


def test_targets_can_be_measured_on_pictures_of_several_batches(pictures):
    """A single batch may be grey, and then channels that answer to colour seem still."""

    def grey(seed: int, probes: int) -> float:
        x = probe(pictures, replace(TINY, seed=seed, probes=probes))
        assert x.shape == (192, 3, 128, 128)
        return float((x.std(1).amax((1, 2)) < 1e-5).float().mean())

    unlucky = next(seed for seed in range(20) if grey(seed, 1) == 1)
    assert grey(unlucky, 12) < 0.75


@pytest.mark.parametrize(("width", "padding"), [(0.5, "zeros"), (1.25, "reflect")])
def test_a_student_of_another_width_or_border_ships_like_any_other(
    width, padding, pictures, teacher, tmp_path, monkeypatch
):
    run = Run(replace(TINY, tasks=("distil:resnet10t",), steps=2, width=width, padding=padding), pictures)
    train(run, tmp_path)
    assert recipe_of(tmp_path) == run.recipe
    monkeypatch.setitem(offline.FILES, "offline", tmp_path / "made.safetensors")
    export(run, offline.FILES["offline"], "own")
    form = offline.form("offline")
    assert form == sized(width, padding)
    assert form.widths == offline.channels("offline") == tuple(int(width * w) for w in (64, 128, 256))
    x = pool.batch(pictures, np.random.default_rng(0), 2, 64)
    with torch.no_grad():
        wanted = run.student.eval()(standardised(x))
        for ours, own in zip(offline.load("offline", (0, 1, 2))(standardised(x)), wanted, strict=True):
            torch.testing.assert_close(ours, own, rtol=0.02, atol=0.02 * float(own.std()))
    export(run, offline.FILES["offline"], "own", padding="zeros")
    assert offline.form("offline").padding == "zeros"


def test_a_teacher_beside_a_mirrored_student_mirrors_too_and_the_shared_one_stays(pictures, teacher):
    x = pool.batch(pictures, np.random.default_rng(0), 2, 64)
    plain_one, mirrored = Teacher("resnet10t", x), Teacher("resnet10t", x, "reflect")
    with torch.no_grad():
        theirs, ours = plain_one.extractor(x)[0], mirrored.extractor(x)[0]
    off = (theirs - ours).abs().amax((0, 1)) / theirs.std()
    assert off[6:-6, 6:-6].max() < 0.2  # bf16 on some processors
    assert off[0].mean() > 0.2
    assert torch.equal(Teacher("resnet10t", x).extractor(x)[0], theirs)


@pytest.mark.parametrize("answers", ["own", "standardised", "units"])
def test_the_file_answers_as_the_student_with_its_heads(answers, pictures, teacher, tmp_path, monkeypatch):
    run = Run(replace(TINY, tasks=("distil:resnet10t",)), pictures)
    run.step()
    export(run, tmp_path / "made.safetensors", answers)
    monkeypatch.setitem(offline.FILES, "offline", tmp_path / "made.safetensors")
    x = pool.batch(pictures, np.random.default_rng(0), 2, 64)
    found = features.extractor(Backbone("offline", (0, 1, 2), precision="fp32"))(x)
    (task,) = run.tasks
    with torch.no_grad():
        maps = run.student.eval()(standardised(x))
        for stage, (ours, own) in enumerate(zip(found, maps, strict=True)):
            wanted = own if answers == "own" else task.heads[stage](own)
            if answers == "units":
                wanted = wanted * task.std(stage)[:, None, None] + task.mean(stage)[:, None, None]
            torch.testing.assert_close(ours, wanted, rtol=0.02, atol=0.02 * float(wanted.std()))


@pytest.mark.parametrize("name", list(shipped.SHIPPED))
def test_what_ships_was_made_by_the_recipe_that_makes_it_again(name):
    said, of = about(offline.FILES[name]), shipped.SHIPPED[name]
    told = json.loads(said["recipe"])
    assert told == json.loads(json.dumps(asdict(of.recipe)))
    assert int(said["steps"]) == of.recipe.steps
    assert (said["answers"], said["padding"]) == (of.answers, of.padding)
    assert [float(w) for w in said["weights"].split(",")] == list(of.weights)


def test_a_file_is_made_from_nothing_and_again_after_a_cut(pictures, tmp_path, monkeypatch, capsys):
    small = replace(TINY, tasks=("change",), steps=3)
    monkeypatch.setitem(shipped.SHIPPED, "offline_pure", shipped.Shipped(small, "own", "zeros", (2.0, 1.5, 1.0)))
    np.save(tmp_path / "pool.npy", pictures)
    cut = Run(small, pictures)
    cut.step()
    cut.save(tmp_path / "cut")
    made = []
    for folder in ("whole", "cut", "whole"):
        argv = [
            "training",
            "--threads",
            "1",
            "make",
            "offline_pure",
            "--pool",
            tmp_path / "pool.npy",
            "--folder",
            tmp_path / folder,
        ]
        monkeypatch.setattr(sys, "argv", list(map(str, argv)))
        training_main.main()
        made.append(load_file(tmp_path / folder / "offline_pure.safetensors"))
    for one in made[1:]:
        for name, value in made[0].items():
            torch.testing.assert_close(one[name].float(), value.float(), rtol=0.01, atol=1e-3)
    assert "3 of 3" in capsys.readouterr().out
    other = Run(replace(small, seed=1), pictures)
    other.save(tmp_path / "other")
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], str(tmp_path / "other")])
    with pytest.raises(SystemExit, match="another recipe"):
        training_main.main()


def test_pace_is_told_beside_the_other_network_as_it_comes_and_as_it_runs_here(teacher):
    found = speed.paces("offline", "resnet10t", 64, rounds=1)
    assert [(pace.precision, pace.count) for pace in found] == [(p, n) for p in ("fp32", "bf16") for n in (1, 4, 16)]
    assert all(pace.ms > 0 and pace.plain > 0 and pace.ready > 0 for pace in found)
    x = torch.rand(1, 3, 64, 64)
    plain_one = speed._plain("resnet10t", torch.float32)(x)
    here = features.extractor(features.resolve(Backbone("resnet10t", precision="fp32"), "early"))(x)
    assert [m.shape for m in plain_one] == [m.shape for m in here]
