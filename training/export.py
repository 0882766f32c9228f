"""From a student in training to the file that ships."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from training.student import MEAN, STD, plain
from training.tasks import Distil
from training.train import Run

LICENCE = "as adlib"  # no photograph went in; what a teacher brings stands in the model card
ANSWERS = ("own", "standardised", "units")


def export(run: Run, path: Path, answers: str, padding: str = "") -> None:
    """Writes fp16 safetensors.

    padding: what the network shall see beyond the border, "zeros" or "reflect"; empty for what it was trained with.

    answers: what the stages answer with: the "own" maps of the student, or its prediction of the maps of its teachers, one
    after the other, "standardised" channel by channel or in the teachers' own "units".
    """
    tensors = plain(run.student)
    teachers = [task for task in run.tasks if isinstance(task, Distil)]
    for stage in range(3 if answers != "own" else 0):
        weights, biases = [], []
        for task in teachers:
            head, mean, std = task.heads[stage], task.mean(stage), task.std(stage)
            weight, bias = head.weight.detach(), head.bias.detach()
            if answers == "units":
                weight, bias = weight * std[:, None, None, None], bias * std + mean
            weights.append(weight)
            biases.append(bias)
        tensors |= {f"heads.{stage}.weight": torch.cat(weights), f"heads.{stage}.bias": torch.cat(biases)}
    said = {
        "mean": ",".join(f"{v:.3f}" for v in MEAN.flatten().tolist()),
        "std": ",".join(f"{v:.3f}" for v in STD.flatten().tolist()),
        "recipe": json.dumps(asdict(run.recipe)),
        "steps": str(run.done),
        "answers": answers,
        "padding": padding or run.recipe.padding,
        "licence": LICENCE,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in tensors.items()}, path, said)
