"""A photograph under its anomaly map, as a browser component: views, opacity, outline and read-out without a rerun.

The map travels as at most 256 x 256 bytes and the photograph as one JPEG, about 150 kB together; all drawing is done by
overlay.js in the visitor's browser.  Downloads are drawn by `adlib.overlays`, on the same scale.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from adlib import overlays
from pages.parts.words import bare, t

SIDE = 256  # cells of the map along its longer side; maps are blurred, so that more would show nothing new
PALETTES = ("inferno", "cividis")
# Ten anchors of the colour map "cividis" (Nuñez et al. 2018, CC0): the same to nearly all colour-blind eyes.
_CIVIDIS = "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838"


def _read(suffix: str) -> str:
    return Path(__file__).with_suffix(suffix).read_text(encoding="utf-8")


_component = st.components.v2.component("adlib.overlay", html=_read(".html"), css=_read(".css"), js=_read(".js"))


@cache
def ramp(palette: str) -> np.ndarray:
    """(256, 3) uint8: the colours from 0 to `overlays.VMAX`."""
    if palette != "cividis":
        return overlays.inferno()
    stops = np.array([list(bytes.fromhex(stop)) for stop in _CIVIDIS.split()])
    places = np.linspace(0, len(stops) - 1, 256)
    return np.rint(np.stack([np.interp(places, range(len(stops)), channel) for channel in stops.T], axis=1)).astype(
        "u1"
    )


def cells(heat: np.ndarray) -> np.ndarray:
    """heat: (H, W) float32 in multiples of the threshold.  Returns (h, w) uint8 on 0…VMAX, no side above `SIDE`."""
    from PIL import Image

    height, width = heat.shape
    scale = min(1.0, SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        heat = np.asarray(Image.fromarray(np.ascontiguousarray(heat, np.float32)).resize(size, Image.Resampling.BOX))
    return np.rint(np.clip(heat, 0, overlays.VMAX) * (255 / overlays.VMAX)).astype(np.uint8)


def overlay(
    photo: bytes,
    size: tuple[int, int],
    heat: np.ndarray,
    *,
    alt: str,
    heat_alt: str,
    key: str,
    controls: bool = True,
) -> None:
    """Draws one picture with its map.

    photo: JPEG bytes.  size: (width, height) of the picture, for its proportions.
    heat: (h, w) uint8, made by `cells`.
    alt, heat_alt: what photograph and map show, for those who cannot see them; plain text.
    controls: False where one `controls` bar steers many pictures.
    """
    data = _data(controls=controls) | {
        "photo": "data:image/jpeg;base64," + base64.b64encode(photo).decode(),
        "width": size[0],
        "height": size[1],
        "map": {"w": heat.shape[1], "h": heat.shape[0], "bytes": base64.b64encode(heat.tobytes()).decode()},
        "alt": alt,
        "heat_alt": heat_alt,
    }
    _component(key=key, data=data)


def controls(*, key: str) -> None:
    """The controls and the legend alone: they steer every overlay of the page."""
    _component(key=key, data=_data(controls=True) | {"photo": None, "map": None})


def palette() -> str:
    """The colours chosen for this visit."""
    chosen = st.session_state.get("palette")
    return chosen if chosen in PALETTES else PALETTES[0]


def choose_palette() -> None:
    """A choice for all overlays of this visit: some photographs have the colours of one map themselves."""
    names = {"inferno": bare("overlay.inferno"), "cividis": bare("overlay.cividis")}
    st.segmented_control(
        t("overlay.palette"), PALETTES, format_func=names.__getitem__, default=PALETTES[0], required=True, key="palette",
        persist_state="session",
    )  # fmt: skip


def _data(*, controls: bool) -> dict[str, Any]:
    return {
        "top": overlays.VMAX,
        "ramp": base64.b64encode(ramp(palette()).tobytes()).decode(),
        "words": {
            "view": bare("overlay.view"),
            "original": bare("overlay.original"),
            "overlay": bare("overlay.overlay"),
            "map": bare("overlay.map"),
            "opacity": bare("overlay.opacity"),
            "line": bare("overlay.line"),
            "legend": bare("overlay.legend"),
            "one": bare("overlay.one"),
            "value": bare("overlay.value"),
            "clipped": bare("overlay.clipped"),
        },
        "controls": controls,
        "legend": True,
    }
