"""What the commands of the terminal share: progress, answers, and where pictures and runs lie."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adlib import intake, store
from adlib.contract import DataError


def tick(fraction: float, message: str, /, **numbers: Any) -> None:
    """Progress on the error stream, on one line, and only for a person who is looking."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{fraction:4.0%} {message.format(**numbers)}" + ("\n" if fraction >= 1 else ""))
        sys.stderr.flush()


def tell(text: str) -> None:
    """On the error stream: for the person, not for the pipe."""
    print(text, file=sys.stderr)


def dump(value: Any) -> None:
    """JSON on the output stream."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def run_folder(name: str) -> Path:
    """Where a new run goes: a plain name lies in the workspace, anything with a separator is a path."""
    is_path = Path(name).is_absolute() or os.sep in name or "/" in name or name.startswith(".")
    folder = Path(name).expanduser().resolve() if is_path else store.workspace() / "runs" / store.checked_id(name)
    if folder.exists() and not (folder / "request.json").exists() and any(folder.iterdir()):
        raise DataError(
            "'{folder}' holds other files. Choose a new or an empty folder for the run.", folder=str(folder)
        )
    return folder


def items(path: Path, prefix: str = "") -> Iterator[intake.Item | intake.Refused]:
    """The pictures of a folder, a zip or a .npz, as `intake` sees them.  Raises DataError when there is no such thing."""
    if not path.exists():
        raise DataError("'{path}' does not exist. Give a folder, a zip or a .npz file.", path=str(path))
    for item in intake.from_folder(path, links=True) if path.is_dir() else intake.from_file(path):
        yield dataclasses.replace(item, name=prefix + item.name)


def gather(path: Path, items: Iterator[intake.Item | intake.Refused]) -> tuple[store.Dataset, intake.Taken]:
    """A data set of the pictures where they lie; the same path is the same data set, listed anew."""
    id = "cli-" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:20]
    dataset = store.Dataset.create(path.resolve().name, f"folder {path.resolve()}", id)
    taken = intake.take(dataset, items, tick, in_place=path.is_dir())
    return dataset, taken


def print_refused(refused: Sequence[Any]) -> None:
    """Names what was refused, and why, on the error stream."""
    if refused:
        tell(f"{len(refused)} refused:")
        for one in refused:
            tell(f"  {one.name}: {one.reason}")


def refused_json(refused: Sequence[Any]) -> list[dict[str, str]]:
    """The same for machines."""
    return [{"name": one.name, "reason": str(one.reason)} for one in refused]
