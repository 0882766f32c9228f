"""A finished run, opened: the detector as it was fitted, and one picture judged by it.

    run folder → load → look → score, verdict, heatmap in the picture's own pixels

torch is imported inside the verbs, so that a page can name them without waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adlib import machine, regions, registry, store, weights
from adlib.batches import Batches, only_inside
from adlib.contract import Backbone, Calibration, DataError, Detector, NotFitted, Sample
from adlib.frames import Frame, least_for, to_pixels
from adlib.images import Picture, read
from adlib.request import Request
from adlib.results import calibration_of, ratio_of


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
        return Batches(samples, self.size, self.letterbox, self.white, machine.batch_size(), self.region)


def load(run: store.Run) -> Fitted:
    """Reads a finished run.  Raises NotFitted when it has not finished, WeightsMissing, DataError.

    Also refuses weights that are not those of the fit: a network with other weights gives scores that mean nothing.
    """
    if not run.finished:
        raise NotFitted("Run '{run}' has not finished. Wait for it on the Fit page, or choose another.", run=run.id)
    card = run.card
    request = Request.from_json({"dataset": card["dataset"], **card})
    then, now = card["weights"], weights_of(request.backbone)
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
    return opened(run, detector, calibration_of(run))


def opened(run: store.Run, detector: Detector, calibration: Calibration) -> Fitted:
    """A run whose detector is at hand already, with all else that its folder says."""
    card = run.card
    digests = frozenset(row["digest"] for row in run.read("normals.json") or [])
    region = regions.from_json(card.get("region"))  # runs of earlier versions saw whole pictures
    return Fitted(run, detector, calibration, card["size"], card["letterbox"], card["white"], digests, region)


def weights_of(backbone: Backbone | None) -> dict[str, Any] | None:
    """What run.json says of the network's weights, as they are on this machine; None for methods that use none."""
    if backbone is None:
        return None
    from adlib import features

    return features.weights_of(backbone)


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
