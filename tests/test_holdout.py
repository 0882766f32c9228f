"""The class-holdout experiment: judged as a naive count judges, blind to the tests, and never done twice."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances

from adlib import class_sets, holdout, intake, registry, store, trial_results, trial_time, trial_work, trials
from adlib.__main__ import main
from adlib.contract import AdlibError, Backbone, DataError, Prediction, Stopped, silent
from adlib.experiments import Classes, Setup
from adlib.trials import Method, Plan
from worlds import png

OFFLINE = Backbone("offline", (0,), 64)


def bar(kind: int, seed: int) -> np.ndarray:
    """(16, 16, 3) uint8: a bar that lies at a place of its own for each class, with noise."""
    rng = np.random.default_rng(100 * kind + seed)
    picture = rng.integers(0, 60, (16, 16))
    picture[:, 3 * kind + 1 : 3 * kind + 3] += 150
    return np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def world(train: int = 8, test: int = 5, classes: str = "abcd") -> Classes:
    counts = {"train": train, "test": test}
    start = {"train": 0, "test": 50}
    pixels = {
        s: np.stack([bar(k, start[s] + i) for k in range(len(classes)) for i in range(n)]) for s, n in counts.items()
    }
    return Classes(pixels, {s: np.repeat(list(classes), n) for s, n in counts.items()})


def write(folder, classes: Classes, splits: bool = True) -> None:
    for split, kinds in classes.labels.items():
        for i, (kind, picture) in enumerate(zip(kinds, classes.pixels[split], strict=True)):
            path = folder / (f"{split}/{kind}" if splits else str(kind)) / f"{split}{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(picture))


# --- one case ---------------------------------------------------------------------------------------------------------


def test_the_rotations_hold_out_every_class_equally_often():
    cases = holdout.rotations("abcdefghij", 3, 10)
    assert [case.anomalous for case in cases][-2:] == [("i", "j", "a"), ("j", "a", "b")]
    assert all(set(case.normal) | set(case.anomalous) == set("abcdefghij") for case in cases)
    assert all(sum(name in case.anomalous for case in cases) == 3 for name in "abcdefghij")
    for wrong in (0, 10):
        with pytest.raises(AdlibError, match="1 to 9 can be held out"):
            holdout.rotations("abcdefghij", wrong, 10)


@pytest.mark.parametrize("distance", holdout.DISTANCES)
def test_the_smallest_distances_are_those_of_scikit_learn(distance):
    rng = np.random.default_rng(0)
    rows, bank = rng.normal(size=(1100, 7)), rng.normal(size=(40, 7))
    every = {"cosine": cosine_distances, "euclidean": euclidean_distances}[distance](rows, bank)
    near, which = holdout.smallest(rows, bank, distance, 6)
    assert near == pytest.approx(np.sort(every, axis=1)[:, :6], abs=1e-12)
    assert np.take_along_axis(every, which, 1) == pytest.approx(near, abs=1e-12)
    means = holdout.k_means(near, (1, 5, 40))
    assert set(means) == {1, 5}
    assert np.array_equal(means[1], near[:, 0])
    assert means[5] == pytest.approx(near[:, :5].mean(1))
    turned, _ = np.linalg.qr(rng.normal(size=(7, 7)))
    assert holdout.smallest(rows @ turned, bank @ turned, distance, 6)[0] == pytest.approx(near, abs=1e-9)


def test_a_vector_without_length_is_no_fault():
    near, _ = holdout.smallest(np.zeros((1, 3)), np.ones((2, 3)), "cosine", 2)
    assert near.tolist() == [[1, 1]]
    with pytest.raises(AdlibError, match="no distance 'manhattan'"):
        holdout.smallest(np.ones((1, 3)), np.ones((2, 3)), "manhattan", 1)


def test_a_small_draw_is_part_of_a_larger_one_and_a_class_is_drawn_alike_in_every_case():
    labels = np.repeat(list("abc"), 20)
    few, many = (set(holdout.drawn(labels, "ab", n, 7)) for n in (5, 12))
    assert len(few) == 10
    assert few < many
    assert few & set(range(20)) == set(holdout.drawn(labels, "ac", 5, 7)) & set(range(20))
    assert set(holdout.drawn(labels, "ab", 5, 8)) != few
    assert len(holdout.drawn(labels, "abc", None, 0)) == 60


def test_a_case_is_judged_as_a_naive_count_judges():
    classes, setup = world(), Setup("knn", {"k": 3}, OFFLINE)
    case = holdout.rotations(classes.names, 2, 4)[1]
    found = holdout.one_case(classes, case, setup, samples=6, neighbours=(1, 3))
    assert (case.anomalous, found["n_fit"], found["n_test_normal"], found["n_test_anomaly"]) == (("b", "c"), 12, 10, 10)
    detector = registry.build("knn", {"k": 3}, OFFLINE, 0)
    chosen = holdout.drawn(classes.labels["train"], case.normal, 6, 0)
    detector.fit(holdout.Mixed(classes.pixels["train"][chosen], side=64, kinds=("",) * 12))
    known = holdout.predicted(detector, holdout.Mixed(classes.pixels["train"][chosen], side=64, kinds=("",) * 12))
    judged = holdout.predicted(detector, holdout.Mixed(classes.pixels["test"], side=64, kinds=("",) * 20))
    labels = np.isin(classes.labels["test"], case.anomalous)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, judged.scores))
    apart = np.sort(cosine_distances(judged.embeddings, known.embeddings), axis=1)
    for k in (1, 3):
        wanted = roc_auc_score(labels, apart[:, :k].mean(1))
        assert found["distances"]["cosine"][str(k)] == pytest.approx(wanted, abs=0.011)  # ties may turn by rounding
    assert found["distances"]["euclidean"]["3"] == pytest.approx(found["auroc"], abs=0.011)  # this is what kNN does
    normal = judged.scores[~labels].astype(float)
    assert found["unit"] == pytest.approx(normal.mean())
    of_a = judged.scores[classes.labels["test"] == "a"] / normal.mean()
    assert found["boxes"]["a"] == pytest.approx([of_a.min(), *np.quantile(of_a, (0.25, 0.5, 0.75)), of_a.max()])
    boxed = [found["boxes"][name] for name in case.normal]
    assert min(box[0] for box in boxed) <= 1 <= max(box[-1] for box in boxed)
    assert len(found["plane"]["places"]) == len(found["plane"]["classes"]) == 20


def test_the_most_confident_mistakes_stand_beside_their_nearest_normal(monkeypatch):
    classes, real = world(), holdout.predicted
    case = holdout.rotations(classes.names, 1, 1)[0]
    for compared in ("embeddings", "pixels"):
        if compared == "pixels":
            monkeypatch.setattr(holdout, "predicted", lambda *given: Prediction(real(*given).scores))
        found = holdout.one_case(classes, case, Setup("pixel_median", {}))
        assert found["compared"] == compared
        assert [row["class"] for row in found["missed"]] == ["a"] * 5
        scores = [row["score"] for row in found["missed"]]
        assert scores == sorted(scores)
        scores = [row["score"] for row in found["false_alarms"]]
        assert scores == sorted(scores, reverse=True)
        for row in (*found["missed"], *found["false_alarms"]):
            assert classes.labels["test"][row["index"]] == row["class"]
            assert classes.labels["train"][row["nearest"]] == row["nearest_class"] != "a"
            shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["beside"]))))
            assert np.array_equal(shown, classes.pixels["train"][row["nearest"]])
        if compared == "pixels":
            assert found["distances"] == {}
            assert found["plane"] is None
            row = found["missed"][0]
            normals = classes.labels["train"] != "a"
            flat = classes.pixels["train"].reshape(len(normals), -1).astype(float)
            apart = np.linalg.norm(flat - classes.pixels["test"][row["index"]].ravel().astype(float), axis=1)
            assert row["nearest"] == int(np.where(normals, apart, np.inf).argmin())


def test_a_fit_sees_the_normal_classes_train_pictures_with_their_names_and_nothing_else(monkeypatch):
    classes, seen = world(), []

    class Spy:
        def fit(self, normals, tick):
            for batch in normals:
                seen.extend(batch.kinds)
                self.shape = tuple(batch.pixels.shape[1:])
            raise Stopped

    monkeypatch.setattr(registry, "build", lambda *_: Spy())
    case = holdout.rotations(classes.names, 2, 1)[0]
    with pytest.raises(Stopped):
        holdout.one_case(classes, case, Setup("pixel_median", {}))
    assert sorted(seen) == sorted(["c"] * 8 + ["d"] * 8)


# --- where pictures come from -----------------------------------------------------------------------------------------


def test_class_folders_with_and_without_splits_are_read(tmp_path):
    classes = world()
    write(tmp_path / "split", classes)
    write(tmp_path / "plain" / "around", classes, splits=False)
    found = class_sets.from_path(tmp_path / "split")
    assert found.names == list("abcd")
    assert np.array_equal(found.of("test", "b")[0], classes.of("test", "b")[0])
    found = class_sets.from_path(tmp_path / "plain")
    assert found.names == list("abcd")
    assert {name: int((found.labels["test"] == name).sum()) for name in found.names} == dict.fromkeys("abcd", 4)
    every = np.concatenate([found.pixels["train"], found.pixels["test"]])
    assert len(np.unique(every.reshape(len(every), -1), axis=0)) == 4 * 13


def test_a_copy_never_stands_on_both_sides_and_sizes_are_made_alike(tmp_path):
    for kind in "ab":
        for i in range(9):
            side = 80 if i == 0 else 20
            pixels = np.full((side, side, 3), 20 * i + ord(kind) - 97, np.uint8)
            for copy in "xy":
                path = tmp_path / kind / f"{i}{copy}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(png(pixels))
    found = class_sets.from_path(tmp_path, side=32)
    values = {split: set(stack[:, 0, 0, 0].tolist()) for split, stack in found.pixels.items()}
    assert not values["train"] & values["test"]
    assert len(values["train"] | values["test"]) == 18
    assert found.pixels["train"].shape[1:] == (32, 32, 3)


def test_a_set_of_one_class_and_an_empty_folder_are_said(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "one", world(classes="a"))
    for name in ("empty", "one"):
        with pytest.raises(DataError, match="needs two classes"):
            class_sets.from_path(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        class_sets.from_path(tmp_path / "gone")


def test_the_digits_are_all_there_once_and_no_test_is_among_the_normals():
    found = class_sets.digits()
    assert found.names == list("0123456789")
    assert found.pixels["train"].shape[1:] == (28, 28, 3)
    rows = [stack.reshape(len(stack), -1) for stack in found.pixels.values()]
    assert len(np.unique(np.concatenate(rows), axis=0)) == len(rows[0]) + len(rows[1]) > 1790


@pytest.mark.parametrize("form", ["split", "plain", "some tests", "large", "npz", "dataset", "digits"])
def test_what_a_set_holds_is_told_without_reading_it(form, tmp_path, workspace):
    classes, side = world(train=7, test=4), 32
    if form == "digits":
        found, real = class_sets.outline_of(class_sets.digits()), class_sets.digits()
    elif form == "dataset":
        items = [
            intake.Item(f"train/{kind}/{i}.png", png(bar("abc".index(kind), i))) for kind in "abc" for i in range(9)
        ]
        dataset = store.Dataset.create("Bars", "made")
        intake.take(dataset, items)
        found, real = (make(dataset, side) for make in (class_sets.outline_of_dataset, class_sets.from_dataset))
    else:
        path = tmp_path / "set"
        if form == "npz":
            path = tmp_path / "mnist.npz"
            grey = {f"x_{split}": stack[..., 0] for split, stack in classes.pixels.items()}
            labels = {f"y_{s}": np.array(["abcd".index(k) for k in kinds]) for s, kinds in classes.labels.items()}
            np.savez(path, **grey, **labels)
        else:
            write(path, classes, splits=form != "plain")
        if form == "some tests":  # a class without tests of its own: all of them are divided anew
            shutil.rmtree(path / "test" / "b")
        if form == "large":
            for file in path.rglob("*.png"):
                Image.open(file).resize((80, 90)).save(file)
        found, real = class_sets.outline(path, side), class_sets.from_path(path, side)
    assert found.names == real.names
    assert found == class_sets.outline_of(real)


def test_a_folder_without_classes_has_an_empty_outline(tmp_path):
    assert class_sets.outline(tmp_path).names == []


# --- the queue of parts -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, workspace):
    write(tmp_path / "set", world())
    return tmp_path / "set"


def plan_of(folder, **more) -> Plan:
    methods = (Method("pixel_median"), Method("knn", {"k": 5}))
    usual = {"methods": methods, "cases": 2, "samples": (6, 3)}
    return Plan("class-holdout", f"path:{folder}", backbone=OFFLINE, **{**usual, **more})


def test_a_stopped_experiment_goes_on_where_it_was_and_the_same_plan_is_the_same_experiment(folder, monkeypatch):
    trial = trials.take(plan_of(folder))
    assert trials.take(plan_of(folder)).id == trial.id
    assert trials.take(plan_of(folder, seed=1)).id != trial.id
    real, done = holdout.one_case, []

    def counted(classes, case, setup, samples, *rest):
        done.append((case.number, setup.method, samples))
        return real(classes, case, setup, samples, *rest)

    def cut(fraction, message, /, **numbers):
        if len(done) == 4:
            raise Stopped

    monkeypatch.setattr(holdout, "one_case", counted)
    with pytest.raises(Stopped):
        trial_work.work(trial, cut)
    assert len(trial.finished()) == 3
    assert str(trials.stopped(trial)).startswith("Stopped at your request. 3 of 8 parts")
    trial_work.work(trial)
    assert len(done) == 9
    assert len(set(done)) == 8
    trial_work.work(trial)
    assert len(done) == 9
    lines = trial_results.rows(trial)
    own = [line for line in lines if line["judged_by"] == "own"]
    assert [(line["samples"], line["case"], line["method"]) for line in own] == [
        (n, case, method) for n in (6, 3) for case in (0, 1) for method in ("pixel_median", "knn")
    ]
    areas = trial_results.grouped(lines)["knn", "own", 0, 6]
    assert trial_results.spread(areas)["mean"] == pytest.approx(np.mean([line["auroc"] for line in own[1:4:2]]))
    json.dumps(trial_results.figures(trial), allow_nan=False)
    assert trial_results.sheet(trial).decode().splitlines()[0].startswith("method,samples,case,anomalous")


def test_pictures_that_change_make_another_experiment(folder):
    first = trials.take(plan_of(folder))
    (folder / "train" / "a" / "more.png").write_bytes(png(bar(0, 99)))
    assert trials.take(plan_of(folder)).id != first.id


def test_a_method_that_cannot_take_part_is_told_and_the_next_one_follows(folder, monkeypatch):
    real = registry.build

    def build(method, *rest):
        if method == "knn":
            raise DataError("Add more on the Data page.")
        return real(method, *rest)

    monkeypatch.setattr(registry, "build", build)
    trial = trials.take(plan_of(folder, samples=(), cases=1))
    trial_work.work(trial)
    assert [one["label"] for one in trial.finished()] == ["pixel_median"]
    assert [(label, str(why)) for label, why in trial.failed()] == [("knn", "Add more on the Data page.")]
    assert "knn: Add more" in "\n".join(trial_results.told(trial))
    monkeypatch.setattr(registry, "build", real)
    trial_work.work(trial)
    assert len(trial.finished()) == 2


def test_settings_that_are_the_usual_ones_make_no_second_method(folder):
    plan = plan_of(folder)
    twice = trials.take(Plan(plan.kind, plan.source, (Method("knn"), Method("knn", {"k": 5}), Method("knn", {"k": 2}))))
    assert [one.label for one in twice.plan.methods] == ["knn", "knn:k=2"]
    assert twice.plan == trials.find(twice.id).plan
    with pytest.raises(AdlibError, match="no setting 'q'"):
        trials.take(Plan(plan.kind, plan.source, (Method("knn", {"q": 5}),)))


def test_the_other_experiments_are_queues_of_the_same_kind(folder):
    methods = (Method("pixel_median"),)
    one = trials.take(Plan("one-class", f"path:{folder}", methods, only=("a", "c")))
    trial_work.work(one, silent)
    assert [line["normal"] for line in trial_results.rows(one)] == ["a", "c"]
    pair = trials.take(Plan("one-vs-one", f"path:{folder}", methods, normal="a", anomaly="d"))
    trial_work.work(pair)
    assert {"auroc", "f1_normal_positive_oracle", "threshold_held_out"} <= set(trial_results.rows(pair)[0])
    assert "oracle" in "\n".join(trial_results.told(pair))
    gone = trials.take(Plan("one-class", f"path:{folder}", methods, only=("z",)))
    with pytest.raises(AdlibError, match="no class 'z'"):
        trial_work.work(gone)


def test_what_a_visitor_names_stays_in_the_opened_folder(folder, monkeypatch):
    monkeypatch.setenv("ADLIB_DATA", str(folder / "train"))
    assert trials.opened("a") == folder / "train" / "a"
    for outside in ("../test", str(folder / "test" / "a" / "test000.png"), "nothing"):
        with pytest.raises(DataError, match="no folder"):
            trials.opened(outside)


def test_the_number_of_tests_holds_for_one_against_all_too(folder):
    plan = Plan("one-class", f"path:{folder}", (Method("pixel_median"),), only=("a",))
    trial = trials.take(dataclasses.replace(plan, tests=2))
    trial_work.work(trial)
    assert trial.finished()[0]["n_test"] == 2 * 4


# --- how long it takes ------------------------------------------------------------------------------------------------


def timed(trial, seconds: dict[str, tuple[float, float]], monkeypatch, tick=silent) -> None:
    """Does the experiment; its parts are said to take `seconds`: (of the fit, in all) by method."""
    real = holdout.one_case

    def one_case(classes, case, setup, *rest):
        fit, whole = seconds[setup.method]
        return real(classes, case, setup, *rest) | {"fit_seconds": fit, "seconds": whole}

    with monkeypatch.context() as patched:
        patched.setattr(holdout, "one_case", one_case)
        trial_work.work(trial, tick)


def test_nothing_is_said_of_a_method_that_was_never_timed_here(folder, monkeypatch):
    outline, plan = class_sets.outline(folder), plan_of(folder)
    assert trial_time.before(plan, outline) == trial_time.Expected(8, None, untimed=("pixel_median", "knn"))
    assert "not timed here before: Pixel median, Deep kNN" in trial_time.spoken(trial_time.before(plan, outline))
    one = trials.take(dataclasses.replace(plan, methods=(Method("pixel_median"),), cases=1, samples=(6,)))
    assert trial_time.left(one) is None
    timed(one, {"pixel_median": (1.0, 3.0)}, monkeypatch)
    assert trial_time.before(plan, outline).untimed == ("knn",)
    with_other = dataclasses.replace(plan, backbone=dataclasses.replace(OFFLINE, size=96))
    assert trial_time.before(with_other, outline).untimed == ("knn",)


def test_what_is_to_come_is_reckoned_from_what_the_same_methods_took(folder, monkeypatch):
    trial = trials.take(plan_of(folder, cases=1, samples=(3,)))
    timed(trial, {"pixel_median": (2.0, 5.0), "knn": (4.0, 10.0)}, monkeypatch)
    outline = class_sets.outline(folder)
    again = trial_time.before(plan_of(folder, cases=2, samples=(3,)), outline)
    assert (again.fits, again.seconds, again.first) == (4, pytest.approx(30.0), pytest.approx(5.0))
    assert again.within(0.5) == pytest.approx(27.5)
    # Of twice as many pictures to learn from, kNN's fit takes twice as long.  In each case 3 classes x 3 (6) pictures are
    # learned from; these and 4 x 5 tests are scored.
    more = trial_time.before(plan_of(folder, methods=(Method("knn"),), cases=2, samples=(6,)), outline)
    assert more.seconds == pytest.approx(2 * (4.0 * 2 + 6.0 * (18 + 20) / (9 + 20)))
    few = trial_time.before(plan_of(folder, methods=(Method("knn"),), cases=1, samples=(3,), tests=1), outline)
    assert few.seconds == pytest.approx(4.0 + 6.0 * (9 + 4) / (9 + 20))
    other = trial_time.before(plan_of(folder, methods=(Method("knn", {"k": 2}),), cases=1, samples=(3,)), outline)
    assert other.seconds == pytest.approx(10.0), "other settings are reckoned from the method's usual ones"


def test_what_is_left_counts_only_what_is_not_done_and_prefers_its_own_times(folder, monkeypatch):
    first = trials.take(plan_of(folder, seed=3, cases=1, samples=(6,)))
    timed(first, {"pixel_median": (1.0, 2.0), "knn": (1.0, 2.0)}, monkeypatch)
    trial = trials.take(plan_of(folder, cases=3, samples=(6,)))

    def cut(fraction, message, /, **numbers):
        if numbers.get("i") == 4:
            raise Stopped

    with pytest.raises(Stopped):
        timed(trial, {"pixel_median": (2.0, 4.0), "knn": (5.0, 10.0)}, monkeypatch, cut)
    assert len(trial.finished()) == len(trial.done()) == 3
    left = trial_time.left(trial)
    assert left is not None
    assert left.fits == 3
    assert left.seconds == pytest.approx(10.0 + 4.0 + 10.0)  # knn of the second case, and the third case


@pytest.mark.parametrize("kind", ["one-vs-one", "one-class"])
def test_the_other_experiments_are_timed_too(kind, folder):
    plan = Plan(kind, f"path:{folder}", (Method("pixel_median"),), normal="a", anomaly="b", tests=2)
    outline = class_sets.outline(folder)
    assert trial_time.before(plan, outline).seconds is None
    trial = trials.take(plan)
    trial_work.work(trial)
    expected = trial_time.before(plan, outline)
    assert expected.seconds is not None
    assert expected.fits == len(trial.finished())


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_runs_any_methods_and_goes_on_with_what_is_finished(folder, tmp_path, capsys):
    out, sheet = tmp_path / "out.json", tmp_path / "out.csv"
    command = ["experiment", "class-holdout", "--dataset", "parts", "--data", str(folder), "--anomalous", "2",
               "--methods", "pixel_median,knn:k=2", "--cases", "2", "--distances", "cosine", "--neighbours", "1,2",
               "--samples-per-class", "4", "--json", str(out), "--csv", str(sheet)]  # fmt: skip
    assert main(command) == 0
    found = json.loads(out.read_text())
    assert {(row["method"], row["judged_by"], row["neighbours"]) for row in found["summary"]} >= {
        ("pixel_median", "own", 0), ("knn:k=2", "own", 0), ("knn:k=2", "cosine", 1), ("knn:k=2", "cosine", 2),
    }  # fmt: skip
    assert all(row["cases"] == 2 and row["samples"] == 4 for row in found["summary"])
    assert len(sheet.read_text().splitlines()) > 6
    told = capsys.readouterr()
    assert "K=2" in told.out
    assert "4 fits to do, not timed here before: Pixel median, Deep kNN" in told.err
    assert re.search(r"2 fits to do, about \d+ s", told.err)
    before = {path: path.stat().st_mtime_ns for path in store.workspace().glob("experiments/*/parts/*")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert main([*command, "--again"]) == 0
    assert all(path.stat().st_mtime_ns > before[path] for path in before)


def test_the_command_says_what_is_wrong(folder, capsys):
    start = ["experiment", "class-holdout", "--dataset", "parts"]
    data = ["--data", str(folder)]
    for more, said in (
        ([], "Say with --data"),
        ([*data, "--methods", "nothing"], "no method called 'nothing'"),
        ([*data, "--methods", "knn", "--set", "q=1"], "no setting 'q'"),
        ([*data, "--methods", "knn", "--samples-per-class", "0"], "whole numbers from 1 on"),
        ([*data, "--methods", "pixel_median", "--anomalous", "4"], "1 to 3 can be held out"),
    ):
        assert main([*start, *more]) == 1
        assert said in capsys.readouterr().err
