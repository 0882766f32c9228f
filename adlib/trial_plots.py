"""Figures of experiments and of runs side by side: areas by method, distances by class, planes, sweeps, ROC curves.

As `plots`: figures are returned and never shown, words come in through `words`, and series differ in colour and in shape.
The paragraph for those who do not see a figure is made by the function of the same name with `_text`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adlib.alt_text import Words, spoken
from adlib.plots import BLUE, GREEN, GREY, VERMILLION, _dress, _line, _safe, _unit_square

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe and Ito 2008, without yellow, which is lost on white; each 3:1 on both grounds or told by its shape as well.
COLOURS = (BLUE, VERMILLION, GREEN, "#CC79A7", "#9A6A00", "#5B8FB9", GREY)
SYMBOLS = ("circle", "diamond", "square", "cross", "x", "triangle-up", "triangle-down", "star")
FAR = 0.8  # an AUROC from here on is far above guessing
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")

AREAS_WORDS: Words = {
    "x": "AUROC",
    "chance": "guessing",
    "alt": "AUROC by method.",
    "alt_one": "{name}: {n} values, mean {mean:.3f}, from {low:.3f} to {high:.3f}.",
}
FIVE_WORDS: Words = {
    "x": "Score (1 = an average normal test)",
    "normal": "normal class",
    "anomaly": "held-out class",
    "alt": "Scores by class.",
    "alt_one": "{name}: half of the pictures from {low:.2f} to {high:.2f}, median {median:.2f}.",
}
PLANE_WORDS: Words = {
    "normal": "{name}",
    "anomaly": "{name} (held out)",
    "alt": "Test pictures on a plane by t-SNE, in {n} classes; held out are {anomalous}.",
}
SWEEP_WORDS: Words = {
    "x": "",
    "y": "AUROC",
    "alt": "Mean AUROC by {x}.",
    "alt_line": "{name}: {values}.",
    "alt_value": "{x}: {mean:.3f}",
}
BINS_WORDS: Words = {
    "x": "Score",
    "y": "Pictures",
    "normal": "normal",
    "anomaly": "anomaly",
    "oracle": "oracle's threshold",
    "held_out": "threshold from the other half",
    "alt": "Histogram of scores of {normals} normal pictures and {anomalies} anomalies.",
}
ROCS_WORDS: Words = {
    "x": "False alarms (share of normals)",
    "y": "Defects caught",
    "chance": "guessing",
    "alt": "ROC curves of {n} runs.",
    "alt_one": "{name}: area {area:.3f}.",
}


# --- areas by method --------------------------------------------------------------------------------------------------


def areas(groups: Mapping[str, Sequence[float]], words: Words = AREAS_WORDS) -> Figure:
    """One lying box a method with its values as points, in the order they came, the first at the top.

    Where all values lie far above guessing, the axis begins near them and the line of guessing is left out.
    """
    import plotly.graph_objects as go

    w = spoken(words, AREAS_WORDS)
    figure = go.Figure()
    for place, values in enumerate(groups.values()):
        figure.add_box(
            x=list(values), y=[place] * len(values), orientation="h", showlegend=False, boxpoints="all", jitter=0.4, pointpos=0,
            width=0.6, boxmean=True, marker={"color": BLUE, "size": 6, "opacity": 0.8}, line={"width": 1.5},
            hoveron="points", hovertemplate="%{x:.4f}<extra></extra>",
        )  # fmt: skip
    least = min((value for values in groups.values() for value in values), default=0.0)
    if least < FAR:
        figure.add_scatter(
            x=[0.5, 0.5], y=[-0.5, len(groups) - 0.5], mode="lines", name=_safe(w["chance"]), hoverinfo="skip",
            line={"color": GREY, "dash": "dot", "width": 2},
        )  # fmt: skip
    _dress(figure, w["x"], "", height=110 + 40 * max(2, len(groups)))
    if least >= FAR:
        figure.update_xaxes(range=[math.floor(20 * least - 0.2) / 20, 1.005])
    _rows(figure, list(groups))
    return figure


def areas_text(groups: Mapping[str, Sequence[float]], words: Words = AREAS_WORDS) -> str:
    w = spoken(words, AREAS_WORDS)
    said = [w["alt"]]
    for name, values in groups.items():
        held = np.asarray(values, dtype=float)
        said.append(w["alt_one"].format(name=name, n=len(held), mean=held.mean(), low=held.min(), high=held.max()))
    return " ".join(said)


def _rows(figure: Figure, names: Sequence[str]) -> None:
    """Names at the left, the first at the top; long ones in two lines."""
    shown = [_safe(name, 44).replace(" · ", "<br>") for name in names]
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=shown, range=[len(names) - 0.5, -0.5], showgrid=False, zeroline=False
    )


# --- distances by class -----------------------------------------------------------------------------------------------


def five(boxes: Mapping[str, Sequence[float]], anomalous: Collection[str], words: Words = FIVE_WORDS) -> Figure:
    """A box a class from its five numbers; normal classes at the top.  boxes: class → least, quarter, median, …, most."""
    import plotly.graph_objects as go

    w = spoken(words, FIVE_WORDS)
    order = sorted(boxes, key=lambda name: name in anomalous)
    figure = go.Figure()
    shown: set[bool] = set()
    for place, name in enumerate(order):
        low, quarter, median, three, high = boxes[name]
        out = name in anomalous
        figure.add_box(
            y=[place], q1=[quarter], median=[median], q3=[three], lowerfence=[low], upperfence=[high], orientation="h",
            name=_safe(w["anomaly" if out else "normal"]), legendgroup=str(out), showlegend=out not in shown, width=0.6,
            marker={"color": VERMILLION if out else BLUE}, line={"width": 2},
            fillcolor="rgba(0,0,0,0)" if out else "rgba(0,114,178,0.35)", hoverinfo="x",
        )  # fmt: skip
        shown.add(out)
    _dress(figure, w["x"], "", height=110 + 32 * max(2, len(order)))
    _rows(figure, order)
    return figure


def five_text(boxes: Mapping[str, Sequence[float]], anomalous: Collection[str], words: Words = FIVE_WORDS) -> str:
    w = spoken(words, FIVE_WORDS)
    said = [w["alt"]]
    for name in sorted(boxes, key=lambda name: name in anomalous):
        _, low, median, high, _ = boxes[name]
        said.append(w["alt_one"].format(name=name, low=low, median=median, high=high))
    return " ".join(said)


def plane(
    places: Sequence[Sequence[float]], classes: Sequence[str], anomalous: Collection[str], words: Words = PLANE_WORDS
) -> Figure:
    """Points by class; normal classes are filled, held-out ones open.  places: (N, 2)."""
    import plotly.graph_objects as go

    w = spoken(words, PLANE_WORDS)
    points, held = np.asarray(places, dtype=float).reshape(-1, 2), np.asarray(classes)
    figure = go.Figure()
    names = sorted(set(classes))
    for i, name in sorted(enumerate(names), key=lambda pair: pair[1] in anomalous):
        out = name in anomalous
        label = w["anomaly" if out else "normal"].format(name=_safe(name, 24))
        symbol = SYMBOLS[i % len(SYMBOLS)] + ("-open" if out else "")
        some = points[held == name]
        figure.add_scatter(
            x=some[:, 0], y=some[:, 1], mode="markers", name=label, hovertemplate=label + "<extra></extra>",
            marker={"color": COLOURS[i % len(COLOURS)], "symbol": symbol, "size": 8, "line": {"width": 1.5}},
        )  # fmt: skip
    _dress(figure, "", "", height=460)
    figure.update_xaxes(showticklabels=False, zeroline=False, showgrid=False)
    figure.update_yaxes(showticklabels=False, zeroline=False, showgrid=False, scaleanchor="x")
    return figure


def plane_text(classes: Sequence[str], anomalous: Sequence[str], words: Words = PLANE_WORDS) -> str:
    return spoken(words, PLANE_WORDS)["alt"].format(n=len(set(classes)), anomalous=", ".join(anomalous))


# --- sweeps -----------------------------------------------------------------------------------------------------------

Sweep = Mapping[str, Mapping[int, Sequence[float]]]  # line → x → values of the cases


def sweep(lines: Sweep, words: Words = SWEEP_WORDS) -> Figure:
    """Mean over the cases by x, one line a method, with its standard deviation as a bar."""
    import plotly.graph_objects as go

    w = spoken(words, SWEEP_WORDS)
    figure = go.Figure()
    every = sorted({x for values in lines.values() for x in values})
    for i, (name, values) in enumerate(lines.items()):
        x = sorted(values)
        held = [np.asarray(values[at], dtype=float) for at in x]
        figure.add_scatter(
            x=x, y=[v.mean() for v in held], name=_safe(name), mode="lines+markers",
            error_y={"array": [v.std(ddof=1) if len(v) > 1 else 0 for v in held], "thickness": 1, "width": 4},
            line={"color": COLOURS[i % len(COLOURS)], "width": 2.5, "dash": DASHES[i % len(DASHES)]},
            marker={"size": 9, "symbol": SYMBOLS[i % len(SYMBOLS)]}, hovertemplate="%{x}: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    _dress(figure, w["x"], w["y"], height=320)
    if every and every[0] > 0:
        figure.update_xaxes(type="log", tickvals=every, ticktext=[str(x) for x in every])
    return figure


def sweep_text(lines: Sweep, words: Words = SWEEP_WORDS) -> str:
    w = spoken(words, SWEEP_WORDS)
    said = [w["alt"].format(x=w["x"])]
    for name, values in lines.items():
        listed = ", ".join(w["alt_value"].format(x=x, mean=float(np.mean(values[x]))) for x in sorted(values))
        said.append(w["alt_line"].format(name=name, values=listed))
    return " ".join(said)


# --- one against one, and runs side by side ---------------------------------------------------------------------------


def bins(histogram: Mapping[str, Sequence[float]], lines: Mapping[str, float], words: Words = BINS_WORDS) -> Figure:
    """Counts as `experiments.verdicts` gives them.  lines: "oracle" and "held_out" → threshold."""
    import plotly.graph_objects as go

    w = spoken(words, BINS_WORDS)
    figure, edges = go.Figure(), list(histogram["edges"])
    looks: dict[str, tuple[str, str, dict[str, Any]]] = {
        "normal": (BLUE, "solid", {"fillcolor": "rgba(0,114,178,0.3)"}),
        "anomaly": (
            VERMILLION,
            "dash",
            {"fillpattern": {"shape": "/", "fgcolor": VERMILLION, "bgcolor": "rgba(0,0,0,0)"}},
        ),
    }
    highest = 1.0
    for group, (colour, dash, fill) in looks.items():
        counts = list(histogram[group])
        highest = max(highest, *counts)
        figure.add_scatter(
            x=edges, y=[*counts, 0], name=_safe(w[group]), mode="lines", fill="tozeroy", **fill,
            line={"shape": "hv", "color": colour, "dash": dash, "width": 2}, hovertemplate="%{x:.4g}: %{y}<extra></extra>",
        )  # fmt: skip
    for name, dash in (("oracle", "dot"), ("held_out", "dash")):
        _line(figure, [lines[name]] * 2, [0, 1.05 * highest], w[name], GREY, dash=dash)
    _dress(figure, w["x"], w["y"], height=320)
    figure.update_yaxes(rangemode="tozero")
    return figure


def bins_text(histogram: Mapping[str, Sequence[float]], words: Words = BINS_WORDS) -> str:
    w = spoken(words, BINS_WORDS)
    return w["alt"].format(normals=int(sum(histogram["normal"])), anomalies=int(sum(histogram["anomaly"])))


def rocs(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], words: Words = ROCS_WORDS) -> Figure:
    """ROC curves of several runs.  curves: name → (fpr, tpr), (K,) each."""
    w = spoken(words, ROCS_WORDS)
    figure = _unit_square(w)
    _line(figure, [0, 1], [0, 1], w["chance"], GREY, dash="dot", hover=False)
    for i, (name, (fpr, tpr)) in enumerate(curves.items()):
        _line(figure, fpr, tpr, name, COLOURS[i % len(COLOURS)], dash=DASHES[i % len(DASHES)])
    figure.update_layout(height=460)
    return figure


def rocs_text(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], words: Words = ROCS_WORDS) -> str:
    w = spoken(words, ROCS_WORDS)
    said = [w["alt"].format(n=len(curves))]
    for name, (fpr, tpr) in curves.items():
        area = float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))
        said.append(w["alt_one"].format(name=name, area=area))
    return " ".join(said)
