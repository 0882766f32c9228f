"""The queue and its worker, as a real process: one job for one request, Stop, and a worker that is killed."""

from __future__ import annotations

import os
import signal
import time

import pytest

from adlib import jobs, store, worker, workflow
from adlib.contract import Backbone, DataError
from worlds import dataset

QUICK = {"method": "pixel_median", "settings": {}, "backbone": None}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One workspace and so one worker for the whole file: each start imports torch anew."""
    folder = tmp_path_factory.mktemp("jobs")
    yield folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADLIB_WORKSPACE", str(folder))
        worker.dismiss()


@pytest.fixture(autouse=True)
def workspace(place, monkeypatch):
    monkeypatch.setenv("ADLIB_WORKSPACE", str(place))
    monkeypatch.delenv("ADLIB_WORKER", raising=False)
    return place


def until(run_id: str, *statuses: str, seconds: float = 60) -> jobs.State:
    deadline = time.monotonic() + seconds
    while (state := jobs.state(run_id)).status not in statuses:
        assert time.monotonic() < deadline, f"still {state}"
        time.sleep(0.05)
    return state


def request(seed: int = 0, **changes) -> workflow.Request:
    data = changes.pop("dataset", None) or dataset(normals=8).id
    return workflow.Request(**{"dataset": data, **QUICK, "seed": seed, **changes})


def slow(seed: int = 0) -> workflow.Request:
    """A fit that takes long enough to be stopped in its middle: PatchCore in folds on many patches."""
    settings = {"coreset": 1.0}
    return request(
        seed, dataset=dataset(normals=40, seed=seed).id, method="patchcore", settings=settings, backbone=Backbone()
    )


def running_pid(run_id: str) -> int:
    """The worker's process: the one that holds the lock writes its number there."""
    return int((store.workspace() / "worker.pid").read_text())


def test_a_request_becomes_a_finished_and_evaluated_run():
    run_id = jobs.submit(request())
    assert jobs.state(run_id).active
    assert until(run_id, "done", "failed").status == "done"
    run = store.Run.open(run_id)
    assert run.finished
    assert run.read("report.json")["n_defect"] == 4
    assert run.card["normals"]["calibrating"] == 8
    assert run_id in [r.id for r in store.Run.all()]


def test_the_same_request_twice_is_one_job():
    asked = request(seed=1)
    first, second = jobs.submit(asked), jobs.submit(asked)
    assert first == second
    until(first, "done")
    assert jobs.submit(asked) == first


def test_new_tests_ask_for_a_new_evaluation_and_not_for_a_new_fit():
    from adlib import intake
    from worlds import part, png

    asked = request(seed=2)
    run_id = jobs.submit(asked)
    until(run_id, "done")
    fitted_at = store.Run.open(run_id).card["created"]
    more = store.Dataset.open(asked.dataset)
    intake.take(more, intake.from_uploads([("test/spot/900.png", png(part(900, defect=True)[0]))]))
    assert jobs.submit(asked) == run_id
    until(run_id, "done")
    run = store.Run.open(run_id)
    assert run.card["created"] == fitted_at
    assert run.read("report.json")["n_defect"] == 5


def test_a_waiting_job_knows_its_place_and_stops_at_once():
    first, second = jobs.submit(slow(3)), jobs.submit(request(seed=3))
    assert jobs.state(second).position >= 1
    jobs.stop(second)
    assert jobs.state(second).status == "stopped"
    jobs.stop(first)
    assert until(first, "stopped", seconds=20).status == "stopped"


def test_stop_ends_a_running_fit_and_leaves_nothing_behind():
    run_id = jobs.submit(slow(4))
    until(run_id, "running")
    jobs.stop(run_id)
    until(run_id, "stopped", seconds=20)
    run = store.Run.open(run_id)
    assert not run.finished
    assert {p.name for p in run.folder.iterdir()} == {"request.json", "events.jsonl"}


def test_a_fit_that_cannot_work_says_why_and_the_next_one_works():
    poor = jobs.submit(
        request(seed=5, dataset=dataset(normals=2, good=0, broken=0).id, method="padim", backbone=Backbone())
    )
    failed = until(poor, "failed")
    assert "at least 3" in str(failed.message)
    fine = jobs.submit(request(seed=5))
    assert until(fine, "done", "failed").status == "done"


def test_a_killed_worker_costs_one_job_alone():
    run_id, waiting = jobs.submit(slow(6)), jobs.submit(request(seed=6))
    until(run_id, "running")
    os.kill(running_pid(run_id), signal.SIGKILL)
    failed = until(run_id, "failed", seconds=10)
    assert "worker process ended" in str(failed.message)
    assert until(waiting, "done", "failed").status == "done"
    assert not store.Run.open(run_id).finished
    again = jobs.again(run_id)
    assert again != run_id
    jobs.stop(again)
    until(again, "stopped", seconds=20)


def test_an_unknown_job_is_a_sentence():
    with pytest.raises(DataError, match="There is no run"):
        jobs.state("nobody-knows-me")
