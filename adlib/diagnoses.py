"""What the data doctor finds, in words: each finding with the pictures it rests on, the strongest first.

The numbers come from `suspects`, keeping and standing of findings is left to `doctor`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adlib import store, suspects, traits
from adlib.contract import Sample, Sentence, Tick, say

_UNLIKE_Z, _UNLIKE_TIMES = 3.3, 1.5  # a stranger is both far out by the set's own spread and visibly unlike
SHOWN_UNUSUAL = 12
_MINORITY = 0.3  # an odd size or colour is a suspect while few have it; else the whole set is mixed


@dataclass(frozen=True)
class Suspect:
    """A picture to look at.  note: how strong.  beside: digest of the picture it should be seen with, or ""."""

    digest: str
    name: str
    note: Sentence
    beside: str = ""


@dataclass(frozen=True)
class Finding:
    """kind: a short key.  what: with {n}.  why: why it matters, and what to do.  suspects: strongest first; () when the
    whole set is meant."""

    kind: str
    what: Sentence
    why: Sentence
    suspects: tuple[Suspect, ...] = ()


@dataclass(frozen=True)
class Seen:
    """Pictures and their traits, row by row."""

    dataset: store.Dataset
    samples: Sequence[Sample]
    traits: traits.Traits

    def where(self, wanted: Callable[[Sample], bool]) -> np.ndarray:
        return np.array([i for i, s in enumerate(self.samples) if wanted(s)], int)

    def normals_by_kind(self) -> list[np.ndarray]:
        """Rows of the normals to learn from, by kind; kinds too small to compare are put together."""
        rows: dict[str, list[int]] = {}
        for i, s in enumerate(self.samples):
            if s.split == "train" and s.label == 0:
                rows.setdefault(s.kind, []).append(i)
        large = [np.array(group) for group in rows.values() if len(group) >= suspects.FEWEST]
        small = [i for group in rows.values() if len(group) < suspects.FEWEST for i in group]
        return [*large, np.array(small)] if len(small) >= suspects.FEWEST else large

    def suspect(self, row: int, note: Sentence, beside: int | None = None) -> Suspect:
        s = self.samples[row]
        return Suspect(s.digest, s.name, note, "" if beside is None else self.samples[beside].digest)

    def sides(self) -> list[tuple[int, int]]:
        of = {p["digest"]: (int(p["width"]), int(p["height"])) for p in self.dataset.meta["pictures"]}
        return [of[s.digest] for s in self.samples]


def of(seen: Seen, tick: Tick) -> tuple[list[Finding], tuple[Suspect, ...]]:
    """All findings, and the normals least like the others, whether or not they are one."""
    unusual: list[Suspect] = []
    strangers = _strangers(seen, unusual, tick)
    return [*_twins(seen), *strangers, *_exposed(seen), *_mixed(seen), *_products(seen)], tuple(unusual)


def _twins(seen: Seen) -> list[Finding]:
    leak: list[Suspect] = []
    near: list[Suspect] = []
    tests: list[Suspect] = []
    for i, j, likeness in suspects.twins(seen.traits.prints):
        one, other = seen.samples[i], seen.samples[j]
        note = say("{percent:.0f} % alike with '{other}'", percent=100 * likeness, other=one.name)
        place = near if other.split == "train" else leak if one.split == "train" else tests
        place.append(seen.suspect(j, note, i))
    found = []
    if leak:
        found.append(
            Finding(
                "leak",
                say("Tests that are nearly the same as a normal: {n}", n=len(leak)),
                say(
                    "A test that the detector has learned from proves nothing: figures look better than they will be on "
                    "new parts. Leave these tests out."
                ),
                tuple(leak),
            )
        )
    if near:
        found.append(
            Finding(
                "near",
                say("Normals that are nearly the same as another: {n}", n=len(near)),
                say(
                    "Copies count double in the fit, and a copy that is held out makes the threshold too tight, because "
                    "the detector knows it already. Leave the copies out."
                ),
                tuple(near),
            )
        )
    if tests:
        found.append(
            Finding(
                "near_tests",
                say("Tests that are nearly the same as another test: {n}", n=len(tests)),
                say("Copies count double in every figure, and intervals look narrower than they are."),
                tuple(tests),
            )
        )
    return found


def _strangers(seen: Seen, unusual: list[Suspect], tick: Tick) -> list[Finding]:
    """Normals unlike the others.  Fills `unusual` with the strongest, whether or not they are a finding."""
    ranked: list[tuple[float, Suspect, bool]] = []
    groups = seen.normals_by_kind()
    for k, rows in enumerate(groups):
        scores, _ = suspects.unlike(seen.traits.cells[rows], tick=part(tick, k / len(groups), (k + 1) / len(groups)))
        z = suspects.upper_z(np.log(scores), 0.03)
        for row, score, far in zip(rows, scores, z, strict=True):
            note = say("{times:.1f} times as unlike the others as is usual", times=float(score))
            ranked.append((float(score), seen.suspect(int(row), note), far > _UNLIKE_Z and score > _UNLIKE_TIMES))
    ranked.sort(key=lambda one: -one[0])
    unusual.extend(suspect for _, suspect, _ in ranked[:SHOWN_UNUSUAL])
    strangers = tuple(suspect for _, suspect, is_one in ranked if is_one)
    if not strangers:
        return []
    return [
        Finding(
            "unlike",
            say("Normals that look unlike the others: {n}", n=len(strangers)),
            say(
                "A defect among the normals teaches the detector to accept it. A quick look cannot tell a defect from a "
                "rare good part: look at each, and leave out what you would reject."
            ),
            strangers,
        )
    ]


def _exposed(seen: Seen) -> list[Finding]:
    """Exposure and focus, among good pictures: a defect may well be dark."""
    rows = seen.where(lambda s: s.label == 0)
    if len(rows) < suspects.FEWEST:
        return []
    good = seen.traits.take(rows)
    shortest = float(np.median([min(seen.sides()[i]) for i in rows]))
    strengths = {**suspects.exposure(good), "blurred": suspects.blurred(good, shortest)}
    level, usual = good.column("level"), float(np.median(good.column("level")))
    lost = good.column("dark") + good.column("bright")
    found = []
    for kind, strength in strengths.items():
        listed = []
        for i in np.argsort(-strength):
            if strength[i] <= 1:
                break
            if kind == "clipped":
                note = say("{share:.0%} of its pixels are black or white", share=float(lost[i]))
            elif kind == "blurred":
                note = say("{times:.1f} times beyond the limit for sharpness", times=float(strength[i]))
            else:
                note = say("brightness {level:.0%}, usual is {usual:.0%}", level=float(level[i]), usual=usual)
            listed.append(seen.suspect(int(rows[i]), note))
        if listed:
            what, why = _WORDS[kind]
            found.append(Finding(kind, Sentence(what.template, {"n": len(listed)}), why, tuple(listed)))
    return found


_WORDS = {
    "dark": (
        say("Good pictures much darker than the others: {n}", n=0),
        say("Most methods take another exposure for a defect. Take the picture again, or leave it out."),
    ),
    "bright": (
        say("Good pictures much brighter than the others: {n}", n=0),
        say("Most methods take another exposure for a defect. Take the picture again, or leave it out."),
    ),
    "clipped": (
        say("Good pictures with more black or white areas than the others: {n}", n=0),
        say("Where a picture is all black or all white nothing can be found. Look at exposure and lighting."),
    ),
    "blurred": (
        say("Good pictures less sharp than the others: {n}", n=0),
        say("A blurred normal teaches the detector that missing detail is fine, and small defects pass. Leave it out."),
    ),
}


def _mixed(seen: Seen) -> list[Finding]:
    """Shapes, sizes, colour, cameras and file formats that differ within the set."""
    found = []
    sides, rows = seen.sides(), np.arange(len(seen.samples))
    shape = np.array([width / height for width, height in sides])
    bent = rows[np.abs(np.log(shape / np.median(shape))) > 0.05]
    if len(bent):
        notes = [say("{width}×{height} pixels", width=sides[i][0], height=sides[i][1]) for i in bent]
        found.append(
            _some_or_all(
                seen, "shape", bent, notes,
                say("Pictures of another shape than the others: {n}", n=len(bent)),
                say(
                    "All pictures become the same square, so that another shape stretches the part. Cut them alike, or "
                    "keep proportions on the Fit page."
                ),
            )
        )  # fmt: skip
    width = np.array([one[0] for one in sides], float)
    other = rows[(np.abs(np.log(width / np.median(width))) > 0.2) & ~np.isin(rows, bent)]
    if len(other):
        notes = [say("{width}×{height} pixels", width=sides[i][0], height=sides[i][1]) for i in other]
        found.append(
            _some_or_all(
                seen, "size", other, notes,
                say("Pictures of another size than the others: {n}", n=len(other)),
                say("Made equally small, they show another sharpness and noise. Bring them as the camera made them."),
            )
        )  # fmt: skip
    grey = ["grey" if colour < 0.002 else "colour" for colour in seen.traits.column("colour")]
    odd = suspects.minority(grey)
    if odd:
        notes = [say("without colour") if grey[i] == "grey" else say("in colour") for i in odd]
        found.append(
            _some_or_all(
                seen, "colour", np.array(odd), notes,
                say("Grey and colour pictures in one set; of the rarer sort: {n}", n=len(odd)),
                say("Colour that only some pictures have is taken for a difference of the part. Bring all of one sort."),
            )
        )  # fmt: skip
    named = [i for i in rows if seen.traits.cameras[i]]
    odd = [int(named[k]) for k in suspects.minority([str(seen.traits.cameras[i]) for i in named])]
    if odd:
        notes = [say("taken with {camera}", camera=str(seen.traits.cameras[i])) for i in odd]
        found.append(
            _some_or_all(
                seen, "camera", np.array(odd), notes,
                say("Pictures of another camera than most: {n}", n=len(odd)),
                say("Cameras differ in colour, noise and lens: use the one that will inspect."),
            )
        )  # fmt: skip
    return [*found, *_formats(seen)]


def _some_or_all(
    seen: Seen, kind: str, rows: np.ndarray, notes: Sequence[Sentence], what: Sentence, why: Sentence
) -> Finding:
    """The odd ones as suspects while they are few; when there are many, the set as a whole is mixed."""
    few = len(rows) <= max(1, _MINORITY * len(seen.samples))
    listed = tuple(seen.suspect(int(row), note) for row, note in zip(rows, notes, strict=True)) if few else ()
    return Finding(kind, what, why, listed)


def _formats(seen: Seen) -> list[Finding]:
    """Good and defective pictures stored differently: a detector could tell them apart by the compression."""
    stored: dict[int, set[str]] = {0: set(), 1: set()}
    for s in seen.samples:
        if s.label is not None:
            stored[s.label].add(s.path.suffix.lower().replace(".jpeg", ".jpg"))
    if not stored[1] or not stored[0] or stored[0] & stored[1]:
        return []
    good, bad = (", ".join(sorted(stored[label])) for label in (0, 1))
    return [
        Finding(
            "format",
            say("Good pictures are stored as {good}, defects as {bad}", good=good, bad=bad),
            say("Traces of the compression then give the answer away. Store all pictures alike."),
        )
    ]


def _products(seen: Seen) -> list[Finding]:
    listed: list[Suspect] = []
    groups = 0
    for rows in seen.normals_by_kind():
        labels = suspects.clusters(seen.traits.cells[rows])
        groups += int(labels.max())
        main = int(rows[np.argmax(labels == 0)])
        for row, label in zip(rows, labels, strict=True):
            if label:
                listed.append(seen.suspect(int(row), say("group {k}", k=int(label) + 1), main))
    if not listed:
        return []
    listed.sort(key=lambda one: (one.note.values["k"], one.name))
    return [
        Finding(
            "products",
            say("More than one product or view among the normals; outside the largest group: {n}", n=len(listed)),
            say(
                "One detector for several products finds less in each. Put each group into a folder of its own, so that "
                "it becomes a kind, or leave the other groups out here and give them a data set of their own."
            ),
            tuple(listed),
        )
    ]


def part(tick: Tick, start: float, end: float) -> Tick:
    """A tick for one step of several."""

    def inner(fraction: float, message: str, /, **numbers: Any) -> None:
        tick(start + (end - start) * fraction, message, **numbers)

    return inner
