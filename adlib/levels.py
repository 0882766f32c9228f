"""The levels of a Gaussian run, one by one: what the chi-square law expects of each, and what happens.

Reads what the run keeps, its state and its embeddings, and scores nothing again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adlib import lines, registry, rules, store
from adlib.contract import Sentence, say
from adlib.results import calibration_of

METHOD = "gaussian"


@dataclass(frozen=True)
class Level:
    """stage: of the network, as on the Fit page.  dimension: directions after any reduction.  shrinkage: in [0, 1].

    line: of this level's distance.  held_out, good: (alarms, pictures) among held-out normals and good tests; held-out
    normals of a cross-fitted run of several levels are left out, (0, 0): their distances are not kept by level.
    expected: the chi-square law's rate.  holds: False when the alarms cannot be explained by that rate.
    """

    stage: int
    dimension: int
    shrinkage: float
    expected: float
    line: float
    held_out: tuple[int, int]
    good: tuple[int, int]
    holds: bool


def law(run: store.Run) -> tuple[int, float] | Sentence:
    """(dimension, shrinkage) of the one Gaussian whose distance is this run's score, or why there is no such law."""
    card = run.card
    title = registry.card(card["method"]).title
    if card["method"] != METHOD:
        return say(
            "{method} is not one Gaussian for the whole picture, so its score follows no chi-square law.", method=title
        )
    if card["settings"]["distance"] != "mahalanobis":
        name = card["settings"]["distance"]
        return say("Only the Mahalanobis distance follows a chi-square law; this run uses '{name}'.", name=name)
    stages = card["backbone"]["stages"]
    if len(stages) > 1:
        return say(
            "The score adds the distances of {n} levels, and such a sum follows no chi-square law. It needs a run fitted on 1 "
            "level.",
            n=len(stages),
        )  # fmt: skip
    state = store.load_state(run.folder / "state.safetensors")
    return int(state["factor0"].shape[1]), float(state["shrinkage"][0])


def by_level(run: store.Run, alpha: float) -> list[Level]:
    """Each level of a Gaussian-AD run with the Mahalanobis distance; [] for any other run."""
    card = run.card
    if card["method"] != METHOD or card["settings"]["distance"] != "mahalanobis":
        return []
    state = store.load_state(run.folder / "state.safetensors")
    lengths = [len(state[f"mean{i}"]) for i in range(len(card["backbone"]["stages"]))]
    tests, normals = _embeddings(run, sum(lengths))
    n, found = card["normals"]["fitted"], []
    start = 0
    for i, stage in enumerate(card["backbone"]["stages"]):
        mean, factor = state[f"mean{i}"].double().numpy(), state[f"factor{i}"].double().numpy()
        part = slice(start, start := start + len(mean))
        rho = float(state["shrinkage"][i])
        line = lines.chi_square(alpha, factor.shape[1], rho, n)
        counts = []
        for rows in (normals, tests):
            away = np.linalg.norm((rows[:, part] - mean) @ factor, axis=1)
            counts.append((int((away > line.value).sum()), len(away)))
        if not counts[0][1] and len(lengths) == 1:  # then the score is the distance, and calibration kept it
            scores = np.array(calibration_of(run).scores)
            counts[0] = int((scores > line.value).sum()), len(scores)
        holds = all(not total or rules.at_least(k, total, alpha) >= rules.ALARMING for k, total in counts)
        found.append(Level(stage, factor.shape[1], rho, alpha, line.value, counts[0], counts[1], holds))
    return found


def _embeddings(run: store.Run, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(T, width) of good tests and (M, width) of held-out normals, float64; without rows where none are kept."""
    labels = [row["label"] for row in run.read("scores.json") or []]
    fitted = {row["digest"]: row["fitted"] for row in run.read("normals.json") or []}
    kept = [not fitted.get(row["digest"], True) for row in run.read("explored.json") or []]
    made = []
    for name, chosen in (("embeddings.npy", [label == 0 for label in labels]), ("normals.npy", kept)):
        path = run.folder / name
        rows = np.asarray(store.read_array(path), dtype=np.float64) if path.exists() else np.zeros((0, width))
        fits = rows.shape == (len(chosen), width)
        made.append(rows[np.array(chosen, dtype=bool)] if fits else np.zeros((0, width)))
    return made[0], made[1]
