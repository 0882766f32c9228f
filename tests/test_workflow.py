"""The verbs on small worlds: who learns, who calibrates, what a run folder keeps, and what a look says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from adlib import batches, datasets, intake, store, workflow
from adlib.contract import Backbone, DataError, NotFitted, Sample, Stopped
from worlds import dataset, part, png, tree


def samples(n: int) -> list[Sample]:
    import hashlib
    from pathlib import Path

    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]
    return [Sample(Path(d), 0, "good", None, "train", d, d) for d in digests]


def request(data: store.Dataset, **changes) -> workflow.Request:
    return workflow.Request(
        **{"dataset": data.id, "method": "pixel_median", "settings": {}, "backbone": None, **changes}
    )


def fitted_run(data: store.Dataset, **changes) -> store.Run:
    run = store.Run.create()
    run.write("request.json", {**request(data, **changes).as_json(), "key": "k"})
    workflow.run_request(run)
    return run


# --- which normals do what --------------------------------------------------------------------------------------------


def test_a_quarter_of_many_normals_is_held_out_and_none_does_both():
    division = batches.divide(samples(400), "patchcore")
    assert not {s.digest for s in division.fit} & {s.digest for s in division.held_out}
    assert len(division.fit) + len(division.held_out) == 400
    assert 70 <= len(division.held_out) <= 130
    assert division.folds == ()


def test_adding_pictures_never_moves_an_old_one():
    few, many = batches.divide(samples(100), "padim"), batches.divide(samples(300), "padim")
    old = {s.digest for s in samples(100)}
    assert {s.digest for s in many.held_out} & old == {s.digest for s in few.held_out}


@pytest.mark.parametrize(("n", "folds"), [(3, 3), (19, 19), (20, 5), (59, 5)])
def test_few_normals_are_cross_fitted_and_all_are_learned_from(n, folds):
    division = batches.divide(samples(n), "padim")
    assert len(division.folds) == folds
    assert len(division.fit) == n
    assert division.held_out == ()
    assert sorted(s.digest for fold in division.folds for s in fold) == sorted(s.digest for s in division.fit)


def test_defects_without_good_tests_set_some_normals_aside_as_tests():
    files = {
        name.replace("train/", "").replace("test/spot", "spot"): data for name, data in tree(normals=30, good=0).items()
    }
    data = store.Dataset.create("good and spot", "upload")
    intake.take(data, intake.from_uploads((n, d) for n, d in files.items() if "ground_truth" not in n))
    run = fitted_run(data)
    found, _ = datasets.samples(data)
    tests = {s.digest for s in workflow.labelled_tests(found) if s.label == 0}
    assert 2 <= len(tests) <= 12
    assert not tests & {row["digest"] for row in run.read("normals.json")}
    report = run.read("report.json")
    assert report["n_normal"] == len(tests)
    assert report["image_auroc"] == 1.0
    few, _ = datasets.samples(dataset(normals=9, good=0))
    assert len(workflow.train_normals(few)) == 9


def test_too_few_normals_are_refused_with_the_number_needed():
    with pytest.raises(DataError, match=r"at least 3 normal pictures .* got 2"):
        batches.divide(samples(2), "padim")


# --- fit and evaluate -------------------------------------------------------------------------------------------------


def test_a_run_keeps_all_that_is_needed_to_repeat_and_to_read_it():
    data = dataset(normals=12)
    run = fitted_run(data, seed=7)
    card = run.card
    assert card["seed"] == 7
    assert card["normals"] == {"fitted": 12, "calibrating": 12, "cross_fitted": True}
    assert card["fit_seconds"] > 0
    assert card["peak_mb"] > 10
    found, _ = datasets.samples(data)
    assert card["data_hash"] == batches.data_hash(batches.train_normals(found))
    rows = run.read("normals.json")
    assert len(rows) == 12
    assert all(row["score"] is not None for row in rows)
    names = {p.name for p in run.folder.iterdir()}
    assert {
        "run.json",
        "request.json",
        "calibration.json",
        "state.safetensors",
        "report.json",
        "scores.csv",
        "maps.npy",
    } <= names


def test_defects_with_masks_are_found_and_measured_to_the_pixel():
    report = fitted_run(dataset(normals=8, good=6, broken=6)).read("report.json")
    assert report["image_auroc"] == 1.0
    assert report["pixel_auroc"] > 0.95
    assert report["aupro"] > 0.7
    assert report["n_normal"] == report["n_defect"] == 6
    low, high = report["intervals"]["image_auroc"]
    assert low < 1.0 <= high


def test_what_cannot_be_measured_is_none_with_a_reason():
    data = store.Dataset.create("no defects", "upload")
    files = {name: data_ for name, data_ in tree(normals=6, broken=0).items() if "spot" not in name}
    intake.take(data, intake.from_uploads(files.items()))
    report = fitted_run(data).read("report.json")
    assert report["image_auroc"] is None
    assert report["pixel_auroc"] is None
    assert report["tpr"] is None
    assert report["fpr"] is not None
    assert len(report["skipped"]) >= 2


def test_without_tests_a_fit_is_finished_and_has_no_report():
    run = fitted_run(dataset(normals=8, good=0, broken=0))
    assert run.finished
    assert run.read("report.json") is None


def test_scores_are_shown_so_that_a_held_out_normal_reads_about_one():
    run = fitted_run(dataset(normals=12, good=8))
    rows = [row for row in run.read("scores.json") if row["label"] == 0]
    assert np.mean([row["normalised"] for row in rows]) == pytest.approx(1, abs=0.2)
    calibration = workflow.calibration_of(run)
    assert np.mean(calibration.scores) / calibration.unit == pytest.approx(1)


def test_a_test_that_is_among_the_normals_is_left_out_and_said():
    run = fitted_run(dataset(normals=8))
    fitted = workflow.load(run)
    found, _ = datasets.samples(store.Dataset.open(run.card["dataset"]))
    leak = dataclasses.replace(workflow.train_normals(found)[0], split="test")
    report = workflow.evaluate(fitted, [*found, leak])
    assert report.n_normal == 4
    assert any("also among the normals" in str(s) for s in report.skipped)


def test_stop_leaves_no_run_behind():
    run = store.Run.create()

    def stop_late(fraction, message, /, **numbers):
        if fraction > 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        workflow.fit(request(dataset(normals=8)), store.Dataset.all()[0], run, stop_late)
    assert not run.finished
    assert store.Run.all() == []


def test_an_unfinished_run_cannot_be_loaded():
    run = store.Run.create()
    run.write("request.json", {})
    with pytest.raises(NotFitted, match="has not finished"):
        workflow.load(run)


# --- look -------------------------------------------------------------------------------------------------------------


def test_a_loaded_run_scores_as_the_fit_did():
    run = fitted_run(dataset(normals=8))
    row = run.read("scores.json")[-1]
    look = workflow.look(workflow.load(run), store.Path(row["path"]))
    assert look.score == pytest.approx(row["score"], rel=1e-6)
    assert look.alarm == row["alarm"]


def test_a_heatmap_lies_on_the_defect_in_the_picture_s_own_pixels_and_is_calm_on_a_good_part():
    fitted = workflow.load(fitted_run(dataset(normals=20), backbone=Backbone(size=128), method="padim"))
    pixels, mask = part(5000, defect=True)
    look = workflow.look(fitted, png(pixels))
    assert look.heat.shape == (64, 64)
    assert look.alarm
    assert mask[np.unravel_index(look.heat.argmax(), look.heat.shape)]
    good = workflow.look(fitted, png(part(5001)[0]))
    assert (good.heat > 1).mean() < 0.01


def test_weights_that_are_not_those_of_the_fit_are_refused():
    run = fitted_run(dataset(normals=8), backbone=Backbone(), method="knn")
    card = run.card
    assert card["weights"] is not None
    run.write("run.json", {**card, "weights": {**card["weights"], "sha256": "0" * 64}})
    with pytest.raises(DataError, match="not those that run"):
        workflow.load(run)


def test_a_run_of_the_filter_bank_that_was_built_in_before_is_told_to_fit_again():
    run = fitted_run(dataset(normals=8), backbone=Backbone("offline"), method="knn")
    run.write("run.json", {**run.card, "weights": {"file": None, "sha256": "1" * 64}})
    with pytest.raises(DataError, match=r"built-in backbone .* Fit again"):
        workflow.load(run)


# --- identity ---------------------------------------------------------------------------------------------------------


def test_the_same_request_has_the_same_key_and_a_new_seed_another():
    data = dataset(normals=4)
    asked = request(data)
    assert workflow.identity(asked) == workflow.identity(workflow.Request.from_json(asked.as_json()))
    assert workflow.identity(asked)[0] != workflow.identity(dataclasses.replace(asked, seed=1))[0]


def test_batches_can_be_read_again_in_the_same_order():
    found, _ = datasets.samples(dataset(normals=5))
    images = workflow.Batches(workflow.train_normals(found), 32, batch=2)
    first = [batch.pixels for batch in images]
    second = [batch.pixels for batch in images]
    assert [len(b) for b in first] == [2, 2, 1]
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert len(images) == 5


def test_a_look_at_a_large_jpeg_scores_as_the_evaluation_did():
    """Batches read JPEGs at a fraction of their size; a look shows the whole picture, and must judge the same pixels."""
    import io

    from PIL import Image

    def jpeg(seed: int) -> bytes:
        buffer = io.BytesIO()
        noise = np.random.default_rng(seed).integers(0, 256, (1100, 1100, 3)).astype(np.uint8)
        Image.fromarray(noise).save(buffer, "JPEG")
        return buffer.getvalue()

    data = store.Dataset.create("large", "upload")
    files = {f"good/{i}.jpg": jpeg(i) for i in range(4)} | {"spot/x.jpg": jpeg(9)}
    intake.take(data, intake.from_uploads(files.items()))
    run = fitted_run(data)
    evaluated = run.read("scores.json")[0]["score"]
    look = workflow.look(workflow.load(run), jpeg(9))
    assert look.score == pytest.approx(evaluated, abs=1e-9)
    assert look.picture.image.size == (1100, 1100)
