"""From a mistake to better normals: the order of regret, a new version of the data set, and an honest before and after."""

from __future__ import annotations

import os

import numpy as np
import pytest

from adlib import changes, curation, datasets, metrics, store, workflow
from adlib.contract import Calibration, DataError
from adlib.results import regret_of
from adlib.thresholds import by_hand
from worlds import dataset


def calibrated(line: float, unit: float = 1.0) -> Calibration:
    return Calibration(unit, by_hand(line), None, 5, False, ())


def fitted(made: store.Dataset) -> store.Run:
    request = workflow.Request(made.id, "pixel_median", {}, None)
    run = store.Run.create()
    run.write("request.json", {**request.as_json(), "key": workflow.identity(request)[0]})
    workflow.run_request(run)
    return run


# --- regret -----------------------------------------------------------------------------------------------------------


def test_regret_is_the_same_ratio_on_both_sides_and_zero_when_right():
    at = calibrated(2.0)
    assert regret_of(3.0, 0, at) == pytest.approx(1.5)
    assert regret_of(2.0 / 1.5, 1, at) == pytest.approx(1.5)
    assert regret_of(3.0, 1, at) == regret_of(1.0, 0, at) == 0.0
    assert regret_of(2.0, 1, at) == 1.0, "on the line is no alarm, and so a miss"
    assert regret_of(0.0, 1, at) == np.inf


def test_regret_grows_with_the_distance_where_the_threshold_is_not_positive():
    for line in (-3.0, 0.0):
        at = calibrated(line, unit=0.5)
        alarms = [regret_of(line + far, 0, at) for far in (0.1, 1.0, 9.0)]
        misses = [regret_of(line - far, 1, at) for far in (0.1, 1.0, 9.0)]
        assert alarms == sorted(alarms)
        assert alarms == pytest.approx(misses)
        assert min(alarms) > 1


# --- a new version of the data set ------------------------------------------------------------------------------------


def good_test(made: store.Dataset):
    return next(s for s in datasets.samples(made)[0] if s.split == "test" and s.label == 0)


def test_a_false_alarm_becomes_a_normal_of_a_new_version_and_the_old_one_stays():
    made = dataset()
    before, chosen = (made.folder / "dataset.json").read_bytes(), good_test(made)
    later = datasets.take_over(made, chosen.digest, run="abc")
    now = {s.digest: s for s in datasets.samples(later)[0]}
    then = {s.digest: s for s in datasets.samples(made)[0]}
    assert (made.folder / "dataset.json").read_bytes() == before
    assert now.keys() == then.keys()
    assert (now[chosen.digest].split, now[chosen.digest].label) == ("train", 0)
    assert now[chosen.digest].kind == next(s.kind for s in then.values() if s.split == "train")
    same = [d for d in now if d != chosen.digest]
    assert [(now[d].split, now[d].label, now[d].kind) for d in same] == [
        (then[d].split, then[d].label, then[d].kind) for d in same
    ]
    assert later.meta["parent"] == {"dataset": made.id, "run": "abc", "digest": chosen.digest}
    assert (made.title, later.title) == ("discs", "discs · v2")
    assert store.Dataset.open(later.id).meta == later.meta


def test_a_new_version_keeps_what_was_left_out_and_the_region():
    made = dataset()
    left_out = next(s for s in datasets.samples(made)[0] if s.split == "train")
    datasets.exclude(made, left_out.digest)
    curation.set_region(made, ((0.0, 0.0), (0.5, 1.0)))
    later = datasets.take_over(made, good_test(made).digest)
    assert left_out.digest not in {s.digest for s in datasets.samples(later)[0]}
    assert curation.region(later) == ((0.0, 0.0), (0.5, 1.0))


def test_versions_can_follow_each_other_and_outlive_the_first():
    made = dataset()
    second = datasets.take_over(made, good_test(made).digest)
    third = datasets.take_over(second, good_test(second).digest)
    made.delete()
    found, _ = datasets.samples(third)
    assert third.title == "discs · v3"
    assert len(third.meta["taken_over"]) == 2
    assert sum(s.split == "train" for s in found) == 14
    assert all(s.path.read_bytes() for s in found), "the pictures are still there"


def test_where_files_cannot_be_linked_they_are_copied(monkeypatch):
    def refuse(*_):
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    made = dataset()
    later = datasets.take_over(made, good_test(made).digest)
    found, _ = datasets.samples(later)
    assert all(later.folder in s.path.parents and s.path.exists() for s in found)


def test_neither_a_defect_nor_a_stranger_is_taken_over():
    made = dataset()
    defect = next(s for s in datasets.samples(made)[0] if s.label == 1)
    for digest in (defect.digest, "0" * 64):
        with pytest.raises(DataError, match="good test picture"):
            datasets.take_over(made, digest)
    assert len(store.Dataset.all()) == 1


def test_a_normal_that_was_set_aside_as_a_test_stays_a_normal_once_taken_over():
    made = dataset(normals=30, good=0)
    chosen = good_test(made)
    others = {s.digest for s in datasets.samples(made)[0] if s.split == "test"} - {chosen.digest}
    later = datasets.take_over(made, chosen.digest)
    assert {s.digest for s in datasets.samples(later)[0] if s.split == "test"} == others


def test_taking_the_last_good_test_over_sets_no_normals_aside():
    made = dataset(normals=30, good=1)
    later = datasets.take_over(made, good_test(made).digest)
    assert sum(s.split == "train" for s in datasets.samples(later)[0]) == 31


# --- before and after -------------------------------------------------------------------------------------------------


def test_before_and_after_rest_on_the_same_tests_without_the_moved_one():
    made = dataset(normals=6, good=5)
    first, chosen = fitted(made), good_test(made)
    second = fitted(datasets.take_over(made, chosen.digest, first.id))
    change = changes.of(second)
    assert change.moved == (chosen.name,)
    assert (change.normal, change.defect) == (4, 4)
    for side, run in ((change.before, first), (change.after, second)):
        rows = [row for row in run.read("scores.json") if row["digest"] != chosen.digest]
        labels, scores = np.array([r["label"] for r in rows]), np.array([r["score"] for r in rows])
        line = run.read("calibration.json")["threshold"]["value"]
        assert side.auroc == metrics.auroc(labels, scores)
        assert side.confusion == metrics.confusion(labels, scores, line)
    assert changes.of(first) is None


def test_a_moved_picture_that_sets_the_threshold_alone_is_called_out():
    made = dataset(normals=6, good=5)
    first, chosen = fitted(made), good_test(made)
    second = fitted(datasets.take_over(made, chosen.digest, first.id))
    normals, line = second.read("normals.json"), second.read("calibration.json")["threshold"]["value"]
    for score, alone in ((line, True), (line / 2, False)):
        rows = [{**row, "score": score} if row["digest"] == chosen.digest else row for row in normals]
        second.write("normals.json", rows)
        assert changes.of(second).sets_line is alone


def test_the_same_move_twice_is_one_version():
    made = dataset()
    chosen = good_test(made).digest
    assert datasets.take_over(made, chosen, "run").id == datasets.take_over(made, chosen, "run").id
    assert datasets.take_over(made, chosen, "other").id != datasets.take_over(made, chosen, "run").id


def test_another_request_on_the_new_version_is_not_compared():
    made = dataset(normals=6)
    first = fitted(made)
    later = fitted(datasets.take_over(made, good_test(made).digest, first.id))
    later.write("run.json", {**later.card, "seed": 9})
    assert changes.of(later) is None
    later.write("run.json", {**later.card, "seed": 0})
    assert changes.of(later) is not None
    first.delete()
    assert changes.of(later) is None
