"""An experiment as a folder of the workspace: what was asked, and one JSON file for each finished part of it.

`experiments/<id>/` holds experiment.json (the plan), about.json (the classes and the list of parts), parts/<name>.json and
the job's events.  A part is one fit with its judgement; finished parts are never done again, so that a stopped experiment
goes on where it was.  The same plan on the same data is the same experiment.  The work itself is done by `trial_work`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adlib import holdout, intake, registry, store
from adlib.contract import VERSION, AdlibError, Backbone, DataError, Sentence, say

KINDS = ("one-vs-one", "one-class", "class-holdout")
JOB = "experiment"  # the job's name is <id>.experiment
READING = 0.02  # share of the progress that reading the pictures is; each part has the same share of the rest


@dataclass(frozen=True)
class Method:
    """A method as it takes part.  settings: those that differ from the usual."""

    key: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """`knn`, or `knn:k=3` with settings of its own; one name for one way to take part."""
        return ":".join([self.key, *(f"{name}={value}" for name, value in sorted(self.settings.items()))])


@dataclass(frozen=True)
class Plan:
    """What is asked of an experiment.

    kind: one of KINDS.  source: "digits", "dataset:<id>", "opened:<path within ADLIB_DATA>", "upload:<file>" in the
    experiment's own folder, or "path:<path>", which only the command line writes.
    normal, anomaly: classes of one-vs-one.  only: normal classes of one-class, () = all.
    anomalous, cases, distances, neighbours: of class-holdout, see `holdout`.  samples: pictures of each class to learn
    from, the first is the main one and the others are the sweep; () = all.  tests: of each class, 0 = all.
    """

    kind: str
    source: str
    methods: tuple[Method, ...]
    title: str = ""
    backbone: Backbone = Backbone(size=64)
    seed: int = 0
    normal: str = "1"
    anomaly: str = "9"
    only: tuple[str, ...] = ()
    anomalous: int = 1
    cases: int = 10
    samples: tuple[int, ...] = ()
    tests: int = 0
    distances: tuple[str, ...] = holdout.DISTANCES
    neighbours: tuple[int, ...] = holdout.NEIGHBOURS

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise AdlibError("There is no experiment '{name}'. Known: {known}.", name=self.kind, known=", ".join(KINDS))
        if not self.methods:
            raise AdlibError("An experiment needs at least one method.")

    def as_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Plan:
        """Raises DataError when something is missing or strange."""
        try:
            made = {f.name: values[f.name] for f in dataclasses.fields(cls)}
            made = {name: tuple(value) if isinstance(value, list) else value for name, value in made.items()}
            made["methods"] = tuple(Method(**one) for one in made["methods"])
            backbone = made["backbone"]
            made["backbone"] = Backbone(**{**backbone, "stages": tuple(backbone["stages"])})
            return cls(**made)
        except (KeyError, TypeError):
            raise DataError("The plan of this experiment is damaged. Delete it and ask for it again.") from None


@dataclass(frozen=True)
class Trial:
    """An experiment's folder."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def run(self) -> store.Run:
        """The folder as the place of a job's events."""
        return store.Run(self.folder)

    @property
    def plan(self) -> Plan:
        return Plan.from_json(store.read_json(self.folder / "experiment.json"))

    @property
    def created(self) -> float:
        return float(store.read_json(self.folder / "experiment.json")["created"])

    @property
    def about(self) -> dict[str, Any] | None:
        """classes: their names.  pictures: {split: count}.  parts: the names of all parts.  None before the first start."""
        return self.run.read("about.json")

    def done(self) -> set[str]:
        """Names of the parts that are finished, or could not be done; their files are not opened."""
        return {path.stem for path in (self.folder / "parts").glob("*.json")}

    def finished(self) -> list[dict[str, Any]]:
        """All finished parts, in the plan's order."""
        names = (self.about or {}).get("parts", [])
        found = [self.run.read(f"parts/{name}.json") for name in names]
        return [one for one in found if one is not None and "failed" not in one]

    def failed(self) -> list[tuple[str, Sentence]]:
        """(method, why) of parts that could not be done."""
        names = (self.about or {}).get("parts", [])
        found = [self.run.read(f"parts/{name}.json") for name in names]
        return [
            (one["label"], Sentence.from_json(one["failed"])) for one in found if one is not None and "failed" in one
        ]

    def delete(self) -> None:
        store._remove(self.folder)


# --- folders ----------------------------------------------------------------------------------------------------------


def _root() -> Path:
    return store.workspace() / "experiments"


def find(id: str) -> Trial:
    """Raises DataError when there is none of that id."""
    folder = _root() / store.checked_id(id)
    if not (folder / "experiment.json").exists():
        raise DataError("Experiment '{id}' is not on this server. Choose another on the Compare page.", id=id)
    return Trial(folder)


def exists(id: str) -> bool:
    with suppress(DataError):
        return (_root() / store.checked_id(id) / "experiment.json").exists()
    return False


def every() -> list[Trial]:
    """Newest first."""
    found = [Trial(path.parent) for path in _root().glob("*/experiment.json")]
    return sorted(found, key=lambda one: one.folder.stat().st_mtime, reverse=True)


def take(plan: Plan, upload: bytes | None = None) -> Trial:
    """The experiment of this plan: the one that is there already, or a new folder.  Nothing is computed.

    upload: the file's bytes where plan.source is "upload:<name>".  Raises AdlibError for settings that cannot be.
    """
    plan = tidy(plan)
    key = _key(plan, upload)
    for known in every():
        with suppress(AdlibError):
            if store.read_json(known.folder / "experiment.json").get("key") == key:
                return known
    made = Trial(_root() / store.new_id())
    if upload is not None:
        store.write_bytes(made.folder / file_name(plan.source), upload)
    store.write_json(made.folder / "experiment.json", {**plan.as_json(), "key": key, "created": time.time()})
    return made


def tidy(plan: Plan) -> Plan:
    """The plan with each method once, and only those settings named that differ from the usual.  Raises AdlibError."""
    chosen = tuple(Method(one.key, _unusual(one)) for one in plan.methods)
    return dataclasses.replace(plan, methods=tuple({one.label: one for one in chosen}.values()))


def _unusual(method: Method) -> dict[str, Any]:
    if not method.settings:
        registry.card(method.key)  # without the method's own module: a page must not wait for it
        return {}
    checked = registry.checked(method.key, method.settings)
    return {one.name: checked[one.name] for one in registry.settings(method.key) if checked[one.name] != one.default}


def _key(plan: Plan, upload: bytes | None) -> str:
    """Plan, version, and what tells one state of the data from another without reading all of it."""
    stamp: Any = hashlib.sha256(upload).hexdigest() if upload is not None else _stamp(plan.source)
    asked = {**plan.as_json(), "title": "", "version": VERSION, "data": stamp}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _stamp(source: str) -> Any:
    kind, _, rest = source.partition(":")
    if kind == "dataset":
        return store.Dataset.open(rest).meta["pictures"]
    if kind not in ("path", "opened"):
        return None
    path = Path(rest) if kind == "path" else opened(rest)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [[file.relative_to(path.parent).as_posix(), *_changed(file)] for file in files]


def _changed(file: Path) -> tuple[int, int]:
    about = file.stat()
    return about.st_size, about.st_mtime_ns


def file_name(source: str) -> str:
    """What an uploaded file is called in the folder: only its ending is the person's."""
    return "upload" + (".npz" if source.lower().endswith(".npz") else ".zip")


def opened(path: str) -> Path:
    """A file or folder in the one that the operator has opened with ADLIB_DATA.  Raises DataError."""
    root = intake.allowed_folder(".")
    with suppress(OSError, ValueError, RuntimeError):
        asked = (root / path.strip()).resolve()
        if asked.is_relative_to(root) and asked.is_file():
            return asked
    return intake.allowed_folder(path)


def stopped(trial: Trial) -> Sentence:
    """What to say after Stop."""
    total = len((trial.about or {}).get("parts", []))
    return say("Stopped at your request. {done} of {total} parts are finished and kept; it can go on from there.",
               done=len(trial.finished()), total=total)  # fmt: skip
