"""A fit as it is asked for: a plain value with an identity, and what it will take before it starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adlib import curation, datasets, machine, regions, registry, store
from adlib.batches import data_hash, divide, labelled_tests, train_normals
from adlib.contract import VERSION, AdlibError, Backbone, Cost, Sample


@dataclass(frozen=True)
class Request:
    """A fit as plain values; the same values are the same run.

    dataset: id.  alpha: share of good parts that may raise an alarm.  letterbox: keep the picture's proportions.
    backbone: None for methods that use none.
    region: the part of each picture that counts; None = as the data set says when the fit is asked for (`settled`).
    """

    dataset: str
    method: str
    settings: dict[str, Any]
    backbone: Backbone | None
    seed: int = 0
    alpha: float = 0.01
    letterbox: bool = False
    region: regions.Region | None = None

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Request:
        backbone = values["backbone"]
        known = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in values.items() if name in known}
        if backbone is not None:
            backbone = Backbone(**{**backbone, "stages": tuple(backbone["stages"])})
        region = values.get("region")
        return cls(**{**values, "backbone": backbone, "region": None if region is None else regions.from_json(region)})

    def key(self, data_hash: str) -> str:
        """The run's identity: same pictures, region, method, settings, seed and version → same key."""
        asked = {**self.as_json(), "dataset": None}
        if not self.region:
            del asked["region"]  # the keys of runs on whole pictures stay what they were
        text = json.dumps([data_hash, VERSION, asked], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def settled(request: Request) -> Request:
    """The request with the region that its data set has now: what is changed later does not reach it any more."""
    if request.region is not None:
        return request
    return dataclasses.replace(request, region=curation.region(store.Dataset.open(request.dataset)))


def identity(request: Request) -> tuple[str, str]:
    """(key of the fit, hash of the tests) on the pictures that the data set holds now.

    The fit depends on the normals alone, so that new tests ask for a new evaluation and not for a new fit.
    """
    samples, _ = datasets.samples(store.Dataset.open(request.dataset))
    return settled(request).key(data_hash(train_normals(samples))), data_hash(labelled_tests(samples))


def resolved(request: Request) -> Request:
    """The request with nothing left open: all settings, the network's stages and precision.  Raises WeightsMissing."""
    card = registry.card(request.method)
    settings = registry.checked(request.method, request.settings)
    if not 0 < request.alpha < 1:
        raise AdlibError("The false-alarm rate must lie between 0 and 1, got {alpha}.", alpha=request.alpha)
    backbone = None
    if card.stages:
        from adlib import features

        backbone = features.resolve(request.backbone or Backbone(), card.stages)
    return dataclasses.replace(request, settings=settings, backbone=backbone)


@dataclass(frozen=True)
class Estimate:
    """cost: of one fit.  seconds: of fit and calibration together, from this machine's own speed; rough.
    free_bytes: memory that is free now."""

    cost: Cost
    seconds: float
    free_bytes: int

    @property
    def fits(self) -> bool:
        return self.cost.fit_bytes < 0.8 * self.free_bytes


def size_of(request: Request) -> int:
    """Side of the network's square; methods without a network look at the same size."""
    return (request.backbone or Backbone()).size


def estimate(request: Request, normals: Sequence[Sample]) -> Estimate:
    """What the fit will take, before it starts.  Raises what the fit itself would raise at once."""
    request = resolved(request)
    division = divide(normals, request.method)
    detector = registry.build(request.method, request.settings, request.backbone, request.seed)
    size = size_of(request)
    cost = detector.cost(len(division.fit), size, size)
    rounds = 1.0 + (0.8 * len(division.folds) if division.folds else 0.0)
    speed = machine.speed(request.method, request.backbone.name if request.backbone else "")
    pictures = len(division.fit) * rounds + division.calibrating
    return Estimate(cost, cost.operations * rounds / speed + 0.003 * pictures, machine.free_bytes())
