"""The charts of a report with their captions: curves, distances by kind, and the pictures on a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adlib import metrics, svg
from adlib import report_charts as charts
from adlib.alt_text import boxes_text, histogram_text, pr_text, roc_text
from adlib.contract import DataError, Sentence
from adlib.markup import Markup, join, tag
from adlib.report_facts import Facts

_MOST_KINDS = 24  # rows of a box plot


# --- curves and distances ---------------------------------------------------------------------------------------------


def _words(facts: Facts, **keys: str) -> dict[str, str]:
    """A chart's words: its own key → the report's."""
    return {own: facts.words.t(f"report.{key}") for own, key in keys.items()}


def _drawn(title: str, drawing: Markup, legend: Markup | None = None, wide: bool = False) -> Markup:
    """A chart with its caption; a wide one can be scrolled on a phone, where its numbers would become too small."""
    if wide:
        drawing = tag("div", drawing, cls="wide", tabindex=0, role="group", aria_label=title)
    return tag("figure", tag("figcaption", title), drawing, legend)


def curves(facts: Facts) -> Markup:
    t = facts.words.t
    roc = metrics.roc(facts.labels, facts.scores) if facts.rows else None
    pr = metrics.pr(facts.labels, facts.scores) if facts.rows else None
    if roc is None or pr is None:
        return tag("p", t("report.curves_none"))
    table = facts.table
    fpr, tpr = metrics.rates(table)
    assert fpr is not None
    assert tpr is not None
    alarms = table.true_positive + table.false_positive
    at = (tpr, table.true_positive / alarms) if alarms else None
    base = float(facts.labels.mean())
    words = _words(facts, alt="roc_alt", alt_point="roc_alt_point")
    left = charts.roc(
        roc[0], roc[1], (fpr, tpr), t("report.roc_x"), t("report.roc_y"), roc_text(roc[0], roc[1], (fpr, tpr), words)
    )
    words = _words(facts, alt="pr_alt", alt_point="pr_alt_point")
    right = charts.pr(
        pr[0], pr[1], at, base, t("report.pr_x"), t("report.pr_y"), pr_text(pr[0], pr[1], at, words, base)
    )
    names = [("curve", t("report.this_run")), ("chance", t("report.chance")), ("point", t("report.point"))]
    pair = tag("div", _drawn(t("report.roc"), left), _drawn(t("report.pr"), right), cls="pair")
    return join([tag("p", t("report.curves_about")), tag("div", pair, charts.legend(names), cls="whole")])


def distances(facts: Facts) -> Markup:
    t, unit = facts.words.t, facts.calibration.unit
    line, held = facts.line / unit, np.array(facts.calibration.scores) / unit
    normalised = facts.normalised if facts.rows else np.empty(0)
    labels = facts.labels if facts.rows else np.empty(0, int)
    names = list(facts.kinds())[:_MOST_KINDS]
    over = svg.axis_over([normalised, held, [line]], max(44, svg.room_for(names)), charts.FULL - 14)
    limit, x = t("report.threshold_mark"), t("report.distance")
    parts = [tag("p", t("report.distances_about"))]
    if not facts.rows:
        parts.append(tag("p", t("report.distances_none")))
    else:
        places = facts.kinds()
        kinds = {kind: normalised[places[kind]].tolist() for kind in names}
        good = [kind for kind, where in places.items() if labels[where[0]] == 0]
        words = _words(facts, alt="boxes_alt", alt_kind="boxes_alt_kind", alt_over="alt_over")
        alt = boxes_text(kinds, line, words, good)
        marks = [("normal", t("report.normal_tests")), ("0", t("report.defect_tests"))]
        drawn = charts.boxes(kinds, good, line, over, x, limit, alt)
        parts.append(_drawn(t("report.boxes"), drawn, charts.legend(marks), wide=True))
    groups = {
        "held": held.tolist(),
        "normal": normalised[labels == 0].tolist(),
        "defect": normalised[labels == 1].tolist(),
    }
    words = _words(
        facts, alt="histogram_alt", alt_group="histogram_alt_group", alt_over="alt_over", normal="normal_tests",
        defect="defect_tests", calibration="held_out",
    )  # fmt: skip
    alt = histogram_text(groups["normal"], groups["defect"], groups["held"], line, words)
    drawn = charts.histogram(groups, line, over, x, t("report.pictures_count"), limit, alt)
    keys = {"held": "held_out", "normal": "normal_tests", "defect": "defect_tests"}
    marks = [(f"bars {cls}", t(f"report.{keys[cls]}")) for cls, values in groups.items() if values]
    parts.append(_drawn(t("report.histogram"), drawn, charts.legend(marks), wide=True))
    return join(parts)


# --- embeddings -------------------------------------------------------------------------------------------------------


def plane(facts: Facts) -> Markup:
    t, found = facts.words.t, facts.plane() if facts.rows else None
    if found is None:
        return tag("p", t("report.plane_none"))
    places, held, chosen, by_tsne = found
    defects = list(dict.fromkeys(row["kind"] for row in facts.rows if row["label"] == 1))
    most = len(charts.SHAPES)
    own = defects if len(defects) <= most else defects[: most - 1]  # the last mark is shared by all further kinds
    looks = ["held"] * held + [_look(facts.rows[i], own) for i in chosen]
    wrong = set(facts.mistakes())
    ringed = [held + place for place, i in enumerate(chosen) if i in wrong]
    names = [facts.kind(kind) for kind in own]
    alt = t(
        "report.plane_alt", normals=held, tests=len(chosen), wrong=len(ringed),
        kinds=", ".join([*names, *([t("report.other_kinds", n=len(defects) - len(own))] if own != defects else [])]) or "–",
    )  # fmt: skip
    legend = _plane_legend(facts, looks, names, len(defects) - len(own), bool(ringed))
    about = t("report.plane_tsne" if by_tsne else "report.plane_pca")
    if len(chosen) < len(facts.rows):
        about += " " + t("report.plane_some", n=len(chosen), total=len(facts.rows))
    return _drawn(about, charts.scatter(places, looks, ringed, alt), legend)


def _look(row: Mapping[str, Any], own: Sequence[str]) -> str:
    if row["label"] == 0:
        return "normal"
    return str(own.index(row["kind"])) if row["kind"] in own else str(len(charts.SHAPES) - 1)


def _plane_legend(facts: Facts, looks: Sequence[str], names: Sequence[str], more: int, ringed: bool) -> Markup:
    t = facts.words.t
    items = [("held", t("report.fitted_normals")), ("normal", t("report.normal_tests"))]
    items = [(look, name) for look, name in items if look in looks]
    items += [(str(i), svg.shortened(name, 40)) for i, name in enumerate(names)]
    if more:
        items.append((str(len(charts.SHAPES) - 1), t("report.other_kinds", n=more)))
    return charts.legend([*items, *([("ring", t("report.wrong_verdict"))] if ringed else [])])


# --- studies ----------------------------------------------------------------------------------------------------------


def studies(facts: Facts) -> Markup | None:
    """What a learning curve and a study of directions found, where the run has them; None where it has neither."""
    curve, directions = facts.run.read("curve.json"), facts.run.read("directions.json")
    if not curve and not directions:
        return None
    parts = []
    try:
        if curve:
            parts += _curve(facts, curve)
        if directions:
            basis = facts.words.t("report.directions_on", **directions["measured_on"])
            said = facts.words.tell(Sentence.from_json(directions["sentence"]))
            parts += [tag("h3", facts.words.t("report.directions")), tag("p", said), tag("p", basis, cls="aside")]
    except (KeyError, TypeError, ValueError, IndexError):
        raise DataError(
            "'{file}' of run '{run}' is damaged. Fit the run again.",
            file="curve.json, directions.json",
            run=facts.run.id,
        ) from None
    return join(parts)


def _curve(facts: Facts, found: Mapping[str, Any]) -> list[Markup]:
    t, on = facts.words.t, found["measured_on"]
    said = [Sentence.from_json(found[name]) for name in ("sentence", "promise") if found.get(name)]
    parts = [tag("p", facts.words.tell(sentence)) for sentence in said]
    judged = found["auroc"] is not None
    values = [[float(value) for value in row] for row in found["auroc" if judged else "false_alarms"]]
    about = t("report.curve_auroc" if judged else "report.curve_false", **{**on, "repeats": found["repeats"]})
    points = zip(found["normals"], values, strict=True)
    alt = " ".join(
        t("report.curve_alt", n=n, mean=sum(row) / len(row), low=min(row), high=max(row)) for n, row in points
    )
    y = t("report.figure_image_auroc" if judged else "report.rate")
    return [*parts, _drawn(about, charts.ranges(found["normals"], values, t("report.curve_x"), y, alt), wide=True)]
