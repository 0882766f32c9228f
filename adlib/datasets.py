"""What a data set's pictures are for: roles by folder, masks by name, and each picture once.

Samples are derived anew each time from dataset.json, so that a corrected role or an excluded picture counts at once.
Getting pictures in is left to `intake`, recognising layouts to `layouts`, files of arrays to `arrays`.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from adlib import curation, store
from adlib.arrays import arrays, one_class
from adlib.contract import DataError, Sample, Sentence, say
from adlib.images import raw_mask, white_of
from adlib.items import Refused, folder_of, stem_of
from adlib.layouts import ROLES, Parts, Role, guess, place_of, says_mask

__all__ = [
    "ROLES", "Role", "arrays", "assign_roles", "correct", "exclude", "files", "folder_of", "guess", "one_class", "role_of",
    "samples", "share", "take_over",
]  # fmt: skip

SET_ASIDE_SHARE = 0.2  # of the normals, where a set has defects and no good tests
LEAST_TO_SET_ASIDE = 10  # with fewer normals, all are needed to learn from

_TAILS = ("_mask", "-mask", "_gt", "_label")  # what a mask's name has more than its picture's
_LABELS = {"normal": 0, "test_normal": 0, "defect": 1}
_SPLITS = {"normal": "train", "test_normal": "test", "defect": "test"}


# --- roles ------------------------------------------------------------------------------------------------------------


def assign_roles(dataset: store.Dataset) -> Sentence:
    """Guesses the role of every folder that nobody has corrected, and the set's rule for 16-bit pictures.

    Changes dataset.meta without saving it.  Returns what was recognised.
    """
    meta = dataset.meta
    guessed, layout = guess(picture["name"] for picture in meta["pictures"])
    known = {folder: about for folder, about in meta["folders"].items() if about.get("corrected")}
    fresh = {folder: {"role": role.role, "kind": role.kind, "corrected": False} for folder, role in guessed.items()}
    meta["folders"] = {**fresh, **{folder: about for folder, about in known.items() if folder in fresh}}
    meta["layout"] = layout.as_json()
    _set_white(dataset)
    return layout


def correct(dataset: store.Dataset, folder: str, role: Role) -> None:
    """A person says what a folder is for; it stays so whatever is added later.  Saves.

    folder: a key of dataset.meta["folders"].  role: without a kind, the folder keeps the one it has.
    Raises DataError for an unknown folder or role.
    """
    folders = dataset.meta["folders"]
    if folder not in folders:
        raise DataError("There is no folder '{folder}' in this data set.", folder=folder)
    if role.role not in ROLES:
        raise DataError("There is no role '{role}'. Known: {known}.", role=role.role, known=", ".join(ROLES))
    kind = role.kind.strip()[:80] or folders[folder]["kind"] or folder.rpartition("/")[2] or "good"
    folders[folder] = {"role": role.role, "kind": kind, "corrected": True}
    _set_white(dataset)
    dataset.save()


def exclude(dataset: store.Dataset, digest: str, out: bool = True) -> None:
    """Leaves a picture out of every step, or takes it back in.  Saves; `curation` does the same for many at once."""
    if out:
        curation.exclude(dataset, [digest], say("left out by hand"))
    else:
        curation.restore(dataset, [digest])


def take_over(dataset: store.Dataset, digest: str, run: str = "") -> store.Dataset:
    """A new version of the data set in which a test picture is one of the normals to learn from.  The old one stays as it is.

    digest: of a picture that is a good test.  run: id of the run whose mistake it was, kept with the new version.
    The files are shared with the old version where the file system can link them, and stay when either is deleted.
    Asked again, the version that was made before is returned.
    Raises DataError when there is no such picture, or it is a defect.
    """
    found, _ = samples(dataset)
    if not any(s.digest == digest and s.split == "test" and s.label == 0 for s in found):
        raise DataError("Only a good test picture of this data set can be taken into the normals.")
    parent = {"dataset": dataset.id, "run": run, "digest": digest}
    for known in store.Dataset.all():
        if known.meta.get("parent") == parent:
            return known
    number = int(dataset.meta.get("version", 1)) + 1
    title = dataset.title.removesuffix(f" · v{number - 1}") + f" · v{number}"
    made = store.Dataset.create(title, str(dataset.meta["source"]))
    made.meta = {
        **dataset.meta, **{key: made.meta[key] for key in ("id", "title", "created")}, "version": number,
        "taken_over": [*dataset.meta.get("taken_over", []), digest],
        "parent": parent,
    }  # fmt: skip
    for name in ("pictures", "masks"):
        store.share_folder(dataset.folder / name, made.folder / name)
    curation.hand_on(dataset, made)
    made.save()
    return made


def files(dataset: store.Dataset) -> dict[str, Path]:
    """Content hash → file of every picture that was taken in, whatever its role and whether it is excluded."""
    return {picture["digest"]: dataset.folder / picture["file"] for picture in dataset.meta["pictures"]}


def role_of(dataset: store.Dataset, name: str) -> Role:
    """The role of a picture, by its name."""
    about = dataset.meta["folders"].get(folder_of(name)) or {"role": "ignore", "kind": ""}
    return Role(about["role"], about["kind"])


def _set_white(dataset: store.Dataset) -> None:
    """One rule for all pictures that are judged; a mask's numbers have nothing to do with brightness."""
    judged = (p["peak"] for p in dataset.meta["pictures"] if role_of(dataset, p["name"]).role in _LABELS)
    dataset.meta["white"] = white_of(judged)


# --- samples ----------------------------------------------------------------------------------------------------------


def samples(dataset: store.Dataset) -> tuple[list[Sample], list[Refused]]:
    """The pictures that take part, with label, kind, split and mask, and all that were refused, with the reason.

    Refused are those that intake refused, exact copies, tests that are also among the normals (a leak), masks without a
    picture and masks of another size.  What a person excluded or set aside is in neither list.
    """
    refused = [Refused(one["name"], Sentence.from_json(one["reason"])) for one in dataset.meta["refused"]]
    pictures, masks = _sorted_out(dataset)
    masks_of = _paired(pictures, masks, refused)
    excluded = curation.excluded(dataset).keys()
    first: dict[str, _Picture] = {}
    for picture in sorted(
        pictures, key=lambda one: one.role.role != "normal"
    ):  # stable: normals to learn from go first
        first.setdefault(picture.digest, picture)
    found = []
    for picture in pictures:
        other = first[picture.digest]
        if picture.digest in excluded:
            continue
        if other is not picture:
            refused.append(Refused(picture.name, _twice(picture, other)))
            continue
        label = _LABELS[picture.role.role]
        found.append(
            Sample(
                path=dataset.folder / picture.file,
                label=label,
                kind=picture.role.kind,
                mask=_one_mask(dataset, masks_of[picture.digest]) if label and picture.digest in masks_of else None,
                split=_SPLITS[picture.role.role],
                digest=picture.digest,
                name=picture.name,
            )
        )
    return _with_good_tests(found, dataset), refused


def share(digest: str) -> float:
    """A picture's fixed place in [0, 1), from its content alone: adding pictures never moves an old one."""
    return int(hashlib.sha256(f"adlib split {digest}".encode()).hexdigest()[:12], 16) / 16**12


def _with_good_tests(found: list[Sample], dataset: store.Dataset) -> list[Sample]:
    """Where there are defects and no good tests (good/ beside kinds of defect, VisA), some normals become good tests.

    They are neither learned from nor calibrated on; without them neither AUROC nor false alarms could be measured.
    A picture that a person took over into the normals stays there, and its set keeps the tests that it had.
    """
    taken = set(dataset.meta.get("taken_over", []))
    normals = [sample for sample in found if sample.split == "train" and sample.digest not in taken]
    labels = {sample.label for sample in found if sample.split == "test"}
    if any(s.digest in taken and role_of(dataset, s.name).role == "test_normal" for s in found):
        labels.add(0)  # there were good tests, if perhaps only those
    if labels != {1} or len(normals) < LEAST_TO_SET_ASIDE:
        return found
    aside = {s.digest for s in normals if share(s.digest) >= 1 - SET_ASIDE_SHARE}
    return [replace(s, split="test") if s.digest in aside else s for s in found]


@dataclass(frozen=True, eq=False)
class _Picture:
    name: str
    digest: str
    file: str
    size: tuple[int, int]
    role: Role


def _sorted_out(dataset: store.Dataset) -> tuple[list[_Picture], list[_Picture]]:
    """Pictures that are judged, and masks; what was set aside is in neither."""
    taken, normal = set(dataset.meta.get("taken_over", [])), _normal_role(dataset)
    every = [
        _Picture(
            p["name"], p["digest"], p["file"], (p["width"], p["height"]),
            normal if p["digest"] in taken else role_of(dataset, p["name"]),
        )
        for p in dataset.meta["pictures"]
    ]  # fmt: skip
    ways = {one.name.rpartition(".")[0] or one.name for one in every}

    def is_mask(one: _Picture) -> bool:
        """By its folder, or because it lies beside its picture and is named after it."""
        way = one.name.rpartition(".")[0] or one.name
        return one.role.role == "mask" or (way.lower().endswith(_TAILS) and _bare(way) in ways)

    pictures: list[_Picture] = []
    masks: list[_Picture] = []
    for one in every:
        if one.role.role != "ignore":
            (masks if is_mask(one) else pictures).append(one)
    return pictures, masks


def _normal_role(dataset: store.Dataset) -> Role:
    """The role of the normals to learn from, with their class."""
    kinds = [about["kind"] for about in dataset.meta["folders"].values() if about["role"] == "normal"]
    return Role("normal", kinds[0] if kinds else "good")


def _twice(picture: _Picture, other: _Picture) -> Sentence:
    if other.role.role == "normal" and picture.role.role != "normal":
        return say(
            "The same picture is among the normals ('{other}'): a test must be new to the detector.", other=other.name
        )
    return say("An exact copy of '{other}'.", other=other.name)


# --- masks ------------------------------------------------------------------------------------------------------------


def _bare(stem: str) -> str:
    tail = next((tail for tail in _TAILS if stem.lower().endswith(tail)), "")
    return stem[: len(stem) - len(tail)]


def _paired(pictures: list[_Picture], masks: list[_Picture], refused: list[Refused]) -> Mapping[str, list[_Picture]]:
    """Masks by the digest of their picture.  Adds to `refused` those that belong to none, or are of another size."""
    at: dict[tuple[Parts, str], list[_Picture]] = defaultdict(list)  # by place and stem
    below: dict[tuple[Parts, str], list[_Picture]] = defaultdict(list)  # the same, for every place further up
    for picture in pictures if masks else []:
        stem, place = stem_of(picture.name).lower(), place_of(folder_of(picture.name))
        at[place, stem].append(picture)
        for depth in range(len(place) + 1):
            below[place[:depth], stem].append(picture)
    pairs: dict[str, list[_Picture]] = defaultdict(list)
    for mask in masks:
        found = next((found for where, key in _ways(mask) if (found := (at, below)[where].get(key))), [])
        found = [one for one in found if one.role.role == "defect"] or found
        reason = _mismatch(mask, found)
        if reason is None:
            pairs[found[0].digest].append(mask)
        else:
            refused.append(Refused(mask.name, reason))
    return pairs


def _ways(mask: _Picture) -> Iterator[tuple[int, tuple[Parts, str]]]:
    """Where the mask's picture may be, the surest first: (0 exactly there | 1 there or further down, (place, stem))."""
    folder, stem = folder_of(mask.name), stem_of(mask.name).lower()
    place = place_of(folder)
    names = dict.fromkeys((_bare(stem), stem))
    yield from ((0, (place, name)) for name in names)
    if place:
        yield 0, (place[:-1], place[-1])  # LOCO: a folder of masks, named like the picture
    if place and not says_mask(folder):
        place = place[:-1]  # a person said that this folder holds masks; its own name says nothing about the picture
    yield from ((1, (place, name)) for name in names)


def _mismatch(mask: _Picture, found: list[_Picture]) -> Sentence | None:
    """Why a mask cannot be used with the pictures found for it; None when it can."""
    if not found:
        return say("No picture belongs to this mask. Name it like its picture, or like it with _mask at the end.")
    if any(one.digest != found[0].digest for one in found):
        return say("Several pictures could belong to this mask: {names}.", names=", ".join(p.name for p in found[:3]))
    if found[0].size != mask.size:
        (mask_width, mask_height), (width, height) = mask.size, found[0].size
        return say(
            "The mask is {mask_width}×{mask_height} but its picture is {width}×{height}. Export both at the same size.",
            mask_width=mask_width, mask_height=mask_height, width=width, height=height,
        )  # fmt: skip
    return None


def _one_mask(dataset: store.Dataset, masks: list[_Picture]) -> Path:
    """The mask's file; of several, a picture of all of them together, made once."""
    paths = [dataset.folder / mask.file for mask in masks]
    if len(paths) == 1:
        return paths[0]
    key = hashlib.sha256("\n".join(sorted(mask.digest for mask in masks)).encode()).hexdigest()
    together = dataset.folder / "masks" / f"{key}.png"
    if not together.exists():
        buffer = io.BytesIO()
        union = np.logical_or.reduce([raw_mask(path) for path in paths])
        Image.fromarray(union.astype(np.uint8) * 255).save(buffer, "PNG")
        store.write_bytes(together, buffer.getvalue())
    return together
