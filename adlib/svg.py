"""Drawing with numbers: axes, a plot under construction, marks and strokes, as SVG elements.

What the charts of a report share; which series stands where is said in `report_charts`.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from adlib.markup import Markup, tag
from adlib.wording import clean

NAME = 22  # half-width letters of a name beside a plot


# --- axes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """low, high: ends in the data's unit.  start, end: the same in pixels.  log: steps are factors."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(max(value, 1e-300))
        share = (at - low) / (high - low)
        return self.start + min(max(share, -0.05), 1.05) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round numbers."""
        if self.log:
            steps = (1, 2, 5) if self.high < 300 * self.low else (1,)
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [step * 10.0**decade for decade in decades for step in steps]
        else:
            rough = (self.high - self.low) / 5
            size = 10.0 ** math.floor(math.log10(rough))
            step = next(size * k for k in (1, 2, 5, 10) if size * k >= rough)
            found = [step * k for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [tick for tick in found if self.low <= tick <= self.high]


def axis_over(groups: Iterable[Sequence[float] | np.ndarray], start: float, end: float) -> Axis:
    """An axis with a little room around all scores: logarithmic when all are positive and span more than twentyfold."""
    values = np.concatenate([np.asarray(group, dtype=float) for group in groups])
    low, high = float(values.min()), float(values.max())
    if 0 < low < high / 20:
        return Axis(low / 1.1, high * 1.1, start, end, log=True)
    room = 0.04 * (high - low) or 0.1 * abs(high) or 1.0
    least = 0.0 if low >= 0 and low - room < 0.15 * high else low - room
    return Axis(least, high + room, start, end)


@dataclass
class Plot:
    """A drawing under construction: two axes, and what stands on them.  alt: the chart in words."""

    width: int
    height: int
    x: Axis
    y: Axis
    alt: str
    parts: list[Markup] = field(default_factory=list)

    def draw(self, *parts: Markup) -> None:
        self.parts += parts

    def line(self, x: Sequence[float], y: Sequence[float], cls: str) -> None:
        """Through points in the data's unit."""
        self.draw(tag("path", d=path([(self.x(a), self.y(b)) for a, b in zip(x, y, strict=True)]), cls=cls))

    def upright(self, at: float, label: str) -> None:
        """A line across the plot with its name on top."""
        x, top, bottom = self.x(at), min(self.y.start, self.y.end), max(self.y.start, self.y.end)
        side = "end" if x > (self.x.start + self.x.end) / 2 else "start"
        nudge = -5 if side == "end" else 5
        self.draw(tag("path", d=f"M{px(x)} {px(top - 12)}V{px(bottom)}", cls="limit"))
        self.draw(written(label, x + nudge, top - 5, anchor=side, cls="strong"))

    def frame(
        self,
        x_name: str,
        y_name: str = "",
        percent: bool = False,
        y_ticks: bool = True,
        x_ticks: Sequence[float] | None = None,
    ) -> None:
        """Grid, numbers and names.  x_ticks: where numbers stand; None = at round ones."""
        top, bottom = min(self.y.start, self.y.end), max(self.y.start, self.y.end)
        show = _percent if percent else _number
        for tick in self.x.ticks() if x_ticks is None else x_ticks:
            self.draw(tag("path", d=f"M{px(self.x(tick))} {px(top)}V{px(bottom)}", cls="grid"))
            self.draw(written(show(tick), self.x(tick), bottom + 16))
        for tick in self.y.ticks() if y_ticks else ():
            self.draw(tag("path", d=f"M{px(self.x.start)} {px(self.y(tick))}H{px(self.x.end)}", cls="grid"))
            self.draw(written(show(tick), self.x.start - 6, self.y(tick) + 4, anchor="end"))
        self.draw(written(x_name, (self.x.start + self.x.end) / 2, bottom + 34))
        if y_name:
            self.draw(written(y_name, max(0.0, self.x.start - 44), top - 12, anchor="start"))

    def svg(self) -> Markup:
        return tag(
            "svg", *self.parts, viewBox=f"0 0 {self.width} {self.height}", role="img", aria_label=self.alt,
            xmlns="http://www.w3.org/2000/svg",
        )  # fmt: skip


# --- strokes ----------------------------------------------------------------------------------------------------------


def mark(shape: str, x: float, y: float, r: float, cls: str) -> Markup:
    if shape == "circle":
        return tag("circle", cx=px(x), cy=px(y), r=px(r), cls=cls)
    if shape == "cross":
        a = 0.75 * r
        lines = [((x - a, y - a), (x + a, y + a)), ((x - a, y + a), (x + a, y - a))]
        return tag("path", d="".join(path(ends) for ends in lines), cls=f"{cls} open")
    corners, turn, waist = {
        "diamond": (4, 0.0, 1.0), "square": (4, math.pi / 4, 1.0), "triangle": (3, 0.0, 1.0), "hexagon": (6, 0.0, 1.0),
        "star": (10, 0.0, 0.45),
    }[shape]  # fmt: skip
    around = [turn + 2 * math.pi * k / corners for k in range(corners)]
    out = [(r if k % 2 == 0 else r * waist) for k in range(corners)]
    return tag("path", d=path([(x + b * math.sin(a), y - b * math.cos(a)) for a, b in zip(around, out, strict=True)]) + "Z",
               cls=cls)  # fmt: skip


def path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{px(x)} {px(y)}" for x, y in points)


def room_for(names: Iterable[str]) -> float:
    """Pixels that the names of a box plot take at most, with the gap to their boxes."""
    return 24 + 6.5 * min(NAME, max((width_of(name) for name in names), default=0))


def width_of(text: str) -> int:
    """In half-width letters; a Japanese one counts as two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in clean(text))


def shortened(text: str, widest: int) -> str:
    """Cut to so many half-width letters."""
    if width_of(text) <= widest:
        return clean(text)
    kept = clean(text)[:widest]
    while width_of(kept) >= widest:
        kept = kept[:-1]
    return kept + "…"


def written(text: str, x: float, y: float, anchor: str = "middle", cls: str | None = None) -> Markup:
    return tag("text", text, x=px(x), y=px(y), text_anchor=anchor, cls=cls)


def px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _number(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if value == 1 else f"{100 * value:.0f}"
