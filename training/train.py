"""Training: one student, any number of tasks, the same steps for the same seed, and a checkpoint to go on from.

The learning rate rises for a moment, stays, and falls to nothing over the last quarter.  So a run that must end early can
be resumed with fewer steps: its fall begins sooner.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adlib.offline import Form
from training.pool import batch
from training.student import sized, trainable
from training.tasks import make_task

SIDES = ((96, 2), (128, 3), (160, 1))  # sides of the crops in pixels, and how often each is drawn

WARM_UP = 100  # steps


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out, beside the pool.  tasks: "distil:NAME" for a teacher of timm, "contrast", "change" …."""

    tasks: tuple[str, ...]
    steps: int = 10_000
    seed: int = 0
    pixels: int = 32 * 128 * 128  # of a batch: small crops come in larger batches
    sides: tuple[tuple[int, int], ...] = SIDES
    rate: float = 3e-3
    decay: float = 0.02
    fall: float = 0.25  # share of the steps over which the learning rate falls
    width: float = 1.0  # channels of the student, times those of the network that ships
    probes: int = 1  # batches that the channels of targets are measured on; one may be grey, and then a poor measure
    padding: str = "zeros"  # what student and teachers see beyond the border: "zeros" or "reflect"

    @property
    def form(self) -> Form:
        return sized(self.width, self.padding)


class Run:
    """A student in training.  `step()` once for each step; `save` and `restore` between any two."""

    def __init__(self, recipe: Recipe, pool: np.ndarray) -> None:
        self.recipe, self.pool, self.done = recipe, pool, 0
        torch.manual_seed(recipe.seed)
        self.student = trainable(recipe.form)
        measured = probe(pool, recipe)
        self.tasks = nn.ModuleList(make_task(name, measured, recipe.form) for name in recipe.tasks)
        self.learning = [p for p in [*self.student.parameters(), *self.tasks.parameters()] if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.learning, recipe.rate, weight_decay=recipe.decay, fused=True)

    def step(self) -> dict[str, float]:
        """One step: the loss of each task."""
        r = self.recipe
        rng = np.random.default_rng((r.seed, self.done))
        sides, often = zip(*r.sides, strict=True)
        side = int(rng.choice(sides, p=np.array(often) / sum(often)))
        x = batch(self.pool, rng, r.pixels // side**2, side)
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.done, r)
        with torch.autocast("cpu", torch.bfloat16):
            losses = {name: task.loss(self.student, x, rng) for name, task in zip(r.tasks, self.tasks, strict=True)}
        self.optimiser.zero_grad()
        total(losses.values()).backward()
        self.optimiser.step()
        self.done += 1
        return {name: loss.item() for name, loss in losses.items()}

    def save(self, folder: Path) -> None:
        """Everything that the next step depends on.  Written beside and moved, so that a cut leaves the last one whole."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        tensors |= {f"tasks.{k}": v for k, v in self.tasks.state_dict().items()}
        for i, p in enumerate(self.learning):
            tensors |= {f"moment.{i}.{k}": v for k, v in self.optimiser.state[p].items() if k != "step"}
        said = {"recipe": json.dumps(asdict(self.recipe)), "done": str(self.done)}
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "checkpoint.part", said)
        (folder / "checkpoint.part").replace(folder / "checkpoint.safetensors")

    def restore(self, folder: Path) -> None:
        """Goes on where `save` was called, maybe with another number of steps ahead."""
        tensors = load_file(folder / "checkpoint.safetensors")
        self.done = int(_said(folder)["done"])
        self.student.load_state_dict(_under(tensors, "student."))
        self.tasks.load_state_dict(_under(tensors, "tasks."))
        for i, p in enumerate(self.learning):
            moments = {
                name: torch.empty_like(p).copy_(
                    value
                )  # laid out in memory as the parameter is: the fused step relies on it
                for name, value in _under(tensors, f"moment.{i}.").items()
            }
            if moments:
                self.optimiser.state[p] = {"step": torch.tensor(float(self.done)), **moments}


def probe(pool: np.ndarray, r: Recipe) -> Tensor:
    """192 pictures; of one batch all have the same scale, and colours or none."""
    seeds = [(r.seed, 1 << 40)] if r.probes == 1 else [(r.seed, 1 << 40, i) for i in range(r.probes)]
    return torch.cat([batch(pool, np.random.default_rng(seed), 192 // r.probes, 128) for seed in seeds])


def rate(step: int, r: Recipe) -> float:
    """The learning rate at a step."""
    left = (r.steps - step) / max(r.steps * r.fall, 1)
    return r.rate * min(1, (step + 1) / WARM_UP, max(left, 0))


def total(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()


def recipe_of(folder: Path) -> Recipe:
    said = json.loads(_said(folder)["recipe"])
    return Recipe(**{**said, "tasks": tuple(said["tasks"]), "sides": tuple(map(tuple, said["sides"]))})


def train(run: Run, folder: Path, every: int = 100) -> None:
    """All steps that are left, with a line of progress and a checkpoint now and then."""
    begun, first, mean = time.monotonic(), run.done, {}
    while run.done < run.recipe.steps:
        for name, loss in run.step().items():
            mean[name] = loss if name not in mean else 0.98 * mean[name] + 0.02 * loss
        if run.done % every == 0 or run.done == run.recipe.steps:
            seconds = time.monotonic() - begun
            left = seconds / (run.done - first) * (run.recipe.steps - run.done)
            told = "  ".join(f"{name} {loss:.4f}" for name, loss in mean.items())
            print(f"{run.done} of {run.recipe.steps}  {told}  {seconds:.0f} s, {left / 60:.0f} min left", flush=True)
        if run.done % (5 * every) == 0 or run.done == run.recipe.steps:
            run.save(folder)


def _said(folder: Path) -> dict[str, str]:
    with safe_open(folder / "checkpoint.safetensors", "pt") as file:
        return file.metadata()


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
