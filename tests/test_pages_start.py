"""The Start page, and what all pages share: language, gate, address and menu."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from kit_pages import finished_run, open_page, texts, tiny_dataset

from adlib import jobs, store, workflow
from conftest import ROOT


@pytest.mark.parametrize(("lang", "button"), [("en", "See it work"), ("ja", "試してみる")])
def test_a_fresh_workspace_shows_three_steps_and_one_primary_button(lang, button, caplog):
    with caplog.at_level(logging.WARNING):
        at = open_page("start", lang=lang).run()
    assert not at.exception
    primary = [one.label for one in at.button if one.proto.type == "primary"]
    assert primary == [button]
    assert not [r for r in caplog.records if "deprecat" in r.getMessage() or "will be removed" in r.getMessage()]


def test_the_button_ends_in_finished_heatmaps(monkeypatch):
    """The queue is real; the job is run in this process in place of the worker's."""
    at = open_page("start").run()
    at.button("sample-digits").click().run()
    at.button("primary-see").click().run()
    assert not at.exception
    run = store.Run.open(at.session_state["run"])
    assert jobs.state(run.id).active
    workflow.run_request(run)
    next((store.workspace() / "queue").glob(f"*.{run.id}")).unlink()
    run.append({"status": "done", "message": ["finished", {}]})
    at.run()
    assert not at.exception
    assert "What it found" in texts(at)
    assert len(at.get("image")) >= 5 + 4, "the sample sets' pictures and the heatmaps"


def test_the_printed_label_is_judged_place_by_place(monkeypatch):
    made = tiny_dataset("Label")
    monkeypatch.setattr("adlib.samples.ensure", lambda key, tick: made)
    at = open_page("start").run()
    methods = {}
    for key in ("label", "ring"):
        at.button(f"sample-{key}").click().run()
        at.button("primary-see").click().run()
        assert not at.exception
        methods[key] = store.Run.open(at.session_state["run"]).request["method"]
    assert methods == {"label": "padim", "ring": "patchcore"}


def test_where_the_visitor_left_off_is_linked():
    run = finished_run(tiny_dataset("Plates"))
    at = open_page("start").run()
    links = [link.proto for link in at.get("page_link")]
    assert any(f"run={run.id}" in link.query_string for link in links)


def test_the_language_comes_from_the_browser_until_it_is_chosen():
    at = open_page("data")
    at.context = {"locale": "ja-JP"}
    at.run()
    assert at.title[0].value == "データ"
    at.segmented_control("language-switch").set_value("en").run()
    assert at.title[0].value == "Data"
    at.switch_page("pages/models.py").run()
    assert at.title[0].value == "Models"


def test_the_current_data_set_survives_a_page_switch():
    dataset = tiny_dataset()
    at = open_page("data", dataset=dataset.id).run()
    at.switch_page("pages/models.py").run()
    assert at.session_state["dataset"] == dataset.id
    assert any(dataset.title in caption.value for caption in at.sidebar.caption)


@pytest.mark.parametrize("name", ["start", "data", "fit", "evaluate", "heatmaps", "compare", "models"])
def test_no_page_shows_anything_without_the_password(name, monkeypatch):
    monkeypatch.setenv("ADLIB_PASSWORD", "open sesame")
    at = open_page(name).run()
    assert [title.value for title in at.title] == ["Sign in"]
    assert not at.button
    assert not at.get("page_link")


def test_the_right_password_opens_and_a_wrong_one_does_not(monkeypatch):
    monkeypatch.setenv("ADLIB_PASSWORD", "開けゴマ")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    at = open_page("models").run()
    at.text_input("password").set_value("open").run()
    assert "not the password" in at.error[0].value
    at.text_input("password").set_value("開けゴマ").run()
    assert at.title[0].value == "Models"


@pytest.mark.parametrize("page", ["streamlit_app", "pages.data"])
def test_the_first_page_waits_for_no_heavy_import(page):
    """Start and Data are drawn before torch, scikit-learn, SciPy or Plotly are anywhere in sight."""
    name = "start" if page == "streamlit_app" else "data"
    code = (
        "import sys, os, tempfile\n"
        "sys.path[:0] = ['.', 'tests']\n"
        "os.environ['ADLIB_WORKSPACE'] = tempfile.mkdtemp()\n"
        "from kit_pages import open_page\n"
        f"at = open_page('{name}').run()\n"
        "assert not at.exception, at.exception\n"
        "heavy = {'torch', 'timm', 'sklearn', 'scipy'} & set(sys.modules)\n"  # AppTest itself brings Plotly
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
