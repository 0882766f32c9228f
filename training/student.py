"""The shipped network as it is trained, with batch normalisation, and how it becomes the plain one that ships."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adlib.offline import Form, OfflineNet, conv3x3

MEAN = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
PADDINGS = ("zeros", "reflect")
STD = torch.tensor((0.229, 0.224, 0.225))[:, None, None]


def standardised(x: Tensor) -> Tensor:
    """As the student wants pictures (B, 3, H, W) in [0, 1]."""
    return (x - MEAN) / STD


class ConvNorm(nn.Module):
    """A 3x3 convolution and batch normalisation: one affine map, so one convolution with a bias once trained."""

    def __init__(self, given: int, made: int, stride: int, padding: str) -> None:
        super().__init__()
        self.conv = conv3x3(given, made, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(made)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    def folded(self) -> dict[str, Tensor]:
        """weight and bias of the convolution that answers the same, with the statistics of all training so far."""
        gain = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        return {
            "weight": (self.conv.weight * gain[:, None, None, None]).detach(),
            "bias": (self.norm.bias - self.norm.running_mean * gain).detach(),
        }


def sized(width: float, padding: str = "zeros") -> Form:
    """The shipped form with `width` times its channels, in steps of eight."""
    stem, *widths = (max(8, round(width * channels / 8) * 8) for channels in (Form.stem, *Form.widths))
    return Form(stem, tuple(widths), None, padding)


def trainable(form: Form = Form()) -> OfflineNet:  # noqa: B008, it is frozen
    return OfflineNet((0, 1, 2), form, ConvNorm).to(memory_format=torch.channels_last)


def plain(student: OfflineNet) -> dict[str, Tensor]:
    """The tensors of the same network without normalisation, by their names in `OfflineNet`."""
    tensors = {}
    for name, module in student.named_modules():
        if isinstance(module, ConvNorm):
            tensors |= {f"{name}.{key}": value for key, value in module.folded().items()}
    return tensors
