"""Deep kNN: how far is the picture from the normals it resembles most?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from adlib.contract import Backbone, Cost, Explanation, Images, Prediction, Tick, setting, silent
from adlib.features import activation_bytes, extractor, macs, resolve, shapes
from adlib.methods import _origin
from adlib.methods._memory import Reservoir
from adlib.methods._neighbours import Bank
from adlib.methods._pooling import pooled
from adlib.methods._reading import AT_ONCE, count, maps_of
from adlib.methods._state import forget, learned, recall, take

METHOD = "Deep kNN"


@dataclass
class KNN:
    """Mean distance to the k nearest normal pictures.  Source: Bergman et al. 2020, arXiv:2002.10445, section 3.

    A picture is the mean over all positions of the network's deepest level, or of every level that is read, side by
    side.  With fewer normals than k, all of them vote.
    """

    backbone: Backbone = Backbone()
    k: int = setting(5, low=1, high=50, label="Neighbours", help="How many nearest normal pictures are averaged.")
    levels: str = setting(
        "deepest", choices=("deepest", "all"), label="Levels",
        help="The deepest level that is read from the network knows objects; all levels together also know textures.",
    )  # fmt: skip
    normalise: bool = setting(
        True, label="Unit length",
        help="Scales each level's vector to length 1, so that only its direction counts and no level outweighs another.",
    )  # fmt: skip
    max_pictures: int = setting(
        10_000, low=10, high=1_000_000, label="Pictures kept", help="At most so many normals are kept, drawn at random."
    )
    seed: int = 0

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        forget(self)
        n = count(normals, 1, METHOD)
        look = extractor(resolve(self.backbone, "all"))
        sample = Reservoir(self.max_pictures, n, torch.Generator().manual_seed(self.seed))
        for maps in maps_of(normals, look, tick):
            for row in self._embed(maps):  # (D,)
                sample.add(row[None])
        return self.restore({"bank": sample.rows(), **_origin.Origin(sample.origins(), (1, 1)).state()})

    def _embed(self, maps: list[Tensor]) -> Tensor:
        """(B, D)."""
        rows = pooled(maps if self.levels == "all" else maps[-1:])
        if self.normalise:
            rows = [torch.stack([F.normalize(row, dim=0) for row in level]) for level in rows]  # each by itself
        return torch.cat(rows, dim=1)

    def score(self, pixels: Tensor) -> Prediction:
        bank: Bank = learned(self, "search_")
        rows = self._embed(learned(self, "look_")(pixels))
        k = min(self.k, len(bank.rows))
        scores = [bank.search(row[None], k)[0].mean() for row in rows]  # one by one: the same products in any batch
        return Prediction(torch.stack(scores).cpu().numpy(), embeddings=rows.cpu().numpy())

    def explain(self, pixels: Tensor) -> list[Explanation]:
        """The nearest of the pictures that vote."""
        bank: Bank = learned(self, "search_")
        rows = self._embed(learned(self, "look_")(pixels))
        if self.origin_ is None:
            return [Explanation()] * len(rows)
        found = [bank.search(row[None], 1) for row in rows]
        return [Explanation(self.origin_.nearest(int(row), float(distance))) for distance, row in found]

    def state(self) -> dict[str, Tensor]:
        return recall(self, "bank") | (self.origin_.state() if self.origin_ else {})

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        look = extractor(resolve(self.backbone, "all"))
        channels = look.channels if self.levels == "all" else look.channels[-1:]
        (bank,) = take(state, METHOD, bank=("N", sum(channels)))
        self.origin_ = _origin.taken(state, METHOD, len(bank))
        self.look_, self.bank_ = look, bank.float().to(look.device)
        self.search_ = Bank(self.bank_)
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        backbone = resolve(self.backbone, "all")
        channels = [c for c, _, _ in shapes(backbone, height, width)]
        wide = sum(channels) if self.levels == "all" else channels[-1]
        kept = min(n, self.max_pictures) * (4 * wide + _origin.BYTES)
        reading = activation_bytes(backbone, height, width, min(n, AT_ONCE))
        return Cost(fit_bytes=reading + kept, state_bytes=kept, operations=float(n * macs(backbone, height, width)))
