"""A threshold set by hand: everything that was decided follows it, and the way back restores every byte."""

from __future__ import annotations

import numpy as np
import pytest
from kit_runs import made as made
from kit_runs import run as run

from adlib import decisions, results, rules, store, workflow
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


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["largest", "sigma", "recall", "f1", "cost"])
def test_a_rule_that_is_chosen_travels_with_the_run_and_can_be_undone(run, key):
    before = contents(run)
    made = decisions.use_rule(run, key, rules.Wishes(sigmas=2.0))
    kept = results.calibration_of(run)
    assert kept == made
    assert kept.threshold.key == key
    assert kept.threshold.oracle == (key in ("recall", "f1", "cost"))
    assert kept.peaks == decisions.learned(run).peaks
    report = run.read("report.json")
    assert report["threshold"] == made.threshold.value
    alarms = [row["alarm"] for row in run.read("scores.json")]
    assert sum(alarms) == report["confusion"]["true_positive"] + report["confusion"]["false_positive"]
    assert workflow.load(run).calibration == made, "heatmaps follow it"
    decisions.use_learned(run)
    assert contents(run) == before


def test_a_rule_that_cannot_be_used_changes_nothing(run):
    before = contents(run)
    with pytest.raises(DataError, match="not one Gaussian"):
        decisions.use_rule(run, "chi2")
    with pytest.raises(DataError, match="no rule"):
        decisions.use_rule(run, "magic")
    assert contents(run) == before
    assert not decisions.is_by_hand(run)


def test_outlines_follow_the_rule(run):
    """As many held-out normals show an outline as raise an alarm."""
    learned = decisions.learned(run)
    assert len(learned.peaks) == learned.normals
    middle = float(np.median(learned.scores))
    made = decisions.set_by_hand(run, middle)
    shown = sum(peak > made.map_unit for peak in made.peaks)
    assert shown == sum(score > middle for score in made.scores)


def test_a_run_that_kept_no_peaks_moves_its_outline_in_proportion(run):
    old = {k: v for k, v in run.read("calibration.json").items() if k != "peaks"}
    old["threshold"] = {k: v for k, v in old["threshold"].items() if k not in ("key", "oracle")}
    run.write("calibration.json", old)
    learned = decisions.learned(run)
    made = decisions.set_by_hand(run, 1.5 * learned.threshold.value)
    assert made.map_unit == pytest.approx(1.5 * learned.map_unit)
    assert made.peaks is None


def test_evidence_is_the_runs_own(run):
    seen = decisions.evidence(run)
    assert tuple(seen.normals) == decisions.learned(run).scores
    assert seen.scores.tolist() == [row["score"] for row in run.read("scores.json")]
    assert "Pixel" in str(seen.lawless)
    assert [one.key for one in decisions.compare(run)] == list(rules.RULES)


def test_a_map_peaks_highest_value_is_kept_with_each_test(run):
    maps = store.read_array(run.folder / "maps.npy")
    peaks = [row["peak"] for row in run.read("scores.json")]
    assert all(peak >= grid.max() for peak, grid in zip(peaks, maps, strict=True))
