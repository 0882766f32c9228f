"""The Models page: runs to share, rename and delete; backbones ready or missing; a run from elsewhere."""

from __future__ import annotations

import io
import logging

import pytest
from kit_pages import finished_run, open_page, texts, tiny_dataset, tiny_items

from adlib import exchange, store


def test_without_runs_the_page_says_what_will_be_here_and_where_to_go():
    at = open_page("models").run()
    assert not at.exception
    assert "Finished runs will be listed here" in texts(at)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_finished_run_is_listed_with_its_link_and_no_deprecated_call(lang, caplog):
    run = finished_run()
    with caplog.at_level(logging.WARNING):
        at = open_page("models", lang=lang, run=run.id).run()
    assert not at.exception
    assert f"run={run.id}" in at.code[0].value
    assert len(at.dataframe[0].value) == 1
    assert not [r for r in caplog.records if "deprecat" in r.getMessage() or "will be removed" in r.getMessage()]


def test_a_run_is_renamed_and_a_hostile_name_is_drawn_letter_by_letter():
    run = finished_run()
    at = open_page("models", run=run.id).run()
    at.text_input(f"name-{run.id}").set_value("![x](https://evil.example/t.png)")
    at.button("save-name").click().run()
    assert store.Run.open(run.id).title == "![x](https://evil.example/t.png)"
    assert "![x]" not in texts(at)
    assert not at.exception


def test_a_run_is_deleted_only_after_the_second_press():
    run = finished_run()
    at = open_page("models", run=run.id).run()
    assert store.Run.exists(run.id)
    at.button("delete-run").click().run()
    assert not store.Run.exists(run.id)
    assert not at.exception
    assert "Finished runs will be listed here" in texts(at)
    assert "Pixel median" in at.toast[0].value
    assert "was deleted" in at.toast[0].value, "the page goes on with another run: who pressed must see what is gone"


def test_a_run_from_elsewhere_is_taken_in_and_becomes_the_current_one():
    run = finished_run()
    data = exchange.pack(run)
    run.delete()
    at = open_page("models").run()
    at.file_uploader("upload-run-0").upload("run.zip", data, "application/zip").run()
    assert not at.exception
    assert [one.id for one in store.Run.all()] == [at.session_state["run"]]


def test_a_zip_that_is_no_run_gives_one_red_box():
    at = open_page("models").run()
    at.file_uploader("upload-run-0").upload("run.zip", io.BytesIO(b"nonsense").getvalue(), "application/zip").run()
    assert not at.exception
    assert "damaged" in at.error[0].value


def test_backbones_are_listed_with_the_offline_one_ready(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    at = open_page("models")
    at.session_state["models-tab"] = "Backbones"
    at.run()
    table = at.dataframe[0].value
    ready = table[table["State"] == "ready"]["Backbone"].tolist()
    assert ready == ["offline", "offline_pure"]
    assert "resnet18.tv_in1k" in table["Backbone"].tolist()


def test_a_link_to_a_run_that_is_gone_says_so_and_the_page_stands():
    tiny_dataset()
    at = open_page("models", run="gone-for-good").run()
    assert not at.exception
    assert "not on this server" in at.warning[0].value


def test_runs_of_one_title_are_told_apart_where_one_is_chosen():
    first = finished_run()
    exchange.unpack(io.BytesIO(exchange.pack(first)))
    at = open_page("models").run()
    offered = at.selectbox("pick-run").options
    assert len(set(offered)) == 2, "the copy bears the title and the moment of the first"
    assert all(label.startswith("Pixel median") for label in offered)
    assert any(f"({first.id[:4]})" in label for label in offered)
    first.delete()
    (alone,) = open_page("models").run().selectbox("pick-run").options
    assert "(" not in alone


def test_the_run_shown_unasked_is_one_of_the_open_data_set_and_another_says_so():
    ours, theirs = finished_run(), finished_run(tiny_dataset("Rings", tiny_items(13)))
    at = open_page("heatmaps", dataset=ours.card["dataset"]).run()
    assert at.session_state["run"] == ours.id, "the newest of all would be the rings"
    assert "other pictures" not in texts(at)
    at = open_page("heatmaps", dataset=ours.card["dataset"], run=theirs.id).run()
    assert at.session_state["run"] == theirs.id
    assert "learned from other pictures than those of the open data set, Plates" in texts(at)
