"""The queue, a folder: `workspace/queue/`.

`<time>.<job>` waits, `running.<job>` is being worked on.  A job is a run's id, `<run id>.<study>` for a study of a finished
run, whose events lie in a folder of its own (`studies`), or `<id>.experiment` for an experiment, which belongs to no run
(`trials`).  A claim is one rename, so a job is either waiting or taken.  What happens is appended to the job's events.jsonl;
whoever asks reads the last line (`jobs`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from adlib import store, studies, trials
from adlib.contract import Sentence, Stopped, say

CLAIMED = "running."


def folder() -> Path:
    """Where the queue lies; made when it is not there."""
    made = store.workspace() / "queue"
    made.mkdir(exist_ok=True)
    return made


def place(job: str) -> store.Run:
    """Where a job's events lie.  Raises DataError when there is no such run, study or experiment."""
    run_id, _, study = job.partition(".")
    if study == trials.JOB:
        return trials.find(run_id).run
    run = store.Run.open(store.checked_id(run_id))
    return studies.place(run, study) if study else run


def waiting() -> list[str]:
    """Jobs in the order in which they were asked for."""
    names = sorted(path.name for path in folder().iterdir() if path.name[:1].isdigit())
    return [name.partition(".")[2] for name in names]


def entry(job: str) -> Path | None:
    """The file by which a job waits; None when it does not."""
    return next((path for path in folder().glob(f"[0-9]*.{job}")), None)


def running() -> list[str]:
    """Jobs that a worker has claimed: one, or none."""
    return [path.name.removeprefix(CLAIMED) for path in folder().glob(f"{CLAIMED}*")]


def enqueue(run: store.Run, job: str = "") -> None:
    """Lets a job wait, behind all others.  run: where its events lie.  job: its name; "": the run's id."""
    run.append({"status": "queued"})
    store.write_bytes(folder() / f"{time.time_ns():020d}.{job or run.id}", b"")


# --- what is said of a job that ended otherwise -----------------------------------------------------------------------

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


def died(job: str) -> Sentence:
    """What is said of a job whose worker ended in the middle of it."""
    if job.endswith(f".{trials.JOB}"):
        return say(_DIED_TRYING)
    return say(_DIED_STUDYING) if "." in job else say(_DIED)


def stopped(job: str) -> Sentence:
    """What is said of a job that somebody stopped."""
    id, _, study = job.partition(".")
    return trials.stopped(trials.find(id)) if study == trials.JOB else Stopped().sentence


# --- locks ------------------------------------------------------------------------------------------------------------


@contextmanager
def lock(name: str, wait: bool = True) -> Iterator[IO[bytes] | None]:
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
