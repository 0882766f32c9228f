"""The charts of a report as SVG of our own: sharp in print, a few kilobytes each, and readable without a script.

Colours come from classes of the report's style sheet; series also differ in shape, dash or hatching, for print in grey.
Words come in from outside.  Scores are normalised unless said otherwise.  For charts on pages see `plots`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from adlib.markup import Markup, join, tag
from adlib.svg import NAME, Axis, Plot, mark, px, shortened, written

FULL, HALF = 680, 328  # widths in CSS pixels: a whole line of an A4 page, or half of one
SHAPES = ("diamond", "triangle", "square", "cross", "star", "hexagon")  # of kinds of defect, in their order
_POINTS = 300  # of a kind in a box plot; beyond, only its outliers are drawn
_BINS = 32


# --- curves -----------------------------------------------------------------------------------------------------------


def roc(fpr: np.ndarray, tpr: np.ndarray, point: tuple[float, float], x: str, y: str, alt: str) -> Markup:
    """fpr, tpr: (K,) as `metrics.roc` gives them.  point: (fpr, tpr) at the line in use."""
    plot = _unit_square(alt, x, y)
    plot.line([0, 1], [0, 1], "chance")
    plot.line(*_corners(fpr, tpr), "curve")
    plot.draw(mark("diamond", plot.x(point[0]), plot.y(point[1]), 7, "point"))
    return plot.svg()


def pr(
    recall: np.ndarray, precision: np.ndarray, point: tuple[float, float] | None, base: float, x: str, y: str, alt: str
) -> Markup:
    """recall, precision: (K,) as `metrics.pr` gives them.  base: share of defects, where guessing lies."""
    plot = _unit_square(alt, x, y)
    plot.line([0, 1], [base, base], "chance")
    starts = np.concatenate([[0.0], recall[:-1]])  # a step holds the precision of its right end
    plot.line(*_corners(np.stack([starts, recall], 1).ravel(), np.repeat(precision, 2)), "curve")
    if point is not None:
        plot.draw(mark("diamond", plot.x(point[0]), plot.y(point[1]), 7, "point"))
    return plot.svg()


def _unit_square(alt: str, x: str, y: str) -> Plot:
    plot = Plot(HALF, 280, Axis(0, 1, 44, HALF - 14), Axis(0, 1, 238, 24), alt)
    plot.frame(x, y, percent=True)
    return plot


def _corners(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """The same line without points on the straight way between their neighbours, to a ten-thousandth."""
    points = list(zip(np.round(x, 4).tolist(), np.round(y, 4).tolist(), strict=True))
    kept = points[:1]
    for point, after in zip(points[1:], [*points[2:], (math.nan, math.nan)], strict=True):
        (x0, y0), (x1, y1), (x2, y2) = kept[-1], point, after
        on_the_way = (x0 == x1 == x2 and (y1 - y0) * (y2 - y1) >= 0) or (y0 == y1 == y2 and (x1 - x0) * (x2 - x1) >= 0)
        if not on_the_way and point != kept[-1]:
            kept.append(point)
    return [a for a, _ in kept], [b for _, b in kept]


# --- scores -----------------------------------------------------------------------------------------------------------


def boxes(
    kinds: Mapping[str, Sequence[float]], normals: Iterable[str], line: float, over: Axis, x: str, limit: str, alt: str
) -> Markup:
    """One lying box a kind: half of its pictures lie in the box, the line in it is the median, whiskers reach at most one
    and a half boxes further; each picture is a point.

    kinds: name → scores, at least one each, from top to bottom.  normals: which of them are normal.  line: the threshold.
    over: the axis, as `axis_over` gives it.  limit: the threshold's name.
    """
    normals, step = set(normals), 28
    height = 24 + step * len(kinds) + 44
    plot = Plot(FULL, height, over, Axis(0, len(kinds), 24, 24 + step * len(kinds)), alt)
    plot.frame(x, y_ticks=False)
    for place, (kind, values) in enumerate(kinds.items()):
        cls = "normal" if kind in normals else "defect"
        plot.draw(written(shortened(kind, NAME), over.start - 10, plot.y(place + 0.5) + 4, anchor="end"))
        plot.draw(*_box(plot, np.asarray(values, dtype=float), plot.y(place + 0.5), cls))
    plot.upright(line, limit)
    return plot.svg()


def _box(plot: Plot, values: np.ndarray, middle: float, cls: str) -> list[Markup]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    reach = 1.5 * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    ends = [px(plot.x(value)) for value in (inside.min(), low, median, high, inside.max())]
    half, y = 8, px(middle)
    top, bottom = px(middle - half), px(middle + half)
    drawn = f"M{ends[0]} {y}H{ends[1]}M{ends[3]} {y}H{ends[4]}M{ends[1]} {top}H{ends[3]}V{bottom}H{ends[1]}Z"
    shown = values if len(values) <= _POINTS else values[(values < low - reach) | (values > high + reach)]
    shape = "circle" if cls == "normal" else "diamond"
    jitter = np.random.default_rng(0).uniform(-5, 5, len(shown))
    points = [mark(shape, plot.x(v), middle + j, 3, f"dot {cls}") for v, j in zip(shown.tolist(), jitter, strict=True)]
    return [
        *points, tag("path", d=drawn, cls=f"box {cls}"), tag("path", d=f"M{ends[2]} {top}V{bottom}", cls=f"median {cls}")
    ]  # fmt: skip


def histogram(
    groups: Mapping[str, Sequence[float]], line: float, over: Axis, x: str, y: str, limit: str, alt: str
) -> Markup:
    """Counts over common bins.  groups: class (normal, defect or held) → scores; those without pictures are left out."""
    bottom, top = 172, 36
    space = np.geomspace if over.log else np.linspace
    edges = space(over.low, over.high, _BINS + 1)
    counts = {
        cls: np.histogram(np.asarray(values, dtype=float), edges)[0] for cls, values in groups.items() if len(values)
    }
    highest = max(1, *(int(count.max()) for count in counts.values()))
    plot = Plot(FULL, 214, over, Axis(0, highest * 1.05, bottom, top), alt)
    plot.frame(x, y)
    for cls, count in counts.items():
        up = np.repeat([0, *count.tolist(), 0], 2)[1:-1].tolist()
        across = np.repeat(edges, 2).tolist()
        plot.line(across, up, f"bars {cls}")
    plot.upright(line, limit)
    return plot.svg()


def ranges(at: Sequence[float], values: Sequence[Sequence[float]], x: str, y: str, alt: str) -> Markup:
    """Means over repeats, joined by a line, and bars from the lowest to the highest.  at: (S,), ascending; values: S rows."""
    low, high = min(map(min, values)), max(map(max, values))
    room = 0.1 * (high - low) or 0.05
    across = Axis(at[0] / 1.15, at[-1] * 1.15, 60, FULL - 14, log=True)
    plot = Plot(FULL, 214, across, Axis(max(0.0, low - room), high + room, 172, 24), alt)
    plot.frame(x, y, x_ticks=at)
    means = [sum(row) / len(row) for row in values]
    plot.line(at, means, "curve")
    for place, mean, row in zip(at, means, values, strict=True):
        plot.line([place, place], [min(row), max(row)], "whisker")
        plot.draw(mark("circle", plot.x(place), plot.y(mean), 4.5, "dot normal"))
    return plot.svg()


# --- embeddings -------------------------------------------------------------------------------------------------------


def scatter(places: np.ndarray, looks: Sequence[str], ringed: Iterable[int], alt: str) -> Markup:
    """places: (N, 2).  looks: for each point "held", "normal", or a number of SHAPES for its kind of defect.

    ringed: points to mark with a ring.  Drawn in the order given.
    """
    width, height, room = FULL, 272, 16
    low, high = places.min(axis=0), places.max(axis=0)
    scale = min((width - 2 * room) / max(high[0] - low[0], 1e-9), (height - 2 * room) / max(high[1] - low[1], 1e-9))
    at = (places - (low + high) / 2) * scale + (width / 2, height / 2)
    parts = [tag("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, cls="ground")]
    for (x, y), look in zip(at.tolist(), looks, strict=True):
        parts.append(place_mark(look, x, y))
    ringed = list(ringed)
    look, r = ("ring", 9) if len(ringed) <= 60 else ("ring many", 6.5)  # many thick rings would hide what they mark
    parts += [tag("circle", cx=px(at[i][0]), cy=px(at[i][1]), r=r, cls=look) for i in ringed]
    return tag(
        "svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=alt, xmlns="http://www.w3.org/2000/svg"
    )


def place_mark(look: str, x: float, y: float) -> Markup:
    if look in ("held", "normal"):
        return mark("circle", x, y, 3 if look == "held" else 4, f"dot {look}")
    kind = int(look)
    return mark(SHAPES[kind % len(SHAPES)], x, y, 5, f"dot defect k{kind % len(SHAPES)}")


# --- small ones -------------------------------------------------------------------------------------------------------


def interval(value: float, low: float | None = None, high: float | None = None) -> Markup:
    """A value in [0, 1] and its interval on a short scale: decoration, since the numbers stand beside it."""
    at = Axis(0, 1, 4, 116)
    parts = [tag("path", d="M4 8H116M4 5V11M60 6V10M116 5V11", cls="scale")]
    if low is not None and high is not None:
        parts.append(tag("path", d=f"M{px(at(low))} 8H{px(max(at(high), at(low) + 0.5))}", cls="span"))
    parts.append(mark("diamond", at(value), 8, 4.5, "point"))
    return tag("svg", *parts, viewBox="0 0 120 16", aria_hidden="true", cls="interval")


def shares(good: int, bad: int, cls: str) -> Markup:
    """Two counts as one bar, right ones first, wrong ones hatched; decoration, since the counts stand beside it."""
    total, width = max(1, good + bad), 400
    cut = width * good / total
    cut = min(cut, width - 6) if bad else width  # one wrong picture of thousands still shows
    parts = [tag("rect", x=0, y=0, width=px(cut), height=18, cls=f"share {cls}")] if good else []
    if bad:
        parts.append(tag("rect", x=px(cut), y=0, width=px(width - cut), height=18, cls="share wrong"))
    return tag("svg", *parts, viewBox=f"0 0 {width} 18", preserveAspectRatio="none", aria_hidden="true", cls="shares")


def swatch(look: str) -> Markup:
    """How a series looks, for a legend.  look: "curve", "chance", "limit", "point", "bars …", "ring" or as in `scatter`."""
    if look == "point":
        drawn = mark("diamond", 12, 7, 6, "point")
    elif look == "ring":
        drawn = tag("circle", cx=12, cy=7, r=6, cls="ring")
    elif look.startswith("bars"):
        drawn = tag("path", d="M2 12V2H22V12Z", cls=look)
    elif look in ("curve", "chance", "limit"):
        drawn = tag("path", d="M1 7H23", cls=look)
    else:
        drawn = place_mark(look, 12, 7)
    return tag("svg", drawn, viewBox="0 0 24 14", aria_hidden="true", cls="swatch")


def heat_scale(colours: np.ndarray, ends: tuple[str, str, str]) -> Markup:
    """The colours of the heatmaps, (256, 3) uint8, and three names: at zero, in the middle, at the end."""
    stops = [
        tag("stop", offset=f"{100 * share:g}%", stop_color="#" + bytes(colours[round(255 * share)].tolist()).hex())
        for share in np.linspace(0, 1, 11)
    ]
    parts = [
        tag("defs", tag("linearGradient", *stops, id="heat")),
        tag("rect", x=0.5, y=0.5, width=299, height=13, fill="url(#heat)", cls="rim"),
        tag("path", d="M150 0V18", cls="limit"),
    ]
    for name, x, anchor in zip(ends, (0, 150, 300), ("start", "middle", "end"), strict=True):
        parts.append(written(name, x, 31, anchor=anchor))
    return tag("svg", *parts, viewBox="0 0 300 36", role="img", aria_label=" – ".join(ends), cls="heat-scale")


def patterns() -> Markup:
    """The hatching that other drawings refer to; stands once in the page, without a size of its own."""
    hatch = [
        tag("pattern", tag("path", d="M0 0V6", cls=f"hatch {cls}"), id=f"hatch-{cls}", width=5, height=5,
            patternUnits="userSpaceOnUse", patternTransform="rotate(45)")
        for cls in ("defect", "wrong")
    ]  # fmt: skip
    return tag("svg", tag("defs", *hatch), width=0, height=0, aria_hidden="true", cls="nowhere")


def legend(items: Iterable[tuple[str, str]]) -> Markup:
    """(look, name) pairs as a list under a chart."""
    return tag("ul", join(tag("li", swatch(look), tag("span", name)) for look, name in items), cls="legend")
