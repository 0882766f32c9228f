"""A visitor in a real browser: Chromium found or fetched, a server of the app with its own workspace, and what to wait for.

The tests in `test_browser.py` never skip: where there is no browser, one is installed, and where that fails they say how.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
AXE = ROOT / "tests" / "vendor" / "axe-core" / "axe.min.js"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 180_000  # milliseconds that a page may take on a busy machine before a test fails

MOMENT = 600  # milliseconds without change after which a page is taken to be ready
QUIET = """(moment) => {
  const app = document.querySelector("[data-testid=stApp]");
  const running = !app || app.dataset.testScriptState !== "notRunning";
  const places = [...document.querySelectorAll("button, a, canvas, img, [data-testid=stMarkdown]")].map((node) => {
    const box = node.getBoundingClientRect();
    return [box.x, box.y, box.width, box.height].map(Math.round).join();
  });
  const now = places.join(" ");
  if (running || window.stillSince === undefined || now !== window.stillPlaces) window.stillSince = performance.now();
  window.stillPlaces = now;
  return performance.now() - window.stillSince >= moment;
}"""  # true once the script is done and everything one could click has kept its place


def word(key: str, **values: object) -> str:
    """The English words of a page as a visitor reads them: word("fit.done")."""
    section, _, name = key.partition(".")
    words = json.loads((ROOT / "assets" / "words" / "en" / f"{section}.json").read_text(encoding="utf-8"))
    return str(words[name]).format(**values).replace("**", "")


# --- the browser ------------------------------------------------------------------------------------------------------


def chromium() -> str | None:
    """Path of a Chromium: ADLIB_CHROMIUM, one on PATH, or a fresh one; None where Playwright brought its own."""
    given = os.environ.get("ADLIB_CHROMIUM")
    found = given or next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    tried = [["apt-get", "install", "-y", "--no-install-recommends", "chromium"]] if _is_root_on_debian() else []
    tried.append([sys.executable, "-m", "playwright", "install", "chromium"])
    for command in tried:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return shutil.which("chromium") if command[0] == "apt-get" else None
    raise RuntimeError(
        "The browser tests need Chromium and could not install it. Install it (Debian: apt-get install chromium; elsewhere: "
        "python -m playwright install chromium) or name one in ADLIB_CHROMIUM. The last attempt said:\n"
        + (done.stderr or done.stdout)[-800:]
    )


def _is_root_on_debian() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None


# --- the server -------------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(workspace: Path) -> Iterator[str]:
    """The app on a free port and a worker of its own, both ended afterwards.  Yields the server's address."""
    port, log = _free_port(), workspace / "server.log"
    workspace.mkdir(parents=True, exist_ok=True)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {
        **os.environ, **one_thread, "ADLIB_WORKSPACE": str(workspace), "ADLIB_WORKER": "manual", "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(workspace / "no-weights"),
    }  # fmt: skip
    for name in ("ADLIB_WEIGHTS", "ADLIB_DATA", "ADLIB_PASSWORD"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.port", str(port)]
    with open(log, "wb") as output:
        shared: dict[str, Any] = {"cwd": ROOT, "env": environment, "stdout": output, "stderr": output}
        server = subprocess.Popen(command, **shared)
        worker = subprocess.Popen([sys.executable, "-m", "adlib", "worker"], **shared)
        try:
            _wait_until_healthy(port, server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            for process in (server, worker):
                process.terminate()
            for process in (server, worker):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
                process.wait()


def _wait_until_healthy(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        with suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"The server did not come up:\n{log.read_text(errors='replace')[-2000:]}")


# --- a visitor --------------------------------------------------------------------------------------------------------


class Visitor:
    """One browser window with a session of its own.

    outside: addresses it asked for that are not the server's.  errors: exceptions of the page's own scripts.
    sent: messages that the page sent to the server.
    """

    def __init__(self, browser: Any, server: str, **context: Any) -> None:
        self.server = server
        self.context = browser.new_context(locale="en-US", **{"viewport": {"width": 1280, "height": 900}, **context})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.sent = 0
        self.context.on("request", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("websocket", lambda socket: socket.on("framesent", self._count))

    def _note(self, request: Any) -> None:
        url = request.url
        if not url.startswith((self.server, self.server.replace("http", "ws", 1), "data:", "blob:")):
            self.outside.append(url)

    def _count(self, _: Any) -> None:
        self.sent += 1

    def open(self, page: str = "", **query: str) -> None:
        """page: "" for Start, else the file's name."""
        asked = "&".join(f"{key}={value}" for key, value in query.items())
        self.page.goto(f"{self.server}/{page}?{asked}")
        self.settle()

    def settle(self) -> None:
        """Until no script has run and nothing on the page has moved for a moment.

        Between a script that asks for a rerun and the rerun the state is "notRunning" too, and a heatmap that is still
        being drawn pushes what stands below it, so that a click can miss: hence the moment.
        """
        self.page.evaluate("delete window.stillSince")
        self.page.wait_for_function(QUIET, arg=MOMENT, polling=100)

    def until(self, what: Callable[[], bool], message: str, seconds: float = PATIENCE / 1000) -> None:
        """Polls five times a second."""
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"{message}. The page says:\n{self.text()[:3000]}"
            self.page.wait_for_timeout(200)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=False).first.click()

    def text(self) -> str:
        return str(self.page.locator("[data-testid=stApp]").inner_text())

    def sees(self, words: str) -> bool:
        return words in self.text()

    def param(self, name: str) -> str:
        """A parameter of the page's address, "" when it has none."""
        return str(self.page.evaluate("name => new URL(location).searchParams.get(name) ?? ''", name))

    def violations(self) -> list[str]:
        """What axe-core finds against WCAG 2 A and AA: one line a rule and place."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
        run = "rules => axe.run(document, { runOnly: rules, resultTypes: ['violations'] })"
        found = self.page.evaluate(f"{run}.then((result) => JSON.stringify(result.violations))", rules)
        return [
            f"{rule['id']}: {node['target']} {node['html'][:160]} {node['failureSummary'][:200]}"
            for rule in json.loads(found)
            for node in rule["nodes"]
        ]

    def too_wide(self) -> bool:
        """Whether the page can be scrolled sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth + 1"))

    def close(self) -> None:
        self.context.close()
