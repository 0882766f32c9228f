"""The files that ship: the recipe of each, and how it is made from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adlib import weights
from training.export import export
from training.train import Recipe, Run, recipe_of, train


@dataclass(frozen=True)
class Shipped:
    """What makes a file.  answers, padding, weights: see `export`."""

    recipe: Recipe
    answers: str
    padding: str
    weights: tuple[float, float, float]


SHIPPED = {
    weights.OFFLINE: Shipped(
        Recipe(("distil:resnet18",), steps=1500, fall=0.0), "standardised", "reflect", (1.0, 1.15, 0.95)
    ),
    weights.PURE: Shipped(
        Recipe(("change+outlines",), steps=400, pixels=16 * 128 * 128, sides=((128, 1),)),
        "own",
        "zeros",
        (2.0, 1.41, 1.0),
    ),
}


def make(name: str, pool: np.ndarray, folder: Path, file: Path) -> None:
    """Trains in `folder`, or goes on where a run of this recipe was cut there, and writes `file`.

    Raises ValueError when the folder holds a run of another recipe.
    """
    shipped = SHIPPED[name]
    run = Run(shipped.recipe, pool)
    if (folder / "checkpoint.safetensors").exists():
        if recipe_of(folder) != shipped.recipe:
            raise ValueError(f"{folder} holds a run of another recipe. Name another folder with --folder.")
        run.restore(folder)
    train(run, folder)
    export(run, file, shipped.answers, shipped.padding, shipped.weights)
