"""The report on the Evaluate page: three downloads, made only when asked for, in a language of their own."""

from __future__ import annotations

import pytest
from kit_pages import open_page
from kit_report import Page
from kit_report import run as run
from kit_runs import made as made

from pages.parts import handing


@pytest.fixture
def offered(monkeypatch):
    """What the page offers to download: key → how it is made."""
    found = {}
    drawn = handing.st.download_button

    def offer(label, data, name, mime, *, key, **more):
        found[key] = data
        return drawn(label, data, name, mime, key=key, **more)

    monkeypatch.setattr(handing.st, "download_button", offer)
    return found


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_report_comes_in_the_visitors_language_unless_another_is_chosen(lang, run, offered):
    at = open_page("evaluate", lang=lang, run=run.id).run()
    assert not at.exception
    assert Page(offered["primary-report"]().decode()).all("html")[0]["lang"] == lang
    other = "ja" if lang == "en" else "en"
    at = open_page("evaluate", lang=lang, run=run.id)
    at.session_state[f"report-language-{lang}"] = other  # as a click would, which AppTest can do in English only
    at.run()
    assert not at.exception
    assert Page(offered["primary-report"]().decode()).all("html")[0]["lang"] == other


def test_scores_and_heatmaps_are_offered_beside_it(run, offered):
    at = open_page("evaluate", run=run.id).run()
    assert not at.exception
    assert offered["csv"]().startswith(b"\xef\xbb\xbfname,")
    assert offered["heatmaps-zip"]().startswith(b"PK")


def test_a_run_without_tests_has_a_report_too_and_no_heatmaps_to_offer(run, offered):
    for name in ("report.json", "scores.json", "scores.csv", "maps.npy"):
        (run.folder / name).unlink()
    at = open_page("evaluate", run=run.id).run()
    assert not at.exception
    assert set(offered) == {"primary-report", "csv"}
    assert "has not been evaluated" in Page(offered["primary-report"]().decode()).words


def test_no_report_is_offered_where_there_is_no_run(workspace, offered):
    assert not open_page("evaluate").run().exception
    assert offered == {}
