"""The Evaluate page: figures with what they rest on, a threshold to move, pictures to look into, honest gaps."""

from __future__ import annotations

import json
import logging

import pytest
from kit_pages import open_page, part, png, texts, tiny_items
from kit_runs import made as made
from kit_runs import run as run

from adlib import decisions, intake, jobs, store

TABS = ("Threshold", "ROC and PR", "By kind", "Picture map", "Mistakes")


def said(at) -> str:
    return texts(at).replace("\\", "")


def opened(run, tab: str = "Threshold", lang: str = ""):
    at = open_page("evaluate", run=run.id, lang=lang)
    at.session_state["evaluate-tabs"] = tab
    return at.run()


def to_the_right_end(at, run) -> None:
    slider = at.select_slider(f"line-{run.id}")
    assert len(set(slider.options)) == len(slider.options), "places that read alike would be one place"
    slider.set_value(float(slider.options[-1]) * run.read("calibration.json")["unit"]).run()


def figure(at, label: str) -> str:
    return next(metric.value for metric in at.metric if metric.label == label)


def test_without_a_run_it_says_where_to_get_one():
    at = open_page("evaluate").run()
    assert not at.exception
    assert "Results will appear here" in said(at)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_figures_are_the_reports_own_and_nothing_is_deprecated(lang, run, caplog):
    with caplog.at_level(logging.WARNING):
        at = open_page("evaluate", lang=lang, run=run.id).run()
    assert not at.exception
    assert not at.error
    report = run.read("report.json")
    shown = [metric.value.replace("\\", "") for metric in at.metric]
    assert shown[0] == f"{report['image_auroc']:.3f}"
    assert shown[3] == f"{report['pixel_auroc']:.3f}"
    assert shown[4] == f"{report['aupro']:.3f}"
    assert not [r for r in caplog.records if "deprecat" in r.getMessage() or "will be removed" in r.getMessage()]


def test_every_figure_stands_beside_the_pictures_it_rests_on(run):
    at = opened(run)
    assert "4 good, 4 defect pictures" in said(at)
    assert "4 good pictures, 4 masks" in said(at)
    assert figure(at, "False alarms").replace("\\", "") == "0 of 4"
    assert "oracle: chosen on the tests themselves" in said(at)


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_opens_and_closed_ones_are_not_drawn(tab, run):
    at = opened(run, tab)
    assert not at.exception
    assert not at.error
    charts = {"Threshold": 1, "ROC and PR": 2, "By kind": 1}
    assert len(at.get("plotly_chart")) == charts.get(tab, 0)
    assert all(chart.proto.alt for chart in at.get("plotly_chart")), "a chart says in words what it shows"


def test_moving_the_threshold_changes_the_counts_and_not_the_run(run):
    before = (run.folder / "calibration.json").read_bytes()
    at = opened(run)
    assert "| defects | **4** | 0 |" in said(at)
    to_the_right_end(at, run)
    assert not at.exception
    assert "| defects | **0** | 4 |" in said(at)
    assert "Set by hand" in said(at)
    assert (run.folder / "calibration.json").read_bytes() == before


def test_a_threshold_set_by_hand_can_be_kept_and_taken_back(run):
    before = (run.folder / "calibration.json").read_bytes()
    at = opened(run)
    to_the_right_end(at, run)
    at.button("use-line").click().run()
    at.run()
    assert not at.exception
    assert decisions.is_by_hand(run)
    assert figure(at, "Missed defects").replace("\\", "") == "4 of 4"
    at.button("use-learned").click().run()
    at.run()
    assert not decisions.is_by_hand(run)
    assert (run.folder / "calibration.json").read_bytes() == before
    assert figure(at, "Missed defects").replace("\\", "") == "0 of 4"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_rules_stand_side_by_side_with_the_one_in_use_marked(lang, run):
    at = opened(run, lang=lang)
    assert not at.exception
    (table,) = [frame.value for frame in at.dataframe]
    assert len(table) == 6, "all but chi-square, for which the pixel median has no law"
    used = {"en": "▶ False-alarm rate", "ja": "▶ 誤検出率"}[lang]
    assert table.iloc[0, 0] == used
    assert set(table.iloc[3:, -1]) == {{"en": "tests, in folds", "ja": "テストを分割"}[lang]}


def test_a_rule_can_be_kept_and_taken_back(run):
    at = opened(run)
    at.selectbox(f"rule-{run.id}").set_value("cost").run()
    assert "Judged in folds" in said(at)
    assert run.read("calibration.json")["threshold"]["key"] == "quantile", "looking changes nothing"
    at.button("use-line").click().run()
    at.run()
    assert not at.exception
    assert run.read("calibration.json")["threshold"]["key"] == "cost"
    assert said(at).count("oracle: chosen on the tests themselves") >= 4, "beside decision, F1 and both rates"
    assert any(name.startswith("▶ Lowest cost") for name in at.dataframe[0].value.iloc[:, 0])
    at.button("use-learned").click().run()
    assert not decisions.is_by_hand(run)


def test_prices_move_the_line_and_reasons_are_told(run):
    rows = run.read("scores.json")
    for i, row in enumerate(rows):
        row["score"] = [1.0, 2.0, 3.0, 4.0][i % 4] + (0.5 if row["label"] else 0)
    run.write("scores.json", rows)
    at = opened(run)
    assert "so its score follows no chi-square law" in said(at)
    costs = []
    for price in (0.1, 1000.0):
        at.number_input(f"wish-miss-{run.id}").set_value(price).run()
        table = at.dataframe[0].value
        costs.append(float(table[table.iloc[:, 0] == "Lowest cost"].iloc[0, 1]))
    assert costs[0] > costs[1], "a dear miss lowers the line"


def test_the_first_sentence_is_the_decision_with_its_rule_and_what_it_did(run):
    at = opened(run)
    first = next(text for text in said(at).splitlines() if text.startswith("**Alarm above"))
    assert "rule: False-alarm rate" in first
    assert "0 of 4 good tests (95 %: 0–60 %)" in first
    assert "4 of 4 defects (95 %: 40–100 %)" in first


def test_a_threshold_that_most_defects_pass_under_says_what_lifts_it(run):
    decisions.set_by_hand(run, 2 * max(row["score"] for row in run.read("scores.json")))
    at = opened(run)
    assert any("defects lie below the threshold" in warning.value for warning in at.warning)


def test_outlines_are_counted_at_the_line_that_is_looked_at(run):
    assert "0 of 4 good tests and 4 of 4 defects show any outlined pixel" in said(opened(run))
    at = opened(run)
    to_the_right_end(at, run)
    assert "0 of 4 good tests and 0 of 4 defects show any outlined pixel" in said(at)


def test_doubts_are_told(run):
    assert "only 4 good tests" in said(opened(run))
    rows = run.read("scores.json")
    run.write("scores.json", [row | {"score": 1e6} for row in rows])
    at = opened(run)
    assert any("promises" in box.value for box in at.warning)


def test_mistakes_are_shown_beside_their_nearest_normal(run):
    highest = max(row["score"] for row in run.read("scores.json"))
    decisions.set_by_hand(run, highest)
    at = opened(run, "Mistakes")
    assert not at.exception
    assert "missed defects: 4" in said(at).lower()
    assert said(at).count("Missed: spot") == 4
    assert said(at).count("train/good/") == 4, "each has its nearest normal picture beside it"


def test_without_mistakes_the_closest_calls_are_shown(run):
    at = opened(run, "Mistakes")
    assert "No test is on the wrong side" in at.success[0].value


def test_a_run_whose_set_has_no_tests_says_how_to_add_some(run):
    (run.folder / "report.json").unlink()
    dataset = store.Dataset.open(run.card["dataset"])
    dataset.meta["excluded"] = [row["digest"] for row in run.read("scores.json")]
    dataset.save()
    at = open_page("evaluate", run=run.id).run()
    assert not at.exception
    assert "test/scratch" in said(at)


def test_new_tests_are_noticed_and_can_be_evaluated(run):
    dataset = store.Dataset.open(run.card["dataset"])
    intake.take(dataset, intake.from_uploads([("test/spot/new.png", png(part(77, defect=True)))]))
    at = open_page("evaluate", run=run.id).run()
    assert "it now holds 9" in at.info[0].value.replace("\\", "")
    at.button("primary-evaluate").click().run()
    assert jobs.state(run.id).status == "queued"


def test_an_area_under_one_half_is_called_out(run):
    report = run.read("report.json") | {"image_auroc": 0.21}
    run.write("report.json", report)
    at = opened(run)
    assert "labels are not swapped" in at.warning[0].value


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_damaged_report_is_one_red_box(lang, run):
    (run.folder / "report.json").write_text("{")
    at = open_page("evaluate", lang=lang, run=run.id).run()
    assert not at.exception
    assert len(at.error) == 1
    assert "report.json" in at.error[0].value.replace("\\", "")


def test_a_strangers_kind_is_never_markdown(workspace):
    from kit_pages import finished_run, tiny_dataset

    evil = "![x](http:evil)"
    items = [(name.replace("/spot/", f"/{evil}/"), data) for name, data in tiny_items()]
    run = finished_run(tiny_dataset(items=items))
    decisions.set_by_hand(run, max(row["score"] for row in run.read("scores.json")))
    assert any(row["kind"] == evil for row in json.loads((run.folder / "scores.json").read_text()))
    at = opened(run, "Mistakes")
    assert not at.exception
    assert not [element.value for element in at.markdown if evil in element.value]
