"""The loop in which a network learns from normals: seeded, watched, stopped early on normals that it does not learn from.

The normals are read once, at the network's own size, and kept in half precision: an epoch costs no decoding.  A method
brings one step (for an adversarial one, with as many optimisers as it likes) and, to stop early, a loss for each of the
held-out normals; without one it trains for all its epochs.
Each epoch is told by `tick` with two numbers of its own that the run keeps (`adlib.learning`):
    losses: {name: value}      pictures: (K, h, w, 3) uint8, now and then
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from adlib.contract import DataError, Images, Tick, silent
from adlib.methods._networks import resized
from adlib.methods._reading import AT_ONCE, part, pixels_of

LEAST_STEPS, MOST_STEPS = 20, 100  # of an epoch: few pictures are passed several times, many in more than one epoch
HELD_OUT = 0.1  # share of the normals that decide when to stop
SHOWN = 8  # pictures in a strip

# Where the pictures have classes, both are given those of the batch, (B,), as well.
Step = Callable[..., dict[str, Tensor]]  # one batch (B, C, s, s) → one update; its losses by name
Judge = Callable[..., Tensor]  # (B, C, s, s) → (B,): the loss of each held-out normal
Show = Callable[[Tensor], Tensor]  # (K, C, s, s) → (K, C, s, s) in [0, 1]: what the network makes of them


@dataclass(frozen=True)
class Plan:
    """epochs: at most.  patience: epochs without a better held-out loss before it stops, 0 = never."""

    epochs: int
    batch: int = 32
    patience: int = 0
    seed: int = 0


# --- the normals ------------------------------------------------------------------------------------------------------


def gather(normals: Images, side: Callable[[int, int, bool], int], most: int, seed: int, tick: Tick) -> Tensor:
    """At most `most` normals, drawn at random, as (N, C, s, s) float16 in [0, 1]; C is 1 when all of them are grey.

    side: (height, width, grey) of the first picture → s.
    """
    kept = drawn(len(normals), most, seed)
    held: Tensor | None = None
    seen = filled = s = 0
    for pixels in pixels_of(normals, tick):
        chosen = pixels[kept[seen : seen + len(pixels)]].cpu()
        seen += len(pixels)
        if not len(chosen):
            continue
        grey = bool((chosen[:, :1] == chosen).all())
        if held is None:
            s = side(pixels.shape[-2], pixels.shape[-1], grey)
            held = torch.empty(int(kept.sum()), 1 if grey else 3, s, s, dtype=torch.float16)
        elif held.shape[1] == 1 and not grey:
            held = held.expand(-1, 3, -1, -1).clone()
        held[filled : filled + len(chosen)] = resized(chosen[:, : held.shape[1]], s)
        filled += len(chosen)
    assert held is not None
    return held


def drawn(n: int, most: int, seed: int) -> Tensor:
    """(n,) bool: which of n normals `gather` draws."""
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:most]
    return torch.zeros(n, dtype=torch.bool).index_fill_(0, chosen, True)


def mean_of(pictures: Tensor) -> Tensor:
    """(N, C, s, s) → (C, s, s) float32, a few at a time."""
    return torch.stack([some.float().sum(0) for some in pictures.split(256)]).sum(0) / len(pictures)


def divided(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the normals to learn from, and of those that decide when to stop: at least one of each when n > 1."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + 1))
    held = max(1, round(HELD_OUT * n)) if n > 1 else 0
    return order[held:], order[:held] if held else order


def _epoch(rows: Tensor, batch: int, chance: torch.Generator) -> Iterator[Tensor]:
    """Indices of one epoch's batches: as many as one pass has, between LEAST_STEPS and MOST_STEPS."""
    batch = min(batch, len(rows))
    steps = min(max(len(rows) // batch, LEAST_STEPS), MOST_STEPS)
    left = rows[:0]
    for _ in range(steps):
        while len(left) < batch:
            left = torch.cat([left, rows[torch.randperm(len(rows), generator=chance)]])
        yield left[:batch]
        left = left[batch:]


def steps_of(n: int, plan: Plan) -> int:
    """Steps of a whole fit of n normals, when it is not stopped early."""
    learning = max(1, n - round(HELD_OUT * n))
    return plan.epochs * min(max(learning // min(plan.batch, learning), LEAST_STEPS), MOST_STEPS)


def fit_bytes(plan: Plan, n: int, values: int, pixels: int, weights: int, made: int) -> int:
    """Most memory of a fit.  values: of one picture at the network's size; pixels: at its own.

    weights: bytes of all networks that are trained.  made: values that their layers make for one picture.
    """
    learning = 5 * weights  # the weights, their gradient, two moments of Adam, the best so far
    batch = 4 * min(plan.batch, n) * (made + 4 * values)
    return 2 * n * values + 4 * pixels * min(n, AT_ONCE) + learning + batch


# --- the loop ---------------------------------------------------------------------------------------------------------


def descend(network: nn.Module, loss: Callable[[Tensor], Tensor], rate: float) -> Step:
    """A step of Adam on one loss.  loss: (B, C, s, s) → (), to be made smaller."""
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, fused=True)

    def step(batch: Tensor) -> dict[str, Tensor]:
        optimiser.zero_grad(set_to_none=True)
        value = loss(batch)
        value.backward()
        optimiser.step()
        return {"fit": value.detach()}

    return step


def train(
    network: nn.Module,
    pictures: Tensor,
    plan: Plan,
    step: Step,
    judge: Judge | None = None,
    show: Show | None = None,
    tick: Tick = silent,
    classes: Tensor | None = None,
) -> int:
    """Trains the network in place; afterwards it holds the weights of its best epoch, and is in eval mode.

    pictures: (N, C, s, s) as `gather` keeps them.  judge: None = no early stopping, and the last weights are kept.
    classes: (N,) of the pictures, handed to step and judge; None = they have none.
    Returns the number of epochs.  Raises DataError when a loss is no longer finite, Stopped by tick.
    """
    place = next(network.parameters()).device
    chance = torch.Generator().manual_seed(plan.seed)
    rows, held = divided(len(pictures), plan.seed)
    if judge is None:
        rows = torch.cat([rows, held]) if len(pictures) > 1 else rows

    def taken(at: Tensor) -> Tensor:
        return pictures[at].to(place, non_blocking=True).float()

    def given(at: Tensor) -> tuple[Tensor, ...]:
        return (taken(at),) if classes is None else (taken(at), classes[at].to(place))

    best, best_epoch, kept = math.inf, 0, None
    loss = math.nan
    for epoch in range(1, plan.epochs + 1):
        now = part(tick, (epoch - 1) / plan.epochs, epoch / plan.epochs)
        batches = list(_epoch(rows, plan.batch, chance))
        sums: dict[str, Tensor] = {}
        network.train()
        for i, at in enumerate(batches):
            for name, value in step(*given(at)).items():
                sums[name] = sums.get(name, 0.0) + value / len(batches)
            if math.isnan(loss):
                now((i + 1) / len(batches), "epoch {epoch} of {epochs}", epoch=epoch, epochs=plan.epochs)
            else:
                now(
                    (i + 1) / len(batches), "epoch {epoch} of {epochs}, loss {loss:.4g}",
                    epoch=epoch, epochs=plan.epochs, loss=loss,
                )  # fmt: skip
        losses = {name: float(value) for name, value in sums.items()}
        network.eval()
        with torch.inference_mode():
            if judge is not None:
                found = torch.cat([judge(*given(at)) for at in held.split(plan.batch)])
                losses["held_out"] = float(found.double().mean())
            strip = _strip(taken(held[:SHOWN]), show if epoch & (epoch - 1) == 0 else None)  # after 1, 2, 4, 8 …
        if not all(map(math.isfinite, losses.values())):
            raise DataError(
                "The training came apart in epoch {epoch}: its loss is no longer a number. Choose a smaller learning rate.",
                epoch=epoch,
            )  # fmt: skip
        loss = losses.get("held_out", next(iter(losses.values())))
        if judge is None or loss < best:
            best, best_epoch = loss, epoch
            if judge is not None:
                kept = {name: value.clone() for name, value in network.state_dict().items()}
        now(
            1.0, "epoch {epoch} of {epochs}, loss {loss:.4g}",
            epoch=epoch, epochs=plan.epochs, loss=loss, losses=losses, **strip,
        )  # fmt: skip
        if judge is not None and plan.patience and epoch - best_epoch >= plan.patience:
            break
    if kept is not None:
        network.load_state_dict(kept)
    network.eval().requires_grad_(False)
    return best_epoch


def _strip(pictures: Tensor, show: Show | None) -> dict[str, np.ndarray]:
    """Each picture above what the network makes of it: {"pictures": (K, 2 s, s, 3) uint8}, or nothing."""
    if show is None:
        return {}
    both = torch.cat([pictures, show(pictures).clamp(0, 1)], dim=2).expand(-1, 3, -1, -1)
    return {"pictures": (255 * both).round().byte().permute(0, 2, 3, 1).cpu().numpy()}
