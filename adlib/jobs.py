"""What a page asks of the queue: submit, watch, stop.

A fit survives a closed tab, a page switch and a restarted server: the queue is a folder (`queueing`), and the one who works on
it a process of its own (`worker`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from adlib import queueing, store, trials, worker, workflow
from adlib.contract import AdlibError, Sentence, say


@dataclass(frozen=True)
class State:
    """Where a job stands.  run: the run's id, or the experiment's.  study: "" for a fit.

    status: queued, running, done, failed or stopped.
    fraction: of the whole, in [0, 1].  position: jobs ahead in the queue.
    seconds: since it began to run.  seconds_left: at this pace, None when it is too early to say.
    """

    run: str
    status: str
    fraction: float
    message: Sentence
    position: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None
    study: str = ""

    @property
    def job(self) -> str:
        """The job's name, for `state` and `stop`."""
        return f"{self.run}.{self.study}" if self.study else self.run

    @property
    def active(self) -> bool:
        return self.status in ("queued", "running")


def submit(request: workflow.Request) -> str:
    """Queues a fit and returns its run id at once.

    The same request twice is one job: a run that waits, runs or has finished is returned in place of a second one, and
    evaluated again when the data set's tests have changed since.  Raises DataError when the data set is gone.
    """
    request = workflow.settled(request)
    key, tests = workflow.identity(request)
    with queueing.lock("submit"):
        run_id = _same(key)
        if run_id is None:
            run = store.Run.create()
            run.write("request.json", {**request.as_json(), "key": key})
            queueing.enqueue(run)
        else:
            run = store.Run.open(run_id)
            if (
                run.finished
                and not state(run.id).active
                and (run.read("report.json") or {}).get("tests_hash", tests) != tests
            ):
                queueing.enqueue(run)
    worker.warm()
    return run.id


def _same(key: str) -> str | None:
    """A run of the same key that waits, runs or has finished."""
    for run_id in [*queueing.waiting(), *queueing.running(), *(run.id for run in store.Run.all())]:
        if "." in run_id:
            continue  # a study
        with suppress(AdlibError):
            if store.Run.open(run_id).request.get("key") == key and state(run_id).status not in ("failed", "stopped"):
                return run_id
    return None


def evaluate(run_id: str) -> str:
    """Queues a new evaluation of a finished run on the tests its data set holds now."""
    run = store.Run.open(run_id)
    with queueing.lock("submit"):
        if not state(run_id).active:
            queueing.enqueue(run)
    worker.warm()
    return run.id


def study(run_id: str, kind: str) -> str:
    """Queues a study of a finished run; one that waits or runs already is not queued twice.  Returns the job's name.

    Raises DataError when there is no such run or study.
    """
    job = f"{run_id}.{kind}"
    place = queueing.place(job)
    with queueing.lock("submit"):
        if not (place.folder / "events.jsonl").exists() or not state(job).active:
            place.folder.mkdir(exist_ok=True)
            queueing.enqueue(place, job)
    worker.warm()
    return job


def study_state(run_id: str, kind: str) -> State | None:
    """Where a study stands; None when nobody has asked for it yet."""
    place = queueing.place(f"{run_id}.{kind}")
    return state(f"{run_id}.{kind}") if (place.folder / "events.jsonl").exists() else None


def experiment(id: str) -> str:
    """Queues an experiment, or what is left of it; its finished parts stand.  Returns the job's name.

    One that waits or runs already is not queued twice.  Raises DataError when there is none of that id.
    """
    return study(id, trials.JOB)


def experiment_state(id: str) -> State | None:
    """Where an experiment stands; None when it was never queued."""
    return study_state(id, trials.JOB)


def again(run_id: str) -> str:
    """Queues a failed or stopped run's request once more, as a new run."""
    return submit(workflow.Request.from_json(store.Run.open(run_id).request))


def state(job: str) -> State:
    """job: a run's id, or the name of a study.  Raises DataError when there is no such run."""
    run_id, _, study = job.partition(".")
    run = queueing.place(job)

    def now(status: str, fraction: float, message: Sentence, position: int = 0) -> State:
        return State(run_id, status, fraction, message, position, study=study)

    waiting = queueing.waiting()
    if job in waiting:
        worker.warm()
        position = waiting.index(job) + len(queueing.running())
        return now("queued", 0.0, say("waiting for {n} jobs ahead", n=position), position)
    claimed = (queueing.folder() / f"{queueing.CLAIMED}{job}").exists()
    if claimed and not worker.alive():
        worker.warm()  # the new worker writes the failure down
        return now("failed", 0.0, queueing.died(job))
    last = run.last_event() or {}
    status = last.get("status", "done" if run.finished else "failed")
    if status in ("queued", "running") and not claimed:
        last = run.last_event() or {}  # it may have ended between the two looks
        status = last.get("status", status)
        if status in ("queued", "running"):
            return now("failed", 0.0, queueing.died(job))
    seconds = max(0.0, last.get("time", 0.0) - last.get("started", last.get("time", 0.0)))
    fraction = float(last.get("fraction", 1.0 if status == "done" else 0.0))
    left = None
    paced = study != trials.JOB  # one that goes on begins far from 0, and its parts differ: see trial_time
    if paced and status == "running" and fraction > 0.03 and seconds > 0.5:
        left = max(0.0, seconds / fraction * (1 - fraction) - (time.time() - last["time"]))
    message = Sentence.from_json(last["message"]) if "message" in last else Sentence(status)
    return State(run_id, status, fraction, message, 0, seconds, left, study)


def active() -> list[State]:
    """All jobs that run or wait, in order."""
    found = []
    for run_id in [*queueing.running(), *queueing.waiting()]:
        with suppress(AdlibError):
            found.append(state(run_id))
    return [job for job in found if job.active]


def stop(job: str) -> None:
    """Ends a job: at once when it waits, within a second or two when it runs.  Ended jobs are left as they are."""
    run = queueing.place(job)
    entry = queueing.entry(job)
    if entry is not None:
        with suppress(FileNotFoundError):
            entry.unlink()
            run.append({"status": "stopped", "message": queueing.stopped(job).as_json()})
            return
    if (queueing.folder() / f"{queueing.CLAIMED}{job}").exists():
        store.write_bytes(run.folder / "stop", b"")
