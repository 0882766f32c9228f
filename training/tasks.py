"""What a student can be asked to learn.  A task is a module with parameters of its own and `loss(student, x, rng)`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib import features
from adlib.contract import Backbone
from adlib.offline import Form
from training.change import Change
from training.pool import relit
from training.student import standardised


def make_task(name: str, probe: Tensor, form: Form = Form()) -> nn.Module:  # noqa: B008, it is frozen
    """ "distil:NAME", "contrast", "change" or "change+outlines", for a student of this form.

    probe: pictures (B, 3, H, W) in [0, 1] to measure the channels of targets on.
    """
    kind, _, teacher = name.partition(":")
    if kind == "distil":
        return Distil(Teacher(teacher, probe, form.padding), form.widths)
    if kind.startswith("change"):
        return Change(form.widths, probe if kind == "change+outlines" else None)
    return Contrast(form.widths)


class Teacher:
    """A frozen network of timm; its maps at strides 4, 8 and 16, standardised channel by channel over formula pictures.

    padding: what its convolutions see beyond the border; "zeros" leaves them as they are.
    """

    @torch.no_grad()
    def __init__(self, name: str, probe: Tensor, padding: str = "zeros") -> None:
        backbone = features.resolve(Backbone(name), "early")
        self.extractor: Callable[[Tensor], list[Tensor]] = features.extractor(backbone)
        self.channels = features.extractor(backbone).channels
        if padding != "zeros":
            own = features.trunk(backbone).to(memory_format=torch.channels_last)  # an extractor's network is shared
            for module in own.modules():
                if isinstance(module, nn.Conv2d):
                    module.padding_mode = padding
            self.extractor = own
        maps = self.extractor(probe)
        self.mean = [m.mean((0, 2, 3), keepdim=True) for m in maps]
        self.std = [m.std((0, 2, 3), keepdim=True) + 1e-4 for m in maps]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> list[Tensor]:
        maps = self.extractor(x)
        return [(m.float() - mean) / std for m, mean, std in zip(maps, self.mean, self.std, strict=True)]


class Distil(nn.Module):
    """The teacher's standardised maps from the student's, by one 1x1 convolution a stage (FitNets, Romero 2015)."""

    def __init__(self, teacher: Teacher, widths: tuple[int, ...]) -> None:
        super().__init__()
        self._teacher = teacher
        self.heads = nn.ModuleList(nn.Conv2d(w, c, 1) for w, c in zip(widths, teacher.channels, strict=True))

    def mean(self, stage: int) -> Tensor:
        return self._teacher.mean[stage].flatten()

    def std(self, stage: int) -> Tensor:
        return self._teacher.std[stage].flatten()

    def loss(self, student: nn.Module, x: Tensor, rng: np.random.Generator) -> Tensor:
        targets = self._teacher(x)
        maps = student(standardised(x).contiguous(memory_format=torch.channels_last))
        losses = [F.mse_loss(h(m).float(), t) for h, m, t in zip(self.heads, maps, targets, strict=True)]
        return torch.stack(losses).mean()


class Contrast(nn.Module):
    """Each cell finds itself again, among cells of all pictures, under other light, colour and noise (DenseCL, 2011.09157)."""

    cells, width, warmth = 4, 64, 0.2  # cells drawn from a picture; channels compared; temperature

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, w, 1), nn.ReLU(inplace=True), nn.Conv2d(w, self.width, 1)) for w in widths
        )

    def loss(self, student: nn.Module, x: Tensor, rng: np.random.Generator) -> Tensor:
        views = torch.cat([x, self._other(x, rng)]).contiguous(memory_format=torch.channels_last)
        losses = []
        for head, maps in zip(self.heads, student(standardised(views)), strict=True):
            code = F.normalize(head(maps).float(), dim=1)  # (2 B, E, h, w)
            h, w = code.shape[-2:]
            one, two = code.flatten(2).chunk(2)  # (B, E, h w)
            spots = torch.from_numpy(rng.integers(h * w, size=(len(x), self.cells)))
            spots = spots[:, None].expand(-1, self.width, -1)
            a, b = (half.gather(2, spots).transpose(1, 2).flatten(0, 1) for half in (one, two))  # (B cells, E)
            likeness = a @ b.T / self.warmth
            right = torch.arange(len(a))
            losses.append((F.cross_entropy(likeness, right) + F.cross_entropy(likeness.T, right)) / 2)
        return torch.stack(losses).mean()

    @staticmethod
    def _other(x: Tensor, rng: np.random.Generator) -> Tensor:
        y = relit(x, rng)
        if rng.random() < 0.5:
            y = F.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
        noise = torch.from_numpy(rng.standard_normal(y.shape, np.float32))
        return (y + noise * float(rng.uniform(0, 0.08))).clamp(0, 1)
