"""Finished runs for the tests of pages: fitted once for all, copied into each test's own workspace."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kit_pages import finished_run

from adlib import store


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A workspace with the tiny data set and a run of the pixel median, fitted and evaluated in this process."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADLIB_WORKSPACE", str(folder))
        finished_run()
    return folder


@pytest.fixture
def run(made, workspace) -> store.Run:
    """The finished run, alone with its data set in the test's workspace."""
    shutil.copytree(made, workspace)
    return store.Run.all()[0]
