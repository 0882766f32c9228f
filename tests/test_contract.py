"""One catalogue of promises, asked of every registered method.  A new method adds its line of quick settings."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from adlib import registry
from adlib.contract import Backbone
from promises import PROMISES, Subject

# Settings with which a fit on tiny pictures takes a moment and every bounded sample is full.
QUICK: dict[str, dict[str, Any]] = {
    "patchcore": {"coreset": 0.2, "max_patches": 500, "projection": 16},
    "padim": {"channels": 20},
    "gaussian": {},
    "knn": {"k": 3, "max_pictures": 20},
    "ocsvm": {"max_pictures": 20},
    "lof": {"k": 5, "max_pictures": 20},
    "isolation_forest": {"trees": 60, "dimensions": 4, "max_pictures": 20},
    "kde": {"dimensions": 4, "max_pictures": 20},
    "metric_learning": {"size": 16, "embedding": 16, "warm_up": 0, "epochs": 1, "max_pictures": 40},
    "pixel_median": {"max_pictures": 8},
    "autoencoder": {"size": 16, "width": 4, "code": 8, "epochs": 2, "max_pictures": 40},
    "pixelcnn": {"size": 12, "levels": 4, "features": 6, "blocks": 1, "epochs": 2, "rate": 0.02, "max_pictures": 40},
    "vae": {"network": "dense", "size": 12, "code": 4, "draws": 2, "noise": 0.0, "epochs": 3, "max_pictures": 40},
    "anogan": {
        "size": 16, "width": 4, "code": 8, "epochs": 1, "max_pictures": 40, "steps": 5, "candidates": 8, "weight": 0.01,
    },
    "ganomaly": {"size": 16, "width": 4, "code": 8, "epochs": 2, "max_pictures": 40},
    "skip_ganomaly": {"size": 16, "width": 4, "epochs": 2, "max_pictures": 40},
    "f_anogan": {
        "size": 16, "width": 4, "code": 8, "epochs": 1, "encoder_epochs": 1, "max_pictures": 40, "weight": 0.01,
    },
    "egbad": {"size": 16, "width": 4, "code": 8, "epochs": 1, "max_pictures": 40, "weight": 0.01},
}  # fmt: skip
# The same catalogue where a setting changes the way that is taken.
ALSO: list[tuple[str, dict[str, Any]]] = [
    ("patchcore", {"coreset": 1.0, "max_patches": 500, "k": 3, "reweight": True}),
    ("gaussian", {"reduction": "npca"}),
    ("gaussian", {"reduction": "pca", "variance": 0.9999}),
    ("gaussian", {"distance": "sed"}),
    ("ocsvm", {"levels": "all", "scaling": "unit length", "dimensions": 6, "max_pictures": 20}),
    ("kde", {"dimensions": 0, "bandwidth": 0.5, "max_pictures": 20}),
    ("autoencoder", {"network": "dense", "size": 12, "code": 8, "epochs": 2, "max_pictures": 40, "noise": 0.0}),
    (
        "vae",
        {
            "size": 16,
            "width": 4,
            "code": 4,
            "epochs": 2,
            "max_pictures": 40,
            "likelihood": "gaussian",
            "summary": "elbo",
        },
    ),
    ("ganomaly", {**QUICK["ganomaly"], "rate": 0.005, "summary": "codes"}),
    ("skip_ganomaly", {**QUICK["skip_ganomaly"], "noise": 0.2, "summary": "mean"}),
    ("knn", {"levels": "all", "normalise": False, "max_pictures": 20}),
]
CASES = [(key, QUICK.get(key, {})) for key in registry.METHODS] + ALSO


@functools.cache
def subject_of(case: int) -> Subject:
    """One for all promises, so that what they only look at is fitted once."""
    method, settings = CASES[case]
    card = registry.card(method)
    backbone = Backbone("offline", size=64) if registry.uses_backbone(method) else None
    return Subject(lambda seed: registry.build(method, settings, backbone, seed), card.needs, card.gives_map)


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: CASES[case][0])
@pytest.mark.parametrize("promise", PROMISES)
def test_every_method_keeps(promise, case):
    PROMISES[promise](subject_of(case))
