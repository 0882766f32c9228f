"""The experiments of the articles: counted as they count, and with nothing of the tests in the fit."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from adlib import experiments, metrics
from adlib.__main__ import main
from adlib.contract import AdlibError, DataError, silent
from adlib.experiments import Setup, best_normal_f1, counted, verdicts
from worlds import png


def digit(kind: int, seed: int) -> np.ndarray:
    """(12, 12) uint8: a bar that lies at a place of its own for each class."""
    rng = np.random.default_rng(1000 * kind + seed)
    picture = rng.integers(0, 30, (12, 12))
    picture[:, 3 * kind + 1 : 3 * kind + 3] += 200
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture
def npz(tmp_path):
    """Three classes in a file as MNIST comes."""
    kinds = np.repeat([0, 1, 2], 14)
    pixels = np.stack([digit(kind, i) for i, kind in enumerate(kinds)])
    train = np.arange(len(kinds)) % 14 < 8
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=pixels[train], y_train=kinds[train], x_test=pixels[~train], y_test=kinds[~train])
    return path


def test_figures_are_those_of_the_articles_counts():
    labels = np.repeat([0, 0, 1, 1], [1119, 16, 9, 1000])
    scores = np.repeat([1.0, 3.0, 1.0, 3.0], [1119, 16, 9, 1000])
    found = counted(labels, scores, 2.0)
    wanted = {"precision": 0.99202, "recall": 0.98590, "f1": 0.98895}
    assert {k: found[f"{k}_normal_positive"] for k in wanted} == pytest.approx(wanted, abs=1e-5)
    wanted = {"precision": 0.98425, "recall": 0.99108, "f1": 0.98765}
    assert {k: found[f"{k}_anomaly_positive"] for k in wanted} == pytest.approx(wanted, abs=1e-5)


def test_the_oracles_threshold_has_the_best_f1_of_all_even_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = np.append(rng.integers(0, 2, 40), [0, 1])
        scores = rng.integers(0, 8, 42) / 4 + labels * rng.integers(0, 2)
        found = counted(labels, scores, best_normal_f1(labels, scores))["f1_normal_positive"]
        every = [counted(labels, scores, line)["f1_normal_positive"] for line in np.arange(-1, 8, 0.125)]
        assert found == pytest.approx(max(every), abs=1e-12)
    with pytest.raises(DataError, match="both classes"):
        best_normal_f1(np.zeros(5), np.arange(5))


def test_the_held_out_threshold_knows_nothing_of_the_half_it_is_told_on():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = rng.normal(2 * labels, 1)
    told = verdicts(labels, scores, 5)
    half = np.random.default_rng(5).permutation(200) < 100
    other = verdicts(labels, np.where(half, scores, scores + 9), 5)
    assert other["threshold_held_out"] == told["threshold_held_out"]
    assert other["threshold_oracle"] != told["threshold_oracle"]
    wanted = counted(labels[~half], scores[~half], told["threshold_held_out"])
    assert told["f1_normal_positive_held_out"] == wanted["f1_normal_positive"]
    assert told["f1_normal_positive_held_out"] <= 1
    assert told["auroc"] == metrics.auroc(labels, scores)
    assert sum(told["histogram"]["normal"]) + sum(told["histogram"]["anomaly"]) == 200


def test_the_fit_sees_train_pictures_of_the_normal_class_and_nothing_else(npz):
    classes = experiments.load("mnist", npz)

    class Spy(Setup):
        def fit(self, normals, tick):
            Spy.seen = normals
            return super().fit(normals, tick)

    found = experiments.one_vs_one(classes, "1", "2", Spy("pixel_median", {}))
    assert Spy.seen.shape == (8, 12, 12, 3)
    assert np.array_equal(Spy.seen, classes.of("train", "1")[0])
    assert (found["n_fit"], found["n_test_normal"], found["n_test_anomaly"]) == (8, 6, 6)
    assert found["auroc"] == 1
    assert found["f1_normal_positive_oracle"] == found["f1_anomaly_positive_oracle"] == 1


def test_files_of_numbers_folders_and_zips_of_classes_are_read_alike(npz, tmp_path):
    wanted = experiments.load("mnist", npz)
    folder, archive = tmp_path / "set", tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for split, kinds in wanted.labels.items():
            for i, (kind, picture) in enumerate(zip(kinds, wanted.pixels[split], strict=True)):
                path = folder / split / kind / f"{i:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(picture))
                file.write(path, f"{split}/{kind}/{i:03}.png")
    for place in (folder, archive):
        found = experiments.load("cifar10", place)
        assert found.names == wanted.names == ["0", "1", "2"]
        for split, name in (("train", "0"), ("test", "2")):
            a, b = found.of(split, name)[0], wanted.of(split, name)[0]
            assert np.array_equal(a, b)


def test_a_method_with_a_backbone_sees_the_pictures_enlarged(npz):
    classes = experiments.load("mnist", npz)
    from adlib.contract import Backbone

    setup = Setup("pixel_median", {})
    assert next(iter(setup._stack(classes.pixels["test"]))).pixels.shape[-1] == 12
    setup = Setup("knn", {}, Backbone("offline", size=64))
    batch = next(iter(setup._stack(classes.pixels["test"][:2])))
    assert batch.pixels.shape == (2, 3, 64, 64)
    assert 0 <= batch.pixels.min() <= batch.pixels.max() <= 1


def test_the_command_tells_the_figures_and_writes_them(npz, tmp_path, capsys):
    out = tmp_path / "figures.json"
    command = ["experiment", "one-vs-one", "--dataset", "mnist", "--data", str(npz), "--normal", "1", "--anomaly", "0"]
    settings = ["--set", "network=dense", "--set", "epochs=1", "--seed", "3", "--json", str(out)]
    assert main([*command, "--method", "autoencoder", *settings]) == 0
    found = json.loads(out.read_text())
    for key in ("f1", "precision", "recall"):
        for side in ("normal_positive", "anomaly_positive"):
            assert {f"{key}_{side}_oracle", f"{key}_{side}_held_out"} <= set(found)
    assert found["auroc"] > 0.9
    assert (found["dataset"], found["method"], found["seed"], found["settings"]["epochs"]) == (
        "mnist",
        "autoencoder",
        3,
        1,
    )
    told = capsys.readouterr().out
    assert "oracle" in told
    assert "AUROC" in told
    assert "#" in told  # the histogram

    assert main(["experiment", "one-class", "--dataset", "mnist", "--data", str(npz), "--method", "pixel_median",
                 "--classes", "0,2", "--json", str(out)]) == 0  # fmt: skip
    found = json.loads(out.read_text())
    assert found["classes"] == ["0", "2"]
    assert found["auroc_mean"] == pytest.approx((found["auroc_0"] + found["auroc_2"]) / 2)


def test_fewer_tests_are_the_first_of_each_class_and_are_counted(npz):
    classes = experiments.load("mnist", npz)
    few = experiments.one_class(classes, Setup("pixel_median", {}), ["0"], tested=2)
    assert few["n_test"] == 2 * len(classes.names)
    detector = Setup("pixel_median", {}).fit(classes.of("train", "0")[0], silent)
    tests, names = classes.of("test", *classes.names, limit=2)
    scores = Setup("pixel_median", {}).scores(detector, tests, silent)
    assert few["auroc_0"] == experiments.metrics.auroc((names != "0").astype(int), scores)


def test_a_class_that_is_not_there_is_said_with_those_that_are(npz, tmp_path, capsys):
    assert main(["experiment", "one-vs-one", "--dataset", "mnist", "--data", str(npz), "--anomaly", "9"]) == 1
    assert "no class '9'. Known: 0, 1, 2" in capsys.readouterr().err
    with pytest.raises(AdlibError, match="Choose two"):
        experiments.one_vs_one(experiments.load("mnist", npz), "1", "1", Setup("pixel_median", {}), silent)
    with pytest.raises(DataError, match="does not exist"):
        experiments.load("mnist", tmp_path / "gone.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="as it is published"):
        experiments.load("mnist", tmp_path / "empty")
