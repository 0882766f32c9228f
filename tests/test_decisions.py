"""A threshold set by hand: everything that was decided follows it, and the way back restores every byte."""

from __future__ import annotations

import pytest
from kit_runs import made as made
from kit_runs import run as run

from adlib import decisions, results
from adlib.contract import DataError

FILES = ("calibration.json", "report.json", "scores.json", "scores.csv")


def contents(run) -> dict[str, bytes]:
    return {name: (run.folder / name).read_bytes() for name in FILES}


def test_verdicts_and_rates_follow_a_line_that_nothing_crosses(run):
    before = run.read("report.json")
    assert before["tpr"] == 1.0
    highest = max(row["score"] for row in run.read("scores.json"))
    decisions.set_by_hand(run, highest)
    report = run.read("report.json")
    assert (report["tpr"], report["fpr"]) == (0.0, 0.0)
    assert report["confusion"]["false_negative"] == before["n_defect"]
    assert report["threshold"] == highest
    assert not any(row["alarm"] for row in run.read("scores.json"))
    untouched = ("image_auroc", "image_ap", "pixel_auroc", "aupro", "skipped", "tests_hash")
    assert {name: report[name] for name in untouched} == {name: before[name] for name in untouched}


def test_the_maps_line_moves_in_the_same_proportion(run):
    learned = results.calibration_of(run)
    made = decisions.set_by_hand(run, 2 * learned.threshold.value)
    assert made.map_unit == pytest.approx(2 * learned.map_unit)
    assert results.calibration_of(run) == made
    assert "by hand" in str(made.threshold.rule)
    assert made.threshold.alpha is None, "a line set by hand promises nothing"


def test_moving_it_twice_and_going_back_restores_every_byte(run):
    before = contents(run)
    decisions.set_by_hand(run, 7.0)
    decisions.set_by_hand(run, 9.0)
    assert decisions.is_by_hand(run)
    decisions.use_learned(run)
    assert not decisions.is_by_hand(run)
    assert contents(run) == before
    decisions.use_learned(run)  # once more does nothing
    assert contents(run) == before


def test_a_run_without_an_evaluation_takes_a_line_too(run):
    for name in ("report.json", "scores.json", "scores.csv"):
        (run.folder / name).unlink()
    decisions.set_by_hand(run, 3.0)
    assert results.calibration_of(run).threshold.value == 3.0
    assert not (run.folder / "report.json").exists()


def test_a_line_that_is_no_number_is_refused_and_nothing_changes(run):
    before = contents(run)
    with pytest.raises(DataError, match="finite"):
        decisions.set_by_hand(run, float("nan"))
    assert contents(run) == before
    assert not decisions.is_by_hand(run)
