"""All that a report tells, read from a run's folder and its data set, without a network and without torch.

What is missing (no tests, no maps, no embeddings, pictures on another machine) is None or empty here and said in words
by `report_sections`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from adlib import datasets, decisions, doubts, metrics, projections, regions, registry, store
from adlib.contract import AdlibError, Calibration, Confusion, DataError, NotFitted, Report, Sentence
from adlib.results import calibration_of, ratio_of
from adlib.wording import Words, clean, middle_cut

TSNE_MOST = 600  # points; t-SNE of as many takes about 3 s on one core, and PCA no time
PLANE_MOST = 1500  # beyond, points hide each other
LONGEST = 80  # letters of a name or kind that are shown


@dataclass(frozen=True)
class Facts:
    """A finished run.  rows: lines of scores.json, () when it was not evaluated.  report: None then.

    replaced: another line than the learned one is in use.
    paths: digest → file, of the data set's pictures that are on this machine.
    """

    run: store.Run
    words: Words
    card: Mapping[str, Any]
    calibration: Calibration
    replaced: bool
    report: Report | None
    values: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    paths: Mapping[str, Path]

    @property
    def line(self) -> float:
        return self.calibration.threshold.value

    @property
    def oracle(self) -> bool:
        """Whether the line in use was chosen on the very pictures that it is judged on."""
        line = self.calibration.threshold
        return line.oracle or "oracle" in line.rule.template.lower()  # runs of earlier versions say it in words alone

    @property
    def by_hand(self) -> bool:
        """Whether a person set the line in use.  A line without a rule's name stands in for the learned one only then."""
        rule = self.calibration.threshold.key
        return rule == "hand" or (self.replaced and not rule)

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) 0 normal, 1 defect."""
        return np.array([row["label"] for row in self.rows], dtype=int)

    @cached_property
    def scores(self) -> np.ndarray:
        """(N,) in the method's unit."""
        return np.array([row["score"] for row in self.rows], dtype=float)

    @cached_property
    def doubts(self) -> tuple[Sentence, ...]:
        """What speaks against the evaluation itself, the gravest first."""
        return doubts.grave(self.run)

    @property
    def region(self) -> regions.Region:
        """The part of each picture that was judged; () = all of it."""
        return regions.from_json(self.card.get("region"))

    @property
    def normalised(self) -> np.ndarray:
        return self.scores / self.calibration.unit

    @property
    def alarms(self) -> np.ndarray:
        """(N,) bool."""
        return self.scores > self.line

    @property
    def table(self) -> Confusion:
        return metrics.confusion(self.labels, self.scores, self.line)

    @property
    def method(self) -> str:
        return registry.card(self.card["method"]).title

    @property
    def backbone(self) -> str:
        return clean((self.card.get("backbone") or {}).get("name", ""))

    @property
    def dataset(self) -> str:
        return self.words.dataset(str(self.card["dataset"]), str(self.card.get("dataset_title", "")))

    @property
    def title(self) -> str:
        """The name that a person gave the run, else the data set's."""
        given = (self.run.read("title.json") or {}).get("title")
        return middle_cut(clean(given) if given else self.dataset or self.run.id, 120)

    def ratio(self, index: int) -> float:
        return ratio_of(self.rows[index]["score"], self.calibration)

    def path(self, row: Mapping[str, Any]) -> Path | None:
        """The picture's file, where it was evaluated or in the data set; None when it is not on this machine."""
        known = Path(row.get("path") or "")
        return known if known.is_file() else self.paths.get(row["digest"])

    def kind(self, kind: str) -> str:
        """A kind as a person reads it; "good" is every layout's own word for the normal ones."""
        if kind == "good":
            return self.words.t("report.good_kind")
        return middle_cut(self.words.kind(kind).strip(), LONGEST) or "–"

    def kinds(self) -> dict[str, list[int]]:
        """Kind → places in `rows`; normal kinds first, then the defects, each as they came."""
        found: dict[tuple[int, str], list[int]] = {}
        for place, row in enumerate(self.rows):
            found.setdefault((row["label"], row["kind"]), []).append(place)
        taken: dict[str, list[int]] = {}
        for (label, kind), places in sorted(found.items(), key=lambda item: item[0][0]):  # stable
            name = self.kind(kind)
            while name in taken:  # a kind of defect that is called as a class of normals, or two that read the same
                name += " (2)" if label else "′"
            taken[name] = places
        return taken

    # --- how sure -----------------------------------------------------------------------------------------------------

    def rate(self, name: str) -> tuple[int, int, float, float] | None:
        """(k, n, low, high) of "fpr" or "tpr" at the line in use, with its 95 % interval; None without such pictures."""
        table = self.table
        k, n = {
            "fpr": (table.false_positive, table.false_positive + table.true_negative),
            "tpr": (table.true_positive, table.true_positive + table.false_negative),
        }[name]
        return (k, n, *metrics.rate_interval(k, n)) if n else None

    def oracle_table(self) -> Confusion | None:
        """The counts at the best F1 that any line reaches on these very pictures; None without both classes."""
        found = metrics.best_f1(self.labels, self.scores) if len(self.rows) else None
        return None if found is None else metrics.confusion(self.labels, self.scores, found[1])

    # --- which pictures to show ---------------------------------------------------------------------------------------

    def mistakes(self) -> list[int]:
        """Places of wrong verdicts, the farthest on the wrong side first."""
        wrong = np.flatnonzero(self.alarms != (self.labels == 1))
        return [int(i) for i in wrong[np.argsort(-np.abs(self.scores[wrong] - self.line), kind="stable")]]

    def catches(self) -> list[int]:
        """Places of defects that were caught, the clearest first, every kind having its turn."""
        caught = np.flatnonzero(self.alarms & (self.labels == 1))
        order = [int(i) for i in caught[np.argsort(-self.scores[caught], kind="stable")]]
        turns: dict[str, int] = {}
        turn = {}
        for i in order:
            kind = self.rows[i]["kind"]
            turn[i] = turns[kind] = turns.get(kind, -1) + 1
        return sorted(order, key=turn.__getitem__)  # stable

    def closest(self) -> list[int]:
        """Places of right verdicts, those nearest to the line first."""
        right = np.flatnonzero(self.alarms == (self.labels == 1))
        return [int(i) for i in right[np.argsort(np.abs(self.scores[right] - self.line), kind="stable")]]

    # --- files of the run ---------------------------------------------------------------------------------------------

    def array(self, name: str) -> np.ndarray | None:
        """maps, embeddings or normals of the run, mapped from disk; None without them."""
        path = self.run.folder / f"{name}.npy"
        return store.read_array(path) if path.exists() else None

    def nearest(self, index: int) -> Mapping[str, Any] | None:
        """The normal whose embedding lies nearest to the test's: digest, name, kind.  None without embeddings."""
        tests, normals = self.array("embeddings"), self.array("normals")
        known = self.run.read("explored.json")
        if tests is None or normals is None or not known:
            return None
        apart = np.linalg.norm(np.asarray(normals) - np.asarray(tests[index]), axis=1)
        own = self.rows[index]["digest"]  # a copy of the test among the normals tells nothing
        return next((known[int(i)] for i in np.argsort(apart, kind="stable") if known[int(i)]["digest"] != own), None)

    def plane(self) -> tuple[np.ndarray, int, list[int], bool] | None:
        """(M + T, 2) places of M normals of the fit, then of T tests; M; which tests; whether by t-SNE or else PCA.

        None without embeddings of tests.
        """
        tests, normals = self.array("embeddings"), self.array("normals")
        if tests is None or len(tests) != len(self.rows) or len(tests) < 2:
            return None
        held = np.empty((0, tests.shape[1]), np.float32) if normals is None else np.asarray(normals)
        room = max(2, PLANE_MOST - len(held))
        chosen = np.unique(np.linspace(0, len(tests) - 1, min(len(tests), room)).round().astype(int)).tolist()
        points = np.concatenate([held, np.asarray(tests)[chosen]])
        if few := len(points) <= TSNE_MOST:
            return projections.tsne(points), len(held), chosen, few
        return projections.pca(points), len(held), chosen, few

    def state_hash(self) -> str:
        path = self.run.folder / "state.safetensors"
        if not path.exists():
            return ""
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def facts_of(run: store.Run, language: str) -> Facts:
    """Raises NotFitted when the run has not finished, DataError when its files are damaged."""
    if not run.finished:
        raise NotFitted("Run '{run}' has not finished. Wait for it on the Fit page, or choose another.", run=run.id)
    values, rows = run.read("report.json"), run.read("scores.json")
    tested = bool(values and rows)
    try:
        report = report_of(values) if tested else None
    except (KeyError, TypeError, IndexError, AttributeError):
        raise DataError(
            "'{file}' of run '{run}' is damaged. Fit the run again.", file="report.json", run=run.id
        ) from None
    return Facts(
        run, Words(language), run.card, calibration_of(run), decisions.is_by_hand(run), report,
        values if tested else {}, tuple(rows) if tested else (), _paths(run),
    )  # fmt: skip


def report_of(values: Mapping[str, Any]) -> Report:
    """report.json as a Report.  A field that an older version did not write is None."""
    known: dict[str, Any] = {field.name: values.get(field.name) for field in dataclasses.fields(Report)}
    table = known["confusion"]
    known["confusion"] = Confusion(**table) if table else None
    known["intervals"] = {name: (float(low), float(high)) for name, (low, high) in (known["intervals"] or {}).items()}
    known["skipped"] = tuple(Sentence.from_json(pair) for pair in known["skipped"] or ())
    return Report(**known)


def _paths(run: store.Run) -> dict[str, Path]:
    with suppress(AdlibError, KeyError):
        id = str(run.card["dataset"])
        if store.Dataset.exists(id):
            found, _ = datasets.samples(store.Dataset.open(id))
            return {sample.digest: sample.path for sample in found if sample.path.is_file()}
    return {}
