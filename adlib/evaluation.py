"""A run measured on labelled tests, and its normals placed beside them.

    labelled tests → evaluate → Report, scores, maps, embeddings in the run folder

Nothing is chosen here; what the figures are and mean is left to `results` and `metrics`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from adlib import datasets, regions, store
from adlib.batches import data_hash, labelled_tests, part, predictions, share
from adlib.contract import DataError, Prediction, Remarks, Report, Sample, Sentence, Tick, say, silent
from adlib.frames import frame_of, read_mask
from adlib.images import raw_mask, read
from adlib.inspection import Fitted
from adlib.results import PixelTally, Row, make_report, report_json, write_rows

EXPLORED_NORMALS = 200  # embeddings of at most so many normals are kept: a map of more is unreadable
MAP_STRIDE = 2  # maps are blurred over 4 pixels, so that every second one holds all there is


def evaluate(fitted: Fitted, samples: Sequence[Sample], tick: Tick = silent, *, white: int | None = None) -> Report:
    """Scores labelled tests and writes report.json, scores.json, scores.csv, maps.npy, embeddings.npy to the run folder.

    Nothing is chosen on the tests: the threshold is the run's own.  white: the tests' own rule for 16-bit pictures, when
    they are another set than the normals'.  Raises DataError when there is no test picture.
    """
    known = labelled_tests(samples)
    tests = [s for s in known if s.digest not in fitted.digests]
    if not tests:
        raise DataError("There is no labelled test picture. Add some on the Data page: good ones, and defects by kind.")
    skipped: list[Sentence] = []
    if len(tests) < len(known):
        skipped.append(
            say("{n} tests are also among the normals of the fit and were left out", n=len(known) - len(tests))
        )
    seen = [s for s in tests if not _outside(s, fitted.region)]
    if len(seen) < len(tests):
        n = len(tests) - len(seen)
        skipped.append(say("{n} defects lie wholly outside the region of interest and were left out", n=n))
        tests = seen
    if not tests:
        raise DataError(
            "Every labelled defect lies outside the region of interest. Draw a larger one on the Data page."
        )
    if isinstance(fitted.detector, Remarks):
        skipped += fitted.detector.remarks()
    run, calibration = fitted.run, fitted.calibration
    images = dataclasses.replace(fitted.batches(tests), white=white if white is not None else fitted.white)

    tally = PixelTally()
    parts: list[Prediction] = []
    maps: list[np.ndarray] = []
    peaks: list[float | None] = []
    seconds = 0.0
    upcoming = iter(tests)
    for prediction, took in predictions(fitted.detector, images, part(tick, 0.0, 0.85)):
        seconds += took
        for i, sample in zip(range(len(prediction.scores)), upcoming):  # noqa: B905  (the last batch is shorter)
            peaks.append(None if prediction.maps is None else float(prediction.maps[i].max()))
            if prediction.maps is not None:
                mask = None
                if sample.mask:
                    mask = read_mask(sample.mask, fitted.size, fitted.letterbox, fitted.region)
                tally.add(prediction.maps[i], sample.label or 0, mask, _counted(sample, fitted))
                maps.append(prediction.maps[i, ::MAP_STRIDE, ::MAP_STRIDE].copy())
        parts.append(Prediction(prediction.scores, None, prediction.embeddings))
    joined = Prediction.join(parts)
    labels = np.array([s.label for s in tests])
    report = make_report(run.card, calibration.threshold.value, labels, joined.scores, tally, seconds, skipped)

    tick(0.86, "placing normal pictures beside the tests")
    _write_normals(fitted, part(tick, 0.86, 0.97))
    if maps:
        store.write_array(run.folder / "maps.npy", np.stack(maps))
    if joined.embeddings is not None:
        store.write_array(run.folder / "embeddings.npy", joined.embeddings)
    judged = zip(tests, joined.scores, peaks, strict=True)
    write_rows(run, [Row.judged(s, float(x), calibration, peak) for s, x, peak in judged])
    run.write("report.json", {**report_json(report), "tests_hash": data_hash(known)})
    tick(1.0, "evaluated {n} pictures", n=len(tests))
    return report


def explored(fitted: Fitted, tick: Tick = silent) -> tuple[list[dict[str, Any]], np.ndarray] | None:
    """(rows, embeddings (N, D)) of a bounded number of the run's normals; made when they are not there yet.

    None when the method gives no embeddings, or the normals' pictures are not here and nobody embedded them before.
    """
    _write_normals(fitted, tick)
    rows, path = fitted.run.read("explored.json"), fitted.run.folder / "normals.npy"
    return (rows, np.asarray(store.read_array(path))) if rows and path.exists() else None


def _outside(sample: Sample, region: regions.Region) -> bool:
    """Whether a defect's mask has no pixel in the region: nobody can ask of a detector to find it there."""
    if not region or sample.mask is None:
        return False
    mask = raw_mask(sample.mask)
    return not (mask & regions.inside(region, mask.shape[1], mask.shape[0])).any()


def _counted(sample: Sample, fitted: Fitted) -> np.ndarray | None:
    """(size, size) bool: the pixels of a map that pixel figures count; None: all."""
    if len(fitted.region) <= 2:
        return None
    width = height = 1
    if fitted.letterbox:
        picture = read(sample.path, white=fitted.white, least=fitted.size)
        width, height = picture.width, picture.height
    return frame_of(width, height, fitted.size, fitted.letterbox, fitted.region).counted()


def _write_normals(fitted: Fitted, tick: Tick) -> None:
    """Embeddings of a bounded number of normals, so that a mistake can be shown beside its nearest one."""
    run = fitted.run
    if (run.folder / "normals.npy").exists() or not store.Dataset.exists(run.card["dataset"]):
        return
    found, _ = datasets.samples(store.Dataset.open(run.card["dataset"]))
    normals = sorted(
        (s for s in found if s.digest in fitted.digests and s.split == "train"), key=lambda s: share(s.digest)
    )
    normals = normals[:EXPLORED_NORMALS]
    parts = [
        Prediction(p.scores, None, p.embeddings) for p, _ in predictions(fitted.detector, fitted.batches(normals), tick)
    ]
    if not parts or parts[0].embeddings is None:
        return
    joined = Prediction.join(parts)
    assert joined.embeddings is not None
    store.write_array(run.folder / "normals.npy", joined.embeddings)
    run.write("explored.json", [{"digest": s.digest, "name": s.name, "kind": s.kind} for s in normals])
