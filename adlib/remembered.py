"""A network that remembers what it saw, for studies that fit the same pictures again and again.

Inside `with remembered.maps(most_bytes):` every extractor answers a picture it has seen before from memory.  Pictures are
known by their pixels, so nobody else has to know.  Beyond `most_bytes` it computes anew, as always.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Look = TypeVar("Look")
_active: ContextVar[Memory | None] = ContextVar("remembered", default=None)


class Memory:
    """What was seen.  seconds, pictures: that computing took, and how many were computed."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self.kept: dict[tuple[int, bytes], list[Tensor]] = {}
        self.seconds, self.pictures = 0.0, 0

    @property
    def seconds_each(self) -> float:
        return self.seconds / self.pictures if self.pictures else 0.0


@contextmanager
def maps(most_bytes: int) -> Iterator[Memory]:
    """most_bytes: of feature maps kept at most.  Forgets all at the end."""
    token = _active.set(memory := Memory(most_bytes))
    try:
        yield memory
    finally:
        _active.reset(token)


def by_whoever_asked(look: Look) -> Look:
    """`look` itself, or one that remembers while a study is at work in this thread."""
    memory = _active.get()
    return look if memory is None else cast(Look, _Remembering(look, memory))


class _Remembering:
    def __init__(self, look: Any, memory: Memory) -> None:
        self._look, self._memory = look, memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self._look, name)

    def through(self, pixels: Tensor, then: Callable[[list[Tensor]], Tensor]) -> Tensor:
        return then(self(pixels))

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        memory = self._memory
        keys = [
            (id(self._look), hashlib.blake2b(one.cpu().contiguous().numpy(), digest_size=16).digest()) for one in pixels
        ]
        new = [i for i, key in enumerate(keys) if key not in memory.kept]
        fresh: dict[tuple[int, bytes], list[Tensor]] = {}
        if new:
            began = time.perf_counter()
            found = self._look(pixels[new])
            memory.seconds += time.perf_counter() - began
            memory.pictures += len(new)
            for place, i in enumerate(new):
                one = [level[place].clone() for level in found]
                fresh[keys[i]] = one
                size = sum(level.nbytes for level in one)
                if memory.bytes + size <= memory.most_bytes:
                    memory.kept[keys[i]] = one
                    memory.bytes += size
        rows = [fresh[key] if key in fresh else memory.kept[key] for key in keys]
        levels = []
        for same in zip(*rows, strict=True):  # copies: a method may compute with its maps in place
            level = torch.empty((len(same), *same[0].shape), device=same[0].device, memory_format=torch.channels_last)
            for target, one in zip(level, same, strict=True):
                target.copy_(one)
            levels.append(level)
        return levels
