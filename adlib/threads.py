"""Small operations on one thread, large ones cut into slices: threads that wait for each other cost more than they give."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import ThreadpoolController


@functools.cache
def _pools() -> ThreadpoolController:
    """numpy's thread pools, looked for once: that takes a millisecond."""
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[int]:
    """Inside, torch and numpy each compute on one thread; yields how many there were before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _pools().limit(limits=1, user_api="blas"):
            yield before
    finally:
        torch.set_num_threads(before)


def in_slices(n: int, step: int, work: Callable[[slice], None]) -> Iterator[int]:
    """Does `work` for 0…n in slices of `step`, several at once; each yields its end, in order.

    As many workers as torch has threads, each on one thread, so that none waits for another before the end.  The result
    does not depend on how many there are.  When the caller stops iterating, slices that have not begun are dropped.
    """
    inference = torch.is_inference_mode_enabled()  # a mode belongs to one thread; the workers take over the caller's

    def worked(part: slice) -> None:
        with torch.inference_mode(inference):
            work(part)

    slices = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    with one_thread() as workers:
        if workers == 1 or len(slices) == 1:
            for part in slices:
                worked(part)
                yield part.stop
            return
        with ThreadPoolExecutor(workers) as pool:
            for part, _ in zip(slices, pool.map(worked, slices), strict=True):
                yield part.stop
