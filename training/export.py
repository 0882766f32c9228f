"""From a student in training to the file that ships."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from adlib.offline import Form, OfflineNet
from training.pool import batch
from training.student import MEAN, STD, plain, standardised
from training.tasks import Distil
from training.train import Run

LICENCE = "as adlib"  # no photograph went in; what a teacher brings stands in the model card
ANSWERS = ("own", "standardised", "units")


def export(run: Run, path: Path, answers: str, padding: str = "", weights: Sequence[float] = ()) -> None:
    """Writes fp16 safetensors.

    padding: what the network shall see beyond the border, "zeros" or "reflect"; empty for what it was trained with.

    answers: what the stages answer with: the "own" maps of the student, or its prediction of the maps of its teachers, one
    after the other, "standardised" channel by channel or in the teachers' own "units".
    weights: how far the answers of each stage shall lie from their mean over pictures of the pool, in relation; (1, 1, 1)
    lets no stage decide a distance by its scale alone; empty for answers as they come.
    """
    tensors = plain(run.student)
    teachers = [task for task in run.tasks if isinstance(task, Distil)]
    for stage in range(3 if answers != "own" else 0):
        kernels, biases = [], []
        for task in teachers:
            head, mean, std = task.heads[stage], task.mean(stage), task.std(stage)
            kernel, bias = head.weight.detach(), head.bias.detach()
            if answers == "units":
                kernel, bias = kernel * std[:, None, None, None], bias * std + mean
            kernels.append(kernel)
            biases.append(bias)
        tensors |= {f"heads.{stage}.weight": torch.cat(kernels), f"heads.{stage}.bias": torch.cat(biases)}
    form = replace(run.recipe.form, padding=padding or run.recipe.padding)
    if weights:
        tensors |= _weighed(run, tensors, form, weights)
    said = {
        "mean": ",".join(f"{v:.3f}" for v in MEAN.flatten().tolist()),
        "std": ",".join(f"{v:.3f}" for v in STD.flatten().tolist()),
        "recipe": json.dumps(asdict(run.recipe)),
        "steps": str(run.done),
        "answers": answers,
        "padding": form.padding,
        "weights": ",".join(f"{w:g}" for w in weights),
        "licence": LICENCE,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in tensors.items()}, path, said)


@torch.no_grad()
def _weighed(run: Run, tensors: dict[str, Tensor], form: Form, weights: Sequence[float]) -> dict[str, Tensor]:
    """The tensors that scale the answers of each stage; the mean variance of all channels together is 1."""
    heads = "heads.0.weight" in tensors
    channels = [len(tensors[f"{'heads' if heads else 'down'}.{stage}.bias"]) for stage in range(3)]
    net = OfflineNet((0, 1, 2), replace(form, channels=tuple(channels) if heads else None))
    net.load_state_dict(tensors)
    pictures = [batch(run.pool, np.random.default_rng((run.recipe.seed, 1 << 41, i)), 8, 128) for i in range(8)]
    whole = (sum(channels) / sum(weight**2 for weight in weights)) ** 0.5
    maps = net.eval()(standardised(torch.cat(pictures)))
    apart = [float((m - m.mean((0, 2, 3), keepdim=True)).square().sum(1).mean().sqrt()) for m in maps]
    scales = [whole * weight / a for weight, a in zip(weights, apart, strict=True)]
    return _in_heads(tensors, scales) if heads else _in_blocks(tensors, scales)


def _in_heads(tensors: dict[str, Tensor], scales: Sequence[float]) -> dict[str, Tensor]:
    names = [(f"heads.{stage}.{part}", scale) for stage, scale in enumerate(scales) for part in ("weight", "bias")]
    return {name: tensors[name] * scale for name, scale in names}


def _in_blocks(tensors: dict[str, Tensor], scales: Sequence[float]) -> dict[str, Tensor]:
    """A stage's own maps are scaled inside it, for ReLU lets a positive factor through: what comes in from the stage before
    is brought back to its scale first, and what branches off takes no part."""
    made, before = {}, 1.0
    for stage, scale in enumerate(scales):
        factors = {"down": (scale / before, scale), "first": (1 / scale, 1.0), "second": (scale, scale)}
        for part, (weight, bias) in factors.items():
            name = f"down.{stage}" if part == "down" else f"blocks.{stage}.{part}"
            made |= {
                f"{name}.weight": tensors[f"{name}.weight"] * weight,
                f"{name}.bias": tensors[f"{name}.bias"] * bias,
            }
        before = scale
    return made
