"""Small networks that are trained here: their shapes, what they cost, and their weights on the way into a file and back.

No layer of theirs uses statistics of the batch, so that a picture is treated alike in training and at a test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib.contract import DataError

ROWS = 16  # pictures scored at once, always exactly so many: the same products for a picture alone and in any batch
NETWORKS = ("auto", "dense", "convolutional")
DENSE_SIDE = 32  # pixels: up to here a grey picture is small enough for a dense network
MOST_UNITS = 512  # of a dense layer, so that its weights stay few on larger pictures


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# --- shapes -----------------------------------------------------------------------------------------------------------


def halvings(side: int) -> int:
    """How often a picture is halved on its way to the code, until 4 to 8 cells are left: 64 → 8 (3 times)."""
    return max(1, min(4, int(math.log2(side / 4)) - (side >= 64)))


def native_side(size: int, height: int, width: int, dense: bool) -> int:
    """Side of the square that a network sees: `size`, no more than the picture has, in steps that can be halved."""
    side = min(size, max(height, width))
    if dense:
        return max(8, side)
    step = 1 << halvings(max(8, side))
    return max(8, side // step * step)


def resized(pixels: Tensor, side: int) -> Tensor:
    """(B, C, H, W) → (B, C, side, side): averaged where it shrinks."""
    if pixels.shape[-2:] == (side, side):
        return pixels
    return F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def is_dense(network: str, side: int, grey: bool) -> bool:
    """network: "auto", "dense" or "convolutional".  side: the longer one of a picture as it comes."""
    return network == "dense" or (network == "auto" and grey and side <= DENSE_SIDE)


def seen(pixels: Tensor, channels: int, side: int) -> Tensor:
    """(B, 3, H, W) → (B, C, s, s): as a network sees them; without colour when none of the normals had any."""
    return resized(pixels if channels == 3 else pixels.mean(1, keepdim=True), side)


def drawn_back(drawn: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, s, s) → (B, 3, H, W) in [0, 1]: a network's picture as large as the one it was shown."""
    large = F.interpolate(drawn, size=size, mode="bilinear", align_corners=False)
    return large.clamp(0, 1).expand(-1, 3, -1, -1).contiguous()


def encoder(channels: int, side: int, dense: bool, code: int, width: int, linear: bool = False) -> nn.Module:
    """(B, C, s, s) → (B, code)."""
    if dense:
        pixels = channels * side * side
        return Dense(pixels, min(pixels // 2, MOST_UNITS), code, linear=linear)
    return Down(channels, side, width, code)


def decoder(channels: int, side: int, dense: bool, code: int, width: int, linear: bool = False) -> nn.Module:
    """(B, code) → values of (B, C, s, s)."""
    if dense:
        pixels = channels * side * side
        return Dense(code, min(pixels // 2, MOST_UNITS), pixels, linear=linear)
    return Up(channels, side, width, code)


class Dense(nn.Module):
    """Layers of the given sizes with ReLU between them, none behind the last.  (B, …) → (B, sizes[-1])."""

    def __init__(self, *sizes: int, linear: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for given, made in pairwise(sizes):
            layers += [nn.Linear(given, made)] + ([] if linear else [nn.ReLU()])
        self.layers = nn.Sequential(*(layers if linear else layers[:-1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Down(nn.Module):
    """A convolutional encoder.  (B, channels, side, side) → (B, code)."""

    def __init__(self, channels: int, side: int, width: int, code: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(halvings(side)):
            given, made = (width << (i - 1) if i else channels), width << i
            layers += [nn.Conv2d(given, made, 4, 2, 1), nn.LeakyReLU(0.2)]
        cells = (side >> halvings(side)) ** 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear((width << (halvings(side) - 1)) * cells, code))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Up(nn.Module):
    """Its mirror image.  (B, code) → (B, channels, side, side), without an activation at the end."""

    def __init__(self, channels: int, side: int, width: int, code: int) -> None:
        super().__init__()
        times = halvings(side)
        cells, deep = side >> times, width << (times - 1)
        layers: list[nn.Module] = [nn.Linear(code, deep * cells * cells), nn.LeakyReLU(0.2)]
        layers += [nn.Unflatten(1, (deep, cells, cells))]
        for i in reversed(range(times)):
            made = width << (i - 1) if i else channels
            layers += [nn.ConvTranspose2d(width << i, made, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose first weights depend on the seed alone; nobody else's random numbers are touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


# --- scoring ----------------------------------------------------------------------------------------------------------


def in_rows(pixels: Tensor, work: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """`work` on ROWS pictures at a time, the last of them filled up with black ones; its results joined, on the CPU."""
    found: list[tuple[Tensor, ...]] = []
    place = device()
    with torch.inference_mode():
        for some in pixels.split(ROWS):
            full = some if len(some) == ROWS else torch.cat([some, some.new_zeros(ROWS - len(some), *some.shape[1:])])
            found.append(tuple(part[: len(some)].float().cpu() for part in work(full.to(place))))
    return tuple(torch.cat(parts).clone() for parts in zip(*found, strict=True))


# --- what a network costs ---------------------------------------------------------------------------------------------


def weight_bytes(network: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())


def traced(make: Callable[[], nn.Module], *shape: int) -> tuple[int, int, float]:
    """(bytes of the weights, values made by its layers, multiply-adds) for one picture; nothing is allocated.

    shape: of the picture, (C, side, side).
    """
    made, operations = 0, 0.0

    def heard(layer: nn.Module, given: tuple[Any, ...], result: Tensor) -> None:
        nonlocal made, operations
        if not isinstance(layer, nn.Flatten | nn.Unflatten):
            made += result.numel()
        if isinstance(layer, nn.ConvTranspose2d):
            operations += given[0].numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            operations += result.numel() * layer.weight[0].numel()

    with torch.device("meta"):
        network = make()
        for layer in network.modules():
            if not list(layer.children()):
                layer.register_forward_hook(heard)
        network(torch.empty(1, *shape))
    return weight_bytes(network), made, operations


# --- into a file and back ---------------------------------------------------------------------------------------------


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {f"network.{name}": value.detach().cpu().clone() for name, value in network.state_dict().items()}


def shape_of(state: Mapping[str, Tensor], method: str) -> tuple[int, int, bool]:
    """(channels, side, dense) of a state.  Raises DataError."""
    channels, side, dense = whole(state, "shape", 3, method)
    if channels not in (1, 3) or not 8 <= side <= 256 or dense > 1:
        raise DataError("This is not a state of {method}: it holds no '{name}'.", method=method, name="shape")
    return channels, side, bool(dense)


def whole(state: Mapping[str, Tensor], name: str, length: int, method: str, most: int = 4096) -> list[int]:
    """Whole numbers of a state, each from 0 to `most`.  Raises DataError."""
    value = state.get(name)
    if (
        value is None
        or value.dtype != torch.int64
        or value.shape != (length,)
        or not all(0 <= v <= most for v in value)
    ):
        raise DataError("This is not a state of {method}: it holds no '{name}'.", method=method, name=name)
    return [int(v) for v in value]


def filled(make: Callable[[], nn.Module], state: Mapping[str, Tensor], method: str) -> nn.Module:
    """A network with a state's weights, ready to score.  Raises DataError when they are not its own, or not finite."""
    with torch.device("meta"):
        network = make()
    return taken_over(network, state, method)


def taken_over(network: nn.Module, state: Mapping[str, Tensor], method: str) -> nn.Module:
    """The network itself, with a state's weights in place of its own.  Raises as `filled`."""
    wanted = {f"network.{name}": value for name, value in network.state_dict().items()}
    given = {name for name in state if name.startswith("network.")}
    for name in sorted(wanted.keys() | given):
        value = state.get(name)
        fits = value is not None and name in wanted and value.shape == wanted[name].shape and value.isfinite().all()
        if not fits:
            raise DataError(
                "This is not a state of {method}: '{name}' of shape {shape} is damaged or belongs to other settings.",
                method=method, name=name, shape="×".join(map(str, value.shape)) if value is not None else "()",
            )  # fmt: skip
    copies = {name.removeprefix("network."): state[name].clone() for name in wanted}
    network.load_state_dict(copies, assign=True)
    return network.to(device()).eval().requires_grad_(False)
