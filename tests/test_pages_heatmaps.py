"""The Heatmaps page: a verdict and a heat for every picture that can be read, and a sentence for every one that cannot."""

from __future__ import annotations

import csv
import io
import logging
import zipfile

import numpy as np
import pytest
from kit_pages import finished_run, open_page, part, png, texts
from kit_runs import made as made
from kit_runs import run as run
from PIL import Image

from adlib import decisions, store, workflow
from pages.parts import looking, overlay


def said(at) -> str:
    return texts(at).replace("\\", "")


def dropped(run, *files: tuple[str, bytes], lang: str = ""):
    at = open_page("heatmaps", run=run.id, lang=lang)
    at.session_state["source"] = "drop"
    at.run()
    for name, data in files:
        at.file_uploader("upload-heatmaps-0").upload(name, data, "image/png")
    return at.run()


GOOD, BAD = ("good.png", png(part(501))), ("bad.png", png(part(502, defect=True)))


def test_without_a_run_it_says_where_to_get_one():
    at = open_page("heatmaps").run()
    assert not at.exception
    assert "Results will appear here" in said(at)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_data_sets_tests_are_looked_at_without_asking(lang, run, caplog):
    with caplog.at_level(logging.WARNING):
        at = open_page("heatmaps", lang=lang, run=run.id).run()
    assert not at.exception
    assert not at.error
    assert said(at).count("48 × 48") == 6, "a page of six"
    assert not [r for r in caplog.records if "deprecat" in r.getMessage() or "will be removed" in r.getMessage()]


def test_dropped_pictures_get_a_verdict_in_words_and_multiples_of_the_threshold(run):
    at = dropped(run, GOOD, BAD)
    assert not at.exception
    assert "Looks normal" in said(at)
    assert "Differs from the normal pictures" in said(at)
    assert "1 of 2 pictures raise an alarm" in said(at)
    assert "× threshold" in said(at)


def test_upload_buffers_are_let_go_and_a_rerun_does_not_look_again(run, monkeypatch):
    looks = []
    look = workflow.look
    monkeypatch.setattr(workflow, "look", lambda *args: looks.append(1) or look(*args))
    at = dropped(run, ("new.png", png(part(701))), ("newer.png", png(part(702))))
    assert at.file_uploader("upload-heatmaps-1").value == []
    assert len(looks) == 2
    at.toggle("worst-first").set_value(False).run()
    assert not at.exception
    assert len(looks) == 2


def test_a_bad_picture_is_a_sentence_and_the_rest_go_on(run):
    at = dropped(run, ("broken.png", b"\x89PNG not really"), ("cut.png", BAD[1][:200]), GOOD)
    assert not at.exception
    assert "Looks normal" in said(at)
    table = at.dataframe[0].value
    assert set(table.iloc[:, 0]) == {"broken.png", "cut.png"}
    assert all(table.iloc[:, 1].str.len() > 10)


def test_a_zip_of_pictures_is_opened_and_a_hostile_name_is_only_text(run):
    evil = "![x](http:evil).png"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(evil, GOOD[1])
        archive.writestr("../../up.png", BAD[1])
        archive.writestr("notes.txt", b"hello")
    at = dropped(run, ("pictures.zip", out.getvalue()))
    assert not at.exception
    assert "1 of 2 pictures raise an alarm" in said(at)
    assert not [element.value for element in at.markdown if "![x](" in element.value]
    assert sorted(path.name for path in (store.workspace() / "inbox").iterdir()) == sorted(
        item.digest for item in at.session_state["looked-items"]
    ), "files lie under their digest and nowhere else"


def test_the_verdict_follows_a_threshold_set_by_hand(run):
    assert "Differs from the normal pictures" in said(dropped(run, BAD))
    decisions.set_by_hand(run, 1e6)
    assert "Looks normal" in said(dropped(run, BAD))


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_method_without_a_map_gives_the_score_and_says_so(lang, workspace):
    run = finished_run(method="knn")
    at = dropped(run, BAD, lang=lang)
    assert not at.exception
    assert "no heatmap" in at.info[0].value or "ヒートマップはありません" in at.info[0].value
    assert len(at.get("image")) == 1


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_run_whose_state_is_damaged_is_one_red_box(lang, run):
    (run.folder / "state.safetensors").write_bytes(b"nothing")
    at = open_page("heatmaps", lang=lang, run=run.id).run()
    assert not at.exception
    assert len(at.error) == 1


# --- what is taken away -----------------------------------------------------------------------------------------------


def test_the_zip_holds_a_png_in_the_pictures_own_pixels_and_a_safe_table(run):
    items, refused = looking.take([("=cmd.png", png(part(601, defect=True, side=300))), ("x.gif", b"GIF89a")])
    assert [name for name, _ in refused] == ["x.gif"]
    seen = [looking.see(run, item) for item in items]
    with zipfile.ZipFile(io.BytesIO(looking.packed(run, items, seen)())) as archive:
        sheet, picture = archive.namelist()
        image = Image.open(io.BytesIO(archive.read(picture)))
        rows = list(csv.DictReader(io.StringIO(archive.read(sheet).decode("utf-8-sig"))))
    assert image.width >= 300
    assert image.height > 300, "the legend stands below the picture"
    assert rows[0]["name"] == "'=cmd.png", "no spreadsheet takes a name for a formula"
    assert rows[0]["verdict"] == "alarm"
    assert float(rows[0]["times_threshold"]) > 1


def test_cells_keep_the_proportions_and_the_fixed_scale():
    heat = np.zeros((600, 1200), np.float32)
    heat[:, 600:] = 1.0
    heat[0:300, 0:300] = 5.0
    cells = overlay.cells(heat)
    assert cells.shape == (128, 256)
    assert cells[100, 200] == 128, "the threshold lies in the middle of the scale"
    assert cells[10, 10] == 255, "all above the end of the scale reads as its end"
    assert cells[100, 10] == 0


def test_an_upload_is_kept_for_a_day_and_no_longer(run):
    import os
    import time

    (old,), _ = looking.take([GOOD])
    os.utime(old.path, (time.time() - 2 * 86_400,) * 2)
    looking.take([BAD])
    assert not old.path.exists()


def test_kinds_are_words_in_the_visitors_language(run):
    at = open_page("heatmaps", lang="ja", run=run.id).run()
    assert "ラベル：良品" in said(at)
    assert "良品" in at.pills(f"kind-{run.id}").options
