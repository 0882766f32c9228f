"""The head of a report: the decision in a sentence, and the figures that it rests on.

Each section takes the run's Facts and returns what stands under its heading.  A number stands beside its interval and
the pictures it was computed on; what cannot be said is said to be so.
"""

from __future__ import annotations

from collections.abc import Sequence

from adlib import metrics
from adlib import report_charts as charts
from adlib.contract import Sentence
from adlib.markup import Markup, join, tag
from adlib.report_facts import Facts

FIGURES = ("image_auroc", "image_ap", "f1", "image_f1_oracle", "tpr", "fpr", "pixel_auroc", "aupro")
_ON_PIXELS = ("pixel_auroc", "aupro")
_TELLING = 0.8  # AUROC from which scores can be said to tell defects from normals


# --- numbers ----------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """In per cent, with as many digits as mean something."""
    value = 100 * share
    return f"{value:.0f}" if value in (0, 100) else f"{value:.1f}" if value >= 0.095 else f"{value:.2g}"


def promised_percent(share: float) -> str:
    """A rate that was chosen or follows from a count: 1, 0.5, 3.12."""
    return f"{100 * share:.3g}"


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def notes(sentences: Sequence[str], cls: str = "notes") -> Markup | None:
    return tag("ul", *(tag("li", sentence) for sentence in sentences), cls=cls) if sentences else None


# --- the decision -----------------------------------------------------------------------------------------------------


def verdict(facts: Facts) -> str:
    """The decision in one sentence: the counts at the line in use, on these test pictures."""
    t = facts.words.t
    if facts.report is None:
        return t("report.decision_untested")
    table = facts.table
    missed, false = table.false_negative, table.false_positive
    defects, normals = missed + table.true_positive, false + table.true_negative
    counts = {"missed": missed, "defects": defects, "false": false, "normals": normals, "n": defects + normals}
    if not defects:
        return t("report.decision_normals", **counts)
    if not normals:
        return t("report.decision_defects", **counts)
    ends = ["some" if count or total == 1 else "none" for count, total in ((missed, defects), (false, normals))]
    return t(f"report.decision_{ends[0]}_{ends[1]}", **counts)


def _in_long_use(facts: Facts) -> str | None:
    t, false, hits = facts.words.t, facts.rate("fpr"), facts.rate("tpr")
    alarms = {} if false is None else {"false_low": percent(false[2]), "false_high": percent(false[3])}
    misses = {} if hits is None else {"miss_low": percent(1 - hits[3]), "miss_high": percent(1 - hits[2])}
    if alarms and misses:
        return t("report.range_both", **alarms, **misses)
    return t("report.range_normals", **alarms) if alarms else t("report.range_defects", **misses) if misses else None


def basis(facts: Facts) -> str:
    """Where the line in use comes from, and what that does to the counts."""
    t = facts.words.t
    if facts.oracle:
        return t("report.basis_oracle")
    if facts.by_hand:
        return t("report.basis_hand")
    key = "report.basis_untested" if facts.report is None else "report.basis_learned"
    return t(key, basis=facts.words.tell(facts.calibration.threshold.fitted_on))


def _better(facts: Facts) -> str | None:
    """When the scores could tell much more than the line makes of them."""
    best, now = facts.oracle_table(), facts.table
    area = facts.report.image_auroc if facts.report else None
    if best is None or facts.oracle or area is None or area < _TELLING:
        return None
    wrong, least = now.false_negative + now.false_positive, best.false_negative + best.false_positive
    if wrong - least < max(3, 0.05 * len(facts.rows)):
        return None
    return facts.words.t(
        "report.better", missed=best.false_negative, defects=best.false_negative + best.true_positive,
        false=best.false_positive, normals=best.false_positive + best.true_negative,
    )  # fmt: skip


def decision(facts: Facts) -> Markup:
    tested = facts.report is not None
    said = [_in_long_use(facts) if tested else None, basis(facts), _better(facts) if tested else None]
    return join(
        [
            tag("p", verdict(facts), cls="verdict"),
            _warnings(facts),
            *(tag("p", sentence) for sentence in said if sentence),
            _tiles(facts) if tested else None,
            _outcome(facts) if tested else None,
        ]
    )


def _warnings(facts: Facts) -> Markup | None:
    if not (said := warnings(facts)):
        return None
    return tag("div", tag("h3", facts.words.t("report.read_first")), notes(said), cls="warning")


def warnings(facts: Facts) -> list[str]:
    """What nobody may overlook: areas under 0.5, tests that leaked or differ, promises that do not hold."""
    found = () if facts.report is None else (*metrics.warnings_of(facts.report), *facts.doubts)
    return [facts.words.tell(sentence) for sentence in found]


def _tiles(facts: Facts) -> Markup:
    t, report = facts.words.t, facts.report
    assert report is not None
    cells = []
    for name, key in (("tpr", "tile_missed"), ("fpr", "tile_false")):
        found = facts.rate(name)
        if found is None:
            cells.append((t(f"report.{key}"), "–", [t("report.not_known")]))
            continue
        k, n, low, high = found
        if name == "tpr":
            k, low, high = n - k, 1 - high, 1 - low
        below = [
            t("report.percent", percent=percent(k / n)),
            t("report.interval_percent", low=percent(low), high=percent(high)),
        ]
        cells.append((t(f"report.{key}"), t("report.k_of_n", k=k, n=n), below))
    area = report.intervals.get("image_auroc")
    about = t("report.interval", low=number(area[0]), high=number(area[1])) if area else t("report.no_interval")
    about = about if report.image_auroc is not None else t("report.not_known")
    cells.append((t("report.tile_auroc"), number(report.image_auroc), [about]))
    made_of = [t("report.on_normals", n=report.n_normal), t("report.on_defects", n=report.n_defect)]
    cells.append((t("report.tile_tests"), str(len(facts.rows)), made_of))
    tiles = [
        tag("div", tag("dt", name), tag("dd", value, cls="big"), *(tag("dd", line) for line in below))
        for name, value, below in cells
    ]
    return tag("dl", *tiles, cls="tiles")


def _outcome(facts: Facts) -> Markup:
    """What happens to defects and to normal pictures, as two bars with their counts."""
    t, table = facts.words.t, facts.table
    rows = []
    for head, good, bad, words, cls in (
        ("defects", table.true_positive, table.false_negative, ("caught", "missed"), "defect"),
        ("normals", table.true_negative, table.false_positive, ("passed", "alarmed"), "normal"),
    ):
        if good + bad:
            counts = [
                tag("td", t(f"report.{word}", n=n), cls="count") for word, n in zip(words, (good, bad), strict=True)
            ]
            rows.append(
                tag(
                    "tr",
                    tag("th", t(f"report.{head}"), scope="row"),
                    tag("td", charts.shares(good, bad, cls), cls="bar"),
                    *counts,
                )
            )
    return tag("table", tag("caption", t("report.outcome")), tag("tbody", *rows), cls="outcome")


# --- the figures ------------------------------------------------------------------------------------------------------


def figures(facts: Facts) -> Markup:
    t, report = facts.words.t, facts.report
    if report is None:
        return tag("p", t("report.no_figures"))
    others = [name for name in report.intervals if name not in FIGURES]
    heads = ("figure", "value", "interval_head", "scale_head", "computed_on")
    rows = [row for name in (*FIGURES, *others) if (row := _figure(facts, name)) is not None]
    return join(
        [
            tag("p", t("report.figures_about")),
            tag("table", tag("thead", tag("tr", *(tag("th", t(f"report.{head}"), scope="col", cls=head) for head in heads))),
                tag("tbody", *rows), cls="figures"),
            _skipped(facts, report.skipped),
        ]
    )  # fmt: skip


def _figure(facts: Facts, name: str) -> Markup | None:
    """A line of the table; a figure that this version has no words for is shown under its own name."""
    words, value = facts.words, facts.values.get(name)
    if not isinstance(value, int | float):
        return None
    known = name in FIGURES
    found = facts.report.intervals.get(name) if facts.report else None
    if found is None and name in ("fpr", "tpr") and (rate := facts.rate(name)):
        found = rate[2:]
    interval = "–" if found is None else f"{number(found[0])} – {number(found[1])}"
    scale = charts.interval(value, *(found or ())) if 0 <= value <= 1 else None
    title = words.t(f"report.figure_{name}") if known else name.replace("_", " ")
    about = tag("span", words.t(f"report.about_{name}"), cls="about") if known else None
    return tag(
        "tr",
        tag("th", title, about, scope="row"),
        tag("td", number(value), cls="number value"),
        tag("td", interval, cls="number"),
        tag("td", scale, cls="scale-cell"),
        tag("td", _computed_on(facts, name), cls="basis"),
    )


def _computed_on(facts: Facts, name: str) -> str:
    t, report = facts.words.t, facts.report
    assert report is not None
    if name == "fpr":
        return t("report.on_normals", n=report.n_normal)
    if name == "tpr":
        return t("report.on_defects", n=report.n_defect)
    if name in _ON_PIXELS:
        masks = sum(bool(row.get("mask")) for row in facts.rows)
        key = "on_masks" if masks else "on_some_masks"  # a run from elsewhere keeps no masks
        return t(f"report.{key}", **{"normal": report.n_normal, **({"masks": masks} if masks else {})})
    return t("report.on_tests", normal=report.n_normal, defect=report.n_defect)


def _skipped(facts: Facts, skipped: Sequence[Sentence]) -> Markup | None:
    if not skipped:
        return None
    said = notes([facts.words.tell(sentence) for sentence in skipped])
    return tag("div", tag("h3", facts.words.t("report.not_measured")), said, cls="aside")
