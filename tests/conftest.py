"""What all tests share: one thread, a workspace of their own, and the folder of real pictures where there is one."""

from __future__ import annotations

import os

# Before torch or numpy is imported: chains of small operations slow down tenfold when threads fight for two cores.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """Nothing a test writes outlives it, and no test sees another's runs."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv("ADLIB_WORKSPACE", str(folder))
    monkeypatch.delenv("ADLIB_DATA", raising=False)
    monkeypatch.delenv("ADLIB_WEIGHTS", raising=False)
    monkeypatch.setenv("ADLIB_WORKER", "manual")  # a worker process only where a test is about it
    return folder


@pytest.fixture(scope="session")
def test_data() -> Path:
    """A folder with `datasets/` and `weights/` of real pictures and real weights."""
    folder = os.environ.get("ADLIB_TEST_DATA")
    if not folder:
        pytest.skip("ADLIB_TEST_DATA is not set: this test needs real pictures and weights")
    return Path(folder)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, found or installed: a test in a real browser never skips."""
    from playwright.sync_api import sync_playwright

    from browser import FLAGS, chromium

    path = chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()
