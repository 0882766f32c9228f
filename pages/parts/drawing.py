"""Drawing a region on a photograph, as a browser component: by pointer, by touch, or by numbers from the keyboard.

Everything happens in drawing.js until the person saves; what comes back is checked by `adlib.regions`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from adlib import regions
from pages.parts.words import bare

_WORDS = (
    "shape", "rectangle", "polygon", "rectangle_hint", "polygon_hint", "numbers", "across", "down", "save", "add",
    "add_rectangle", "undo", "clear", "share", "whole", "unfinished",
)  # fmt: skip


def _read(suffix: str) -> str:
    return Path(__file__).with_suffix(suffix).read_text(encoding="utf-8")


_component = st.components.v2.component("adlib.drawing", html=_read(".html"), css=_read(".css"), js=_read(".js"))


def drawing(
    photo: bytes, size: tuple[int, int], region: regions.Region, *, alt: str, key: str, on_save: Callable[[], None]
) -> None:
    """Draws the picture with the region on it.

    photo: JPEG bytes.  size: (width, height) of the picture, for its proportions.  alt: plain text.
    on_save: called before the rerun, when st.session_state[key].saved holds the corners.
    """
    _component(
        key=key,
        data={
            "photo": "data:image/jpeg;base64," + base64.b64encode(photo).decode(),
            "width": size[0],
            "height": size[1],
            "corners": [list(corner) for corner in region],
            "least": regions.LEAST,
            "most": regions.MOST_CORNERS,
            "words": {name: bare(f"drawing.{name}") for name in _WORDS},
            "alt": alt,
        },
        on_saved_change=on_save,
    )
