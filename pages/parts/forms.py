"""A method's settings as widgets: name, help and bounds come from the fields of its dataclass, by way of the registry."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from adlib import registry
from pages.parts.words import plain, tell, tell_bare


def settings(method: str) -> dict[str, Any]:
    """Draws one widget a setting into the current container; returns the chosen values.

    The browser alone keeps the bounds here: `registry.checked` looks again before a fit.
    """
    return {setting.name: _widget(method, setting) for setting in registry.settings(method)}


def _widget(method: str, setting: registry.Setting) -> Any:
    label = tell(setting.label) if setting.label != setting.name else plain(setting.name.replace("_", " "))
    key = f"setting-{method}-{setting.name}"
    shared: dict[str, Any] = {"key": key, "help": tell(setting.help), "persist_state": "session"}
    if setting.type is bool:
        return st.toggle(label, setting.default, **shared)
    if setting.choices:
        index = setting.choices.index(setting.default)
        return st.selectbox(label, setting.choices, index, format_func=lambda c: tell_bare(str(c)), **shared)
    if setting.type is str:
        return st.text_input(label, setting.default, **shared)
    as_type = setting.type
    low, high = (None if bound is None else as_type(bound) for bound in (setting.low, setting.high))
    if as_type is int:
        return st.number_input(label, low, high, setting.default, step=1, **shared)
    step = 10.0 ** (math.floor(math.log10(abs(setting.default))) - 1) if setting.default else 0.1
    return st.number_input(label, low, high, setting.default, step=step, format="%g", **shared)
