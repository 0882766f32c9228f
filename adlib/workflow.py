"""The verbs: fit, evaluate, look.  Pages, the worker and the command line all go through here.

    normals → divide → fit → calibrate on normals that were not fitted → run folder       fitting
    run folder → load → look → score, verdict, heatmap in the picture's own pixels        inspection
    labelled tests → evaluate → Report, scores, maps                                      evaluation

torch is imported inside the verbs, so that a page can name them without waiting for it.
"""

from __future__ import annotations

from adlib import datasets, store
from adlib.batches import Batches, divide, labelled_tests, part, train_normals
from adlib.contract import Tick, silent
from adlib.evaluation import evaluate, explored
from adlib.fitting import fit
from adlib.inspection import Fitted, Look, load, look, opened
from adlib.request import Request, estimate, identity, settled
from adlib.results import calibration_of, ratio_of

__all__ = [
    "Batches",
    "Fitted",
    "Look",
    "Request",
    "calibration_of",
    "divide",
    "estimate",
    "evaluate",
    "explored",
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


def run_request(run: store.Run, tick: Tick = silent) -> None:
    """What the worker does with one request: fit, then evaluate when the data set holds labelled tests."""
    request = Request.from_json(run.request)
    dataset = store.Dataset.open(request.dataset)
    samples, _ = datasets.samples(dataset)
    tests = labelled_tests(samples)
    if run.finished:  # asked again with more tests: the fit stands
        evaluate(load(run), tests, tick)
        return
    share = 0.7 if tests else 1.0
    detector, calibration = fit(request, dataset, run, part(tick, 0.0, share))
    if tests:
        evaluate(opened(run, detector, calibration), tests, part(tick, share, 1.0))
