"""HTML and SVG made of elements, so that a stranger's text can only ever be text.

`tag` escapes every child that is not `Markup`, and every attribute; nothing else here makes Markup of a text.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from adlib.wording import clean

_EMPTY = frozenset({"meta", "img", "br", "col", "hr"})  # HTML elements without an end
_DRAWN = frozenset({"path", "line", "rect", "circle", "use", "stop"})  # SVG elements that are closed where they begin


class Markup(str):
    """Text that is HTML already.  Only `tag`, `join` and `style` make it."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: Any) -> Markup:
    """An element.  children: Markup as it is, None left out, anything else as escaped text.

    attributes: `cls` for class, `for_` and the like without their last `_`, `_` within for `-`; None or False is left out,
    True stands without a value.  viewBox and the like keep their letters.

    >>> tag("p", "a < b", cls="note")
    '<p class="note">a &lt; b</p>'
    """
    head = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _EMPTY:
        return Markup(f"<{head}>")
    inside = join(children)
    if name in _DRAWN and not inside:
        return Markup(f"<{head}/>")
    return Markup(f"<{head}>{inside}</{name}>")


def join(children: Iterable[object], between: str = "") -> Markup:
    """One after the other, escaped unless they are Markup; None is left out."""
    return Markup(html.escape(between).join(_escaped(child) for child in children if child is not None))


def style(css: str) -> Markup:
    """A style element with CSS of our own.  Raises ValueError when it could end the element."""
    if "<" in css:
        raise ValueError("the style sheet holds a '<'")
    return Markup(f"<style>{css}</style>")


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    key = "class" if key == "cls" else key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{html.escape(clean(value))}"'


def _escaped(child: object) -> str:
    return child if isinstance(child, Markup) else html.escape(clean(child))
