"""PatchCore: how far is each patch from its nearest patch in a small memory of normal ones?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from adlib.contract import Backbone, Cost, Explanation, Images, Prediction, Tick, setting, silent
from adlib.features import activation_bytes, embed, extractor, macs, resolve, shapes
from adlib.maps import upsample_blur
from adlib.methods import _origin
from adlib.methods._memory import Reservoir, k_centre, project
from adlib.methods._neighbours import Bank
from adlib.methods._reading import AT_ONCE, count, maps_of, part
from adlib.methods._state import forget, learned, recall, take

METHOD = "PatchCore"


@dataclass
class PatchCore:
    """Nearest neighbours in a coreset of normal patches.  Source: Roth et al. 2022, arXiv:2106.08265, section 3.

    A patch is a position of the middle levels of the network: each level averaged over 3x3 neighbours at its own
    resolution, resized to the finest grid and concatenated.  Of all patches of the normals a bounded sample is held, and
    of that a greedy k-centre coreset is kept, chosen on a random projection.  Unlike the paper, whole pictures are used
    (no centre crop) and each level keeps all its channels (no adaptive pooling to 1024).
    """

    backbone: Backbone = Backbone()
    coreset: float = setting(
        0.10, low=0.001, high=1.0, label="Share kept",
        help="Share of the sampled patches that is kept. Less is smaller and faster, more sees finer differences.",
    )  # fmt: skip
    max_patches: int = setting(
        100_000, low=100, high=2_000_000, label="Patches sampled",
        help="At most so many patches of all normals are held during the fit; this bounds its memory.",
    )  # fmt: skip
    k: int = setting(1, low=1, high=50, label="Neighbours", help="How many nearest normal patches are averaged.")
    projection: int = setting(
        128, low=0, high=4096, label="Projection",
        help="Dimensions of the random projection on which the kept patches are chosen; 0 uses all channels.",
    )  # fmt: skip
    reweight: bool = setting(
        False, label="Reweight the score",
        help="Raises a picture's score where the nearest normal patch is itself rare, as in the paper's section 3.3.",
    )  # fmt: skip
    neighbourhood: int = setting(
        9, low=1, high=50, label="Neighbours for reweighting", help="How many neighbours tell how rare a patch is."
    )
    sigma: float = setting(4.0, low=0.0, high=32.0, label="Blur", help="Blur of the heatmap, in pixels.")
    seed: int = 0

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        forget(self)
        n = count(normals, 1, METHOD)
        look = extractor(resolve(self.backbone, "middle"))
        chance = torch.Generator().manual_seed(self.seed)
        sample = Reservoir(self.max_patches, n, chance)
        choosing = self.coreset < 1
        with torch.inference_mode():
            for maps in maps_of(normals, look, tick, share=0.7 if choosing else 1.0):
                for patches in _patches(maps):  # (P, D)
                    sample.add(patches)
            bank, origins = sample.rows(), sample.origins()  # (N, D), (N, 2)
            if choosing:
                chosen = self._choose(bank, chance, tick)
                bank, origins = bank[chosen], origins[chosen]  # (M, D), (M, 2)
        h, w = maps[0].shape[-2:]
        return self.restore({"bank": bank, **_origin.Origin(origins, (h, w)).state()})

    def _choose(self, rows: Tensor, chance: torch.Generator, tick: Tick) -> Tensor:
        """Indices of the coreset in `rows`, sorted."""
        start = int(torch.randint(len(rows), (1,), generator=chance))
        projected = project(rows, self.projection, chance).numpy()  # (N, d)
        picks = k_centre(projected, max(1, round(self.coreset * len(rows))), start, part(tick, 0.7, 1.0))
        return torch.from_numpy(picks).sort().values

    @torch.inference_mode()
    def score(self, pixels: Tensor) -> Prediction:
        bank: Bank = learned(self, "search_")
        maps = learned(self, "look_")(pixels)
        h, w = maps[0].shape[-2:]
        k = min(self.k, len(bank.rows))
        scores, grids, embeddings = [], [], []
        for patches in _patches(maps):  # one picture at a time: the same products as in any other batch
            distances, nearest = bank.search(patches, k)  # (P, k)
            grid = distances.mean(1)  # (P,)
            strangest = int(grid.argmax())
            weight = self._weight(bank, patches[strangest], int(nearest[strangest, 0])) if self.reweight else 1.0
            scores.append(weight * grid[strangest])  # s = w · s*
            grids.append(grid.view(h, w))
            embeddings.append(patches.mean(0))
        heat = upsample_blur(torch.stack(grids), (pixels.shape[-2], pixels.shape[-1]), self.sigma)
        return Prediction(*(x.cpu().numpy() for x in (torch.stack(scores), heat, torch.stack(embeddings))))

    def _weight(self, bank: Bank, patch: Tensor, nearest: int) -> Tensor | float:
        """1 - exp|m_test - m*| / sum over N_b(m*) of exp|m_test - m|: near 1 where m* has neighbours about as near.

        patch: m_test (D,).  nearest: row of m* in the bank.
        """
        b = min(self.neighbourhood, len(bank.rows))
        if b == 1:
            return 1.0  # the formula gives 0 for every picture: a neighbourhood of m* alone says nothing
        around = bank.search(bank.rows[nearest : nearest + 1], b)[1][0]  # (b,), N_b(m*)
        distances = (bank.rows[around] - patch).square().sum(1).sqrt()
        return weight(distances, (bank.rows[nearest] - patch).square().sum().sqrt())

    @torch.inference_mode()
    def explain(self, pixels: Tensor) -> list[Explanation]:
        """The patch that decides the score, beside the row of the memory that is nearest to it."""
        bank: Bank = learned(self, "search_")
        maps = learned(self, "look_")(pixels)
        h, w = maps[0].shape[-2:]
        if self.origin_ is None:
            return [Explanation()] * len(pixels)
        found = []
        for patches in _patches(maps):
            distances, nearest = bank.search(patches, min(self.k, len(bank.rows)))
            strangest = int(distances.mean(1).argmax())
            row, distance = int(nearest[strangest, 0]), float(distances[strangest, 0])
            found.append(Explanation(place=self.origin_.nearest(row, distance, strangest, (h, w))))
        return found

    def state(self) -> dict[str, Tensor]:
        return recall(self, "bank") | (self.origin_.state() if self.origin_ else {})

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        look = extractor(resolve(self.backbone, "middle"))
        (bank,) = take(state, METHOD, bank=("M", sum(look.channels)))
        self.origin_ = _origin.taken(state, METHOD, len(bank))
        self.look_, self.bank_ = look, bank.float().to(look.device)
        self.search_ = Bank(self.bank_)
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        backbone = resolve(self.backbone, "middle")
        maps = shapes(backbone, height, width)
        patches, channels = maps[0][1] * maps[0][2], sum(c for c, _, _ in maps)  # P, D
        held = min(self.max_patches, n * patches)  # N
        kept = max(1, round(self.coreset * held)) if self.coreset < 1 else held  # M
        d = min(self.projection or channels, channels)
        choosing = held * (d + (d if d < channels else 0)) if self.coreset < 1 else 0
        together = min(n, AT_ONCE)
        reading = activation_bytes(backbone, height, width, together) + 4 * 2 * together * patches * channels
        row = 4 * channels + _origin.BYTES
        return Cost(
            fit_bytes=row * held + max(reading, 4 * (choosing + kept * channels), 6 * kept * channels),
            state_bytes=row * kept,
            operations=n * macs(backbone, height, width) + (held * kept * d + held * channels * d if choosing else 0.0),
        )


def weight(distances: Tensor, nearest: Tensor) -> Tensor:
    """1 - softmax of m*'s distance among those to its neighbourhood; the largest is subtracted, so that exp stays finite.

    distances: (b,) from the test patch to N_b(m*).  nearest: () from the test patch to m*.
    """
    largest = distances.max()
    return 1 - (nearest - largest).exp() / (distances - largest).exp().sum()


def _patches(maps: list[Tensor]) -> Tensor:
    """(B, P, D), locally averaged and resized to the first stage's grid."""
    return embed(maps, pool=3, mode="bilinear").permute(0, 2, 3, 1).flatten(1, 2)
