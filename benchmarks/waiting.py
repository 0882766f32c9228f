"""What a visitor waits for: the first page of a fresh server, the first sign of life of a fit, a page drawn again.

Each figure is taken several times; the median is compared with what was promised.
"""

# ruff: noqa: E402  (the project's folder is put on the path first)

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

import tables

PAGES = ("start", "data", "fit", "evaluate", "heatmaps", "compare", "models")
FIRST_PAGE_S, FIRST_PROGRESS_S, RERUN_S = 1.5, 1.0, 0.2


@contextmanager
def workspace(**environment: str) -> Iterator[Path]:
    """A workspace of its own for as long as it lasts, in this process and those that it starts."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update({"ADLIB_WORKSPACE": folder, **environment})
        try:
            yield Path(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)


# --- the first page of a fresh server ---------------------------------------------------------------------------------


def first_page(rounds: int = 5) -> dict[str, list[float]]:
    """Seconds from the command to the server's first answer, and to the end of the first page's script.

    The visitor is a websocket that asks as the browser does: what a browser needs to draw is not counted.  The worker is
    left out (ADLIB_WORKER=manual), since it starts after the page.
    """
    found: dict[str, list[float]] = {"answers": [], "first page": [], "page alone": [], "second visitor": []}
    for _ in range(rounds):
        with workspace(ADLIB_WORKER="manual") as folder, socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.port", str(port)]
            with open(folder / "server.log", "wb") as log:
                start = time.perf_counter()
                server = subprocess.Popen(command, cwd=tables.ROOT, stdout=log, stderr=log)
                try:
                    _wait_for(f"http://127.0.0.1:{port}/_stcore/health", folder / "server.log")
                    up = time.perf_counter()
                    _draw(port)
                    drawn = time.perf_counter()
                    _draw(port)
                    again = time.perf_counter()
                finally:
                    server.terminate()
                    server.wait(20)
        for name, seconds in zip(found, (up - start, drawn - start, drawn - up, again - drawn), strict=True):
            found[name].append(seconds)
    return found


def _wait_for(address: str, log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(address, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.01)
    raise RuntimeError(f"The server did not start:\n{log.read_text()[-2000:]}")


def _draw(port: int) -> None:
    """Asks for the first page and returns when its script has finished without an exception."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.sync.client import connect

    ask = BackMsg()
    ask.rerun_script.query_string = ""
    with connect(f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as visitor:
        visitor.send(ask.SerializeToString())
        while True:
            message = ForwardMsg()
            message.ParseFromString(visitor.recv(timeout=60))
            if message.WhichOneof("type") == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
                raise RuntimeError(message.delta.new_element.exception.message)
            if message.WhichOneof("type") == "script_finished":
                return


# --- the first sign of life of a fit ----------------------------------------------------------------------------------


def first_progress(rounds: int = 5, backbone: str = "offline", weights: str = "") -> dict[str, list[float]]:
    """Seconds from `jobs.submit`, which Fit's button calls, to the first running event and to the first real progress.

    The worker is warm: it has been started by an earlier page and has finished its imports.
    """
    import worlds
    from adlib import jobs, store, worker, workflow
    from adlib.contract import Backbone

    names = ("submit returns", "running", "first progress", "done")
    found: dict[str, list[float]] = {name: [] for name in names}
    with workspace():
        dataset = worlds.dataset(normals=60, good=0, broken=0)
        worker.warm()
        _until(lambda: (store.workspace() / "worker.pid").exists())
        time.sleep(8)  # the worker's imports
        for seed in range(rounds + 1):
            request = workflow.Request(dataset.id, "padim", {}, Backbone(backbone, weights=weights), seed)
            start = time.perf_counter()
            run = store.Run.open(jobs.submit(request))
            seconds = [time.perf_counter() - start]
            for reached in (
                lambda event: event.get("status") in ("running", "done"),
                lambda event: event.get("fraction", 0) > 0 or event.get("status") == "done",
                lambda event: event.get("status") in ("done", "failed"),
            ):
                _until(lambda reached=reached, run=run: reached(run.last_event() or {}))
                seconds.append(time.perf_counter() - start)
            if jobs.state(run.id).status != "done":
                raise RuntimeError(str(jobs.state(run.id).message))
            if seed:  # the first fit builds the network; the worker keeps it
                for name, value in zip(names, seconds, strict=True):
                    found[name].append(value)
            else:
                found["first progress of the first fit"] = [seconds[2]]
        worker.dismiss()
    return found


def _until(reached: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise RuntimeError("The worker did not answer in time.")
        time.sleep(0.002)


# --- a page drawn again -----------------------------------------------------------------------------------------------


def reruns(rounds: int = 5) -> dict[str, list[float]]:
    """Seconds of a rerun of each page with a finished run on it and nothing new to compute."""
    import kit_pages

    found: dict[str, list[float]] = {}
    with workspace(ADLIB_WORKER="manual"):
        run = kit_pages.finished_run(kit_pages.tiny_dataset())
        for name in PAGES:
            page = kit_pages.open_page(name, lang="en", run=run.id, dataset=run.card["dataset"]).run()
            if page.exception:
                raise RuntimeError(f"{name}: {page.exception[0].value}")
            found[name] = []
            for _ in range(rounds):
                start = time.perf_counter()
                page.run()
                found[name].append(time.perf_counter() - start)
    return found


def report(rounds: int = 5) -> list[str]:
    started = time.perf_counter()
    first, fit, again = first_page(rounds), first_progress(rounds), reruns(rounds)
    rows = [_row("first page of a fresh server: script finished", first["first page"], FIRST_PAGE_S)]
    rows += [_row(f"  of this: {name}", first[name], None) for name in ("answers", "page alone")]
    rows += [_row("page for the next visitor", first["second visitor"], None)]
    rows += [_row("Fit → first running event", fit["running"], FIRST_PROGRESS_S)]
    rows += [_row("Fit → first real progress", fit["first progress"], FIRST_PROGRESS_S)]
    rows += [_row("  the worker's first fit", fit["first progress of the first fit"], FIRST_PROGRESS_S)]
    rows += [_row(f"rerun of {name}", seconds, RERUN_S) for name, seconds in again.items()]
    head = ("what", "median s", "least–most", "wanted", "met")
    return [*tables.table(head, rows), "", tables.circumstances(time.perf_counter() - started)]


def _row(what: str, seconds: list[float], wanted: float | None) -> list[Any]:
    middle = statistics.median(seconds)
    met = None if wanted is None else ("yes" if middle <= wanted else "**no**")
    limit = None if wanted is None else f"≤ {wanted:g}"
    return [what, f"{middle:.3f}", f"{min(seconds):.3f}–{max(seconds):.3f}", limit, met]


if __name__ == "__main__":
    sys.stdout.write("\n".join(report()) + "\n")
