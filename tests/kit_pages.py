"""What the tests of the pages share: opening a page as a visitor would, a tiny data set, a finished run."""

from __future__ import annotations

import atexit
import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from adlib import intake, store, workflow
from adlib.contract import Backbone

ROOT = Path(__file__).resolve().parent.parent


def open_page(name: str, *, lang: str = "", **query: str) -> AppTest:
    """A visitor who opens one page by its address.  name: "start", "data" …  Call `.run()` next."""
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    if name != "start":
        at.switch_page(f"pages/{name}.py")
    for key, value in {"lang": lang, **query}.items():
        if value:
            at.query_params[key] = value
    return at


def texts(at: AppTest) -> str:
    """Everything that is written on the page, headings, captions, boxes and all."""
    kinds = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "success", "text")
    found = [element.value for kind in kinds for element in getattr(at, kind)]
    labels = [element.label for kind in ("button", "selectbox", "metric") for element in getattr(at, kind)]
    return "\n".join(map(str, found + labels))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def part(seed: int, defect: bool = False, side: int = 48) -> np.ndarray:
    """A grey plate with a little noise; a defect is a bright square."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(120 + rng.normal(0, 6, (side, side, 3)), 0, 255).astype(np.uint8)
    if defect:
        pixels[10:22, 12:24] = 250
    return pixels


def tiny_items(normals: int = 12, tests: int = 4) -> list[tuple[str, bytes]]:
    """MVTec layout: normals, good tests, defects with masks."""
    mask = np.zeros((48, 48), np.uint8)
    mask[10:22, 12:24] = 255
    made = [(f"train/good/{i:03}.png", png(part(i))) for i in range(normals)]
    made += [(f"test/good/{i:03}.png", png(part(1000 + i))) for i in range(tests)]
    made += [(f"test/spot/{i:03}.png", png(part(2000 + i, defect=True))) for i in range(tests)]
    return made + [(f"ground_truth/spot/{i:03}_mask.png", png(mask)) for i in range(tests)]


def tiny_dataset(title: str = "Plates", items: list[tuple[str, bytes]] | None = None) -> store.Dataset:
    made = store.Dataset.create(title, "test")
    intake.take(made, intake.from_uploads(tiny_items() if items is None else items))
    return store.Dataset.open(made.id)


def finished_run(dataset: store.Dataset | None = None, method: str = "pixel_median") -> store.Run:
    """A run fitted and evaluated in this process, without the worker.

    Without a data set of the test's own, one on `tiny_dataset` is fitted once for all tests and copied.
    """
    if dataset is not None:
        return _fitted(dataset, method)
    if method not in _once:
        folder = Path(tempfile.mkdtemp(prefix="adlib-kit-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        with pytest.MonkeyPatch.context() as elsewhere:
            elsewhere.setenv("ADLIB_WORKSPACE", str(folder))
            _once[method] = (folder, _fitted(tiny_dataset(), method).id)
    folder, id = _once[method]
    shutil.copytree(folder, store.workspace(), dirs_exist_ok=True)
    return store.Run.open(id)


_once: dict[str, tuple[Path, str]] = {}


def _fitted(dataset: store.Dataset, method: str) -> store.Run:
    request = workflow.Request(dataset.id, method, {}, Backbone(size=64) if method != "pixel_median" else None)
    run = store.Run.create()
    run.write("request.json", {**request.as_json(), "key": workflow.identity(request)[0]})
    workflow.run_request(run)
    run.append({"status": "done"})
    return run
