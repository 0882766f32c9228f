"""The Compare page: an experiment from one click to its figures, and finished runs side by side."""

from __future__ import annotations

import json
import logging
import time

import numpy as np
import pytest
from kit_pages import finished_run, open_page, part, png, texts, tiny_dataset, tiny_items

from adlib import (
    class_sets,
    holdout,
    jobs,
    metrics,
    store,
    trial_plots,
    trial_results,
    trial_time,
    trial_work,
    trials,
    worker,
)
from adlib.contract import AdlibError, Backbone
from adlib.experiments import Classes
from adlib.trials import Method, Plan
from pages.parts import words

SMALL = Backbone("offline", (0,), 64)


def tiny_digits() -> Classes:
    """The built-in digits, a dozen of each."""
    whole = class_sets.digits()
    parts = {split: whole.of(split, *whole.names, limit=12) for split in ("train", "test")}
    return Classes({s: pixels for s, (pixels, _) in parts.items()}, {s: labels for s, (_, labels) in parts.items()})


@pytest.fixture(scope="module")
def small() -> Classes:
    return tiny_digits()


@pytest.fixture(autouse=True)
def few_digits(monkeypatch, small):
    monkeypatch.setattr(class_sets, "digits", lambda: small)
    monkeypatch.setattr(holdout, "PLANE", 20)  # t-SNE takes its time


def finished(kind: str, **more) -> trials.Trial:
    methods = (Method("pixel_median"), Method("knn", {"k": 2}))
    trial = trials.take(Plan(kind, "digits", methods, backbone=SMALL, **more))
    trial_work.work(trial)
    trial.run.append({"status": "done"})
    return trial


def said(at) -> str:
    return texts(at).replace("\\", "")


# --- experiments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_one_click_queues_an_experiment_on_the_built_in_digits(lang, caplog):
    with caplog.at_level(logging.WARNING):
        at = open_page("compare", lang=lang).run()
        assert not at.exception
        at.button("primary-trial").click().run()
    assert not at.exception
    (trial,) = trials.every()
    assert (trial.plan.kind, trial.plan.source, trial.plan.normal, trial.plan.anomaly) == (
        "one-vs-one",
        "digits",
        "1",
        "9",
    )
    assert at.query_params["experiment"] in (trial.id, [trial.id])
    assert jobs.experiment_state(trial.id).status == "queued"
    assert not [r for r in caplog.records if "deprecat" in r.getMessage() or "will be removed" in r.getMessage()]


def test_every_kind_offers_what_it_needs_and_starts():
    at = open_page("compare").run()
    for kind in trials.KINDS:
        at.segmented_control("trial-kind").set_value(kind).run()
        assert not at.exception, kind
        assert not at.button("primary-trial").disabled
    assert "15 fits with 3 methods" in said(at)
    at.button("primary-trial").click().run()
    assert trials.every()[0].plan.anomalous == 5


def test_metric_learning_is_offered_where_classes_are_held_out():
    at = open_page("compare").run()
    at.segmented_control("trial-kind").set_value("class-holdout").run()
    at.button("primary-trial").click().run()
    assert not at.exception
    assert [one.key for one in trials.every()[0].plan.methods] == ["knn", "metric_learning", "lof"]


def test_the_number_of_tests_is_asked_for_and_handed_on_where_it_counts():
    at = open_page("compare").run()
    at.session_state["trial-details"] = True
    at.run()
    assert "trial-tests" not in [one.key for one in at.number_input]
    at.segmented_control("trial-kind").set_value("one-class").run()
    at.number_input("trial-tests").set_value(50).run()
    at.button("primary-trial").click().run()
    assert not at.exception
    assert trials.every()[0].plan.tests == 50


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_how_long_it_takes_is_told_before_it_starts_and_only_where_it_was_measured(lang):
    said_of = words.by_key(lang)
    at = open_page("compare", lang=lang).run()
    assert "Autoencoder, Deep kNN" in said(at)
    assert said_of["compare.untimed"][:12] in said(at)
    at.pills("trial-methods-one-vs-one").set_value(["pixel_median"]).run()
    trial = finished("one-vs-one")  # pixel median, and kNN at 64 pixels
    (trial.folder / "experiment.json").unlink()
    row = {
        "trial": trial.id,
        "label": "pixel_median",
        "pictures": 24,
        "operations": 1.0,
        "fit_seconds": 0.0,
        "seconds": 480.0,
    }
    key = next(name for name in store.read_json(store.workspace() / trial_time.FILE) if "pixel_median" in name)
    store.write_json(store.workspace() / trial_time.FILE, {key: [row]})
    at.run()
    assert not at.exception
    assert said_of["compare.takes"].replace("{time}", words.by_key(lang)["shell.minutes"].format(n=8)) in said(at)
    at.pills("trial-methods-one-vs-one").set_value(["pixel_median", "autoencoder"]).run()
    assert "Autoencoder" in said(at)
    assert "8 min" not in said(at)


def test_the_time_left_is_told_while_it_runs(monkeypatch):
    plan = Plan("class-holdout", "digits", (Method("pixel_median"),), cases=4, samples=(5,))
    trial = trials.take(plan)
    job, seen = jobs.experiment(trial.id), []
    real = trial_work._done

    def looking(*given):
        at = open_page("compare", experiment=trial.id).run()
        assert not at.exception
        seen.append(said(at) + str([element.proto for element in at.get("progress")]))
        return real(*given) | {"fit_seconds": 0.0, "seconds": 600.0}

    monkeypatch.setattr(trial_work, "_done", looking)
    monkeypatch.setattr(worker, "_EVENT_SECONDS", 0.0)
    worker.work(0.2)
    assert jobs.state(job).status == "done", jobs.state(job).message
    assert "once each method has finished once" in seen[0]
    assert [text for text in seen if "left" in text.replace("time left", "")] == seen[1:]
    assert "about 30 min left" in seen[1]
    assert "about 20 min left" in seen[2]


def test_without_methods_or_classes_nothing_can_be_started(monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("ADLIB_DATA", str(tmp_path))
    at = open_page("compare").run()
    at.pills("trial-methods-one-vs-one").set_value([]).run()
    assert at.button("primary-trial").disabled
    at.pills("trial-methods-one-vs-one").set_value(["knn"]).run()
    assert not at.button("primary-trial").disabled
    at.selectbox("trial-source").set_value("opened:empty").run()
    assert not at.exception
    assert at.button("primary-trial").disabled
    assert "No classes were found here" in said(at)


def test_class_folders_in_a_zip_can_take_part(tmp_path):
    import io
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for kind in ("bolt", "nut", "![x](https://evil.example)"):
            for i in range(12):
                archive.writestr(f"{kind.replace('/', '_')}/{i}.png", png(part(100 * len(kind) + i)))
    at = open_page("compare").run()
    at.selectbox("trial-source").set_value("upload:").run()
    assert at.button("primary-trial").disabled
    at.file_uploader[0].upload("parts.zip", data.getvalue(), "application/zip").run()
    assert not at.exception
    at.pills("trial-methods-one-vs-one").set_value(["pixel_median"]).run()
    at.button("primary-trial").click().run()
    assert not at.exception
    (trial,) = trials.every()
    assert trial.plan.source == "upload:parts.zip"
    assert (trial.plan.normal, trial.plan.anomaly) == ("![x](https:__evil.example)", "bolt")
    worker.work(0.2)
    now = jobs.experiment_state(trial.id)
    assert now.status == "done", now.message
    at.run()
    assert not at.exception
    assert "![x](" not in texts(at)
    assert not [path for path in trial.folder.rglob("*") if path.suffix == ".png"], "nothing is unpacked"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_one_against_one_shows_both_thresholds_and_marks_the_oracle(lang):
    trial = finished("one-vs-one")
    at = open_page("compare", lang=lang, experiment=trial.id).run()
    assert not at.exception
    table = at.dataframe[0].value
    assert len(table) == 8
    oracle = words.by_key(lang)["compare.rule_oracle"]
    assert (table.iloc[:, 1] == oracle).sum() == 4
    assert len(at.get("plotly_chart")) == 2


def test_one_against_all_shows_each_class_and_the_mean():
    trial = finished("one-class", only=("0", "3", "7"))
    at = open_page("compare", experiment=trial.id).run()
    assert not at.exception
    table = at.dataframe[0].value
    assert list(table["Normal class"]) == ["Mean", "0", "3", "7"]
    areas = table["Pixel median"].astype(float)
    assert areas[0] == pytest.approx(areas[1:].mean(), abs=1e-4)


def test_classes_held_out_show_spread_sweeps_one_case_and_its_mistakes():
    trial = finished("class-holdout", anomalous=4, cases=3, samples=(8, 4))
    at = open_page("compare", experiment=trial.id).run()
    assert not at.exception
    table = at.dataframe[0].value
    assert list(table["Method"])[:2] == ["Pixel median · own score", "Pixel median · cosine, K = 1"]
    own = trial_results.grouped(trial_results.rows(trial))["knn:k=2", "own", 0, 8]
    row = table[table["Method"] == "Deep kNN (k=2) · own score"].iloc[0]
    assert float(row["Mean"]) == pytest.approx(np.mean(own), abs=1e-4)
    assert float(row["Standard deviation"]) == pytest.approx(np.std(own, ddof=1), abs=1e-4)
    assert "Over the same cases" in said(at)
    assert len(at.get("plotly_chart")) == 5  # areas, two sweeps, scores by class, plane
    at.selectbox("case-method").set_value("knn:k=2").run()
    at.selectbox("case-number-knn:k=2").set_value(2).run()
    assert not at.exception
    assert "held out 2, 3, 4, 5" in str(at.selectbox("case-number-knn:k=2").options)
    assert len(at.get("image")) == 20


def test_an_experiment_that_the_command_line_has_finished_has_nothing_to_go_on_with():
    methods = (Method("pixel_median"),)
    trial = trials.take(Plan("class-holdout", "digits", methods, cases=3, anomalous=5, samples=(4,)))
    at = open_page("compare", experiment=trial.id).run()
    assert at.button("go-on")
    trial_work.work(trial)
    assert jobs.experiment_state(trial.id) is None
    at.run()
    assert not at.exception
    assert "go-on" not in [one.key for one in at.button]


def test_methods_with_the_same_embeddings_are_called_equal_and_not_better():
    from pages.parts.trial_views import _verdict

    assert "have the same values" in _verdict({"a": [0.9, 0.8, 0.7], "b": [0.9, 0.8, 0.7]})
    assert "hint and no proof" in _verdict({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.7, 0.61]})
    assert "nothing says that it is better" in _verdict({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.9, 0.69]})


def test_a_link_to_nothing_opens_the_form_and_a_deleted_experiment_is_gone():
    at = open_page("compare", experiment="nothing-of-that-name").run()
    assert not at.exception
    assert at.button("primary-trial")
    trial = finished("one-class", only=("0",))
    at = open_page("compare", experiment=trial.id).run()
    at.button("delete-trial").click().run()
    assert not at.exception
    assert trials.every() == []


# --- as a job ---------------------------------------------------------------------------------------------------------


def test_an_experiment_is_a_job_that_stops_goes_on_and_is_shown_while_it_runs(monkeypatch):
    methods = (Method("pixel_median"),)
    trial = trials.take(Plan("class-holdout", "digits", methods, cases=4, samples=(5,)))
    assert jobs.experiment_state(trial.id) is None
    job = jobs.experiment(trial.id)
    assert jobs.experiment(trial.id) == job, "asked twice, done once"
    assert [(one.run, one.study, one.job) for one in jobs.active()] == [(trial.id, "experiment", job)]
    at = open_page("fit", dataset=tiny_dataset().id).run()
    assert not at.exception
    assert "Classes held out" in str([element.proto for element in at.get("progress")]) + said(at)
    jobs.stop(job)
    assert jobs.state(job).status == "stopped"
    real, done = trial_work._done, []

    def stopping(*given):
        done.append(given[1].name)
        if len(done) == 2:
            jobs.stop(job)
            time.sleep(0.25)  # longer than the pause between two events
        return real(*given)

    monkeypatch.setattr(trial_work, "_done", stopping)
    jobs.experiment(trial.id)
    worker.work(0.2)
    now = jobs.state(job)
    assert now.status == "stopped"
    assert str(now.message).startswith("Stopped at your request. 1 of 4 parts")
    at = open_page("compare", experiment=trial.id).run()
    assert "1 of 4 parts are finished and kept" in said(at)
    assert len(at.dataframe) == 1
    at.button("go-on").click().run()
    worker.work(0.2)
    assert jobs.state(job).status == "done"
    assert len(done) == 5
    assert len(set(done)) == 4
    with pytest.raises(AdlibError, match="not on this server"):
        jobs.experiment("nothing")


# --- runs side by side ------------------------------------------------------------------------------------------------


def beside(lang: str = ""):
    at = open_page("compare", lang=lang)
    at.session_state["compare-tab"] = words.by_key(lang or "en")["compare.tab_runs"]
    return at.run()


def test_with_fewer_than_two_evaluated_runs_the_page_says_what_will_be_here():
    finished_run()
    at = beside()
    assert not at.exception
    assert "Two evaluated runs can be put side by side" in said(at)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_runs_on_the_same_tests_stand_side_by_side(lang):
    dataset = tiny_dataset()
    runs = [finished_run(dataset, method) for method in ("pixel_median", "knn")]
    at = beside(lang)
    assert not at.exception
    assert len(at.success) == 1
    assert not at.warning
    table = at.dataframe[0].value
    assert len(table) == 2
    for run, row in zip(reversed(runs), table.itertuples(index=False), strict=True):
        report = run.read("report.json")
        assert row[1].startswith(f"{report['image_auroc']:.3f}  [{report['intervals']['image_auroc'][0]:.3f}")
        assert row[4] == f"{100 * report['fpr']:.1f} %"
    assert len(at.get("plotly_chart")) == 1


def test_runs_on_other_tests_are_warned_about_and_judged_on_what_they_share():
    first = finished_run(tiny_dataset(), "pixel_median")
    second = finished_run(tiny_dataset("More", tiny_items(12, 7)), "knn")
    at = beside()
    at.selectbox("beside-set").set_value("").run()
    assert not at.exception
    assert "not judged on the same pictures" in said(at)
    assert "4 good pictures and 4 defects" in said(at)
    shared = {row["digest"] for row in first.read("scores.json")}
    rows = [row for row in second.read("scores.json") if row["digest"] in shared]
    wanted = metrics.auroc([row["label"] for row in rows], [row["score"] for row in rows])
    table = at.dataframe[0].value.set_index("Run")
    mine = next(name for name in table.index if "kNN" in name)
    assert table.loc[mine, "AUROC on the shared tests"] == f"{wanted:.3f}"


# --- figures ----------------------------------------------------------------------------------------------------------


def test_every_figure_is_told_in_words_and_draws_no_strangers_tags():
    evil = "<b>x</b>"
    figures = [
        (trial_plots.areas({evil: [0.5, 0.7], "b": [0.9]}), trial_plots.areas_text({evil: [0.5, 0.7], "b": [0.9]})),
        (trial_plots.five({evil: [0, 1, 2, 3, 4]}, [evil]), trial_plots.five_text({evil: [0, 1, 2, 3, 4]}, [evil])),
        (trial_plots.plane([[0, 1], [1, 0]], [evil, "b"], [evil]), trial_plots.plane_text([evil, "b"], [evil])),
        (trial_plots.sweep({evil: {1: [0.5], 5: [0.6]}}), trial_plots.sweep_text({evil: {1: [0.5], 5: [0.6]}})),
        (trial_plots.rocs({evil: (np.array([0, 1.0]), np.array([0, 1.0]))}),
         trial_plots.rocs_text({evil: (np.array([0, 1.0]), np.array([0, 1.0]))})),
    ]  # fmt: skip
    for figure, text in figures:
        assert "<b>x</b>" not in figure.to_json()
        assert evil in text
    assert "mean 0.600, from 0.500 to 0.700" in figures[0][1]
    assert "1: 0.500, 5: 0.600" in figures[3][1]
    box = json.loads(figures[1][0].to_json())["data"][0]
    assert [box[name] for name in ("lowerfence", "q1", "median", "q3", "upperfence")] == [[0], [1], [2], [3], [4]]


def test_areas_far_above_guessing_are_not_squeezed_to_the_edge():
    near = json.loads(trial_plots.areas({"a": [0.97, 0.99], "b": [0.93]}).to_json())
    assert near["layout"]["xaxis"]["range"] == [0.9, 1.005]
    assert [trace["type"] for trace in near["data"]] == ["box", "box"]
    far = json.loads(trial_plots.areas({"a": [0.97], "b": [0.62]}).to_json())
    assert far["data"][-1]["name"] == "guessing"
    assert "range" not in far["layout"]["xaxis"]


def test_an_experiments_folder_that_is_damaged_is_one_sentence():
    trial = finished("one-class", only=("0",))
    store.write_json(trial.folder / "experiment.json", {"kind": "one-class", "created": 0})
    at = open_page("compare", experiment=trial.id).run()
    assert not at.exception
    assert "damaged" in said(at)


def test_a_link_to_an_experiment_that_is_gone_says_so():
    at = open_page("compare", experiment="gone-for-good").run()
    assert not at.exception
    assert "not on this server" in at.warning[0].value
    assert "experiment" not in at.query_params
