"""The experiments of the articles: some classes of a labelled set are normal, others are to be found out.

    one_vs_one   learn from one class, tell it from one other: the threshold with the best F1, precision and recall
    one_class    each class in turn is the normal one, all others are anomalies: ten areas under the ROC curve

Pictures are read straight from the file into memory and do not pass through a data set of the store: 70 000 digits would
take minutes to write, and nothing of them is kept.  A method without a network sees them at their own size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adlib import arrays, intake, metrics, registry
from adlib.batches import part
from adlib.contract import AdlibError, Backbone, Batch, DataError, Detector, Tick, silent
from adlib.frames import to_pixels
from adlib.images import Picture, read

BATCH = 128
DATASETS = ("mnist", "cifar10")


@dataclass(frozen=True)
class Classes:
    """A labelled set.  pixels: (N, H, W, 3) uint8, labels: N names of classes, by split."""

    pixels: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    @property
    def names(self) -> list[str]:
        return sorted(set(self.labels["train"].tolist()))

    def of(self, split: str, *names: str, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Pictures and labels of some classes, at most `limit` of each, in the order of the file."""
        labels = self.labels[split]
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == name)[:limit] for name in names]))
        return self.pixels[split][chosen], labels[chosen]


def load(dataset: str, path: Path) -> Classes:
    """dataset: one of DATASETS.  path: what `arrays` reads, or a folder or zip of train/<class>/ and test/<class>/.

    Raises DataError when it holds anything else, or pictures of several sizes.
    """
    if dataset not in DATASETS:
        raise AdlibError("There is no experiment on '{name}'. Known: {known}.", name=dataset, known=", ".join(DATASETS))
    if not path.exists():
        raise DataError("'{path}' does not exist. Give a folder, a zip or a .npz file.", path=str(path))
    pixels: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    labels: dict[str, list[str]] = {"train": [], "test": []}
    for split, kind, picture in _stacks(path) if arrays.is_known(path) else _pictures(path):
        pixels[split].append(picture)
        labels[split] += [kind] * len(picture) if isinstance(kind, str) else kind
    if not all(labels.values()) or len({one.shape[1:] for stack in pixels.values() for one in stack}) != 1:
        raise DataError(
            "'{path}' holds no train/<class>/ and test/<class>/ of pictures of one size. Take {dataset} as it is published.",
            path=path.name, dataset=dataset,
        )  # fmt: skip
    joined = {split: np.concatenate(stack) for split, stack in pixels.items()}
    return Classes(joined, {split: np.array(names) for split, names in labels.items()})


def _stacks(path: Path) -> Iterator[tuple[str, list[str], np.ndarray]]:
    for stack in arrays.stacks(path):
        grey = stack.pixels.ndim == 3
        pixels = np.repeat(stack.pixels[..., None], 3, axis=3) if grey else stack.pixels
        yield stack.split, [stack.kind(label) for label in stack.labels], pixels


def _pictures(path: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    for item in intake.from_folder(path, links=True) if path.is_dir() else intake.from_file(path):
        split, kind = ([*item.name.split("/")[-3:], "", ""])[:2] if isinstance(item, intake.Item) else ("", "")
        if isinstance(item, intake.Item) and split in ("train", "test"):
            yield split, kind, np.asarray(read(item.data).image.convert("RGB"))[None]


# --- pictures on their way to a detector ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """Pictures in memory as `Images`.  size: side in pixels that they are resized to, 0 = as they are."""

    pixels: np.ndarray
    kind: str = "good"
    side: int = 0

    @property
    def size(self) -> int:
        return self.side or int(self.pixels.shape[1])

    def __len__(self) -> int:
        return len(self.pixels)

    def __iter__(self) -> Iterator[Batch]:
        import torch
        from PIL import Image

        for start in range(0, len(self), BATCH):
            some = self.pixels[start : start + BATCH]
            if self.side:
                height, width = some.shape[1:3]
                made = [
                    to_pixels(Picture(Image.fromarray(one), width, height, (), None, "PNG"), self.side)[0]
                    for one in some
                ]
                batch = np.stack(made)
            else:
                batch = np.ascontiguousarray(some.transpose(0, 3, 1, 2), dtype=np.float32) / 255
            yield Batch(torch.from_numpy(batch), (self.kind,) * len(batch))


@dataclass(frozen=True)
class Setup:
    """A method as it is asked for.  backbone: None for methods that use none."""

    method: str
    settings: dict[str, Any]
    backbone: Backbone | None = None
    seed: int = 0

    def fit(self, normals: np.ndarray, tick: Tick) -> Detector:
        return registry.build(self.method, self.settings, self.backbone, self.seed).fit(self._stack(normals), tick)

    def scores(self, detector: Detector, pixels: np.ndarray, tick: Tick) -> np.ndarray:
        found: list[np.ndarray] = []
        for batch in self._stack(pixels):
            found.append(detector.score(batch.pixels).scores)
            done = min(len(pixels), BATCH * len(found))
            tick(done / len(pixels), "scored {done} of {total} pictures", done=done, total=len(pixels))
        return np.concatenate(found)

    def _stack(self, pixels: np.ndarray) -> Stack:
        uses = registry.uses_backbone(self.method)
        return Stack(pixels, side=(self.backbone or Backbone()).size if uses else 0)


# --- the experiments --------------------------------------------------------------------------------------------------


def one_vs_one(
    classes: Classes, normal: str, anomaly: str, setup: Setup, tick: Tick = silent, limit: int | None = None
) -> dict[str, Any]:
    """Fits on the train pictures of `normal`; tells its test pictures from those of `anomaly`.

    limit: at most so many pictures of each class and split, None = all.
    Returns plain values.  F1, precision and recall are counted twice, with *normal as positive* as the articles do, and
    with the anomaly as positive; and at two thresholds: the oracle's, with the best F1 on the very pictures it is
    reported on, and one chosen on a seeded half of the tests and reported on the other half.  Nothing of the tests is
    seen by the fit.
    """
    _known(classes, normal, anomaly)
    if normal == anomaly:
        raise AdlibError("The normal class and the anomaly are both '{name}'. Choose two.", name=normal)
    normals, _ = classes.of("train", normal, limit=limit)
    tests, names = classes.of("test", normal, anomaly, limit=limit)
    labels = (names == anomaly).astype(int)
    started = time.perf_counter()
    detector = setup.fit(normals, part(tick, 0.0, 0.8))
    fit_seconds = time.perf_counter() - started
    scores = setup.scores(detector, tests, part(tick, 0.8, 1.0))
    found: dict[str, Any] = {"experiment": "one-vs-one", **_asked(setup), "normal": normal, "anomaly": anomaly}
    found |= {"n_fit": len(normals), "n_test_normal": int((labels == 0).sum()), "n_test_anomaly": int(labels.sum())}
    found |= {"fit_seconds": fit_seconds, "seconds": time.perf_counter() - started}
    return found | verdicts(labels, scores, setup.seed)


def verdicts(labels: np.ndarray, scores: np.ndarray, seed: int) -> dict[str, Any]:
    """AUROC, both thresholds with their figures, and a histogram.  labels: (N,) 0 normal, 1 anomaly.  scores: (N,)."""
    half = np.random.default_rng(seed).permutation(len(labels)) < len(labels) // 2
    found: dict[str, Any] = {"auroc": metrics.auroc(labels, scores)}
    for name, chosen, told in (("oracle", slice(None), slice(None)), ("held_out", half, ~half)):
        threshold = best_normal_f1(labels[chosen], scores[chosen])
        found[f"threshold_{name}"] = threshold
        found |= {f"{key}_{name}": value for key, value in counted(labels[told], scores[told], threshold).items()}
    edges = np.histogram_bin_edges(scores, 24)
    bins = [np.histogram(scores[labels == label], edges)[0].tolist() for label in (0, 1)]
    return found | {"histogram": {"edges": edges.tolist(), "normal": bins[0], "anomaly": bins[1]}}


def best_normal_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold, between two scores, with the best F1 of the normals; alarm when score > threshold.

    Raises DataError when a class is absent.
    """
    order = np.argsort(scores, kind="stable")
    ranked, normal = scores[order].astype(np.float64), labels[order] == 0
    if normal.all() or not normal.any():
        raise DataError("The experiment needs test pictures of both classes.")
    hits, taken = np.cumsum(normal), np.arange(1, len(normal) + 1)
    f1 = 2 * hits / (taken + normal.sum())  # 2 TP / (predicted + actual)
    last = np.append(ranked[1:] > ranked[:-1], True)  # equal scores fall on the same side
    at = int(np.argmax(np.where(last, f1, -1.0)))
    return float(ranked[at] if at + 1 == len(ranked) else (ranked[at] + ranked[at + 1]) / 2)


def counted(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """F1, precision and recall, with the normal class as positive and with the anomaly as positive."""
    alarm = scores > threshold
    found: dict[str, float] = {}
    for name, truth, said in (("normal_positive", labels == 0, ~alarm), ("anomaly_positive", labels == 1, alarm)):
        hits = int((truth & said).sum())
        found[f"f1_{name}"] = 2 * hits / max(1, int(truth.sum()) + int(said.sum()))
        found[f"precision_{name}"] = hits / max(1, int(said.sum()))
        found[f"recall_{name}"] = hits / max(1, int(truth.sum()))
    return found


def one_class(
    classes: Classes,
    setup: Setup,
    only: Sequence[str] = (),
    tick: Tick = silent,
    limit: int | None = None,
    tested: int | None = None,
) -> dict[str, Any]:
    """Each class in turn is normal: fits on its train pictures, and tells its test pictures from those of all others.

    only: classes to take as the normal one, () = all.  limit: at most so many train pictures of each.
    tested: at most so many test pictures of each, the first of the file, for a method that takes long to score.
    Returns plain values: AUROC by class, and their mean over the classes that were tried.
    """
    tried = list(only) or classes.names
    _known(classes, *tried)
    tests, names = classes.of("test", *classes.names, limit=tested)
    started = time.perf_counter()
    areas: dict[str, float] = {}
    for i, normal in enumerate(tried):
        now = part(tick, i / len(tried), (i + 1) / len(tried))
        detector = setup.fit(classes.of("train", normal, limit=limit)[0], part(now, 0.0, 0.8))
        scores = setup.scores(detector, tests, part(now, 0.8, 1.0))
        area = metrics.auroc((names != normal).astype(int), scores)
        assert area is not None
        areas[normal] = area
        now(1.0, "class {name}: AUROC {area:.4f}", name=normal, area=area)
    found: dict[str, Any] = {"experiment": "one-class", **_asked(setup), "classes": tried, "n_test": len(tests)}
    found |= {f"auroc_{name}": area for name, area in areas.items()}
    return found | {"auroc_mean": float(np.mean(list(areas.values()))), "seconds": time.perf_counter() - started}


def _known(classes: Classes, *names: str) -> None:
    for name in names:
        if name not in classes.names:
            raise AdlibError("There is no class '{name}'. Known: {known}.", name=name, known=", ".join(classes.names))


def _asked(setup: Setup) -> dict[str, Any]:
    backbone = setup.backbone.name if setup.backbone and registry.uses_backbone(setup.method) else None
    settings = registry.checked(setup.method, setup.settings)
    return {"method": setup.method, "settings": settings, "backbone": backbone, "seed": setup.seed}


# --- in words ---------------------------------------------------------------------------------------------------------


def told(found: dict[str, Any]) -> list[str]:
    """Lines for the terminal: the figures, what they rest on, and the histogram of one-vs-one."""
    if found["experiment"] == "one-class":
        rows = [f"{name:<12}{found[f'auroc_{name}']:.4f}" for name in found["classes"]]
        return [f"{'normal':<12}AUROC", *rows, f"{'mean':<12}{found['auroc_mean']:.4f}", f"in {found['seconds']:.0f} s"]
    lines = [
        f"learned from {found['n_fit']} pictures of '{found['normal']}' in {found['fit_seconds']:.0f} s",
        f"tested on {found['n_test_normal']} of '{found['normal']}' and {found['n_test_anomaly']} of '{found['anomaly']}'",
        "",
        *_bars(found["histogram"], found["normal"], found["anomaly"]),
        "",
        f"AUROC {found['auroc']:.4f}",
        f"{'threshold':<34}{'positive':<10}{'F1':>8}{'precision':>11}{'recall':>8}",
    ]
    for rule, words in (
        ("oracle", "oracle: best F1 on these pictures"),
        ("held_out", "from one half, told on the other"),
    ):
        for side, name in (("normal_positive", "normal"), ("anomaly_positive", "anomaly")):
            figures = [found[f"{key}_{side}_{rule}"] for key in ("f1", "precision", "recall")]
            lines.append(f"{words:<34}{name:<10}{figures[0]:>8.4f}{figures[1]:>11.4f}{figures[2]:>8.4f}")
        lines.append(f"{'':<34}score > {found[f'threshold_{rule}']:.6g} is an anomaly")
    return lines


def _bars(histogram: dict[str, list[float]], normal: str, anomaly: str) -> list[str]:
    """One line a bin, twenty characters for the fullest."""
    most = max(*histogram["normal"], *histogram["anomaly"], 1)
    lines = [f"{'score':>12}  {normal:<22}{anomaly}"]
    for low, calm, strange in zip(histogram["edges"], histogram["normal"], histogram["anomaly"], strict=False):
        bars = ["#" * (-(-20 * int(count) // int(most))) for count in (calm, strange)]
        lines.append(f"{low:>12.4g}  {bars[0]:<22}{bars[1]}".rstrip())
    return lines
