"""Looks through a run's JSON that came from elsewhere, field by field, before anything believes it.

Each check returns a clean value made of what it was given, without the fields it does not know, or raises DataError.
Strings are cut, numbers must be finite, sentences may only hold plain fields: a stranger's `{x:>999999999}` would
otherwise fill the memory when it is shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from adlib import regions, registry
from adlib.contract import AdlibError, DataError, Sentence

MOST_ROWS = 200_000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELD = re.compile(r"\{(\w{1,40})(?::[<>^]?\d{0,2},?(?:\.\d{1,2})?[a-z%]?)?\}")
Check = Callable[[Any], Any]


def _refuse(what: str) -> DataError:
    return DataError("This file is not a run that adlib can take in: {what} is missing or wrong.", what=what)


# --- values -----------------------------------------------------------------------------------------------------------


def text(longest: int = 300) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError
        return value[:longest]

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError
        if not low <= value <= high:
            raise ValueError
        return value

    return check


def whole(low: int = 0, high: int = 10**9) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return check


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def digest(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError
    return value


def maybe(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)


def region(value: Any) -> list[list[float]]:
    """Corners of a region of interest; none for the whole picture."""
    try:
        return [list(corner) for corner in regions.from_json(value)]
    except AdlibError:
        raise ValueError from None


def rows(inner: Check, most: int = MOST_ROWS) -> Check:
    def check(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError
        return [inner(one) for one in value]

    return check


def sentence(value: Any) -> list[Any]:
    """[template, values]: plain fields only, each with its value."""
    template, values = value
    if not isinstance(template, str) or not isinstance(values, dict) or len(template) > 1000:
        raise ValueError
    if re.search(r"[{}]", _FIELD.sub("", template)):
        raise ValueError
    kept = {}
    for name in _FIELD.findall(template):
        given = values[name]
        kept[name] = given[:300] if isinstance(given, str) else number()(given)
    str(Sentence(template, kept))  # a format that does not suit its value
    return [template, kept]


def table(fields: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A dictionary with at least `fields`; those it does not know are dropped."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError
        found = {name: inner(value[name]) for name, inner in fields.items()}
        return found | {name: inner(value[name]) for name, inner in (optional or {}).items() if name in value}

    return check


# --- files ------------------------------------------------------------------------------------------------------------

_backbone = table(
    {
        "name": text(120),
        "stages": rows(whole(0, 99), 99),
        "size": whole(16, 2048),
        "weights": lambda value: "",  # where the file lay elsewhere says nothing here
        "precision": text(8),
    }
)
_card = table(
    {
        "method": text(60),
        "settings": lambda value: value,
        "backbone": maybe(_backbone),
        "seed": whole(0, 2**63),
        "alpha": number(0, 1),
        "letterbox": flag,
        "created": number(0),
        "version": text(40),
        "size": whole(16, 2048),
        "weights": maybe(table({"file": maybe(text()), "sha256": maybe(text(64))})),
        "dataset": text(64),
        "dataset_title": text(),
        "white": maybe(whole(1, 2**32)),
        "data_hash": text(64),
        "normals": table({"fitted": whole(), "calibrating": whole(), "cross_fitted": flag}),
        "fit_seconds": number(0),
        "peak_mb": number(0),
    },
    {"one_fit_seconds": number(0), "device": text(), "threads": whole(), "region": region},
)
_threshold = table(
    {"value": number(), "rule": sentence, "fitted_on": sentence, "alpha": maybe(number(0, 1))},
    {"key": text(40), "oracle": flag},
)
_row = table(
    {
        "name": text(), "kind": text(), "label": whole(0, 1), "digest": digest,
        "score": number(), "normalised": number(), "alarm": flag,
    },
    {"peak": maybe(number())},
)  # fmt: skip
_normal = {"digest": digest, "name": text(), "kind": text()}
_pair = rows(number(), 2)
_shares = ("image_auroc", "image_ap", "image_f1_oracle", "pixel_auroc", "aupro", "fpr", "tpr")
_intervals = dict.fromkeys((*_shares, "f1"), _pair)
_report = table(
    {
        **dict.fromkeys(_shares, maybe(number(0, 1))),
        "threshold": number(),
        "n_normal": whole(),
        "n_defect": whole(),
        "confusion": maybe(
            table(dict.fromkeys(("true_positive", "false_positive", "true_negative", "false_negative"), whole()))
        ),
        "intervals": table({}, _intervals),
        "ms_per_image": number(0),
        "fit_seconds": number(0),
        "peak_mb": number(0),
        "skipped": rows(sentence, 100),
    },
    {"tests_hash": text(64), "f1": maybe(number(0, 1))},
)
_FILES: dict[str, Check] = {
    "run.json": _card,
    "calibration.json": table(
        {
            "unit": number(1e-30), "threshold": _threshold, "map_unit": maybe(number(1e-30)), "normals": whole(1),
            "cross_fitted": flag, "scores": rows(number()),
        },
        {"peaks": maybe(rows(number()))},
    ),
    "normals.json": rows(table({**_normal, "fitted": flag, "score": maybe(number())})),
    "explored.json": rows(table(_normal), 10_000),
    "refused.json": rows(table({"name": text(), "reason": sentence})),
    "report.json": _report,
    "scores.json": rows(_row),
    "title.json": table({"title": text(120)}),
}  # fmt: skip
NAMES = tuple(_FILES)


def file(name: str, value: Any) -> Any:
    """The clean content of one of NAMES.  Raises DataError, naming the file."""
    try:
        clean = _FILES[name](value)
    except (ValueError, TypeError, KeyError, IndexError):
        raise _refuse(name) from None
    return _of_a_method(clean) if name == "run.json" else clean


def _of_a_method(card: dict[str, Any]) -> dict[str, Any]:
    """Settings as the method knows them, and a backbone exactly when it uses one."""
    try:
        settings = registry.checked(card["method"], card["settings"])
    except (AdlibError, TypeError):
        raise _refuse("run.json") from None
    if registry.uses_backbone(card["method"]) != (card["backbone"] is not None):
        raise _refuse("run.json")
    return {**card, "settings": settings}
