"""The verbs: fit, evaluate, look.  Pages, the worker and the command line all go through here.

    normals → divide → fit → calibrate on normals that were not fitted → run folder
    labelled tests → evaluate → Report, scores, maps
    one picture → look → score, verdict, heatmap in the picture's own pixels

torch is imported inside the verbs, so that a page can name them without waiting for it.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adlib import curation, datasets, learning, machine, regions, registry, store, thresholds, weights
from adlib.batches import (
    Batches,
    data_hash,
    divide,
    labelled_tests,
    only_inside,
    part,
    predictions,
    share,
    train_normals,
)
from adlib.contract import (
    VERSION,
    Backbone,
    Calibration,
    DataError,
    Detector,
    NotFitted,
    Prediction,
    Remarks,
    Report,
    Sample,
    Sentence,
    Tick,
    TooLarge,
    say,
    silent,
)
from adlib.frames import Frame, frame_of, least_for, read_mask, to_pixels
from adlib.images import Picture, raw_mask, read
from adlib.request import Request, estimate, identity, resolved, settled, size_of
from adlib.results import (
    PixelTally,
    Row,
    calibration_json,
    calibration_of,
    make_report,
    ratio_of,
    report_json,
    write_rows,
)

__all__ = [
    "Batches",
    "Fitted",
    "Look",
    "Request",
    "calibration_of",
    "divide",
    "estimate",
    "evaluate",
    "fit",
    "identity",
    "labelled_tests",
    "load",
    "look",
    "ratio_of",
    "run_request",
    "settled",
    "train_normals",
]

EXPLORED_NORMALS = 200  # embeddings of at most so many normals are kept: a map of more is unreadable
MAP_STRIDE = 2  # maps are blurred over 4 pixels, so that every second one holds all there is


# --- fit --------------------------------------------------------------------------------------------------------------


def _batch_size() -> int:
    return 64 if machine.has_gpu() else 16


def fit(request: Request, dataset: store.Dataset, run: store.Run, tick: Tick = silent) -> tuple[Detector, Calibration]:
    """Learns from the data set's normals, calibrates on normals that were not fitted, and writes the run folder.

    run.json is written last; a stopped or failed fit leaves a folder that is never listed.
    Raises DataError, WeightsMissing, TooLarge, Stopped.
    """
    tick = learning.recorded(run, tick)
    tick(0.0, "reading the list of pictures")
    if request.region is None:
        request = dataclasses.replace(request, region=curation.region(dataset))
    request = resolved(request)
    region = request.region or regions.WHOLE
    samples, refused = datasets.samples(dataset)
    normals = train_normals(samples)
    division = divide(normals, request.method)
    expected = estimate(request, normals)
    if not expected.fits:
        raise TooLarge(
            "This fit needs about {needed:.1f} GB and {free:.1f} GB are free. "
            "Choose fewer patches or stages, a smaller size, or another method.",
            needed=expected.cost.fit_bytes / 1e9, free=expected.free_bytes / 1e9,
        )  # fmt: skip

    machine.reset_peak()
    started = time.perf_counter()
    white = dataset.meta["white"]

    def batches(chosen: Sequence[Sample]) -> Batches:
        return Batches(chosen, size_of(request), request.letterbox, white, _batch_size(), region)

    def learned(chosen: Sequence[Sample], tick: Tick) -> Detector:
        detector = registry.build(request.method, request.settings, request.backbone, request.seed)
        return detector.fit(batches(chosen), tick)

    calibrating: list[Sample] = []
    predicted: list[Prediction] = []

    def calibrate_on(detector: Detector, chosen: Sequence[Sample], tick: Tick) -> None:
        calibrating.extend(chosen)
        predicted.extend(_peaks_only(prediction) for prediction, _ in predictions(detector, batches(chosen), tick))

    steps = len(division.folds) + 1
    for i, fold in enumerate(division.folds):
        inside = {s.digest for s in fold}
        rest = [s for s in division.fit if s.digest not in inside]
        detector = learned(rest, part(tick, i / steps, (i + 0.8) / steps))
        calibrate_on(detector, fold, part(tick, (i + 0.8) / steps, (i + 1) / steps))
    last_fit = time.perf_counter()
    detector = learned(division.fit, part(tick, (steps - 1) / steps, 0.9))
    last_fit = time.perf_counter() - last_fit
    calibrate_on(detector, division.held_out, part(tick, 0.9, 1.0))

    held = Prediction.join(predicted)
    peaks = None if held.maps is None else held.maps[:, 0, 0]
    calibration = thresholds.calibrate(held.scores, peaks, request.alpha, cross_fitted=bool(division.folds))
    seconds = time.perf_counter() - started
    machine.remember(
        request.method, request.backbone.name if request.backbone else "", expected.cost.operations, last_fit
    )

    if run.read("request.json") is None:
        run.write("request.json", {**request.as_json(), "key": request.key(data_hash(normals))})
    store.save_state(run.folder / "state.safetensors", {name: value.cpu() for name, value in detector.state().items()})
    run.write("calibration.json", calibration_json(calibration))
    scores = dict(zip((s.digest for s in calibrating), map(float, held.scores), strict=True))
    fitted = {s.digest for s in division.fit}
    in_order = (*division.fit, *division.held_out)  # as the detector read them: it may count its normals
    run.write("normals.json", [_normal_json(s, s.digest in fitted, scores.get(s.digest)) for s in in_order])
    run.write("refused.json", [{"name": r.name, "reason": r.reason.as_json()} for r in refused])
    counts = {"fitted": len(fitted), "calibrating": len(calibrating), "cross_fitted": bool(division.folds)}
    times = {"fit_seconds": seconds, "one_fit_seconds": last_fit, "peak_mb": machine.peak_mb()}
    run.write("run.json", {**_card(request, dataset, run), "data_hash": data_hash(normals), "normals": counts, **times})
    tick(1.0, "fitted on {n} normal pictures", n=len(division.fit))
    return detector, calibration


def _normal_json(sample: Sample, fitted: bool, score: float | None) -> dict[str, Any]:
    """score: of a normal that calibrated, None for one that was only fitted."""
    return {"digest": sample.digest, "name": sample.name, "kind": sample.kind, "fitted": fitted, "score": score}


def _card(request: Request, dataset: store.Dataset, run: store.Run) -> dict[str, Any]:
    """What run.json says about how the run came to be, so that it can be repeated elsewhere."""
    import torch

    return {
        "format": "adlib-run/1",
        "id": run.id,
        "created": time.time(),
        "version": VERSION,
        **{name: value for name, value in request.as_json().items() if name != "dataset"},
        "size": size_of(request),
        "weights": _weights(request.backbone),
        "dataset": dataset.id,
        "dataset_title": dataset.title,
        "white": dataset.meta["white"],
        "state_bytes": (run.folder / "state.safetensors").stat().st_size,
        "device": machine.device_name(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def _peaks_only(prediction: Prediction) -> Prediction:
    """Calibration asks of a map only how high it reaches: (N, 1, 1) in place of (N, H, W)."""
    maps = None if prediction.maps is None else prediction.maps.max(axis=(1, 2), keepdims=True)
    return Prediction(prediction.scores, maps)


def _weights(backbone: Backbone | None) -> dict[str, Any] | None:
    if backbone is None:
        return None
    from adlib import features

    return features.weights_of(backbone)


# --- a fitted run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """A run that is ready to look at pictures: the detector and all it needs to treat them as the fit did."""

    run: store.Run
    detector: Detector
    calibration: Calibration
    size: int
    letterbox: bool
    white: int | None
    digests: frozenset[str]  # of the normals it learned from or was calibrated on
    region: regions.Region = regions.WHOLE

    def batches(self, samples: Sequence[Sample]) -> Batches:
        return Batches(samples, self.size, self.letterbox, self.white, _batch_size(), self.region)


def load(run: store.Run) -> Fitted:
    """Reads a finished run.  Raises NotFitted when it has not finished, WeightsMissing, DataError.

    Also refuses weights that are not those of the fit: a network with other weights gives scores that mean nothing.
    """
    if not run.finished:
        raise NotFitted("Run '{run}' has not finished. Wait for it on the Fit page, or choose another.", run=run.id)
    card = run.card
    request = Request.from_json({"dataset": card["dataset"], **card})
    then, now = card["weights"], _weights(request.backbone)
    if then and now and then["sha256"] != now["sha256"]:
        if request.backbone and request.backbone.name in weights.BUILT_IN:
            raise DataError(
                "The weights of the built-in backbone are not those that run '{run}' was fitted with: a newer adlib brought "
                "better ones. Fit again; what the run has measured can still be read.",
                run=run.id,
            )
        raise DataError(
            "The weights of '{name}' on this machine are not those that run '{run}' was fitted with. "
            "Fit again, or bring the file with sha256 {digest}.",
            name=card["backbone"]["name"], run=run.id, digest=then["sha256"][:12],
        )  # fmt: skip
    detector = registry.build(request.method, request.settings, request.backbone, request.seed)
    detector.restore(store.load_state(run.folder / "state.safetensors"))
    digests = frozenset(row["digest"] for row in run.read("normals.json") or [])
    return _fitted(run, detector, calibration_of(run), digests)


def _fitted(run: store.Run, detector: Detector, calibration: Calibration, digests: frozenset[str]) -> Fitted:
    card = run.card
    region = regions.from_json(card.get("region"))  # runs of earlier versions saw whole pictures
    return Fitted(run, detector, calibration, card["size"], card["letterbox"], card["white"], digests, region)


@dataclass(frozen=True)
class Look:
    """One picture, judged.

    score: the method's unit.  normalised: score / mean of held-out normals.  ratio: score / threshold.
    heat: (H, W) float32 in the picture's own pixels, in multiples of the threshold, or None.
    """

    picture: Picture
    score: float
    normalised: float
    ratio: float
    alarm: bool
    heat: np.ndarray | None
    seconds: float


def look(fitted: Fitted, source: Path | bytes) -> Look:
    """Judges one picture.  Raises DataError when it cannot be read."""
    import torch

    picture = seen = read(source, white=fitted.white)
    if picture.format == "JPEG":  # the fit read it at a fraction of its size, which is not quite the same made smaller
        seen = read(source, white=fitted.white, least=least_for(fitted.size, fitted.region))
    pixels, frame = to_pixels(seen, fitted.size, fitted.letterbox, fitted.region)
    start = time.perf_counter()
    prediction = fitted.detector.score(torch.from_numpy(pixels[None]))
    seconds = time.perf_counter() - start
    prediction = only_inside(prediction, [frame])
    score = float(prediction.scores[0])
    calibration = fitted.calibration
    heat = None
    if prediction.maps is not None and calibration.map_unit:
        heat = _heat(prediction.maps[0], frame, calibration.map_unit)
    alarm = score > calibration.threshold.value
    return Look(picture, score, score / calibration.unit, ratio_of(score, calibration), alarm, heat, seconds)


def _heat(grid: np.ndarray, frame: Frame, map_unit: float) -> np.ndarray:
    return frame.to_original(grid) / np.float32(map_unit)


# --- evaluate ---------------------------------------------------------------------------------------------------------


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


# --- one job ----------------------------------------------------------------------------------------------------------


def run_request(run: store.Run, tick: Tick = silent) -> None:
    """What the worker does with one request: fit, then evaluate when the data set holds labelled tests."""
    request = Request.from_json(run.request)
    dataset = store.Dataset.open(request.dataset)
    samples, _ = datasets.samples(dataset)
    tests = labelled_tests(samples)
    if run.finished:  # asked again with more tests: the fit stands
        fitted = load(run)
        evaluate(fitted, tests, tick)
        return
    share = 0.7 if tests else 1.0
    detector, calibration = fit(request, dataset, run, part(tick, 0.0, share))
    if tests:
        digests = frozenset(row["digest"] for row in run.read("normals.json"))
        fitted = _fitted(run, detector, calibration, digests)
        evaluate(fitted, tests, part(tick, share, 1.0))
