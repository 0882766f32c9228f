"""Reasons, mistakes and studies on the pages: opened on demand, honest about what is missing, in both languages."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from kit_pages import finished_run, open_page, texts, tiny_dataset
from kit_runs import made as made
from kit_runs import run as run

from adlib import decisions, jobs, store, studies
from adlib.contract import Stopped


def said(at) -> str:
    return texts(at).replace("\\", "")


def worst(run: store.Run) -> dict:
    return max(run.read("scores.json"), key=lambda row: row["score"])


def opened_why(run: store.Run, lang: str = ""):
    at = open_page("heatmaps", run=run.id, lang=lang)
    at.session_state[f"why-{worst(run)['digest']}"] = True
    at.session_state[f"kind-{run.id}"] = worst(run)["kind"]
    return at.run()


def on_tab(run: store.Run, tab: str, lang: str = ""):
    at = open_page("evaluate", run=run.id, lang=lang)
    at.session_state["evaluate-tabs"] = tab
    return at.run()


# --- why --------------------------------------------------------------------------------------------------------------


def test_a_closed_why_costs_nothing(run, monkeypatch):
    def never(*_):
        raise AssertionError("a closed expander was computed")

    monkeypatch.setattr("adlib.why.explain", never)
    at = open_page("heatmaps", run=run.id).run()
    assert not at.exception
    assert "Most similar normal" not in said(at)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_why_shows_the_place_beside_the_nearest_normals(lang, run, caplog):
    with caplog.at_level(logging.WARNING):
        at = opened_why(run, lang)
    assert not at.exception
    assert not at.error
    assert ("beside the same place of the most similar normal" if lang == "en" else "最も似た良品の同じ位置") in said(
        at
    )
    assert "train/good/" in said(at)
    assert not [r for r in caplog.records if "deprecat" in r.getMessage() or "will be removed" in r.getMessage()]


def test_why_is_exact_where_the_method_knows():
    at = opened_why(finished_run(method="patchcore"))
    assert not at.exception
    assert "nearest patch of any normal that the model remembers" in said(at)


def test_why_shows_the_levels_of_gaussian_ad():
    at = opened_why(finished_run(method="gaussian"))
    assert not at.exception
    assert len(at.get("plotly_chart")) == 1
    assert "level 1" in at.get("plotly_chart")[0].proto.alt
    assert "Largest part of the score" in said(at), "all normals were cross-fitted, so none can say what is usual"


def test_why_says_that_the_normals_pictures_are_not_here(run):
    digest, row = worst(run)["digest"], worst(run)
    kept = store.workspace() / "inbox" / digest
    kept.parent.mkdir()
    shutil.copyfile(row["path"], kept)
    store.Dataset.open(run.card["dataset"]).delete()
    from pages.parts.looking import Item

    at = open_page("heatmaps", run=run.id)
    at.session_state["source"] = "drop"
    at.session_state["looked-items"] = [Item("mine.png", digest, kept)]
    at.session_state[f"why-{digest}"] = True
    at.run()
    assert not at.exception
    assert "its picture is not on this machine" in said(at)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def alarming(run: store.Run) -> store.Run:
    """The same run with a line so low that two good tests raise an alarm."""
    good = sorted(row["score"] for row in run.read("scores.json") if row["label"] == 0)
    decisions.set_by_hand(run, (good[-3] + good[-2]) / 2)
    return run


def test_mistakes_stand_in_the_order_of_regret(run):
    at = on_tab(alarming(run), "Mistakes")
    assert not at.exception
    ratios = [
        text.split("False alarm: good, ")[1].split("×")[0]
        for text in said(at).split("**")
        if "False alarm: good" in text
    ]
    assert len(ratios) == 2
    assert ratios == sorted(ratios, reverse=True)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_false_alarm_is_taken_into_the_normals_and_compared_when_fitted(lang, run):
    before = (Path(store.Dataset.open(run.card["dataset"]).folder) / "dataset.json").read_bytes()
    at = on_tab(alarming(run), "Mistakes" if lang == "en" else "誤判定", lang)
    button = next(b for b in at.button if b.key and b.key.startswith("take-over-"))
    button.click().run()
    assert not at.exception
    later = store.Run.open(at.session_state["run"])
    assert later.id != run.id
    assert jobs.state(later.id).status == "queued"
    assert (Path(store.Dataset.open(run.card["dataset"]).folder) / "dataset.json").read_bytes() == before
    version = store.Dataset.open(later.request["dataset"])
    assert version.meta["parent"]["run"] == run.id

    next((store.workspace() / "queue").glob(f"*.{later.id}")).unlink()
    from adlib import workflow

    workflow.run_request(later)
    later.append({"status": "done"})
    decisions.use_learned(run)
    at = open_page("evaluate", run=later.id, lang=lang).run()
    assert not at.exception
    assert ("3 good, 4 defect pictures" if lang == "en" else "良品 3 枚、不良 4 枚") in said(at)
    assert ("It counts on neither side" if lang == "en" else "どちらの集計にも含みません") in said(at)


def test_the_data_page_says_how_a_later_version_came_to_be(workspace):
    from adlib import datasets

    first = tiny_dataset()
    good = next(s for s in datasets.samples(first)[0] if s.split == "test" and s.label == 0)
    later = datasets.take_over(first, good.digest)
    assert "A later version: 1 good test" in said(open_page("data", dataset=later.id).run())
    assert "A later version" not in said(open_page("data", dataset=first.id).run())


def test_neither_a_missed_defect_nor_a_set_that_is_gone_offers_to_be_taken_over(run):
    decisions.set_by_hand(run, worst(run)["score"])
    at = on_tab(run, "Mistakes")
    assert "Missed: spot" in said(at)
    assert not [b for b in at.button if b.key and b.key.startswith("take-over-")]
    decisions.use_learned(run)
    store.Dataset.open(alarming(run).card["dataset"]).delete()
    at = on_tab(run, "Mistakes")
    assert not at.exception
    assert not [b for b in at.button if b.key and b.key.startswith("take-over-")]


# --- studies ----------------------------------------------------------------------------------------------------------


def test_a_study_is_asked_for_watched_and_stopped(run):
    at = on_tab(run, "Studies")
    assert not at.exception
    assert not [b for b in at.button if b.key == "start-directions"], "not a question to this method"
    at.button("start-curve").click().run()
    assert not at.exception
    assert jobs.study_state(run.id, "curve").status == "queued"
    at.run()
    at.button(f"stop-{run.id}.curve").click().run()
    at.run()
    assert not at.exception
    assert str(Stopped().sentence) in said(at)
    assert [b for b in at.button if b.key == "start-curve"]


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_finished_study_is_drawn_with_its_answer(lang, run):
    points = {"auroc": [[0.8, 0.82, 0.84]] * 2, "false_alarms": [[0.1, 0.0, 0.2]] * 2, "seconds": [[1.0, 1.0, 1.2]] * 2}
    sentence, promise = ["Enough: {n}", {"n": 9}], ["study finished", {}]
    about = {"created": 0.0, "answer": "enough", "sentence": sentence, "promise": promise, "repeats": 3}
    on = {"measured_on": {"normals": 3, "good": 4, "defects": 4}}
    run.write("curve.json", {"normals": [5, 9], **points, **about, **on})
    at = on_tab(run, "Studies" if lang == "en" else "調査", lang)
    assert not at.exception
    charts = at.get("plotly_chart")
    assert len(charts) == 3
    assert all("5" in chart.proto.alt and "9" in chart.proto.alt for chart in charts)
    assert "Enough: 9" in at.success[0].value.replace("\\", "")


def test_the_study_of_directions_warns_of_choosing_by_it():
    run = finished_run(method="gaussian")
    studies.work(run, "directions")
    at = on_tab(run, "Studies")
    assert not at.exception
    assert "oracle" in said(at)
    assert len(at.get("plotly_chart")) == 3
    at.selectbox("study-level").set_value(0).run()
    assert not at.exception


def test_without_tests_the_studies_are_still_offered(workspace):
    from kit_pages import tiny_items

    run = finished_run(tiny_dataset(items=[item for item in tiny_items() if item[0].startswith("train")]))
    at = open_page("evaluate", run=run.id).run()
    assert not at.exception
    assert [b for b in at.button if b.key == "start-curve"]


def test_a_study_that_waits_is_named_among_the_jobs_of_the_server(run):
    jobs.study(run.id, "curve")
    at = open_page("fit", run=run.id).run()
    assert not at.exception
    assert "How many normals are enough?" in said(at)
