"""What the tests of the report share: runs with scores of the test's own choice, and a page taken apart."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from adlib import store
from adlib.contract import Sample
from adlib.results import PixelTally, Row, calibration_of, make_report, report_json, write_rows


@pytest.fixture
def run(made, workspace) -> store.Run:
    """The finished run of `kit_runs` without embeddings: what t-SNE draws is looked at in a test of its own."""
    shutil.copytree(made, workspace)
    (found,) = store.Run.all()
    (found.folder / "embeddings.npy").unlink(missing_ok=True)
    return found


EMPTY = {"meta", "img", "br", "hr", "link", "input"}


def forged(run: store.Run, normals: list[float], defects: dict[str, list[float]]) -> store.Run:
    """The run's evaluation with other scores, in multiples of its threshold; its pictures are taken in turn."""
    calibration, rows = calibration_of(run), run.read("scores.json")
    line, made = calibration.threshold.value, []
    pools = {label: [row for row in rows if row["label"] == label] for label in (0, 1)}
    for label, kind, values in [(0, "good", normals), *((1, kind, values) for kind, values in defects.items())]:
        for i, value in enumerate(values):
            row = pools[label][i % len(pools[label])]
            sample = Sample(Path(row["path"]), label, kind, None, "test", row["digest"], row["name"])
            made.append(Row.judged(sample, value * line, calibration))
    write_rows(run, made)
    labels, scores = np.array([row.sample.label for row in made]), np.array([row.score for row in made])
    report = make_report(run.card, line, labels, scores, PixelTally(), 0.1, [])
    run.write("report.json", report_json(report))
    for name in ("maps.npy", "embeddings.npy"):
        (run.folder / name).unlink(missing_ok=True)
    return run


class Page(HTMLParser):
    """A page taken apart.  tags: (name, attributes) in their order.  wrong: elements that do not close as they should."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.wrong += [f"<{name}> is never closed" for name in self._open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.wrong.append(f"<{tag}> has an attribute twice")
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        (self.styles if "style" in self._open else self.text).append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]
