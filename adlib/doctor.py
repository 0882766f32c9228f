"""The data doctor: what in a data set may spoil a fit or flatter an evaluation, each with pictures to look at.

    samples → traits (kept by content) → suspects → findings, kept beside the data set

It only points; nothing is left out before a person says so (`curation`).  All limits are relative to the set itself.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from adlib import curation, datasets, diagnoses, regions, store, traits
from adlib.contract import DataError, Sample, Sentence, Tick, say, silent
from adlib.diagnoses import Finding, Suspect, part
from adlib.frames import frame_of
from adlib.images import raw_mask

FILE = "doctor.json"
_VERSION = 2
_MOST = 5_000  # pictures compared with each other; more take gigabytes and minutes
_MASKS_READ = 200  # of all, evenly: enough to say how small defects are


@dataclass(frozen=True)
class Report:
    """pictures: looked at.  looked_at: their digests.  region: the part of them that counted.
    unusual: the normals least like the others, whether or not they are a finding.
    defects: sides, in original pixels, of squares as large as each masked defect, smallest first."""

    pictures: int
    looked_at: frozenset[str]
    region: regions.Region
    findings: tuple[Finding, ...]
    unusual: tuple[Suspect, ...]
    defects: tuple[float, ...]
    seconds: float


# --- verbs ------------------------------------------------------------------------------------------------------------


def check(dataset: store.Dataset, tick: Tick = silent) -> Report:
    """Looks at every picture that takes part; of more than 5,000, at a fixed choice of so many.

    About 10 ms a picture at first, a moment later on.

    Raises DataError without pictures, and what `tick` raises; what was looked at until then is kept.
    """
    started = time.perf_counter()
    samples, _ = datasets.samples(dataset)
    if not samples:
        raise DataError("There is no picture to check. Add some on the Data page.")
    region = curation.region(dataset)
    some = samples if len(samples) <= _MOST else sorted(samples, key=lambda s: datasets.share(s.digest))[:_MOST]
    order = sorted(some, key=lambda s: (s.split != "train", s.label != 0, s.name))  # a twin is shown by its elder
    found, unread = traits.gather(dataset, order, region, part(tick, 0.0, 0.6))
    gone = {s.digest for s in unread}
    order = [s for s in order if s.digest not in gone]
    seen = diagnoses.Seen(dataset, order, found)
    findings, unusual = diagnoses.of(seen, part(tick, 0.6, 0.95))
    exact = sum(_copies(dataset, samples).values())
    if exact:
        findings.append(
            Finding(
                "exact",
                say("Exact copies, left out already: {n}", n=exact),
                say("Each picture counts once, and a test is never one of the normals. Nothing needs to be done."),
            )
        )
    masked = [s for s in order if s.label == 1 and s.mask is not None]
    defects = sorted(_defect_side(s) for s in masked[:: 1 + len(masked) // _MASKS_READ])
    seconds = time.perf_counter() - started
    report = Report(
        len(order),
        frozenset(s.digest for s in samples),
        region,
        tuple(findings),
        unusual,
        tuple(d for d in defects if d),
        seconds,
    )
    store.write_json(dataset.folder / FILE, _as_json(report))
    tick(1.0, "looked at {n} of {total} pictures", n=len(order), total=len(order))
    return report


def last(dataset: store.Dataset) -> Report | None:
    """The newest report, whatever has changed since; None when there is none that can be read."""
    path = dataset.folder / FILE
    if path.exists():
        with suppress(DataError, KeyError, TypeError, ValueError, IndexError):
            return _from_json(store.read_json(path))
    return None


def outdated(report: Report, dataset: store.Dataset, samples: Sequence[Sample]) -> bool:
    """Whether a picture takes part that the report has not seen, or another region counts.

    Leaving pictures out does not make a report old: what it says of the others stands.
    """
    return report.region != curation.region(dataset) or not {s.digest for s in samples} <= report.looked_at


def standing(report: Report, taking_part: Iterable[str]) -> tuple[Finding, ...]:
    """The findings with those suspects that still take part; those that are settled are left out.

    taking_part: digests of the data set's samples.
    """
    here, found = set(taking_part), []
    for finding in report.findings:
        left = tuple(one for one in finding.suspects if one.digest in here)
        if finding.kind in ("leak", "near", "near_tests"):  # when its twin has gone, a picture is no copy any more
            left = tuple(one for one in left if one.beside in here)
        if left or not finding.suspects:
            values = {**finding.what.values} | ({"n": len(left)} if left else {})
            found.append(dataclasses.replace(finding, suspects=left, what=Sentence(finding.what.template, values)))
    return tuple(found)


def is_open(finding: Finding) -> bool:
    """Whether a person has something to decide."""
    return finding.kind != "exact"


# --- the smallest defect ----------------------------------------------------------------------------------------------

_SPOT = 1.47  # pixels of the network: a square of this side keeps half its contrast wherever it falls
_STEP, _LARGEST = 32, 2048


def smallest(width: int, height: int, size: int, letterbox: bool = False, region: regions.Region = ()) -> float:
    """Side in original pixels of the smallest square spot that keeps half its contrast when the picture is made smaller.

    The resize weighs by a triangle of one network pixel to either side (antialiased bilinear).  A spot between two
    network pixels is the worst case: a line of width u network pixels keeps 0.5 + a - a²/2 with a = (u - 1) / 2, a square
    that much twice; half is left at u = 1.47.  Lines need two thirds of it.
    """
    frame = frame_of(width, height, size, letterbox, region)
    left, top, right, bottom = frame.box
    x0, y0, x1, y1 = frame.crop
    factor = max((x1 - x0) / (right - left), (y1 - y0) / (bottom - top))
    return max(1.0, _SPOT * factor) if factor > 1 else 1.0


def smallest_of(dataset: store.Dataset, size: int, letterbox: bool = False) -> float:
    """The same for the data set's most reduced picture."""
    region = curation.region(dataset)
    sides = {(int(p["width"]), int(p["height"])) for p in dataset.meta["pictures"]}
    return max((smallest(width, height, size, letterbox, region) for width, height in sides), default=1.0)


def size_that_keeps(dataset: store.Dataset, spot: float, letterbox: bool = False) -> int | None:
    """The smallest usual size at which every picture keeps a spot of that side in original pixels."""
    region = curation.region(dataset)
    sides = {(int(p["width"]), int(p["height"])) for p in dataset.meta["pictures"]}
    sizes = [size_for(width, height, spot, letterbox, region) for width, height in sides]
    return None if None in sizes else max((size for size in sizes if size), default=None)


def size_for(width: int, height: int, spot: float, letterbox: bool = False, region: regions.Region = ()) -> int | None:
    """The smallest usual size that keeps a spot of that side in original pixels; None when none up to 2048 does."""
    sizes = range(64, _LARGEST + 1, _STEP)
    return next((size for size in sizes if smallest(width, height, size, letterbox, region) <= spot), None)


def _defect_side(sample: Sample) -> float:
    assert sample.mask is not None
    try:
        return math.sqrt(float(raw_mask(sample.mask).sum()))
    except DataError:
        return 0.0


# --- helpers ---------------------------------------------------------------------------------------------------------


def _copies(dataset: store.Dataset, samples: Sequence[Sample]) -> dict[str, int]:
    """How often a picture that takes part is there once more, byte by byte."""
    judged = {s.digest for s in samples}
    counts = Counter(p["digest"] for p in dataset.meta["pictures"])
    return {digest: count - 1 for digest, count in counts.items() if count > 1 and digest in judged}


# --- on disk ----------------------------------------------------------------------------------------------------------


def _as_json(report: Report) -> dict[str, Any]:
    def suspect(one: Suspect) -> list[Any]:
        return [one.digest, one.name, one.note.as_json(), one.beside]

    findings = [[f.kind, f.what.as_json(), f.why.as_json(), [suspect(s) for s in f.suspects]] for f in report.findings]
    return {
        "version": _VERSION, "pictures": report.pictures, "looked_at": sorted(report.looked_at), "region": report.region,
        "findings": findings, "unusual": [suspect(s) for s in report.unusual], "defects": report.defects,
        "seconds": report.seconds,
    }  # fmt: skip


def _from_json(values: dict[str, Any]) -> Report | None:
    def suspect(row: list[Any]) -> Suspect:
        return Suspect(row[0], row[1], Sentence.from_json(row[2]), row[3])

    if values["version"] != _VERSION:
        return None
    findings = tuple(
        Finding(kind, Sentence.from_json(what), Sentence.from_json(why), tuple(map(suspect, rows)))
        for kind, what, why, rows in values["findings"]
    )
    unusual = tuple(map(suspect, values["unusual"]))
    return Report(
        values["pictures"], frozenset(values["looked_at"]), regions.from_json(values["region"]), findings, unusual,
        tuple(values["defects"]), values["seconds"],
    )  # fmt: skip
