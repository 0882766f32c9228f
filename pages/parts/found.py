"""Finished heatmaps of a run, drawn from the maps that its evaluation kept: a typical picture of each kind."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from adlib import frames, images, overlays, regions, store, workflow
from pages.parts.views import Tile
from pages.parts.words import bare, kind_word

SIDE = 384  # pixels of a drawn heatmap's longer side


@dataclass(frozen=True)
class Found:
    """image: JPEG bytes.  kind: of the test.  label: 0 good, 1 defect.  ratio: score in multiples of the threshold."""

    image: bytes
    kind: str
    label: int
    ratio: float


def typical(run: store.Run, defects: int = 3, goods: int = 3) -> tuple[Found, ...]:
    """The middle one of each kind of defect by score, and good ones from the calm to the noisy end; no best pick."""
    changed = (run.folder / "scores.json").stat().st_mtime_ns if (run.folder / "maps.npy").exists() else 0
    return _typical(str(run.folder), changed, defects, goods) if changed else ()


@st.cache_data(max_entries=50, show_spinner=False)
def _typical(folder: str, changed: int, defects: int, goods: int) -> tuple[Found, ...]:
    run = store.Run(Path(folder))
    rows = run.read("scores.json")
    here = [i for i, row in enumerate(rows) if Path(row["path"]).is_file()]  # an imported run came without its pictures
    order = sorted(here, key=lambda i: rows[i]["score"])
    kinds: dict[str, list[int]] = {}
    for i in order:
        if rows[i]["label"] == 1:
            kinds.setdefault(rows[i]["kind"], []).append(i)
    chosen = [kinds[kind][len(kinds[kind]) // 2] for kind in sorted(kinds)][:defects]
    good = [i for i in order if rows[i]["label"] == 0]
    chosen += [good[len(good) * (2 * k + 1) // (2 * goods)] for k in range(min(goods, len(good)))]
    maps, calibration = store.read_array(run.folder / "maps.npy"), workflow.calibration_of(run)
    return tuple(_draw(rows[i], maps[i], calibration, run.card) for i in chosen)


def _draw(row: dict, grid: np.ndarray, calibration: workflow.Calibration, card: dict) -> Found:
    small = frames.thumbnail(images.read(Path(row["path"]), white=card["white"], least=SIDE), SIDE)
    picture = np.asarray(Image.open(io.BytesIO(small)).convert("RGB"))
    height, width = picture.shape[:2]
    frame = frames.frame_of(width, height, len(grid), card["letterbox"], regions.from_json(card.get("region")))
    heat = frame.to_original(np.asarray(grid, np.float32))
    drawn = Image.fromarray(overlays.overlay(picture, heat / (calibration.map_unit or 1.0)))
    out = io.BytesIO()
    drawn.save(out, "JPEG", quality=90)
    return Found(out.getvalue(), row["kind"], row["label"], workflow.ratio_of(row["score"], calibration))


def tile(found: Found) -> Tile:
    """With the verdict in words beside the picture: colour is never the only sign."""
    verdict = bare("views.alarm" if found.ratio > 1 else "views.calm", ratio=found.ratio)
    kind = bare("views.good_part") if found.label == 0 else kind_word(found.kind)
    return Tile(found.image, bare("views.heatmap_alt", kind=kind, verdict=verdict), f"{kind}: {verdict}")
