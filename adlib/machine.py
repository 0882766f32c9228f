"""What this machine has and how fast it is: free memory, peak memory, speed learned from its own earlier fits.

No torch at import.  Figures are rough on purpose; they tell a person minutes from hours before a fit starts.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from adlib import store

FIRST_GUESS = 2e10  # multiply-adds a second of a plain two-core machine, until a fit has been timed here
_KEPT = 20  # timings kept for each method and network


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def batch_size() -> int:
    """Pictures that a network is given at once."""
    return 64 if has_gpu() else 16


def device_name() -> str:
    """The GPU's name, or the processor's and how many cores may be used."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_cpu_name()}, {cores()} cores"


@lru_cache
def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes() -> int:
    """Memory a fit may still take: the GPU's where there is one, else the machine's or its container's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    free = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                free.append(1024 * int(line.split()[1]))
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup")
        free.append(int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text()))
    with contextlib.suppress(ValueError, OSError, AttributeError):
        free.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if not free else None
    return min(free) if free else 4 << 30


def reset_peak() -> None:
    """Starts a new measurement of peak memory, where the system allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_mb() -> float:
    """Most memory this process has held since `reset_peak`, in MB, the GPU's added."""
    peak = 0.0
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                peak = int(line.split()[1]) / 1024
    if not peak:
        with contextlib.suppress(ImportError):
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
                1024 * (1024 if sys.platform == "darwin" else 1)
            )
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peak += torch.cuda.max_memory_allocated() / 2**20
    return peak


def _timings() -> dict[str, Any]:
    path = store.workspace() / "timings.json"
    with contextlib.suppress(Exception):
        return dict(store.read_json(path))
    return {}


def remember(method: str, backbone: str, operations: float, seconds: float) -> None:
    """Keeps how fast this fit went, so that the next estimate is this machine's own."""
    if operations <= 0 or seconds <= 0:
        return
    known = _timings()
    key = f"{method} {backbone}"
    known[key] = [*known.get(key, []), {"time": time.time(), "speed": operations / seconds}][-_KEPT:]
    store.write_json(store.workspace() / "timings.json", known)


def speed(method: str, backbone: str) -> float:
    """Multiply-adds a second to expect: of the same method and network here, else of any fit here, else a first guess."""
    known = _timings()
    same = known.get(f"{method} {backbone}") or [row for rows in known.values() for row in rows]
    return statistics.median(row["speed"] for row in same) if same else FIRST_GUESS
