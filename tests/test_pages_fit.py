"""The Fit page: choices and their cost before the start, one line of truth about a run while it works and afterwards."""

from __future__ import annotations

import logging

import pytest
from kit_pages import open_page, part, png, texts, tiny_dataset
from kit_runs import made as made
from kit_runs import run as run

from adlib import jobs, machine, registry, store, weights


def said(at) -> str:
    return texts(at).replace("\\", "")


def started(at) -> str:
    """Presses Fit; the run's id."""
    at.button("primary-fit").click().run()
    return at.session_state["run"]


def test_an_empty_workspace_offers_a_sample_set():
    at = open_page("fit").run()
    assert not at.exception
    assert "normal pictures to learn from" in said(at)
    assert at.button("primary-sample").label == "Use the fabric sample set"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_every_method_has_its_card_and_nothing_is_deprecated(lang, caplog):
    dataset = tiny_dataset()
    with caplog.at_level(logging.WARNING):
        at = open_page("fit", lang=lang, dataset=dataset.id).run()
    assert not at.exception
    assert not at.error
    for card in registry.METHODS.values():
        assert f"##### {card.title}" in said(at)
        assert card.source in said(at)
    assert not [r for r in caplog.records if "deprecat" in r.getMessage() or "will be removed" in r.getMessage()]


def test_time_and_memory_are_told_before_the_start():
    at = open_page("fit", dataset=tiny_dataset().id).run()
    assert {"Time, about", "Memory, about"} <= {metric.label for metric in at.metric}
    assert "Learns from all 12 pictures" in said(at)
    assert "99 pictures are needed" in at.info[0].value.replace("\\", "")


def test_a_method_without_a_network_hides_the_backbone():
    at = open_page("fit", dataset=tiny_dataset().id).run()
    assert at.selectbox("fit-network").value == "offline"
    at.button("choose-pixel_median").click().run()
    assert not at.exception
    assert "fit-network" not in [box.key for box in at.selectbox]
    assert "needs no backbone" in said(at)


def test_the_built_in_backbone_says_so_and_names_a_better_one_that_is_ready(monkeypatch):
    monkeypatch.setattr(weights, "better", lambda ready: None)
    at = open_page("fit", dataset=tiny_dataset().id).run()
    assert "Built in, works offline" in said(at)
    assert "found more defects" not in said(at)
    monkeypatch.setattr(weights, "better", lambda ready: "wide_net.mine")
    assert "**wide_net.mine**, which is ready here too, found more defects" in said(at.run())


def test_the_form_says_which_method_it_will_fit():
    at = open_page("fit", dataset=tiny_dataset().id).run()
    assert "Fit PatchCore" in [head.value for head in at.subheader]  # on a phone the chosen card is screens away
    at.button("choose-padim").click().run()
    assert "Fit PaDiM" in [head.value for head in at.subheader]


def test_missing_weights_are_a_warning_with_a_way_out():
    at = open_page("fit", dataset=tiny_dataset().id).run()
    at.selectbox("fit-network").set_value("resnet18.tv_in1k").run()
    assert not at.exception
    assert "ADLIB_WEIGHTS" in at.warning[0].value.replace("\\", "")
    assert at.button("primary-fit").disabled
    at.button("use-offline").click().run()
    assert at.selectbox("fit-network").value == "offline"
    assert not at.button("primary-fit").disabled


def test_a_fit_that_does_not_fit_is_a_warning_and_no_crash(monkeypatch):
    monkeypatch.setattr(machine, "free_bytes", lambda: 1000)
    at = open_page("fit", dataset=tiny_dataset().id).run()
    assert not at.exception
    assert "would be refused" in at.warning[0].value


def test_too_few_normals_are_said_with_the_number_needed():
    dataset = tiny_dataset(items=[("good/a.png", png(part(1)))])
    at = open_page("fit", dataset=dataset.id).run()
    assert not at.exception
    assert "at least 2 normal pictures" in at.error[0].value.replace("\\", "")


def test_pressing_fit_queues_one_job_that_the_address_names():
    dataset = tiny_dataset()
    at = open_page("fit", dataset=dataset.id).run()
    id = started(at)
    assert not at.exception
    assert store.Run.open(id).request["dataset"] == dataset.id
    assert jobs.state(id).status == "queued"
    assert started(open_page("fit", dataset=dataset.id).run()) == id, "the same fit twice is one job"


def test_a_queued_fit_can_be_stopped_and_started_again():
    at = open_page("fit", dataset=tiny_dataset().id).run()
    id = started(at)
    at.button(f"stop-{id}").click().run()
    at.run()
    assert jobs.state(id).status == "stopped"
    assert "Stopped at your request" in at.warning[0].value
    at.button(f"again-{id}").click().run()
    again = at.session_state["run"]
    assert again != id
    assert jobs.state(again).status == "queued"


def test_a_reload_shows_what_was_asked_and_not_what_the_widgets_say():
    at = open_page("fit", dataset=tiny_dataset().id).run()
    at.number_input("fit-alpha").set_value(5.0).run()
    id = started(at)
    fresh = open_page("fit", run=id).run()
    assert fresh.number_input("fit-alpha").value == 1.0
    assert "false alarms 5 %" in said(fresh)


def test_a_colleague_sees_which_other_jobs_wait():
    id = started(open_page("fit", dataset=tiny_dataset().id).run())
    colleague = open_page("fit").run()
    assert "Also at work on this server" in said(colleague)
    colleague.button(f"open-{id}").click().run()
    assert colleague.session_state["run"] == id


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_failed_fit_says_why_and_offers_another_try(lang, run):
    (run.folder / "run.json").unlink()
    run.append({"status": "failed", "message": ["PaDiM needs at least 2 normal images.", {}]})
    at = open_page("fit", lang=lang, run=run.id).run()
    assert not at.exception
    assert "at least 2 normal images" in at.error[0].value.replace("\\", "")
    assert f"again-{run.id}" in [button.key for button in at.button]


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_finished_fit_leads_on_to_evaluation_and_heatmaps(lang, run):
    at = open_page("fit", lang=lang, run=run.id).run()
    assert not at.exception
    assert "1.000" in at.success[0].value.replace("\\", "")
    assert "Pixel median" in said(at)


def test_a_damaged_record_is_one_red_box_and_the_form_still_works(run):
    (run.folder / "request.json").write_text("{")
    at = open_page("fit", run=run.id).run()
    assert not at.exception
    assert "is damaged" in at.error[0].value
    assert at.button("primary-fit").label == "Fit"
