"""A queue of fits in one warm worker process: submit, watch, stop.

The queue is a folder, `workspace/queue/`: `<time>.<job>` waits, `running.<job>` is being worked on.  A job is a run's id,
`<run id>.<study>` for a study of a finished run, whose events lie in a folder of its own (`studies`), or `<id>.experiment`
for an experiment, which belongs to no run (`trials`).  A claim is one rename, so a job is either waiting or taken.  What
happens is appended to the job's events.jsonl; whoever asks reads the last line.  So a fit survives a closed tab, a page
switch and a restarted server; a worker that dies takes one job with it and is started again.  The worker holds
`workspace/worker.lock` for as long as it lives, and the system lets go of it when it dies, however it dies.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from adlib import store, studies, trial_work, trials, workflow
from adlib.contract import AdlibError, Sentence, Stopped, say

POLL_SECONDS = 0.05
IDLE_SECONDS = 1800.0  # a worker with nothing to do for so long goes home; the next page starts another
_EVENT_SECONDS = 0.2
_CLAIMED = "running."
_ROOT = Path(__file__).resolve().parent.parent

log = logging.getLogger("adlib.jobs")


# --- what a page sees -------------------------------------------------------------------------------------------------


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


def _queue() -> Path:
    folder = store.workspace() / "queue"
    folder.mkdir(exist_ok=True)
    return folder


def _place(job: str) -> store.Run:
    """Where a job's events lie.  Raises DataError when there is no such run, study or experiment."""
    run_id, _, study = job.partition(".")
    if study == trials.JOB:
        return trials.find(run_id).run
    run = store.Run.open(store.checked_id(run_id))
    return studies.place(run, study) if study else run


def _waiting() -> list[str]:
    """Jobs in the order in which they were asked for."""
    names = sorted(path.name for path in _queue().iterdir() if path.name[:1].isdigit())
    return [name.partition(".")[2] for name in names]


def _entry(job: str) -> Path | None:
    return next((path for path in _queue().glob(f"[0-9]*.{job}")), None)


def _running() -> list[str]:
    return [path.name.removeprefix(_CLAIMED) for path in _queue().glob(f"{_CLAIMED}*")]


def submit(request: workflow.Request) -> str:
    """Queues a fit and returns its run id at once.

    The same request twice is one job: a run that waits, runs or has finished is returned in place of a second one, and
    evaluated again when the data set's tests have changed since.  Raises DataError when the data set is gone.
    """
    request = workflow.settled(request)
    key, tests = workflow.identity(request)
    with _lock("submit"):
        run_id = _same(key)
        if run_id is None:
            run = store.Run.create()
            run.write("request.json", {**request.as_json(), "key": key})
            _enqueue(run)
        else:
            run = store.Run.open(run_id)
            if (
                run.finished
                and not state(run.id).active
                and (run.read("report.json") or {}).get("tests_hash", tests) != tests
            ):
                _enqueue(run)
    warm()
    return run.id


def _same(key: str) -> str | None:
    """A run of the same key that waits, runs or has finished."""
    for run_id in [*_waiting(), *_running(), *(run.id for run in store.Run.all())]:
        if "." in run_id:
            continue  # a study
        with suppress(AdlibError):
            if store.Run.open(run_id).request.get("key") == key and state(run_id).status not in ("failed", "stopped"):
                return run_id
    return None


def _enqueue(run: store.Run, job: str = "") -> None:
    run.append({"status": "queued"})
    store.write_bytes(_queue() / f"{time.time_ns():020d}.{job or run.id}", b"")


def evaluate(run_id: str) -> str:
    """Queues a new evaluation of a finished run on the tests its data set holds now."""
    run = store.Run.open(run_id)
    with _lock("submit"):
        if not state(run_id).active:
            _enqueue(run)
    warm()
    return run.id


def study(run_id: str, kind: str) -> str:
    """Queues a study of a finished run; one that waits or runs already is not queued twice.  Returns the job's name.

    Raises DataError when there is no such run or study.
    """
    job = f"{run_id}.{kind}"
    place = _place(job)
    with _lock("submit"):
        if not (place.folder / "events.jsonl").exists() or not state(job).active:
            place.folder.mkdir(exist_ok=True)
            _enqueue(place, job)
    warm()
    return job


def study_state(run_id: str, kind: str) -> State | None:
    """Where a study stands; None when nobody has asked for it yet."""
    place = _place(f"{run_id}.{kind}")
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
    run = _place(job)

    def now(status: str, fraction: float, message: Sentence, position: int = 0) -> State:
        return State(run_id, status, fraction, message, position, study=study)

    waiting = _waiting()
    if job in waiting:
        warm()
        position = waiting.index(job) + len(_running())
        return now("queued", 0.0, say("waiting for {n} jobs ahead", n=position), position)
    claimed = (_queue() / f"{_CLAIMED}{job}").exists()
    if claimed and not worker_alive():
        warm()  # the new worker writes the failure down
        return now("failed", 0.0, _died(job))
    last = run.last_event() or {}
    status = last.get("status", "done" if run.finished else "failed")
    if status in ("queued", "running") and not claimed:
        last = run.last_event() or {}  # it may have ended between the two looks
        status = last.get("status", status)
        if status in ("queued", "running"):
            return now("failed", 0.0, _died(job))
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
    for run_id in [*_running(), *_waiting()]:
        with suppress(AdlibError):
            found.append(state(run_id))
    return [job for job in found if job.active]


def stop(job: str) -> None:
    """Ends a job: at once when it waits, within a second or two when it runs.  Ended jobs are left as they are."""
    run = _place(job)
    entry = _entry(job)
    if entry is not None:
        with suppress(FileNotFoundError):
            entry.unlink()
            run.append({"status": "stopped", "message": _stopped(job).as_json()})
            return
    if (_queue() / f"{_CLAIMED}{job}").exists():
        store.write_bytes(run.folder / "stop", b"")


# --- the worker's process ---------------------------------------------------------------------------------------------

_DIED = (
    "The worker process ended in the middle of this fit, most likely for lack of memory. "
    "Choose a smaller size, fewer stages or fewer patches, and start again."
)
_DIED_STUDYING = (
    "The worker process ended in the middle of this study, most likely for lack of memory. "
    "The run itself is as it was. Close other programs and start the study again."
)


_DIED_TRYING = (
    "The worker process ended in the middle of this experiment, most likely for lack of memory. "
    "Its finished parts are kept. Close other programs, or leave out the largest method, and let it go on."
)


def _died(job: str) -> Sentence:
    if job.endswith(f".{trials.JOB}"):
        return say(_DIED_TRYING)
    return say(_DIED_STUDYING) if "." in job else say(_DIED)


def _stopped(job: str) -> Sentence:
    id, _, study = job.partition(".")
    return trials.stopped(trials.find(id)) if study == trials.JOB else Stopped().sentence


@contextmanager
def _lock(name: str, wait: bool = True) -> Iterator[IO[bytes] | None]:
    """A lock between processes that the system releases when its holder dies.  Yields None when it is taken."""
    path = store.workspace() / f"{name}.lock"
    with open(path, "ab") as file:
        try:
            _take(file, wait)
        except OSError:
            yield None
            return
        yield file  # closing the file gives the lock back


if os.name == "nt":
    import msvcrt

    def _take(file: IO[bytes], wait: bool) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
else:
    import fcntl

    def _take(file: IO[bytes], wait: bool) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


_started: dict[Path, subprocess.Popen[bytes]] = {}  # by workspace
_starting = threading.Lock()


def worker_alive() -> bool:
    """A worker holds the lock, or one that this process has just started is still importing."""
    with _lock("worker", wait=False) as file:
        held = file is None
    started = _started.get(store.workspace())
    return held or (started is not None and started.poll() is None)


def warm() -> None:
    """Starts the worker unless one lives.  Returns at once; called by every page, so that a fit begins without waiting.

    With `ADLIB_WORKER=manual` nothing is started: whoever runs the server runs `python -m adlib worker` too.
    """
    if os.environ.get("ADLIB_WORKER") == "manual":
        return
    with _starting:
        if worker_alive():
            return
        place = store.workspace()
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        with open(place / "worker.log", "ab") as output:
            _started[place] = subprocess.Popen(
                [sys.executable, "-m", "adlib", "worker"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": path, "ADLIB_WORKSPACE": str(place)},
                start_new_session=True,  # a Ctrl-C on the server must not end a colleague's fit
            )


def dismiss(seconds: float = 5.0) -> None:
    """Ends the worker of this workspace, whoever started it, and waits until it is gone.  A running job is lost."""
    with _starting, suppress(OSError, ValueError):
        started = _started.pop(store.workspace(), None)
        if started is not None:
            started.terminate()
            started.wait(seconds)
        elif worker_alive():
            os.kill(int((store.workspace() / "worker.pid").read_text()), signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while worker_alive() and time.monotonic() < deadline:
            time.sleep(0.02)


def work(idle_seconds: float = IDLE_SECONDS) -> None:
    """The worker's life: take the oldest job, run it, take the next; go home after `idle_seconds` without one."""
    deadline = time.monotonic() + 2.0  # a page that looks whether a worker lives holds the lock for a moment
    while True:
        with _lock("worker", wait=False) as held:
            if held is not None:
                store.write_bytes(store.workspace() / "worker.pid", str(os.getpid()).encode())
                _bury_the_dead()
                _preload()
                _serve(idle_seconds)
                return
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _bury_the_dead() -> None:
    """Jobs that an earlier worker did not survive are written down as failed."""
    for path in _queue().glob(f"{_CLAIMED}*"):
        with suppress(AdlibError):
            job = path.name.removeprefix(_CLAIMED)
            _place(job).append({"status": "failed", "message": _died(job).as_json()})
        path.unlink(missing_ok=True)


def _preload() -> None:
    """Pays for the slow imports before somebody waits for them."""
    from adlib import features  # noqa: F401


def _serve(idle_seconds: float) -> None:
    last_job = time.monotonic()
    while time.monotonic() - last_job < idle_seconds:
        for name in sorted(path.name for path in _queue().iterdir() if path.name[:1].isdigit()):
            job = name.partition(".")[2]
            claim = _queue() / f"{_CLAIMED}{job}"
            try:
                os.rename(_queue() / name, claim)
            except FileNotFoundError:
                continue  # stopped a moment ago
            try:
                _run(job)
            finally:
                claim.unlink(missing_ok=True)
            last_job = time.monotonic()
            break
        else:
            time.sleep(POLL_SECONDS)


class _Reporter:
    """A tick that writes events, a few a second at most, and raises Stopped when the stop file has appeared."""

    def __init__(self, run: store.Run) -> None:
        self.run, self.started, self.last = run, time.time(), 0.0

    def __call__(self, fraction: float, message: str, /, **numbers: Any) -> None:
        now = time.time()
        if now - self.last < _EVENT_SECONDS and fraction < 1.0:
            return
        if (self.run.folder / "stop").exists():
            raise Stopped
        self.last = now
        event = {"status": "running", "fraction": round(float(fraction), 4), "message": [message, numbers]}
        self.run.append({**event, "started": self.started})


def _run(job: str) -> None:
    run_id, _, study = job.partition(".")
    try:
        run = _place(job)
    except AdlibError:
        return  # deleted while it waited
    tick = _Reporter(run)

    def end(status: str, sentence: Sentence) -> None:
        with suppress(OSError):
            run.append({"status": status, "message": sentence.as_json(), "started": tick.started})

    try:
        tick(0.0, "starting")
        if study == trials.JOB:
            trial_work.work(trials.find(run_id), tick)
        elif study:
            studies.work(store.Run.open(run_id), study, tick)
        else:
            workflow.run_request(run, tick)
        end("done", say("finished"))
    except Stopped:
        _keep_nothing_half_made(run)
        end("stopped", _stopped(job))
    except AdlibError as error:
        _keep_nothing_half_made(run)
        end("failed", error.sentence)
    except MemoryError:
        _keep_nothing_half_made(run)
        end("failed", _died(job))
    except Exception as error:
        log.error("job %s failed\n%s", job, traceback.format_exc())
        _keep_nothing_half_made(run)
        if "out of memory" in str(error).lower():
            end("failed", _died(job))
        else:
            end(
                "failed",
                say(
                    "The fit failed unexpectedly ({what}). The server's worker.log tells more.",
                    what=type(error).__name__,
                ),
            )
    finally:
        (run.folder / "stop").unlink(missing_ok=True)


def _keep_nothing_half_made(run: store.Run) -> None:
    is_study = not (run.folder / "request.json").exists()
    if not run.finished and not is_study:  # else the fit is whole, and only the evaluation after it was cut short
        run.forget()
