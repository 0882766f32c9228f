"""Learning curve and directions: planted curves and their verdicts, PCA and NPCA against scikit-learn, studies as jobs."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from test_jobs import until

from adlib import directions, features, jobs, learning_curve, registry, remembered, store, studies, worker, workflow
from adlib.__main__ import main
from adlib.contract import AdlibError, Backbone, DataError, NotFitted, Stopped
from promises import Pictures, parts
from worlds import dataset

SMALL = Backbone("offline", size=64)


def finished(method: str = "knn", **counts: int) -> store.Run:
    """A finished run on a small world in the test's workspace; each is fitted once and copied."""
    folder, id = _finished(method, *sorted({"normals": 16, **counts}.items()))
    shutil.copytree(folder, store.workspace(), dirs_exist_ok=True)
    return store.Run.open(id)


@functools.cache
def _finished(method: str, *counts: tuple[str, int]) -> tuple[Path, str]:
    folder = Path(tempfile.mkdtemp(prefix="adlib-studies-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("ADLIB_WORKSPACE", str(folder))
        return folder, _fitted(method, dict(counts)).id


def _fitted(method: str, counts: dict[str, int]) -> store.Run:
    made = dataset(**counts)
    request = workflow.Request(made.id, method, {}, SMALL if registry.uses_backbone(method) else None)
    run = store.Run.create()
    run.write("request.json", {**request.as_json(), "key": workflow.identity(request)[0]})
    workflow.run_request(run)
    run.append({"status": "done"})
    return run


# --- the verdict on planted curves ------------------------------------------------------------------------------------

SIZES = [5, 10, 20, 40, 80]


def planted(curve, noise: float, seed: int = 0, repeats: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(curve, dtype=float) + noise * rng.normal(size=(repeats, len(curve)))


def test_a_saturated_curve_is_enough():
    answer, why = learning_curve.verdict(SIZES, planted([0.7, 0.85, 0.93, 0.95, 0.951], 0.001))
    assert answer == "enough"
    assert "from 40 to 80" in str(why)


def test_a_rising_curve_asks_for_more():
    answer, why = learning_curve.verdict(SIZES, planted([0.6, 0.68, 0.76, 0.84, 0.92], 0.002))
    assert answer == "more"
    assert "7." in str(why) or "8." in str(why), "the gain of about eight points is named"


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_curve_is_not_decided_by_its_noise(seed):
    rng = np.random.default_rng(seed)
    swing = np.array([0.06, -0.06, 0.01]) * rng.uniform(0.8, 1.2)
    values = np.full((3, 5), 0.8)
    values[:, -1] += swing
    assert learning_curve.verdict(SIZES, values)[0] == "unclear"


def test_false_alarms_that_still_fall_ask_for_more_and_say_what_cannot_be_known():
    answer, why = learning_curve.verdict(SIZES, planted([0.4, 0.3, 0.2, 0.12, 0.05], 0.001), "false_alarms")
    assert answer == "more"
    assert "Without labelled defects" in str(why)
    assert learning_curve.verdict(SIZES, planted([0.4, 0.1, 0.02, 0.01, 0.01], 0.0), "false_alarms")[0] == "enough"


def test_the_gain_is_that_of_the_last_doubling_whatever_the_last_size():
    logarithmic = np.log2([[5, 10, 20, 40, 60]])  # one more with every doubling
    assert learning_curve.gains([5, 10, 20, 40, 60], logarithmic) == pytest.approx([1.0])
    assert learning_curve.gains([5, 10], np.array([[0.5, 0.75]])) == pytest.approx([0.25])


def test_sizes_double_and_end_with_all():
    assert learning_curve.sizes(70) == [5, 10, 20, 40, 70]
    assert learning_curve.sizes(40) == [5, 10, 20, 40]
    assert learning_curve.sizes(4) == [4]


# --- the study --------------------------------------------------------------------------------------------------------


def test_a_curve_says_on_what_it_was_measured_and_names_an_answer():
    run = finished("patchcore", normals=14)
    found = studies.work(run, "curve")
    assert found["normals"] == [5, 10]
    assert found["measured_on"] == {"normals": 4, "good": 4, "defects": 4}
    assert all(
        len(row) == learning_curve.REPEATS for name in ("auroc", "false_alarms", "seconds") for row in found[name]
    )
    assert np.array(found["auroc"])[-1].min() > 0.9
    assert found["answer"] in ("more", "enough", "unclear")
    assert studies.result(run, "curve") == found
    assert "it takes 99" in str(learning_curve.Sentence.from_json(found["promise"]))


def test_the_same_run_gives_the_same_curve():
    run = finished()
    one, other = (studies.work(run, "curve") for _ in range(2))
    assert one["auroc"] == other["auroc"]
    assert one["false_alarms"] == other["false_alarms"]


def test_without_labelled_tests_the_curve_is_judged_by_false_alarms_alone():
    run = finished(good=0, broken=0)
    found = studies.work(run, "curve")
    assert found["auroc"] is None
    assert found["measured_on"] == {"normals": 4, "good": 0, "defects": 0}
    assert (
        "cannot be known" in str(learning_curve.Sentence.from_json(found["sentence"])) or found["answer"] == "unclear"
    )


def test_a_curve_needs_the_normals_pictures_and_enough_of_them():
    with pytest.raises(DataError, match="at least 8"):
        studies.work(finished(normals=6), "curve")
    run = finished()
    store.Dataset.open(run.card["dataset"]).delete()
    with pytest.raises(DataError, match="not on this machine"):
        studies.work(run, "curve")


def test_a_stopped_study_keeps_nothing_and_spoils_nothing():
    run = finished()
    before = {path.name for path in run.folder.iterdir()}

    def stop(fraction, message, /, **numbers):
        if fraction > 0.3:
            raise Stopped

    with pytest.raises(Stopped):
        studies.work(run, "curve", stop)
    assert {path.name for path in run.folder.iterdir()} == before
    assert studies.result(run, "curve") is None


def test_an_unknown_study_and_an_unfinished_run_are_sentences():
    run = finished()
    with pytest.raises(DataError, match="no study"):
        studies.result(run, "nonsense")
    (run.folder / "run.json").unlink()
    with pytest.raises(NotFitted):
        studies.work(run, "curve")


@pytest.mark.parametrize("method", ["patchcore", "padim", "gaussian", "knn"])
def test_what_is_remembered_gives_the_same_state_and_is_computed_once(method):
    pictures = Pictures(parts(8), batch=4)
    plain = registry.build(method, {}, SMALL).fit(pictures).state()
    with remembered.maps(1 << 30) as memory:
        first = registry.build(method, {}, SMALL).fit(pictures).state()
        again = registry.build(method, {}, SMALL).fit(pictures).state()
        assert memory.pictures == 8
    for name, value in plain.items():
        assert torch.equal(value, first[name])
        assert torch.equal(value, again[name])


def test_memory_of_what_was_seen_is_bounded():
    with remembered.maps(0) as memory:
        look = features.extractor(features.resolve(SMALL, "all"))
        look(parts(2))
        look(parts(2))
    assert (memory.bytes, memory.pictures) == (0, 4)
    assert not isinstance(features.extractor(features.resolve(SMALL, "all")), remembered._Remembering)


# --- directions -------------------------------------------------------------------------------------------------------


def level(n: int = 60, k: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.normal(size=(k, k)))[0]
    deep = np.geomspace(10, 0.01, k)
    return (rng.normal(size=(n, k)) * deep) @ turned + 3, (rng.normal(size=(20, k)) * deep * 2) @ turned + 3


@pytest.mark.parametrize("share", [1.0, 0.99, 0.9, 0.5, 0.01])
def test_keeping_the_top_is_sklearns_pca_with_ledoit_wolf(share):
    fit, tests = level()
    axes = directions.Axes.of(fit)
    pca = PCA().fit(fit)
    kept = len(fit[0]) if share == 1 else int((np.cumsum(pca.explained_variance_ratio_) <= share).sum()) + 1
    reduced = PCA(kept).fit(fit)
    twin = LedoitWolf().fit(reduced.transform(fit)).mahalanobis(reduced.transform(tests)) ** 0.5
    assert axes.distances(tests, share, "top") == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.0001])
def test_keeping_the_bottom_is_sklearns_npca_with_ledoit_wolf(share):
    fit, tests = level(seed=1)
    axes = directions.Axes.of(fit)
    pca = PCA().fit(fit)
    first = max(int((np.cumsum(pca.explained_variance_ratio_) <= 1 - share).sum()) - 1, 0)
    turned = lambda x: pca.transform(x)[:, first:]  # noqa: E731
    twin = LedoitWolf().fit(turned(fit)).mahalanobis(turned(tests)) ** 0.5
    assert axes.distances(tests, share, "bottom") == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize(("n", "k"), [(60, 8), (9, 30)])
def test_all_directions_are_ledoit_wolf_even_with_fewer_pictures_than_dimensions(n, k):
    fit, tests = level(n, k)
    twin = LedoitWolf().fit(fit).mahalanobis(tests) ** 0.5
    for side in directions.SIDES:
        assert directions.Axes.of(fit).distances(tests, 1.0, side) == pytest.approx(twin, rel=1e-6)


def test_all_directions_score_as_the_method_itself():
    run = finished("gaussian")
    found = studies.work(run, "directions")
    report = run.read("report.json")
    assert found["top"]["auroc"][-1][0] == pytest.approx(report["image_auroc"])
    assert found["top"]["auroc"][-1][0] == found["bottom"]["auroc"][-1][0]
    assert len(found["levels"]) == len(found["channels"]) + 1
    shapes = {len(row) for side in directions.SIDES for rows in found[side].values() for row in rows}
    assert shapes == {len(directions.SHARES)}
    assert found["measured_on"] == {"normals": 16, "good": 4, "defects": 4}


def test_a_defect_in_the_small_directions_is_found_there():
    n = len(directions.SHARES)
    most, least = directions.SHARES.index(0.99), directions.SHARES.index(0.01)
    top, bottom = {"auroc": [[0.9] * n]}, {"auroc": [[0.9] * n]}
    top["auroc"][0][most], bottom["auroc"][0][least] = 0.6, 0.95
    answer, why = directions.verdict(top, bottom)
    assert (answer, "0.600" in str(why)) == ("small", True)
    assert directions.verdict(bottom | {"auroc": [[0.5] * n]}, {"auroc": [[0.5] * n]})[0] == "same"


def test_without_labels_the_study_says_what_it_cannot_know():
    run = finished("gaussian", good=0, broken=0)
    found = studies.work(run, "directions")
    assert found["answer"] == "unknown"
    assert "cannot be known" in str(learning_curve.Sentence.from_json(found["sentence"]))
    assert min(found["bottom"]["inflation"][-1]) > 0


def test_directions_are_a_question_to_gaussian_ad_alone():
    run = finished()
    assert studies.offered(run) == ["curve"]
    with pytest.raises(AdlibError, match="Gaussian-AD"):
        studies.work(run, "directions")


# --- as jobs and on the command line ----------------------------------------------------------------------------------


@pytest.fixture
def a_worker(monkeypatch, workspace):
    monkeypatch.delenv("ADLIB_WORKER", raising=False)
    yield
    worker.dismiss()


def test_a_study_is_a_job_that_can_be_stopped_killed_and_finished(a_worker):
    run = finished("patchcore", normals=30)
    job = jobs.study(run.id, "curve")
    assert jobs.study(run.id, "curve") == job, "asked twice, done once"
    until(job, "running")
    assert [(one.run, one.study) for one in jobs.active()] == [(run.id, "curve")]
    jobs.stop(job)
    assert until(job, "stopped", seconds=20).status == "stopped"
    assert jobs.state(run.id).status == "done", "the fit is as it was"
    assert studies.result(run, "curve") is None

    jobs.study(run.id, "curve")
    until(job, "running")
    os.kill(int((store.workspace() / "worker.pid").read_text()), signal.SIGKILL)
    assert "in the middle of this study" in str(until(job, "failed", seconds=10).message)
    assert run.finished

    quick = finished(normals=8)
    assert jobs.study_state(quick.id, "curve") is None
    done = until(jobs.study(quick.id, "curve"), "done", "failed")
    assert (done.status, done.run, done.study) == ("done", quick.id, "curve")
    assert studies.result(quick, "curve")["normals"]


def test_the_command_line_draws_the_curve_and_keeps_it(tmp_path, capsys):
    run = finished(normals=10)
    assert main(["curve", run.id, "--json", str(tmp_path / "curve.json")]) == 0
    said = capsys.readouterr()
    assert "false alarms" in said.out
    assert "2 normals kept out, 4 good tests, 4 defects" in said.err
    assert (tmp_path / "curve.json").exists()
    assert main(["directions", run.id]) == 1
