"""Pictures as points on a plane, as a browser component: the picture itself appears under the pointer.

All thumbnails travel in one sprite sheet, made once for a list of pictures; pointing and walking with the arrow keys
cost no network.  Where the points lie is left to `adlib.projections`.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

TILE = 64  # pixels of a thumbnail's side in the sheet; shown at twice that
# Okabe and Ito's colours that stand out on white and on black, and a shape for those who see no colours.
_LOOKS = (
    ("#D55E00", "triangle"), ("#CC79A7", "diamond"), ("#E69F00", "square"), ("#009E73", "plus"), ("#56B4E9", "down"),
)  # fmt: skip


def _read(suffix: str) -> str:
    return Path(__file__).with_suffix(suffix).read_text(encoding="utf-8")


_component = st.components.v2.component("adlib.scatter", html=_read(".html"), css=_read(".css"), js=_read(".js"))


@dataclass(frozen=True)
class Group:
    """Points that belong together.  shape: a key of SHAPES in scatter.js.  hollow: drawn as an outline."""

    label: str
    colour: str
    shape: str
    hollow: bool = False


def groups(fitted: str, normal: str, kinds: Sequence[str]) -> list[Group]:
    """fitted, normal: labels of the normals that were learned from and of the good tests.  kinds: of defect."""
    shown = [Group(fitted, "#0072B2", "circle", hollow=True), Group(normal, "#0072B2", "circle")]
    for i, kind in enumerate(kinds):
        # Both lists are walked at their own pace once the pairs are used up: 25 kinds stay apart.
        colour, shape = _LOOKS[i % 5][0], _LOOKS[(i + i // 5) % 5][1]
        shown.append(Group(kind, colour, shape, hollow=i >= 10))
    return shown


def sheet(thumbnails: Sequence[bytes], columns: int) -> bytes:
    """JPEG of all thumbnails in rows of `columns`, each `TILE` pixels square; b"" leaves a tile grey."""
    from PIL import Image

    rows = -(-len(thumbnails) // columns)
    canvas = Image.new("RGB", (columns * TILE, max(1, rows) * TILE), "#808080")
    for i, data in enumerate(thumbnails):
        if not data:
            continue
        picture = Image.open(io.BytesIO(data))
        picture.thumbnail((TILE, TILE))
        left = i % columns * TILE + (TILE - picture.width) // 2
        canvas.paste(picture, (left, i // columns * TILE + (TILE - picture.height) // 2))
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=82)
    return out.getvalue()


def columns_for(n: int) -> int:
    """A nearly square sheet: browsers refuse pictures of more than some 16,000 pixels a side."""
    return max(1, int(np.ceil(np.sqrt(n))))


def scatter(
    places: np.ndarray,
    kinds: Sequence[int],
    captions: Sequence[str],
    shown: Sequence[Group],
    sprites: bytes,
    *,
    alt: str,
    key: str,
    chosen: int | None = None,
    on_pick: Callable[[], None] | None = None,
) -> int | None:
    """Draws the points and returns the one that was clicked in this run, if any.

    places: (N, 2).  kinds: N indices into `shown`.  captions: N plain texts.  sprites: made by `sheet`, in their order.
    chosen: a point to mark.  on_pick: called before the rerun, when st.session_state[key].picked holds the point.
    """
    low, span = places.min(axis=0), np.maximum(np.ptp(places, axis=0), 1e-9)
    square = np.ascontiguousarray((places - low) / span, dtype=np.float32)
    made = hashlib.sha256(square.tobytes() + bytes(kinds) + sprites).hexdigest()
    result = _component(
        key=key,
        data={
            "id": made,
            "places": base64.b64encode(square.tobytes()).decode(),
            "kinds": base64.b64encode(bytes(kinds)).decode(),
            "captions": list(captions),
            "groups": [vars(group) for group in shown],
            "sheet": "data:image/jpeg;base64," + base64.b64encode(sprites).decode(),
            "tile": TILE,
            "columns": columns_for(len(captions)),
            "alt": alt,
            "chosen": chosen,
        },
        on_picked_change=on_pick or (lambda: None),
    )
    return result.picked
