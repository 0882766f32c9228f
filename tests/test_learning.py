"""A network is seen while it learns: what a method tells its tick is kept with the run and shown on the Fit page."""

from __future__ import annotations

import io

import numpy as np
import pytest
from kit_pages import open_page, texts
from kit_runs import made as made
from kit_runs import run as run
from PIL import Image

import worlds
from adlib import learning, plots, store, workflow
from adlib.alt_text import losses_text
from adlib.contract import Stopped


def test_losses_and_pictures_are_kept_and_the_rest_travels_on(workspace):
    run = store.Run.create()
    heard = []
    tick = learning.recorded(run, lambda fraction, message, /, **numbers: heard.append((fraction, message, numbers)))
    picture = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    tick(0.5, "epoch {epoch}", epoch=1, losses={"fit": 2.0, "held_out": 3.0}, pictures=picture)
    tick(0.6, "epoch {epoch}", epoch=2, losses={"fit": 1.0, "held_out": 2.5})
    tick(0.7, "reading")
    assert heard == [(0.5, "epoch {epoch}", {"epoch": 1}), (0.6, "epoch {epoch}", {"epoch": 2}), (0.7, "reading", {})]
    assert learning.curves(run) == {"epoch": [1, 2], "fit": [2.0, 1.0], "held_out": [3.0, 2.5]}
    ((epoch, path),) = learning.strips(run)
    strip = np.asarray(Image.open(io.BytesIO(path.read_bytes())))
    assert epoch == 1
    assert strip.shape == (64, 2 * 64 + learning.GAP, 4)  # small pictures are enlarged
    assert (strip[8, 8, :3] == picture[0, 0, 0]).all()
    assert (strip[-1, -1, :3] == picture[1, -1, -1]).all()
    learning.recorded(run, tick)  # a new fit starts a new record
    assert not learning.curves(run)
    assert not learning.strips(run)


def test_a_line_that_is_still_being_written_is_left_out(workspace):
    run = store.Run.create()
    (run.folder / learning.CURVES).write_text('{"epoch": 1, "fit": 2.0}\n{"epoch": 2, "fi')
    assert learning.curves(run) == {"epoch": [1], "fit": [2.0]}


def test_of_many_strips_the_first_the_last_and_some_between_are_shown(workspace):
    run = store.Run.create()
    for epoch in (1, 2, 4, 8, 16, 32, 64):
        (run.folder / f"learned-{epoch:05d}.png").write_bytes(b"")
    shown = [epoch for epoch, _ in learning.strips(run, most=4)]
    assert (shown[0], shown[-1], len(shown)) == (1, 64, 4)


QUICK = {"size": 16, "width": 4, "epochs": 3, "patience": 0}


def test_a_fit_keeps_how_it_learned_and_a_stopped_one_keeps_nothing(workspace):
    dataset = worlds.dataset()
    run = store.Run.create()
    request = workflow.Request(dataset.id, "autoencoder", QUICK, None)
    workflow.fit(request, dataset, run)
    curves = learning.curves(run)
    assert curves["epoch"] == [1, 2, 3]
    assert set(curves) == {"epoch", "fit", "held_out"}
    assert [epoch for epoch, _ in learning.strips(run)] == [1, 2]

    def stop(fraction: float, message: str, /, **numbers) -> None:
        assert "losses" not in numbers
        if numbers.get("epoch") == 2:
            raise Stopped

    with pytest.raises(Stopped):
        workflow.fit(request, dataset, run, stop)
    run.forget()
    assert not learning.curves(run)
    assert not learning.strips(run)


def test_loss_curves_mark_the_best_epoch_and_are_told_in_words():
    curves = {"epoch": [1, 2, 3], "fit": [3.0, 2.0, 1.0], "held_out": [3.0, 1.5, 2.0]}
    figure = plots.losses(curves)
    assert [trace.name for trace in figure.data] == ["normals it learns from", "held-out normals", "best epoch, kept"]
    assert (figure.data[2].x[0], figure.data[2].y[0]) == (2, 1.5)
    assert figure.layout.yaxis.type == "log"
    assert plots.losses({"epoch": [1], "critic": [-3.0]}).layout.yaxis.type != "log"
    assert "held-out normals: from 3 to 2" in losses_text(curves)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_fit_page_shows_how_a_finished_run_learned(run, lang):
    at = open_page("fit", run=run.id, lang=lang).run()
    assert not at.exception
    assert not [one for one in at.expander if one.label in ("How it learned", "学習の経過")]
    tick = learning.recorded(run, lambda *args, **numbers: None)
    picture = np.zeros((2, 8, 8, 3), np.uint8)
    for epoch in (1, 2):
        tick(0.5, "…", epoch=epoch, losses={"fit": 2.0 / epoch, "held_out": 3.0}, pictures=picture)
    at = open_page("fit", run=run.id, lang=lang).run()
    assert not at.exception
    assert [one for one in at.expander if one.label in ("How it learned", "学習の経過")]
    assert ("what the network draws" if lang == "en" else "ネットワークが") in texts(at)
