"""What methods that train a network to draw the normals again share: their settings, the way in and out, and the state.

A subclass has `_net(channels, side, dense)` and, where its network's answer is not the drawing itself, `_drawn`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from adlib.contract import Cost, Images, Tick, setting
from adlib.methods._networks import (
    NETWORKS,
    drawn_back,
    filled,
    in_rows,
    is_dense,
    native_side,
    seeded,
    seen,
    shape_of,
    traced,
    weights_of,
)  # fmt: skip
from adlib.methods._reading import count
from adlib.methods._state import forget, learned
from adlib.methods._training import Plan, fit_bytes, gather, steps_of

# --- settings ---------------------------------------------------------------------------------------------------------


def network_setting() -> Any:
    return setting(
        "auto", choices=NETWORKS, label="Network",
        help="Dense for grey pictures of at most 32 pixels, convolutional for all others; auto decides by the pictures.",
    )  # fmt: skip


def size_setting(default: int, most: int) -> Any:
    return setting(
        default, low=8, high=most, label="Side of the picture",
        help="Pictures are reduced to this many pixels a side; larger sees finer defects and takes longer.",
    )  # fmt: skip


def share_setting() -> Any:
    return setting(
        0.01, low=0.0001, high=1.0, label="Top share", help="Share of the pixels that the top score rests on."
    )


def sigma_setting() -> Any:
    return setting(1.0, low=0.0, high=16.0, label="Blur", help="Blur of the heatmap, in pixels of the reduced picture.")


def width_setting() -> Any:
    return setting(
        16, low=4, high=128, label="Width of the network",
        help="Channels of the first convolution; each further one has twice as many.",
    )  # fmt: skip


def noise_setting(default: float) -> Any:
    return setting(
        default, low=0.0, high=2.0, label="Noise",
        help="Noise on the pictures it has to draw again without it, as a share of white; keeps it from copying defects.",
    )  # fmt: skip


def epochs_setting(default: int) -> Any:
    return setting(
        default, low=1, high=2000, label="Epochs", help="Passes over the normals, of 20 to 100 steps each, at most."
    )


def patience_setting() -> Any:
    return setting(
        10, low=0, high=500, label="Patience",
        help="Training stops after so many epochs without a better loss on held-out normals; 0 never stops early.",
    )  # fmt: skip


def rate_setting() -> Any:
    return setting(0.001, low=0.00001, high=0.1, label="Learning rate", help="Step length of Adam.")


def pictures_setting() -> Any:
    return setting(
        8000, low=2, high=100_000, label="Pictures sampled",
        help="At most so many normals, drawn at random, are held during the fit; this bounds its memory.",
    )  # fmt: skip


# --- the way in and out -----------------------------------------------------------------------------------------------

NEEDS = 2  # normals: one to learn from, one to stop by


class Drawing(ABC):
    """Gathers the normals for a network, rebuilds pictures, and keeps the network as the state."""

    METHOD: ClassVar[str]
    network: str = "convolutional"
    size: int
    epochs: int
    patience: int
    max_pictures: int
    seed: int

    @abstractmethod
    def _net(self, channels: int, side: int, dense: bool) -> nn.Module:
        """The untrained network for pictures of so many channels and pixels a side."""

    def _traced(self, channels: int, side: int, dense: bool) -> nn.Module:
        """A network whose forward uses every layer once, as a step of training does."""
        return self._net(channels, side, dense)

    def _drawn(self, network: Any, x: Tensor) -> Tensor:
        """x: (B, C, s, s) → the same, drawn again."""
        drawn: Tensor = network(x)
        return drawn

    def _dense(self, height: int, width: int, grey: bool) -> bool:
        return is_dense(self.network, max(height, width), grey)

    def _side(self, height: int, width: int, dense: bool) -> int:
        return native_side(self.size, height, width, dense)

    def _begin(self, normals: Images, tick: Tick) -> tuple[Any, Tensor, tuple[int, int, bool]]:
        """The untrained network, the pictures (N, C, s, s) that it learns from, and (C, s, dense)."""
        forget(self)
        count(normals, NEEDS, self.METHOD)
        dense = False

        def side(height: int, width: int, grey: bool) -> int:
            nonlocal dense
            dense = self._dense(height, width, grey)
            return self._side(height, width, dense)

        pictures = gather(normals, side, self.max_pictures, self.seed, tick)
        shape = (pictures.shape[1], pictures.shape[2], dense)
        return seeded(self.seed, lambda: self._net(*shape)), pictures, shape

    def _plan(self) -> Plan:
        return Plan(self.epochs, patience=self.patience, seed=self.seed)

    def reconstruct(self, pixels: Tensor) -> Tensor:
        """What the network draws in place of the pictures: (B, 3, H, W) in [0, 1].  Raises NotFitted."""
        network, (channels, side, _) = learned(self, "network_"), learned(self, "shape_")
        (drawn,) = in_rows(pixels, lambda some: (self._drawn(network, seen(some, channels, side)),))
        return drawn_back(drawn, (pixels.shape[-2], pixels.shape[-1]))

    def state(self) -> dict[str, Tensor]:
        return state_of(learned(self, "network_"), learned(self, "shape_"))

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        shape = shape_of(state, self.METHOD)
        self.network_, self.shape_ = filled(lambda: self._net(*shape), state, self.METHOD), shape
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        dense = self._dense(height, width, False)
        side = self._side(height, width, dense)
        weights, made, operations = traced(lambda: self._traced(3, side, dense), 3, side, side)
        n, plan = min(n, self.max_pictures), Plan(self.epochs)
        fit = fit_bytes(plan, n, 3 * side * side, 3 * height * width, weights, made + self._more(side))
        return Cost(fit, weights, 3.0 * operations * min(plan.batch, n) * steps_of(n, plan))

    def _more(self, side: int) -> int:
        """Values that a step of training holds for a picture besides those of the layers."""
        return 0


def state_of(network: nn.Module, shape: tuple[int, int, bool]) -> dict[str, Tensor]:
    """shape: (channels, side, dense)."""
    return {"shape": torch.tensor([int(value) for value in shape]), **weights_of(network)}
