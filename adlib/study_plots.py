"""Figures of a run's studies and of one picture's reasons: learning curve, directions, levels; each with its paragraph.

As `plots`: figures are returned and never shown, words come in through `words`, series differ in colour and in shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adlib.alt_text import Words, spoken
from adlib.plots import BLUE, VERMILLION, _dress, _safe

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CURVE_WORDS: Words = {
    "x": "Normals fitted",
    "y": "AUROC",
    "mean": "mean",
    "band": "lowest to highest",
    "alt": "{y} by number of normals.",
    "alt_point": "{n}: {mean:.3g} on average, from {low:.3g} to {high:.3g}.",
}
DIRECTIONS_WORDS: Words = {
    "x": "Share of the variance kept (%)",
    "y": "AUROC",
    "top": "largest directions",
    "bottom": "smallest directions",
    "alt": "{y} by share of the variance kept.",
    "alt_side": "{side}: {values}.",
    "alt_value": "{share:g} %: {value:.3f}",
}
LEVELS_WORDS: Words = {
    "x": "Distance",
    "here": "this picture",
    "usual": "usual for normals",
    "alt": "What each level adds to the distance.",
    "alt_level": "{name}: {here:.2f}.",
    "alt_usual": "{name}: {here:.2f}, usually {usual:.2f}.",
}


# --- learning curve ---------------------------------------------------------------------------------------------------


def learning_curve(normals: Sequence[int], values: Sequence[Sequence[float]], words: Words = CURVE_WORDS) -> Figure:
    """Mean and band over the repeats.  normals: sizes (S,), ascending.  values: a row of repeats a size."""
    import plotly.graph_objects as go

    w = spoken(words, CURVE_WORDS)
    low, mean, high = _bands(values)
    figure, x = go.Figure(), list(normals)
    figure.add_scatter(
        x=[*x, *x[::-1]], y=[*high, *low[::-1]], name=_safe(w["band"]), mode="lines", fill="toself",
        line={"width": 0}, fillcolor="rgba(0,114,178,0.25)", hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=list(mean), name=_safe(w["mean"]), mode="lines+markers", line={"color": BLUE, "width": 2.5},
        marker={"size": 9}, customdata=np.stack([low, high], axis=1),
        hovertemplate="%{x}: %{y:.3f} (%{customdata[0]:.3f} – %{customdata[1]:.3f})<extra></extra>",
    )  # fmt: skip
    _dress(figure, w["x"], w["y"], height=300)
    figure.update_xaxes(type="log", tickvals=x, ticktext=[str(n) for n in x])
    return figure


def learning_curve_text(normals: Sequence[int], values: Sequence[Sequence[float]], words: Words = CURVE_WORDS) -> str:
    w = spoken(words, CURVE_WORDS)
    points = zip(normals, *_bands(values), strict=True)
    said = [w["alt_point"].format(n=n, low=low, mean=mean, high=high) for n, low, mean, high in points]
    return " ".join([w["alt"].format(y=w["y"]), *said])


def _bands(values: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.asarray(values, dtype=float)  # (S, R)
    return table.min(axis=1), table.mean(axis=1), table.max(axis=1)


# --- directions -------------------------------------------------------------------------------------------------------


def directions(
    shares: Sequence[float],
    top: Sequence[float | None],
    bottom: Sequence[float | None],
    words: Words = DIRECTIONS_WORDS,
) -> Figure:
    """A figure by share of the variance kept, (S,) each: of the largest directions and of the smallest."""
    import plotly.graph_objects as go

    w = spoken(words, DIRECTIONS_WORDS)
    ticks = [f"{100 * share:g}" for share in shares]
    figure = go.Figure()
    looks: dict[str, tuple[Sequence[float | None], dict[str, Any], str]] = {
        "top": (top, {"color": BLUE, "width": 2.5}, "circle"),
        "bottom": (bottom, {"color": VERMILLION, "width": 2.5, "dash": "dash"}, "diamond"),
    }
    for side, (values, line, symbol) in looks.items():
        figure.add_scatter(
            x=ticks, y=list(values), name=_safe(w[side]), mode="lines+markers", line=line,
            marker={"symbol": symbol, "size": 9}, hovertemplate="%{x} %: %{y:.3f}<extra></extra>",
        )  # fmt: skip
    _dress(figure, w["x"], w["y"], height=320)
    figure.update_xaxes(type="category")
    return figure


def directions_text(
    shares: Sequence[float],
    top: Sequence[float | None],
    bottom: Sequence[float | None],
    words: Words = DIRECTIONS_WORDS,
) -> str:
    w = spoken(words, DIRECTIONS_WORDS)
    said = [w["alt"].format(y=w["y"])]
    for side, values in (("top", top), ("bottom", bottom)):
        known = [(share, value) for share, value in zip(shares, values, strict=True) if value is not None]
        listed = ", ".join(w["alt_value"].format(share=100 * share, value=value) for share, value in known)
        said.append(w["alt_side"].format(side=w[side], values=listed))
    return " ".join(said)


# --- levels -----------------------------------------------------------------------------------------------------------


def levels(
    names: Sequence[str], here: Sequence[float], usual: Sequence[float | None], words: Words = LEVELS_WORDS
) -> Figure:
    """A lying bar a level, beside the usual one where it is known.  The first level stands at the top."""
    import plotly.graph_objects as go

    w = spoken(words, LEVELS_WORDS)
    shown = [_safe(name).replace(": ", ":<br>").replace("：", "：<br>") for name in names]  # short lines on a phone
    figure = go.Figure()
    if any(value is not None for value in usual):
        figure.add_bar(
            y=shown, x=list(usual), orientation="h", name=_safe(w["usual"]), hovertemplate="%{x:.2f}<extra></extra>",
            marker={"color": BLUE, "pattern": {"shape": "/", "fillmode": "overlay", "fgcolor": "white", "solidity": 0.2}},
        )  # fmt: skip
    figure.add_bar(
        y=shown, x=list(here), orientation="h", name=_safe(w["here"]), marker={"color": VERMILLION},
        hovertemplate="%{x:.2f}<extra></extra>",
    )  # fmt: skip
    _dress(figure, w["x"], "", height=90 + 52 * len(shown))
    figure.update_layout(barmode="group", bargap=0.3, legend_traceorder="reversed")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def levels_text(
    names: Sequence[str], here: Sequence[float], usual: Sequence[float | None], words: Words = LEVELS_WORDS
) -> str:
    w = spoken(words, LEVELS_WORDS)
    said = [w["alt"]]
    for name, value, normal in zip(names, here, usual, strict=True):
        template = w["alt_level"] if normal is None else w["alt_usual"]
        said.append(template.format(name=name, here=value, usual=normal))
    return " ".join(said)
