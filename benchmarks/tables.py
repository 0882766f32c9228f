"""What the benchmarks share: processes of their own that answer with JSON, and tables inside results.md."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.md"


def answer(command: Sequence[str | Path], timeout_s: float = 1800, **environment: str) -> dict[str, Any]:
    """Runs a command in the project's folder and returns the JSON of its last line.  Raises RuntimeError with its error."""
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{Path(command[1]).name} {command[2]} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def write(name: str, lines: Sequence[str]) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->` in results.md."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results\n"
    if start not in text:
        text += f"\n{start}\n{end}\n"
    before, _, rest = text.partition(start)
    after = rest.partition(end)[2]
    RESULTS.write_text(f"{before}{start}\n" + "\n".join(lines) + f"\n{end}{after}", encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Markdown; None is drawn as a dash."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join("–" if cell is None else str(cell) for cell in row) + " |" for row in rows]


def circumstances(seconds: float) -> str:
    """One line: when, which commit, on what machine, how long it took."""
    today = datetime.date.today().isoformat()
    return f"{today}, commit {commit()}, {machine()}, {seconds:.0f} s, load at the end {os.getloadavg()[0]:.1f}."


def commit() -> str:
    changed = "+" if _git("status", "--porcelain", "--", "adlib") else ""
    return _git("rev-parse", "--short", "HEAD") + changed


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def machine() -> str:
    """The processor and what decides its speed; never the machine's name."""
    words: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        words.setdefault(key.strip(), value.strip())
    flags = words.get("flags", "").split()
    has = [
        name
        for name, flag in (("AVX-512", "avx512f"), ("AVX-512-BF16", "avx512_bf16"), ("AMX", "amx_tile"))
        if flag in flags
    ]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    cores = len(os.sched_getaffinity(0))
    return f"{cores} vCPU {words.get('model name', '?')} ({', '.join(has) or 'no AVX-512'}), {memory:.0f} GiB"


def python() -> str:
    return sys.executable
