"""What the classical detectors share: a picture as one vector of a network, and a state made of arrays alone.

scikit-learn fits; the score is computed here from the arrays that the fit has left, so that a run needs no pickle and
scores the same in every version of scikit-learn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adlib.contract import Backbone, Cost, Images, Prediction, Tick, setting, silent
from adlib.features import activation_bytes, extractor, macs, resolve, shapes
from adlib.methods._memory import Reservoir
from adlib.methods._pooling import pooled
from adlib.methods._reading import AT_ONCE, count, maps_of, part
from adlib.methods._state import forget, learned, recall, take

Arrays = dict[str, np.ndarray]


@dataclass
class Classical(ABC):
    """A detector on vectors: a subclass says what it learns from them and how strange a vector is.

    A picture is the mean over all positions of the network's deepest level, or of every level that is read.  The vectors
    are scaled by what the normals show, and may be reduced to the normals' directions of largest variance.
    """

    METHOD: ClassVar[str] = ""
    LEAST: ClassVar[int] = 2  # normals
    LEARNED: ClassVar[
        Mapping[str, Sequence[str | int]]
    ] = {}  # name → axes, as `_state.take` reads them; "K" is the vector

    backbone: Backbone = Backbone()
    levels: str = setting(
        "deepest", choices=("deepest", "all"), label="Levels",
        help="The deepest level that is read from the network knows objects; all levels together also know textures.",
    )  # fmt: skip
    scaling: str = setting(
        "standardise", choices=("standardise", "unit length"), label="Scaling",
        help="standardise gives every channel the same spread among the normals; unit length keeps only the direction of "
        "a vector.",
    )  # fmt: skip
    dimensions: int = setting(
        0, low=0, high=4096, label="Dimensions",
        help="Keeps so many directions of largest variance among the normals; 0 keeps all channels.",
    )  # fmt: skip
    max_pictures: int = setting(
        5_000, low=10, high=100_000, label="Pictures kept", help="At most so many normals are used, drawn at random."
    )
    seed: int = 0

    @abstractmethod
    def _learn(self, rows: np.ndarray, tick: Tick) -> Arrays:
        """rows: (N, K) float64 of the normals → what `LEARNED` names."""

    @abstractmethod
    def _strangeness(self, row: np.ndarray, learned: Arrays) -> float:
        """row: (K,) float64.  Larger is stranger."""

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        forget(self)
        n = count(normals, self.LEAST, self.METHOD)
        look = extractor(resolve(self.backbone, "all"))
        sample = Reservoir(self.max_pictures, n, torch.Generator().manual_seed(self.seed))
        for maps in maps_of(normals, look, tick, share=0.8):
            for row in self._embed(maps):  # (D,)
                sample.add(row[None])
        rows = sample.rows().double().numpy()  # (N, D)
        centre = rows.mean(axis=0)
        rows -= centre
        axes = self._axes(rows)  # (D, K)
        tick(0.8, "learning from {n} vectors", n=len(rows))
        state = {"centre": centre, "axes": axes, **self._learn(rows @ axes, part(tick, 0.8, 1.0))}
        return self.restore({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()})

    def _axes(self, rows: np.ndarray) -> np.ndarray:
        """rows: (N, D), centred → (D, K): scaling and reduction in one."""
        n, d = rows.shape
        scale = np.ones(d)
        if (
            self.scaling == "standardise"
        ):  # a channel that never moved counts as one that moves a hundredth of the usual
            deviations = rows.std(axis=0)
            scale = 1 / np.maximum(deviations, 0.01 * np.sqrt((deviations**2).mean()) or 1e-6)
        if not 0 < self.dimensions < d:
            return np.diag(scale)
        _, _, directions = np.linalg.svd(rows * scale, full_matrices=False)
        kept = directions[: min(self.dimensions, n - 1)]
        kept *= np.where(kept[np.arange(len(kept)), np.abs(kept).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
        return scale[:, None] * kept.T

    def _embed(self, maps: list[Tensor]) -> Tensor:
        """(B, D)."""
        rows = pooled(maps if self.levels == "all" else maps[-1:])
        if self.scaling == "unit length":
            rows = [torch.stack([F.normalize(row, dim=0) for row in level]) for level in rows]  # each by itself
        return torch.cat(rows, dim=1)

    def score(self, pixels: Tensor) -> Prediction:
        arrays: Arrays = learned(self, "arrays_")
        rows = self._embed(learned(self, "look_")(pixels)).cpu().numpy()
        scores = [  # one by one: the same products in any batch
            self._strangeness((row.astype(np.float64) - arrays["centre"]) @ arrays["axes"], arrays) for row in rows
        ]
        return Prediction(np.array(scores, np.float32), embeddings=rows)

    def state(self) -> dict[str, Tensor]:
        return recall(self, "centre", "axes", *self.LEARNED)

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        look = extractor(resolve(self.backbone, "all"))
        wide = sum(look.channels if self.levels == "all" else look.channels[-1:])
        names: dict[str, Sequence[str | int]] = {"centre": (wide,), "axes": (wide, "K"), **self.LEARNED}
        found = self._checked(dict(zip(names, take(state, self.METHOD, **names), strict=True)))
        for name, tensor in found.items():
            setattr(self, f"{name}_", tensor.cpu())
        self.arrays_ = {name: tensor.cpu().numpy() for name, tensor in found.items()}
        self.look_ = look
        return self

    def _checked(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state itself; a subclass raises DataError for one that would lead outside its own arrays."""
        return state

    def cost(self, n: int, height: int, width: int) -> Cost:
        backbone = resolve(self.backbone, "all")
        channels = [c for c, _, _ in shapes(backbone, height, width)]
        d = sum(channels) if self.levels == "all" else channels[-1]
        k = min(self.dimensions, n - 1) if 0 < self.dimensions < d else d
        held = min(n, self.max_pictures)
        state = 8 * (d * k + d) + self._state_bytes(held, k)
        reading = activation_bytes(backbone, height, width, min(n, AT_ONCE))
        return Cost(
            fit_bytes=4 * held * d + max(reading, 8 * held * (2 * d + k) + state),
            state_bytes=state,
            operations=n * macs(backbone, height, width) + float(held) * (d * k + held * k),
        )

    @abstractmethod
    def _state_bytes(self, held: int, k: int) -> int:
        """Bytes of what is learned from `held` vectors of length k, at most."""
