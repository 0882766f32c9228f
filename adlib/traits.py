"""A picture in a few thousand small numbers: what the data doctor compares, quick to make and kept by content hash.

About 6 ms a picture of 256 pixels on one core, numpy alone.  What the numbers say about a set is left to `suspects`.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adlib import regions, store
from adlib.contract import DataError, Sample, Tick, silent
from adlib.frames import least_for, to_pixels
from adlib.images import camera, read

FILE = "traits.npz"
SIDE = 256  # every picture is looked at in a square of so many pixels
CELLS = 16  # a side of the grid of cells
PRINT = 32  # a side of the fingerprint
_VERSION = 1
_SAVE_SECONDS = 2.0  # what is lost when a check is stopped
STATS = ("level", "low", "high", "dark", "bright", "colour", "fine0", "fine1", "fine2", "fine3")


@dataclass(frozen=True)
class Traits:
    """Of N pictures, in the order of `digests`.

    cells: (N, 16, 16, D) float16, brightness, colour and edges of each cell.  prints: (N, 32, 32) float16 grey in [0, 1].
    stats: (N, 10) float32, columns as in STATS: mean grey, its 2 % and 98 % points, share of black and of white pixels,
    mean difference of the colour channels, and the log energy of the finest detail at 256, 128, 64 and 32 pixels.
    cameras: (N,) text, as the file's EXIF data names it, "" when it does not.
    """

    digests: tuple[str, ...]
    cells: np.ndarray
    prints: np.ndarray
    stats: np.ndarray
    cameras: np.ndarray

    def column(self, name: str) -> np.ndarray:
        return self.stats[:, STATS.index(name)]

    def take(self, rows: Sequence[int] | np.ndarray) -> Traits:
        chosen = np.asarray(rows, int)
        return Traits(
            tuple(self.digests[i] for i in chosen), self.cells[chosen], self.prints[chosen], self.stats[chosen],
            self.cameras[chosen],
        )  # fmt: skip

    def of(self, digests: Sequence[str]) -> Traits:
        at = {digest: i for i, digest in enumerate(self.digests)}
        return self.take([at[digest] for digest in digests])


def of_pixels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """cells, print and stats of one picture.  pixels: (3, 256, 256) float32 RGB in [0, 1]."""
    levels = [pixels.mean(axis=0)]
    while len(levels) < 4:
        levels.append(_shrunk(levels[-1], 2))
    half = levels[1]
    red, blue = _shrunk(pixels[0] - pixels[1], 2), _shrunk(pixels[2] - pixels[1], 2)
    columns = [_pooled(values).mean(axis=(1, 3)) for values in (half, red, blue)]
    fine = []
    for grey in levels:
        edged = np.pad(grey, 1, mode="edge")
        across, down = (edged[1:-1, 2:] - edged[1:-1, :-2]) / 2, (edged[2:, 1:-1] - edged[:-2, 1:-1]) / 2
        curve = edged[1:-1, 2:] + edged[1:-1, :-2] + edged[2:, 1:-1] + edged[:-2, 1:-1] - 4 * grey
        fine.append(float(np.log(np.mean(curve**2) + 1e-8)))
        if len(fine) == 4:
            break
        columns += [_pooled(np.abs(values)).mean(axis=(1, 3)) for values in (across, down, curve)]
        pooled = _pooled(curve)
        columns += [_pooled(np.hypot(across, down)).max(axis=(1, 3)), pooled.max(axis=(1, 3)), pooled.min(axis=(1, 3))]
    pooled = _pooled(half)
    columns += [pooled.max(axis=(1, 3)), pooled.min(axis=(1, 3)), pooled.std(axis=(1, 3))]
    grey = levels[0]
    low, high = np.percentile(half, [2, 98])
    colour = float(np.abs(red).mean() + np.abs(blue).mean())
    stats = [grey.mean(), low, high, (grey <= 2 / 255).mean(), (grey >= 253 / 255).mean(), colour, *fine]
    return np.stack(columns, axis=-1), levels[3], np.array(stats, np.float32)


def _shrunk(values: np.ndarray, by: int) -> np.ndarray:
    height, width = values.shape
    return values.reshape(height // by, by, width // by, by).mean(axis=(1, 3))


def _pooled(values: np.ndarray) -> np.ndarray:
    """(CELLS, k, CELLS, k): the pixels by cell."""
    k = len(values) // CELLS
    return values.reshape(CELLS, k, CELLS, k)


# --- of a data set ----------------------------------------------------------------------------------------------------


def gather(
    dataset: store.Dataset, samples: Sequence[Sample], region: regions.Region, tick: Tick = silent
) -> tuple[Traits, list[Sample]]:
    """Traits of the samples, those known from an earlier look read from disk, and the samples that can no longer be read.

    Each content is looked at once.  What was done before `tick` raised is kept for the next time.
    """
    wanted = list({s.digest: s for s in samples}.values())
    name = json.dumps([_VERSION, region, dataset.meta["white"]])
    known = _load(dataset.folder / FILE, name)
    missing = [s for s in wanted if s.digest not in known]
    unread: list[Sample] = []
    saved = time.monotonic()
    try:
        with ThreadPoolExecutor(2, thread_name_prefix="traits") as pool:
            ahead = 8
            waiting = [pool.submit(_look, s, dataset.meta["white"], region) for s in missing[:ahead]]
            for i, sample in enumerate(missing):
                found = waiting.pop(0).result()
                if i + ahead < len(missing):
                    waiting.append(pool.submit(_look, missing[i + ahead], dataset.meta["white"], region))
                if found is None:
                    unread.append(sample)
                else:
                    known[sample.digest] = found
                try:
                    tick((i + 1) / len(missing), "looked at {n} of {total} pictures", n=i + 1, total=len(missing))
                except BaseException:
                    for future in waiting:
                        future.cancel()
                    raise
                if time.monotonic() - saved > 10 * _SAVE_SECONDS:
                    _save(dataset.folder / FILE, name, known)
                    saved = time.monotonic()
    finally:
        if missing:
            _save(dataset.folder / FILE, name, known)
    gone = {s.digest for s in unread}
    digests = [s.digest for s in wanted if s.digest not in gone]
    return _joined({digest: known[digest] for digest in digests}), unread


_Row = tuple[np.ndarray, np.ndarray, np.ndarray, str]


def _look(sample: Sample, white: int | None, region: regions.Region) -> _Row | None:
    try:
        data = sample.path.read_bytes()
        picture = read(data, white=white, least=least_for(SIDE // 2, region))
        pixels, _ = to_pixels(picture, SIDE, region=region)
    except (OSError, DataError):
        return None
    cells, print_, stats = of_pixels(pixels)
    return cells.astype(np.float16), print_.astype(np.float16), stats, camera(data)


def _joined(rows: dict[str, _Row]) -> Traits:
    cells, prints, stats, cameras = zip(*rows.values(), strict=True) if rows else ((), (), (), ())
    return Traits(
        tuple(rows),
        np.stack(cells) if rows else np.zeros((0, CELLS, CELLS, 24), np.float16),
        np.stack(prints) if rows else np.zeros((0, PRINT, PRINT), np.float16),
        np.stack(stats) if rows else np.zeros((0, len(STATS)), np.float32),
        np.array(cameras, dtype=str),
    )


def _save(path: Path, name: str, rows: dict[str, _Row]) -> None:
    joined, out = _joined(rows), io.BytesIO()
    np.savez(
        out, name=np.array(name), digests=np.array(joined.digests, dtype=str), cells=joined.cells, prints=joined.prints,
        stats=joined.stats, cameras=joined.cameras,
    )  # fmt: skip
    with suppress(OSError):  # a full disk costs the second look its speed, nothing else
        store.write_bytes(path, out.getvalue())


def _load(path: Path, name: str) -> dict[str, _Row]:
    with suppress(OSError, ValueError, KeyError, EOFError), np.load(path, allow_pickle=False) as file:
        if str(file["name"]) == name:
            columns = (file["cells"], file["prints"], file["stats"], file["cameras"].tolist())
            return dict(zip(file["digests"].tolist(), zip(*columns, strict=True), strict=True))
    return {}
