"""The built-in sample sets: four kinds of parts drawn by formula, and scikit-learn's digits.  Nothing is downloaded.

A set is made on first use in a few seconds, the same to the byte every time, and then is a data set like any other.
How a part looks is left to its own module (`_sample_fabric`, …), files and roles to `intake`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adlib import _sample_blister, _sample_fabric, _sample_label, _sample_ring, intake, store
from adlib._sample_draw import Flaw, Rng, changed, developed, exposed, png
from adlib.contract import AdlibError, DataError, Sentence, Tick, say, silent
from adlib.intake import Item


@dataclass(frozen=True)
class SampleSet:
    """A set as the pages offer it.  defects: its kinds of defect, as in the folders' names; () where it is a choice."""

    key: str
    title: Sentence
    about: Sentence
    defects: tuple[str, ...]


SAMPLES: dict[str, SampleSet] = {
    each.key: each
    for each in (
        SampleSet(
            "fabric",
            say("Woven fabric"),
            say("A texture without a fixed place for anything: broken threads, stains and holes."),
            _sample_fabric.KINDS,
        ),
        SampleSet(
            "ring",
            say("Machined ring"),
            say("A shiny part that lies in any rotation: scratches, dents and chipped edges."),
            _sample_ring.KINDS,
        ),
        SampleSet(
            "blister",
            say("Blister pack"),
            say("Counting and order matter: a pill is missing, extra, of the wrong colour or out of its pocket."),
            _sample_blister.KINDS,
        ),
        SampleSet(
            "label",
            say("Printed label"),
            say("Print that must be complete and in place: smears, shifted colours and missing letters."),
            _sample_label.KINDS,
        ),
        SampleSet(
            "digits",
            say("Handwritten digits"),
            say("Choose which digits are normal and which are not; from scikit-learn, small and quick."),
            (),
        ),
    )
}

NORMALS, TEST_NORMALS, DEFECTS = 80, 24, 48  # parts of a drawn set; the defective ones are shared out among its kinds
_SCENES: dict[str, Callable[[Rng, Flaw | None], np.ndarray]] = {
    "fabric": _sample_fabric.scene,
    "ring": _sample_ring.scene,
    "blister": _sample_blister.scene,
    "label": _sample_label.scene,
}


def items(key: str, **choices: Any) -> Iterator[Item]:
    """The pictures and masks of a set, as PNG in MVTec AD's layout, in a fixed order.

    key: one of SAMPLES.  choices: only for "digits", see `digits`.
    Raises AdlibError when there is no such set or choice.
    """
    if key not in SAMPLES:
        raise AdlibError("There is no sample set called '{key}'. Known: {known}.", key=key, known=", ".join(SAMPLES))
    if key == "digits":
        return digits(**choices)
    if choices:
        raise AdlibError("The sample set '{key}' has no choices; only 'digits' has.", key=key)
    return _drawn(key)


def ensure(key: str, tick: Tick = silent, **choices: Any) -> store.Dataset:
    """The set as a data set of the workspace under a fixed id, made when it is not there yet.

    It is built aside and moved into place when it is whole, so nobody sees half of it; of two who make the same set
    at once, in this process the second waits, and between processes the one who comes last takes the other's.
    Raises as `items` does, and Stopped by tick.
    """
    made = items(key, **choices)  # draws nothing yet; an unknown set or choice is refused before anything is written
    id, title = _named(key, **choices)
    if not store.Dataset.exists(id):
        lock = _locks.setdefault(id, threading.Lock())
        while not lock.acquire(timeout=0.5):
            tick(0.0, "waiting for the same set, which someone else is making")
        try:
            if not store.Dataset.exists(id):
                _build(id, title, key, made, tick)
        finally:
            lock.release()
    return store.Dataset.open(id)


# --- drawn sets -------------------------------------------------------------------------------------------------------


def _drawn(key: str) -> Iterator[Item]:
    """All pictures of a drawn set; several are drawn at once, since numpy lets other threads run."""
    from threadpoolctl import threadpool_limits

    kinds = SAMPLES[key].defects
    parts = [("train/good", "", i) for i in range(NORMALS)]
    parts += [("test/good", "", i) for i in range(TEST_NORMALS)]
    parts += [(f"test/{kind}", kind, i) for kind in kinds for i in range(DEFECTS // len(kinds))]
    waiting: deque[Future[list[Item]]] = deque()
    workers = min(4, os.cpu_count() or 1)
    # numpy's own threads on top of these would wait for each other: 29 s of processor time for a set in place of 6.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers, thread_name_prefix="samples") as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(_draw, key, *part))
                if len(waiting) > 8:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _draw(key: str, folder: str, kind: str, i: int) -> list[Item]:
    """The i-th picture of a folder, and its mask when something is wrong with the part.

    The sound part is drawn either way: the mask is where the two exposures differ.
    """
    name = int.from_bytes(f"{key}/{folder}".encode())  # so that no picture depends on which others there are

    def rng(what: int) -> Rng:
        return np.random.default_rng([name, i, what])

    scene, number = _SCENES[key], i
    light = sound = exposed(scene(rng(0), None), rng(1))
    if kind:
        count = DEFECTS // len(SAMPLES[key].defects)
        strengths = [k * 5 % count / max(1, count - 1) for k in range(count)]  # each once, mixed
        strength = strengths[i]
        number = (i - strengths.index(max(strengths))) % count  # whoever looks at the first ones sees plain ones
        light = exposed(scene(rng(0), Flaw(kind, strength, rng(3))), rng(1))
    made = [Item(f"{folder}/{number:03d}.png", png(developed(light, rng(2))))]
    if kind:
        made.append(
            Item(f"ground_truth/{kind}/{number:03d}_mask.png", png(changed(light, sound).astype(np.uint8) * 255))
        )
    return made


# --- digits -----------------------------------------------------------------------------------------------------------


def digits(normal: Collection[int] = (1,), anomaly: Collection[int] | None = (9,)) -> Iterator[Item]:
    """scikit-learn's handwritten digits, 8x8, enlarged smoothly to 64x64; no masks.

    normal: digits to learn from; every fourth of their pictures is kept for the test.
    anomaly: digits that are the defects of the test, None = all others.
    Raises DataError when a digit is on both sides or on none.
    Source: sklearn.datasets.load_digits (UCI, Alpaydin and Kaynak 1998), which comes with the package.
    """
    good, bad = _sides(normal, anomaly)
    return _digits(good, bad)


def _sides(normal: Collection[int], anomaly: Collection[int] | None) -> tuple[list[int], list[int]]:
    good = sorted(set(normal))
    bad = sorted(set(range(10)) - set(good) if anomaly is None else set(anomaly))
    if not good or not bad or set(good) & set(bad) or not set(good + bad) <= set(range(10)):
        raise DataError("Choose at least one digit of 0 to 9 as normal, and at least one other as anomalous.")
    return good, bad


def _digits(good: list[int], bad: list[int]) -> Iterator[Item]:
    from PIL import Image
    from sklearn.datasets import load_digits

    pictures, classes = load_digits(return_X_y=True)
    once = np.sort(np.unique(pictures, axis=0, return_index=True)[1])  # a picture that is there twice is taken once
    for digit in good + bad:
        for i, place in enumerate(once[classes[once] == digit]):
            small = (pictures[place].reshape(8, 8) * (255 / 16)).round().astype(np.uint8)
            large = np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))
            learn = digit in good and i % 4 != 3
            folder = "train/good" if learn else "test/good" if digit in good else f"test/{digit}"
            yield Item(f"{folder}/{digit}_{i:03d}.png", png(large))


# --- making a data set of it ------------------------------------------------------------------------------------------

_locks: dict[str, threading.Lock] = {}


def _named(key: str, **choices: Any) -> tuple[str, str]:
    """Id and title: ("sample-ring", "Machined ring"), ("sample-digits-1-vs-9", "Handwritten digits: 1 vs 9")."""
    title = SAMPLES[key].title
    if key != "digits":
        return f"sample-{key}", str(title)
    good, bad = _sides(choices.get("normal", (1,)), choices.get("anomaly", (9,)))
    normal, anomaly = "".join(map(str, good)), "".join(map(str, bad))
    return f"sample-digits-{normal}-vs-{anomaly}", f"{title}: {normal} vs {anomaly}"


def _build(id: str, title: str, key: str, made: Iterator[Item], tick: Tick) -> None:
    """Makes the data set in a folder that cannot be an id, so is never listed, and moves it into place."""
    target = store.workspace() / "datasets" / id
    aside = target.with_name(f".making-{secrets.token_hex(6)}")
    _sweep(aside.parent)
    try:
        meta = store.Dataset.create(title, f"sample:{key}", id).meta
        total = NORMALS + TEST_NORMALS + 2 * DEFECTS if key in _SCENES else 0  # digits are there at once
        intake.take(store.Dataset(aside, meta), made, tick, total=total)
        with suppress(OSError):  # another process was first, and its set is the same to the byte
            os.replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what a killed process left behind an hour ago or earlier."""
    for left in folder.glob(".making-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                shutil.rmtree(left, ignore_errors=True)
