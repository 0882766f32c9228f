"""Learns from normal pictures and calibrates on normals that were not fitted; what a run folder says of its fit.

    normals → divide → fit → calibrate → run folder

What is asked for is a `request.Request`; looking at pictures with what was learned is left to `inspection`.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from adlib import curation, datasets, inspection, learning, machine, regions, registry, store, thresholds
from adlib.batches import Batches, data_hash, divide, part, predictions, train_normals
from adlib.contract import VERSION, Calibration, Detector, Prediction, Sample, Tick, TooLarge, silent
from adlib.request import Request, estimate, resolved, size_of
from adlib.results import calibration_json


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
        return Batches(chosen, size_of(request), request.letterbox, white, machine.batch_size(), region)

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
        "weights": inspection.weights_of(request.backbone),
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
