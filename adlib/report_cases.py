"""Single pictures of a report: the worst mistakes and the best catches, each beside its nearest normal."""

from __future__ import annotations

from PIL import Image

from adlib import overlays
from adlib import report_charts as charts
from adlib.markup import Markup, join, tag
from adlib.report_decision import number
from adlib.report_facts import LONGEST, Facts
from adlib.report_pictures import data_uri, shown
from adlib.wording import middle_cut

MISTAKES, CATCHES = 6, 4  # pictures of each that are shown


def pictures(facts: Facts) -> Markup:
    """The worst mistakes, or the closest calls where there is none, and the best catches."""
    t = facts.words.t
    if not facts.rows:
        return tag("p", t("report.pictures_none"))
    has_map = facts.array("maps") is not None and bool(facts.calibration.map_unit)
    parts = [tag("p", t("report.pictures_about" if has_map else "report.pictures_about_no_map"))]
    if has_map:
        ends = (t("report.scale_zero"), t("report.scale_line"), t("report.scale_end"))
        parts.append(charts.heat_scale(overlays.inferno(), ends))
    wrong, catches = facts.mistakes(), facts.catches()[:CATCHES]
    if not any(facts.path(facts.rows[i]) for i in (*wrong[:MISTAKES], *catches)):
        parts.append(tag("p", t("report.all_gone"), cls="gone"))
    if wrong:
        parts.append(tag("h3", t("report.mistakes")))
        if len(wrong) > MISTAKES:
            parts.append(tag("p", t("report.mistakes_some", n=MISTAKES, total=len(wrong))))
        parts += [_case(facts, i, has_map) for i in wrong[:MISTAKES]]
    else:
        parts += [tag("p", t("report.no_mistakes")), tag("h3", t("report.closest"))]
        closest = facts.closest()[:CATCHES]
        parts += [_case(facts, i, has_map) for i in closest]
        catches = [i for i in facts.catches() if i not in closest][:CATCHES]
    if catches:
        parts.append(tag("h3", t("report.catches")))
        parts += [_case(facts, i, has_map) for i in catches]
    return join(parts)


def _case(facts: Facts, index: int, has_map: bool) -> Markup:
    """One test picture, its heatmap and its nearest normal, with the verdict in words."""
    t, row = facts.words.t, facts.rows[index]
    right = bool(facts.alarms[index]) == (row["label"] == 1)
    said = ("caught" if right else "missed") if row["label"] else ("passed" if right else "false")
    kind, times = facts.kind(row["kind"]), number(facts.ratio(index), 2)
    name = middle_cut(str(row["name"]), LONGEST)
    seen = shown(facts, index)
    near = seen.nearest
    heat_alt = t("report.heat_alt", name=name, x=times)
    near_alt = t("report.nearest_alt", name=middle_cut(near[1], LONGEST)) if near else ""
    cells = [
        _cell(t("report.test_picture"), seen.photo, t("report.photo_alt", name=name, kind=kind), t("report.gone")),
        _cell(t("report.heatmap"), seen.heat, heat_alt, t("report.no_map")) if has_map else None,
        _cell(t("report.nearest"), near and near[0], near_alt, t("report.no_nearest")),
    ]
    about = tag(
        "div", tag("p", t(f"report.verdict_{said}"), cls="badge right" if right else "badge wrong"),
        tag("p", tag("bdi", kind), cls="kind"), tag("p", t("report.times", x=times), cls="times"),
        tag("p", tag("bdi", name), cls="name"), cls="case-about",
    )  # fmt: skip
    return tag("article", about, *cells, cls="case" if has_map else "case two")


def _cell(title: str, picture: Image.Image | None, alt: str, instead: str) -> Markup:
    inside = tag("p", instead, cls="no-picture")
    if picture is not None:
        inside = tag("img", src=data_uri(picture), alt=alt, width=picture.width, height=picture.height)
    return tag("figure", inside, tag("figcaption", title))
