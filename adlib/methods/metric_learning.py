"""Deep metric learning: a network learns to tell the kinds of normals apart; what lies far from all of them is strange."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from adlib.contract import (
    AdlibError,
    Backbone,
    Cost,
    DataError,
    Explanation,
    Images,
    Nearest,
    Prediction,
    Sentence,
    Tick,
    say,
    setting,
    silent,
)
from adlib.features import anatomy_of, bare_trunk, resolve, trunk
from adlib.methods import _origin
from adlib.methods._drawing import pictures_setting
from adlib.methods._margins import LOSSES, SOFT, Head, Kind
from adlib.methods._metric import (
    DISTANCES,
    VIEWS,
    Embedder,
    Heard,
    Jitter,
    distances,
    least_mean,
    numbered,
    one_cycle,
    view,
    voters,
)
from adlib.methods._networks import device, in_rows, resized, seeded, taken_over, traced, weights_of
from adlib.methods._reading import count, part
from adlib.methods._state import forget, learned, take
from adlib.methods._training import Judge, Plan, Step, drawn, fit_bytes, gather, steps_of, train

METHOD = "Metric learning"
HEADS = 10.0  # times the trunk's learning rate: its weights are new, the trunk's are not
DECAY = 0.01


@dataclass
class MetricLearning:
    """Distance to the nearest normals, in an embedding that was trained to tell their classes apart.

    A backbone is trained further with one of six losses (`_margins`): first the new layers alone, then all of it in one
    cycle.  The weights with the smallest loss on a tenth of the normals, from which nothing is learned, are kept.
    Normals of one class only are made into eight, by turns and other colours.
    Source: the deep metric learning studies with ArcFace (Deng et al. 2019, arXiv:1801.07698) and its kin, in the
    protocol of CIFAR-10 and MNIST with held-out classes; for one class Golan & El-Yaniv 2018, arXiv:1805.10917.
    """

    METHOD: ClassVar[str] = METHOD

    backbone: Backbone = Backbone()
    loss: str = setting(
        "arcface", choices=LOSSES, label="Loss",
        help="How the kinds of normals are driven apart; arcface and cosface keep a margin between them, softmax is plain "
        "classification.",
    )  # fmt: skip
    distance: str = setting(
        "cosine", choices=DISTANCES, label="Distance",
        help="Between embeddings: cosine compares directions. Euclidean fits softmax, l2 and center; for the angular losses "
        "a length means nothing.",
    )  # fmt: skip
    k: int = setting(
        1,
        low=1,
        high=1000,
        label="Neighbours",
        help="The k smallest distances to normals are averaged; 1 is the minimum.",
    )
    share: float = setting(
        0.0, low=0.0, high=1.0, label="Neighbours, as a share",
        help="Where it is above 0, this share of all normals that were learned from is averaged in place of k.",
    )  # fmt: skip
    size: int = setting(
        64, low=16, high=512, label="Side of the picture",
        help="Pictures are brought to this many pixels a side; larger sees finer defects and takes longer.",
    )  # fmt: skip
    levels: str = setting(
        "deepest", choices=("deepest", "all"), label="Levels",
        help="The deepest level that is read from the network knows objects; all levels together also know textures.",
    )  # fmt: skip
    embedding: int = setting(
        128, low=2, high=1024, label="Width of the embedding", help="Numbers that stand for a picture."
    )
    scale: float = setting(
        0.0, low=0.0, high=128.0, label="Scale",
        help="Factor of the logits in arcface and cosface, usually 30; length of the embedding in l2, usually 16. 0 takes "
        "the usual one.",
    )  # fmt: skip
    margin: float = setting(
        0.0, low=0.0, high=4.0, label="Margin",
        help="Usually 0.5 in arcface, 0.4 in cosface, 4 in sphereface. 0 takes the usual one.",
    )  # fmt: skip
    warm_up: int = setting(
        1,
        low=0,
        high=100,
        label="Warm-up",
        help="Epochs in which only the new layers learn, before the network itself does.",
    )
    epochs: int = setting(
        6, low=1, high=500, label="Epochs",
        help="Passes over the normals after the warm-up, of 20 to 100 steps each, at most.",
    )  # fmt: skip
    patience: int = setting(
        0, low=0, high=500, label="Patience",
        help="Training stops after so many epochs without a better loss on held-out normals; 0 never stops early.",
    )  # fmt: skip
    rate: float = setting(
        0.0003,
        low=0.000001,
        high=0.1,
        label="Learning rate",
        help="Highest step length for the network; the new layers take ten times as much.",
    )
    augment: float = setting(
        1.0, low=0.0, high=3.0, label="Augmentation",
        help="How much each picture is turned, moved, enlarged and lit otherwise while learning; 0 not at all.",
    )  # fmt: skip
    mirror: bool = setting(
        False, label="Mirrored too",
        help="Also learns from mirrored pictures; not for digits, lettering, or parts whose sides differ.",
    )  # fmt: skip
    mixup: float = setting(
        0.0, low=0.0, high=2.0, label="Mixup",
        help="Blends pictures of two classes, more evenly the larger it is; with softmax and l2 only, for few normals.",
    )  # fmt: skip
    max_pictures: int = pictures_setting()
    seed: int = 0

    # --- the network ---

    def _backbone(self) -> Backbone:
        whole = resolve(self.backbone, "all")
        stages = whole.stages if self.levels == "all" else whole.stages[-1:]
        return dataclasses.replace(whole, stages=stages, size=self.size, precision="fp32")

    def _embedder(self, network: nn.Module, backbone: Backbone) -> Embedder:
        channels = anatomy_of(backbone).channels
        return Embedder(network, sum(channels[stage] for stage in backbone.stages), self.embedding, self._kind().alpha)

    def _kind(self) -> Kind:
        return Kind(self.loss, self.scale, self.margin)

    def _plan(self) -> Plan:
        return Plan(self.warm_up + self.epochs, patience=self.patience, seed=self.seed)

    # --- the fit ---

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        forget(self)
        n = count(normals, 2, METHOD)
        if self.mixup and self.loss not in SOFT:
            raise AdlibError(
                "Mixup blends two classes, which '{loss}' cannot take. Set mixup to 0, or choose one of: {known}.",
                loss=self.loss, known=", ".join(SOFT),
            )  # fmt: skip
        backbone = self._backbone()
        network = trunk(backbone)
        heard = Heard(normals)
        pictures = gather(heard, lambda *_: self.size, self.max_pictures, self.seed, part(tick, 0.0, 0.1))
        read = drawn(n, self.max_pictures, self.seed)
        classes, names = numbered([kind for kind, kept in zip(heard.kinds, read.tolist(), strict=True) if kept])
        alone = len(names) == 1
        if alone:
            tick(
                0.1, "normals of one kind only: learning to tell {n} turned and recoloured views of them apart", n=VIEWS
            )
        else:
            tick(0.1, "learning to tell {n} kinds of normals apart", n=len(names))

        def made() -> nn.Module:
            head = Head(self._kind(), VIEWS if alone else len(names), self.embedding)
            return nn.ModuleDict({"embedder": self._embedder(network, backbone), "head": head})

        both = seeded(self.seed, made).to(device())
        embedder: Embedder = both["embedder"]  # type: ignore[index]
        rows = torch.cat([in_rows(_colour(some), lambda x: (embedder.pooled(x),))[0] for some in pictures.split(64)])
        embedder.standardise(rows.to(device()))
        step, judged = self._lessons(both, steps_of(len(pictures), self._plan()), alone)
        train(both, pictures, self._plan(), step, judged, tick=part(tick, 0.1, 0.95), classes=classes)

        bank = []
        for some in pictures.split(64):
            bank.append(in_rows(_colour(some), lambda x: (embedder(x),))[0])
            tick(0.95, "keeping {n} normals to compare with", n=len(pictures))
        origin = torch.stack([read.nonzero()[:, 0], torch.zeros(len(pictures), dtype=torch.long)], dim=1).int()
        state = {"bank": torch.cat(bank), **_origin.Origin(origin, (1, 1)).state(), **weights_of(embedder)}
        return self.restore(state | {"alone": torch.tensor([int(alone)])})

    def _lessons(self, both: nn.Module, steps: int, alone: bool) -> tuple[Step, Judge]:
        """One step of training, and the loss of each held-out normal."""
        embedder: Embedder = both["embedder"]  # type: ignore[index]
        head: Head = both["head"]  # type: ignore[index]
        old = list(embedder.trunk.parameters())
        new = [*embedder.reduce.parameters(), *head.parameters()]
        groups = [{"params": new, "times": HEADS}, {"params": old, "times": 1.0}]
        optimiser = torch.optim.AdamW(groups, lr=self.rate, weight_decay=DECAY, fused=True)
        jitter = Jitter(self.augment, self.mirror, torch.Generator().manual_seed(self.seed + 2))
        warm = steps * self.warm_up // (self.warm_up + self.epochs)
        taken = 0

        def blended(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed + 3 + taken)
                much = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
            other = torch.randperm(len(x), generator=jitter.chance).to(x.device)
            return much * x + (1 - much) * x[other], y[other], much

        def step(x: Tensor, y: Tensor) -> dict[str, Tensor]:
            nonlocal taken
            if alone:
                y = torch.randint(VIEWS, (len(x),), generator=jitter.chance).to(x.device)
                x = torch.cat([view(_colour(one[None]), int(which)) for one, which in zip(x, y, strict=True)])
            x = jitter(_colour(x))
            trunk_learns = taken >= warm
            for parameter in old:
                parameter.requires_grad_(trunk_learns)
            cycle = one_cycle((taken - warm) / max(1, steps - warm)) if trunk_learns else 1.0
            for group in optimiser.param_groups:
                group["lr"] = self.rate * group["times"] * cycle
            done = min(1.0, taken / steps)
            if self.mixup:
                x, other, much = blended(x, y)
                rows = embedder(x)
                loss = (much * head(rows, y, done) + (1 - much) * head(rows, other, done)).mean()
            else:
                rows = embedder(x)
                loss = head(rows, y, done).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            head.follow(rows, y)
            taken += 1
            return {"fit": loss.detach()}

        def judged(x: Tensor, y: Tensor) -> Tensor:
            x = _colour(x)
            if not alone:
                return head(embedder(x), y)
            found = [head(embedder(view(x, which)), torch.full_like(y, which)) for which in range(VIEWS)]
            return torch.stack(found).mean(0)

        return step, judged

    # --- scoring ---

    def _rows(self, pixels: Tensor) -> Tensor:
        """(B, D) on the CPU."""
        embedder = learned(self, "network_")
        (rows,) = in_rows(pixels, lambda some: (embedder(resized(some, self.size)),))
        return rows

    def score(self, pixels: Tensor) -> Prediction:
        bank = learned(self, "bank_")
        rows = self._rows(pixels)
        k = voters(self.k, self.share, len(bank))
        scores = torch.stack([least_mean(distances(row, bank, self.distance), k) for row in rows])
        return Prediction(scores.float().numpy(), embeddings=rows.numpy())

    def explain(self, pixels: Tensor) -> list[Explanation]:
        """The nearest normal."""
        bank, origin = learned(self, "bank_"), learned(self, "origin_")
        found = [distances(row, bank, self.distance) for row in self._rows(pixels)]
        nearest: list[Nearest] = [origin.nearest(int(d.argmin()), float(d.min())) for d in found]
        return [Explanation(one) for one in nearest]

    def remarks(self) -> tuple[Sentence, ...]:
        """What a person should know of how it learned."""
        n = len(learned(self, "bank_"))
        k = voters(self.k, self.share, n)
        told = (say("A score is the mean of the {k} smallest distances to {n} normal pictures.", k=k, n=n),)
        if not self.alone_:
            return told
        return (
            say(
                "All normals are of one kind: it learned to tell {n} turned and recoloured views of them apart.",
                n=VIEWS,
            ),
            *told,
        )

    # --- into a file and back ---

    def state(self) -> dict[str, Tensor]:
        bank = learned(self, "bank_")
        kept = {"bank": bank, "alone": torch.tensor([int(self.alone_)])}
        return kept | self.origin_.state() | weights_of(self.network_)

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        forget(self)
        bank, alone = take(state, METHOD, bank=("N", self.embedding), alone=(1,))
        origin = _origin.taken(state, METHOD, len(bank))
        if origin is None:
            raise DataError("This is not a state of {method}: it holds no '{name}'.", method=METHOD, name="origin")
        backbone = self._backbone()
        network = taken_over(self._embedder(trunk(backbone), backbone), state, METHOD)
        self.network_, self.bank_, self.origin_, self.alone_ = network, bank.float().cpu(), origin, bool(alone)
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        backbone = self._backbone()
        shape = (3, self.size, self.size)
        weights, made, operations = traced(lambda: self._embedder(bare_trunk(backbone), backbone), *shape)
        n, plan = min(n, self.max_pictures), self._plan()
        kept = n * (4 * self.embedding + _origin.BYTES)
        fit = fit_bytes(plan, n, 3 * self.size**2, 3 * height * width, weights, made)
        return Cost(fit + kept, weights + kept, 3.0 * operations * min(plan.batch, n) * steps_of(n, plan))


def _colour(x: Tensor) -> Tensor:
    """(B, 1 or 3, s, s) of any float → (B, 3, s, s) float32."""
    return x.float().expand(-1, 3, -1, -1)
