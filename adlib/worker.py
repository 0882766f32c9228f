"""The one warm worker process of a workspace: started when somebody looks, and working on what waits in the queue.

It holds `workspace/worker.lock` for as long as it lives, and the system lets go of it when it dies, however it dies.  A worker
that dies takes one job with it and is started again.
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
from contextlib import suppress
from pathlib import Path
from typing import Any

from adlib import queueing, store, studies, trial_work, trials, workflow
from adlib.contract import AdlibError, Sentence, Stopped, say

POLL_SECONDS = 0.05
IDLE_SECONDS = 1800.0  # a worker with nothing to do for so long goes home; the next page starts another
_EVENT_SECONDS = 0.2
_ROOT = Path(__file__).resolve().parent.parent

log = logging.getLogger("adlib.worker")

_started: dict[Path, subprocess.Popen[bytes]] = {}  # by workspace
_starting = threading.Lock()


def alive() -> bool:
    """A worker holds the lock, or one that this process has just started is still importing."""
    with queueing.lock("worker", wait=False) as file:
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
        if alive():
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
        elif alive():
            os.kill(int((store.workspace() / "worker.pid").read_text()), signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while alive() and time.monotonic() < deadline:
            time.sleep(0.02)


def work(idle_seconds: float = IDLE_SECONDS) -> None:
    """The worker's life: take the oldest job, run it, take the next; go home after `idle_seconds` without one."""
    deadline = time.monotonic() + 2.0  # a page that looks whether a worker lives holds the lock for a moment
    while True:
        with queueing.lock("worker", wait=False) as held:
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
    for path in queueing.folder().glob(f"{queueing.CLAIMED}*"):
        with suppress(AdlibError):
            job = path.name.removeprefix(queueing.CLAIMED)
            queueing.place(job).append({"status": "failed", "message": queueing.died(job).as_json()})
        path.unlink(missing_ok=True)


def _preload() -> None:
    """Pays for the slow imports before somebody waits for them."""
    from adlib import features  # noqa: F401


def _serve(idle_seconds: float) -> None:
    last_job = time.monotonic()
    while time.monotonic() - last_job < idle_seconds:
        for name in sorted(path.name for path in queueing.folder().iterdir() if path.name[:1].isdigit()):
            job = name.partition(".")[2]
            claim = queueing.folder() / f"{queueing.CLAIMED}{job}"
            try:
                os.rename(queueing.folder() / name, claim)
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
        run = queueing.place(job)
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
        end("stopped", queueing.stopped(job))
    except AdlibError as error:
        _keep_nothing_half_made(run)
        end("failed", error.sentence)
    except MemoryError:
        _keep_nothing_half_made(run)
        end("failed", queueing.died(job))
    except Exception as error:
        log.error("job %s failed\n%s", job, traceback.format_exc())
        _keep_nothing_half_made(run)
        if "out of memory" in str(error).lower():
            end("failed", queueing.died(job))
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
