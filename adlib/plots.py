"""The charts of an evaluation: Plotly figures, returned and never shown.

Every word on a figure comes in through `words`, a mapping with the keys of its constant in `alt_text`; what is missing is
shown in English.  Series differ in colour (Okabe and Ito 2008, safe for colour-blind eyes) and in shape or
dash.  Backgrounds are transparent and the font's colour is left open, so that a figure follows the page's theme.
Heatmaps are in `overlays`, whose verbs are offered here too.
"""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adlib.alt_text import BOXES_WORDS, HISTOGRAM_WORDS, LOSS_WORDS, PR_WORDS, ROC_WORDS, Words, in_order, spoken
from adlib.overlays import heat_only as heat_only
from adlib.overlays import inferno as inferno
from adlib.overlays import legend_png as legend_png
from adlib.overlays import overlay as overlay

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Each stands out 3:1 from a white and from a near-black page.
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#808080"


# --- curves -----------------------------------------------------------------------------------------------------------


def roc(fpr: np.ndarray, tpr: np.ndarray, point: tuple[float, float] | None = None, words: Words = ROC_WORDS) -> Figure:
    """fpr, tpr: (K,) as `metrics.roc` gives them.  point: (fpr, tpr) at the threshold in use, or None."""
    w = spoken(words, ROC_WORDS)
    figure = _unit_square(w)
    _line(figure, [0, 1], [0, 1], w["chance"], GREY, dash="dot", hover=False)
    _line(figure, fpr, tpr, w["curve"], BLUE)
    _working_point(figure, point, w)
    return figure


def pr(
    recall: np.ndarray,
    precision: np.ndarray,
    point: tuple[float, float] | None = None,
    words: Words = PR_WORDS,
    base: float | None = None,
) -> Figure:
    """recall, precision: (K,) as `metrics.pr` gives them.  point: (recall, precision) in use, or None.

    base: share of defects, where guessing lies; None = the last precision, where everything alarms.
    """
    w = spoken(words, PR_WORDS)
    figure = _unit_square(w)
    level = float(precision[-1]) if base is None else base
    _line(figure, [0, 1], [level, level], w["chance"], GREY, dash="dot", hover=False)
    _line(figure, recall, precision, w["curve"], BLUE, shape="vh")
    _working_point(figure, point, w)
    return figure


# --- scores -----------------------------------------------------------------------------------------------------------

_POINTS = 400  # of a kind; beyond, only the outliers are drawn, or a phone could not follow
_BINS = 40


def boxes(
    kinds: Mapping[str, Sequence[float]],
    threshold: float | None = None,
    words: Words = BOXES_WORDS,
    normals: Collection[str] = ("good",),
    names: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """One lying box a kind with its pictures as points; normals at the top, then the kinds in the order they came.

    kinds: kind → scores, normalised.  threshold: in the same unit.  normals: which kinds are normal.
    names: kind → the pictures' names, shown under the pointer.  Kinds without pictures are left out.
    """
    import plotly.graph_objects as go

    w = spoken(words, BOXES_WORDS)
    order = in_order(kinds, normals)
    figure = go.Figure()
    for place, kind in enumerate(order):
        normal, scores = kind in normals, np.asarray(kinds[kind], dtype=float)
        label = w["normal"] if normal else w["defect"]
        shown = [_safe(name) for name in names[kind]] if names and kind in names else [_safe(kind)] * len(scores)
        figure.add_box(
            x=scores, y=[place] * len(scores), orientation="h", name=_safe(label), legendgroup=str(normal),
            showlegend=all((other in normals) != normal for other in order[:place]), customdata=shown,
            boxpoints="all" if len(scores) <= _POINTS else "outliers", jitter=0.5, pointpos=0, width=0.6,
            marker={"color": BLUE if normal else VERMILLION, "symbol": "circle" if normal else "diamond", "size": 6,
                    "opacity": 0.7},
            line={"width": 1.5}, hoveron="points", hovertemplate="%{customdata}: %{x:.3f}<extra></extra>",
        )  # fmt: skip
    if threshold is not None:
        _threshold_line(figure, threshold, (-0.5, len(order) - 0.5), w["threshold"])
    _dress(figure, w["x"], "", height=120 + 44 * max(2, len(order)))
    _scale(figure, *_span([kinds[kind] for kind in order], threshold))
    ticks = [_safe(kind, 18) for kind in order]
    figure.update_yaxes(
        tickvals=list(range(len(order))), ticktext=ticks, range=[len(order) - 0.5, -0.5], showgrid=False, zeroline=False
    )
    return figure


def histogram(
    normal: Sequence[float],
    defect: Sequence[float],
    calibration: Sequence[float] = (),
    threshold: float | None = None,
    words: Words = HISTOGRAM_WORDS,
) -> Figure:
    """Counts of normal tests, defects and held-out normals over common bins; any may be empty.

    All in one unit, usually normalised.  Bins grow evenly, or by a factor when scores span more than twentyfold.
    """
    import plotly.graph_objects as go

    w = spoken(words, HISTOGRAM_WORDS)
    groups = {"normal": normal, "defect": defect, "calibration": calibration}
    looks = {"normal": (BLUE, "solid", ""), "defect": (VERMILLION, "dash", "/"), "calibration": (GREEN, "dot", ".")}
    figure, span, highest = go.Figure(), _span(groups.values(), threshold), 0
    edges = _edges(*span)
    for group, scores in groups.items():
        if len(scores) == 0:
            continue
        counts = np.histogram(np.asarray(scores, dtype=float), edges)[0]
        highest = max(highest, int(counts.max()))
        colour, dash, pattern = looks[group]
        figure.add_scatter(
            x=edges, y=np.append(counts, 0), name=_safe(w[group]), mode="lines", fill="tozeroy",
            line={"shape": "hv", "color": colour, "dash": dash, "width": 2},
            fillcolor=None if pattern else "rgba(0,114,178,0.3)",
            fillpattern={"shape": pattern, "fgcolor": colour, "bgcolor": "rgba(0,0,0,0)"} if pattern else None,
            customdata=[f"{a:.3g} – {b:.3g}" for a, b in zip(edges, [*edges[1:], edges[-1]], strict=True)],
            hovertemplate="%{customdata}: %{y}<extra>" + _safe(w[group]).replace("%", "&#37;") + "</extra>",
        )  # fmt: skip
    if threshold is not None:
        _threshold_line(figure, threshold, (0, max(1, highest) * 1.05), w["threshold"])
    _dress(figure, w["x"], w["y"], height=320)
    _scale(figure, *span)
    figure.update_yaxes(rangemode="tozero")
    return figure


def losses(curves: Mapping[str, Sequence[float]], words: Words = LOSS_WORDS) -> Figure:
    """Loss by epoch, as `learning.curves` gives it; a held-out loss carries a mark at its best epoch.

    The axis is logarithmic while every value is above 0.
    """
    import plotly.graph_objects as go

    w = spoken(words, LOSS_WORDS)
    figure = go.Figure()
    names = [name for name in curves if name != "epoch"]
    looks = [(BLUE, "solid"), (VERMILLION, "dash"), (GREEN, "dot"), (GREY, "dashdot")]
    for name, (colour, dash) in zip(names, looks, strict=False):
        _line(figure, curves["epoch"], curves[name], w.get(name, name), colour, dash=dash)
    figure.update_traces(hovertemplate="%{x:.0f}: %{y:.4g}<extra></extra>")
    if held := curves.get("held_out"):
        at = int(np.argmin(held))
        figure.add_scatter(
            x=[curves["epoch"][at]], y=[held[at]], name=_safe(w["best"]), mode="markers", cliponaxis=False,
            marker={"color": VERMILLION, "symbol": "diamond", "size": 11, "line": {"color": "white", "width": 1.5}},
            hovertemplate="%{x:.0f}: %{y:.4g}<extra></extra>",
        )  # fmt: skip
    _dress(figure, w["x"], w["y"], height=260)
    if all(value > 0 for name in names for value in curves[name]):
        figure.update_yaxes(type="log")
    return figure


# --- what the figures share -------------------------------------------------------------------------------------------


def _safe(text: str, longest: int = 60) -> str:
    """A person's text for a label: Plotly reads tags and links in labels, and $…$ as a formula."""
    flat = "".join(letter if letter.isprintable() else " " for letter in str(text))
    short = flat if len(flat) <= longest else flat[: longest - 1] + "…"
    return html.escape(short, quote=False).replace("$", "&#36;")


def _dress(figure: Figure, x: str, y: str, height: int) -> None:
    """Margins for a phone, no title, legend under the axis, transparent ground."""
    figure.update_layout(
        height=height, margin={"l": 8, "r": 8, "t": 8, "b": 8}, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        hovermode="closest", dragmode=False,
    )  # fmt: skip
    grid = {"automargin": True, "gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.5)"}
    figure.update_xaxes(title={"text": _safe(x), "standoff": 6}, **grid)
    figure.update_yaxes(title={"text": _safe(y), "standoff": 12}, **grid)


def _unit_square(w: Mapping[str, str]) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    _dress(figure, w["x"], w["y"], height=380)
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.02])
    return figure


def _line(
    figure: Figure,
    x: Any,
    y: Any,
    name: str,
    colour: str,
    dash: str = "solid",
    shape: str = "linear",
    hover: bool = True,
) -> None:
    figure.add_scatter(
        x=np.asarray(x, dtype=float), y=np.asarray(y, dtype=float), name=_safe(name), mode="lines",
        line={"color": colour, "width": 2.5, "dash": dash, "shape": shape},
        hoverinfo=None if hover else "skip", hovertemplate="%{x:.3f}, %{y:.3f}<extra></extra>" if hover else None,
    )  # fmt: skip


def _working_point(figure: Figure, point: tuple[float, float] | None, w: Mapping[str, str]) -> None:
    if point is None:
        return
    figure.add_scatter(
        x=[point[0]], y=[point[1]], name=_safe(w["point"]), mode="markers", cliponaxis=False,
        marker={"color": VERMILLION, "symbol": "diamond", "size": 13, "line": {"color": "white", "width": 1.5}},
        hovertemplate="%{x:.3f}, %{y:.3f}<extra></extra>",
    )  # fmt: skip


def _threshold_line(figure: Figure, at: float, span: tuple[float, float], name: str) -> None:
    """A trace and not a shape, so that it stands in the legend."""
    figure.add_scatter(
        x=[at, at], y=list(span), name=_safe(name), mode="lines", line={"color": GREY, "width": 2.5, "dash": "dash"},
        hovertemplate="%{x:.3f}<extra></extra>",
    )  # fmt: skip


def _span(groups: Iterable[Sequence[float]], threshold: float | None) -> tuple[float, float, bool]:
    """(lowest, highest, logarithmic): all positive and more than twentyfold asks for a logarithmic axis."""
    values = np.concatenate(
        [np.asarray(group, dtype=float) for group in (*groups, [] if threshold is None else [threshold])]
    )
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return low, high, 0 < low < high / 20


def _edges(low: float, high: float, log: bool) -> np.ndarray:
    """(_BINS + 1,) edges of bins that hold everything from low to high."""
    if log:
        return np.geomspace(low / 1.0001, high * 1.0001, _BINS + 1)
    if high - low < 1e-9 * max(abs(low), abs(high), 1):
        return np.linspace(low - 0.5, high + 0.5, _BINS + 1)
    return np.linspace(low, high, _BINS + 1)


def _scale(figure: Figure, low: float, high: float, log: bool) -> None:
    """A linear axis, or a logarithmic one with whole numbers: Plotly's own would read 5, 1, 2, 5, 10."""
    if log:
        steps = (1, 2, 5) if high < 300 * low else (1,)
        decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
