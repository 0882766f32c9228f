"""What the data doctor says of the sample sets and of the real sets in ADLIB_TEST_DATA, and where planted defects surface.

    python benchmarks/doctor.py            writes the table between the `doctor` marks of benchmarks/results.md

For each set: every finding as it comes, with the number of pictures; then three defects are put among the normals, ten
times with another three, and the rank of each by `suspects.unlike` is noted.  Nothing is tuned here.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from tables import circumstances, table, write

from adlib import datasets, diagnoses, doctor, intake, samples, store, suspects, traits

TRIES, PLANTED = 10, 3


def sets() -> Iterator[store.Dataset]:
    for key in samples.SAMPLES:
        yield samples.ensure(key)
    root = Path(os.environ["ADLIB_TEST_DATA"]) / "datasets"
    for folder in sorted(path for path in root.iterdir() if (path / "train").is_dir()):
        made = store.Dataset.create(folder.name, "benchmark")
        intake.take(made, intake.from_folder(folder), in_place=True)
        yield made


def ranks(dataset: store.Dataset) -> tuple[list[int], int]:
    """Ranks of planted defects, 1 = the strangest, and how many pictures there were in all."""
    found, _ = datasets.samples(dataset)
    known, _ = traits.gather(dataset, found, ())
    at = {digest: i for i, digest in enumerate(known.digests)}
    normals = [at[s.digest] for s in found if s.split == "train"]
    defects = [at[s.digest] for s in found if s.label == 1]
    rng, told = np.random.default_rng(0), []
    for _ in range(TRIES):
        rows = [*normals, *rng.choice(defects, PLANTED, replace=False)]
        scores, _ = suspects.unlike(known.cells[rows])
        order = np.argsort(-scores).tolist()
        told += [order.index(len(normals) + k) + 1 for k in range(PLANTED)]
    return sorted(told), len(normals) + PLANTED


def _count(finding: doctor.Finding) -> str:
    if finding.suspects or not doctor.is_open(finding):
        return str(len(finding.suspects) or finding.what.values["n"])
    return "(whole set)"


def main() -> None:
    lines, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ADLIB_WORKSPACE"] = folder
        for dataset in sets():
            start = time.process_time()
            report = doctor.check(dataset)
            seconds = time.process_time() - start
            said = ", ".join(f"{f.kind} {_count(f)}" for f in report.findings) or "nothing"
            told, n = ranks(dataset)
            middle, top = told[len(told) // 2], sum(rank <= diagnoses.SHOWN_UNUSUAL for rank in told) / len(told)
            row = [dataset.title, report.pictures, said, f"{1000 * seconds / report.pictures:.0f}"]
            lines.append([*row, f"{middle} of {n}", f"{top:.0%}"])
            print(lines[-1], flush=True)
    head = ["set", "pictures", "findings", "ms a picture", "median rank of planted defects", "among the 12 shown"]
    about = f"Processor time of the first look. {circumstances(time.perf_counter() - began)}"
    write("doctor", [*table(head, lines), "", about])


if __name__ == "__main__":
    main()
