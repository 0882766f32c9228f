"""How people lay out pictures in folders, recognised by the folders' names alone.

A role is decided for each folder, so that a person can correct it.  Nothing here opens a picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from adlib.contract import Sentence, say
from adlib.items import folder_of

ROLES = ("normal", "test_normal", "defect", "mask", "ignore")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GOOD = _words(
    "good normal normals ok okay pass passed defect-free defect_free defectfree no_defect nodefect non_defective clean "
    "良品 正常 正常品 ok品 合格 合格品"
)
_BAD = _words(
    "bad defect defects defective anomaly anomalies anomalous abnormal broken faulty fault ng nok not_ok not_good notgood "
    "fail failed reject rejected damaged 不良 不良品 異常 異常品 欠陥 欠陥品 ng品 不合格 不合格品"
)
_TRAIN = _words("train training 学習 学習用 訓練 訓練用")
_VALID = _words("validation valid val 検証 検証用")
_TEST = _words("test testing テスト テスト用 評価 評価用")
_MASKS = _words("ground_truth groundtruth ground-truth gt mask masks segmentation annotations マスク 正解マスク")
_IMAGES = frozenset(("images", "image", "imgs"))

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Role:
    """What a folder's pictures are for.

    role: "normal" to learn from, "test_normal", "defect", "mask" or "ignore".
    kind: class of the normals or kind of the defect, for people to read.
    """

    role: str
    kind: str = ""


def guess(names: Iterable[str]) -> tuple[dict[str, Role], Sentence]:
    """A role for each folder among the pictures' names, and a sentence saying what was recognised.

    Known are, in this order: `train`/`test`/`ground_truth` trees (MVTec AD, LOCO, AeBAD, GoodsAD, class folders such as
    CIFAR-10's, and `good` in place of `train`); VisA's `Images/Normal`; folders named good, normal, … beside others, which
    are then kinds of defect; plain class folders, and flat pictures: all of them normals.  A folder around it all is
    tolerated.  Where one root holds several categories, each becomes a class of normals, and its name precedes its kinds
    of defect.
    """
    counts = Counter(folder_of(name) for name in names)
    around = _around(counts)
    folders = {folder: _parts(folder)[around:] for folder in counts}
    every = [{part.lower() for part in parts} for parts in folders.values()]
    if any(words & (_TRAIN | _TEST) for words in every):
        return _split_tree(folders, counts)
    if any(words & _GOOD for words in every):
        return _good_and_others(folders, counts)
    return _plain(folders, counts)


def place_of(folder: str) -> Parts:
    """A folder's way in small letters, without the words that tell pictures from masks.

    A mask lies at the same place in its tree as its picture lies in the other: `bottle/test/crack` and
    `bottle/ground_truth/crack` are both at ("bottle", "crack").
    """
    words = _TRAIN | _VALID | _TEST | _MASKS | _IMAGES
    return tuple(part for part in folder.lower().split("/") if part and part not in words)


def says_mask(folder: str) -> bool:
    """Whether a folder's own name tells that it holds masks."""
    return _first(_parts(folder), _MASKS) is not None


# --- layouts ----------------------------------------------------------------------------------------------------------


def _split_tree(folders: dict[str, Parts], counts: Counter[str]) -> tuple[dict[str, Role], Sentence]:
    """`[category/]{train,validation,test,ground_truth}/<kind>[/<domain>]`."""
    words = _TRAIN | _VALID | _TEST | _MASKS
    places = {folder: _first(parts, words) for folder, parts in folders.items()}
    before = {folder: parts[: places[folder] or 0] for folder, parts in folders.items()}
    learned = {  # the classes that each category trains on
        (before[folder], _at(parts, place + 1).lower())
        for folder, parts in folders.items()
        if (place := places[folder]) is not None and parts[place].lower() in _TRAIN
    }
    beside = {}  # where nothing is called train, a folder named good outside `test` is what to learn from
    if not learned:
        goods = {folder: _first(parts, _GOOD) for folder, parts in folders.items() if places[folder] is None}
        beside = {folder: good for folder, good in goods.items() if good is not None}
    category = _categories({root for root, _ in learned} | {folders[folder][:good] for folder, good in beside.items()})
    roles: dict[str, Role] = {}
    for folder, parts in folders.items():
        place = places[folder]
        if place is None:
            roles[folder] = Role("ignore")
            if (good := beside.get(folder)) is not None:
                roles[folder] = Role("normal", _class(category[parts[:good]], parts[good:]))
            continue
        word, rest = parts[place].lower(), parts[place + 1 :]
        first, shown = _at(rest, 0).lower(), category.get(before[folder], "")
        if word in _MASKS:
            roles[folder] = Role("mask", _kind(shown, rest[:1]))
        elif word in _TEST and not rest:
            roles[folder] = Role("ignore")  # nothing says which of them are good
        elif first in _BAD:
            roles[folder] = Role("defect", _kind(shown, rest))
        elif word in _TRAIN or first in _GOOD or (before[folder], first) in learned:
            role = "test_normal" if word in _TEST else "normal"
            roles[folder] = Role(role, _class(shown, rest))
        else:
            roles[folder] = Role("defect", _kind(shown, rest))
    return roles, _told(_name_of_tree(folders), roles, counts, category)


def _good_and_others(folders: dict[str, Parts], counts: Counter[str]) -> tuple[dict[str, Role], Sentence]:
    """`[category/]good` beside `[category/]<kind>`, and VisA's `[category/]Data/{Images/{Normal,Anomaly},Masks/Anomaly}`."""
    roots = {parts[: _first(parts, _GOOD)] for parts in folders.values() if _first(parts, _GOOD) is not None}
    shown = {root: tuple(part for part in root if part.lower() not in _IMAGES | {"data"}) for root in roots}
    category = _categories(set(shown.values()))
    is_visa = any(root and root[-1].lower() in _IMAGES for root in roots)
    roles: dict[str, Role] = {}
    for folder, parts in folders.items():
        place = _first(parts, _GOOD)
        root = max((root for root in roots if parts[: len(root)] == root), key=len, default=None)
        if (mask := _first(parts, _MASKS)) is not None:
            roles[folder] = Role("mask", _kind("", parts[mask + 1 :][:1]))
        elif place is not None:
            roles[folder] = Role("normal", _class(category[shown[parts[:place]]], parts[place:]))
        elif root is None and _first(parts, _BAD) is not None:
            roles[folder] = Role("defect", _kind("", parts))
        elif root is None or parts == root:
            roles[folder] = Role("ignore")
        else:
            roles[folder] = Role("defect", _kind(category[shown[root]], parts[len(root) :]))
    return roles, _told("VisA" if is_visa else "", roles, counts, category)


def _plain(folders: dict[str, Parts], counts: Counter[str]) -> tuple[dict[str, Role], Sentence]:
    """No word for good anywhere: flat pictures, class folders, or folders that say bad."""
    roles: dict[str, Role] = {}
    top = any(not parts for parts in folders.values())
    for folder, parts in folders.items():
        if _first(parts, _MASKS) is not None:
            roles[folder] = Role("mask")
        elif _first(parts, _BAD) is not None or (top and parts):
            roles[folder] = Role("defect", "/".join(parts))
        else:
            roles[folder] = Role("normal", "/".join(parts) or "good")
    normals = {folder: role for folder, role in roles.items() if role.role == "normal"}
    if len(normals) == len(roles):
        pictures = sum(counts.values())
        if len(roles) <= 1:
            roles = {folder: Role("normal", "good") for folder in roles}
            return roles, say(
                "Nothing in the folders' names says otherwise: all {n} pictures are taken as normal.", n=pictures
            )
        return roles, say(
            "{classes} folders, and no name says good or bad: each is taken as one class of normal pictures ({n} in all). "
            "Where a folder holds defects, say so.",
            classes=len(roles), n=pictures,
        )  # fmt: skip
    return roles, _told("", roles, counts, {})


def _told(layout: str, roles: dict[str, Role], counts: Counter[str], category: dict[Parts, str]) -> Sentence:
    n = Counter[str]()
    for folder, role in roles.items():
        n[role.role] += counts[folder]
    numbers = {
        "normals": n["normal"],
        "good": n["test_normal"],
        "bad": n["defect"],
        "masks": n["mask"],
        "rest": n["ignore"],
    }
    if len(category) > 1:
        shown = sorted(name or "good" for name in category.values())
        return say(
            "{n} categories in one place ({names}): each is taken as a class of normals. To judge one alone, set the "
            "folders of the others aside. {normals} normal pictures to learn from; to test with, {good} normal and {bad} "
            "defective ones; {masks} masks; {rest} left aside.",
            n=len(shown), names=", ".join(shown[:12]) + (", …" if len(shown) > 12 else ""), **numbers,
        )  # fmt: skip
    if layout:
        return say(
            "Laid out like {layout}: {normals} normal pictures to learn from; to test with, {good} normal and {bad} "
            "defective ones; {masks} masks; {rest} left aside.",
            layout=layout, **numbers,
        )  # fmt: skip
    return say(
        "The folders' names tell: {normals} normal pictures to learn from; to test with, {good} normal and {bad} defective "
        "ones; {masks} masks; {rest} left aside.",
        **numbers,
    )


# --- folder names -----------------------------------------------------------------------------------------------------


def _parts(folder: str) -> Parts:
    return tuple(folder.split("/")) if folder else ()


def _at(parts: Parts, place: int) -> str:
    return parts[place] if place < len(parts) else ""


def _first(parts: Parts, words: frozenset[str]) -> int | None:
    return next((i for i, part in enumerate(parts) if part.lower() in words), None)


def _around(folders: Iterable[str]) -> int:
    """How many folders lie around everything and say nothing themselves."""
    every = [_parts(folder) for folder in folders]
    words = _GOOD | _BAD | _TRAIN | _VALID | _TEST | _MASKS | _IMAGES
    depth = 0
    while every and all(len(parts) > depth for parts in every):
        if len({parts[depth] for parts in every}) > 1 or every[0][depth].lower() in words:
            break
        depth += 1
    return depth


def _categories(roots: set[Parts]) -> dict[Parts, str]:
    """How each root is called: "" when there is only one."""
    return {root: "/".join(root) if len(roots) > 1 else "" for root in roots}


def _kind(category: str, rest: Parts) -> str:
    return "/".join((*((category,) if category else ()), *rest)) or "defect"


def _class(category: str, rest: Parts) -> str:
    """The class of normals: the category, the class folder, or "good"; a domain below `good` stays with it."""
    named = rest[1:] if rest and rest[0].lower() in _GOOD else rest
    return "/".join((*((category,) if category else ()), *named)) or "good"


def _name_of_tree(folders: dict[str, Parts]) -> str:
    words = {part.lower() for parts in folders.values() for part in parts}
    if words & {"logical_anomalies", "structural_anomalies"}:
        return "MVTec LOCO"
    return "MVTec AD" if words & _GOOD else ""
