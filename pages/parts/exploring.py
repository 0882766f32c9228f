"""Single pictures of an evaluation: where the detector places them, each beside its nearest normal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from adlib import frames, projections, regions, store
from adlib.contract import AdlibError
from adlib.results import ratio_of
from pages.parts import overlay, scatter, state
from pages.parts.findings import Found
from pages.parts.words import bare, kind_word, number, plain, t

_MOST = 1000  # tests on the plane; beyond, points hide each other and the layout takes long
_SIDE = 640  # pixels of a picture's longer side


# --- one picture ------------------------------------------------------------------------------------------------------


def saved_heat(found: Found, index: int) -> np.ndarray | None:
    """(h, w) uint8 as `overlay.cells` makes it, from the map that the evaluation kept; None without one."""
    path, unit = found.run.folder / "maps.npy", found.calibration.map_unit
    row = found.rows[index]
    if unit is None or not path.exists():
        return None
    grid = np.asarray(store.read_array(path)[index], dtype=np.float32)
    region = regions.from_json(found.card.get("region"))
    if found.card["letterbox"] or region:
        size = _size(_photo(found, row["path"], row["digest"]))
        grid = frames.frame_of(*size, len(grid), found.card["letterbox"], region).to_original(grid)
    return overlay.cells(grid / unit)


def _photo(found: Found, path: str | Path, digest: str) -> bytes | None:
    return state.thumbnail(Path(path), digest, _SIDE, found.card["white"])


def _size(photo: bytes | None) -> tuple[int, int]:
    from PIL import Image

    return Image.open(io.BytesIO(photo)).size if photo else (1, 1)


def shown(found: Found, index: int, key: str, *, controls: bool = False) -> None:
    """One test picture with its heat, and the normal picture that the detector finds most alike."""
    row = found.rows[index]
    photo = _photo(found, row["path"], row["digest"])
    left, right = st.columns(2)
    with left:
        st.markdown(f":small[{t('evaluate.test_picture')}]")
        heat = saved_heat(found, index)
        if photo is None:
            st.markdown(f":material/broken_image: {t('evaluate.picture_gone')}")
        elif heat is None:
            st.image(photo, width="stretch", alt=row["name"])
        else:
            times = f"{ratio_of(row['score'], found.calibration):.2f}"
            overlay.overlay(
                photo, _size(photo), heat, alt=row["name"], heat_alt=bare("overlay.alt", name=row["name"], x=times),
                key=key, controls=controls,
            )  # fmt: skip
    with right:
        st.markdown(f":small[{t('evaluate.nearest')}]")
        nearest = _nearest_normal(found, index)
        beside = None if nearest is None else _photo(found, nearest[0], nearest[1])
        if beside is None or nearest is None:
            st.markdown(f":material/broken_image: {t('evaluate.no_nearest')}")
        else:
            st.image(beside, width="stretch", alt=bare("evaluate.nearest_alt", name=nearest[2]))
            st.markdown(f":small[{plain(nearest[2])}]")


def _nearest_normal(found: Found, index: int) -> tuple[Path, str, str] | None:
    """(path, digest, name) of the normal whose embedding lies nearest, None when embeddings or pictures are gone."""
    tests, normals = _embeddings(found)
    if tests is None or normals is None:
        return None
    known, paths = found.run.read("explored.json") or [], _normal_paths(found)
    apart = np.linalg.norm(np.asarray(normals) - np.asarray(tests[index]), axis=1)
    for place in np.argsort(apart):
        row = known[place]
        # The same picture tells nothing: a copy of a normal may stand among the tests.
        if row["digest"] in paths and row["digest"] != found.rows[index]["digest"]:
            return paths[row["digest"]], row["digest"], row["name"]
    return None


def _embeddings(found: Found) -> tuple[np.ndarray | None, np.ndarray | None]:
    folder = found.run.folder
    tests, normals = folder / "embeddings.npy", folder / "normals.npy"
    if not tests.exists():
        return None, None
    return store.read_array(tests), store.read_array(normals) if normals.exists() else None


def _normal_paths(found: Found) -> dict[str, Path]:
    id = found.card["dataset"]
    if not store.Dataset.exists(id):
        return {}
    try:
        samples, _ = state.samples(store.Dataset.open(id))
    except AdlibError:
        return {}
    return {sample.digest: sample.path for sample in samples if sample.split == "train"}


# --- all pictures on a plane ------------------------------------------------------------------------------------------


@st.fragment
def plane(found: Found) -> None:
    """t-SNE of tests and normals; a click shows the picture beside its nearest normal."""
    tests, normals = _embeddings(found)
    if tests is None:
        st.info(t("evaluate.no_embeddings"), icon=":material/info:")
        return
    with st.spinner(t("evaluate.placing")):
        changed = (found.run.folder / "embeddings.npy").stat().st_mtime_ns
        places, shown_tests = _placed(str(found.run.folder), changed)
        known = (found.run.read("explored.json") or []) if normals is not None else []
        paths = _normal_paths(found)
        rows: list[dict[str, Any]] = [found.rows[i] for i in shown_tests]
        tiles = [(str(paths.get(row["digest"], "")), row["digest"]) for row in known]
        tiles += [(row["path"], row["digest"]) for row in rows]
        sprites = _sprites(tuple(tiles), found.card["white"])
    defects = list(dict.fromkeys(row["kind"] for row in rows if row["label"] == 1))
    kinds = [0] * len(known) + [1 if row["label"] == 0 else min(255, 2 + defects.index(row["kind"])) for row in rows]
    captions = [f"{row['name']}\n{bare('evaluate.fitted_normal')}" for row in known]
    for row in rows:
        times = bare("overlay.value", x=f"{ratio_of(row['score'], found.calibration):.2f}")
        captions.append(f"{row['name']}\n{kind_word(row['kind'])} · {times}")
    shown_kinds = [kind_word(kind) for kind in defects]
    groups = scatter.groups(bare("evaluate.fitted_normal"), bare("evaluate.good_tests"), shown_kinds)
    if len(shown_tests) < len(found.rows):
        st.markdown(t("evaluate.first_only", n=len(shown_tests), total=len(found.rows)))
    picked = f"picked-{found.run.id}"

    def pick() -> None:
        st.session_state[picked] = st.session_state["plane"].picked

    scatter.scatter(
        places, kinds, captions, groups, sprites, key="plane", chosen=st.session_state.get(picked), on_pick=pick,
        alt=bare("evaluate.plane_alt", normals=len(known), tests=len(rows), kinds=", ".join(shown_kinds)),
    )  # fmt: skip
    st.markdown(t("evaluate.plane_about"))
    chosen = st.session_state.get(picked)
    if chosen is not None and len(known) <= chosen < len(kinds):
        index = shown_tests[chosen - len(known)]
        st.markdown(f"**{plain(found.rows[index]['name'])}** · {verdict(found, index)}")
        shown(found, index, f"picked-{index}", controls=True)


@st.cache_data(max_entries=20, show_spinner=False)
def _placed(folder: str, changed: int) -> tuple[np.ndarray, list[int]]:
    """(M + T, 2) places of normals, then tests; and which tests they are, at most `_MOST`."""
    run = store.Run(Path(folder))
    tests, path = store.read_array(run.folder / "embeddings.npy"), run.folder / "normals.npy"
    chosen = [int(i) for i in np.unique(np.linspace(0, len(tests) - 1, min(len(tests), _MOST)).round())]
    parts = [np.asarray(store.read_array(path))] if path.exists() else []
    return projections.tsne(np.concatenate([*parts, np.asarray(tests)[chosen]])), chosen


@st.cache_data(max_entries=20, max_size="100MB", show_spinner=False)
def _sprites(tiles: tuple[tuple[str, str], ...], white: int | None) -> bytes:
    pictures = [state.thumbnail(Path(path), digest, 128, white) or b"" if path else b"" for path, digest in tiles]
    return scatter.sheet(pictures, scatter.columns_for(len(pictures)))


def verdict(found: Found, index: int) -> str:
    """Kind, multiples of the threshold, and whether the verdict is right."""
    row = found.rows[index]
    values = {"kind": kind_word(row["kind"]), "x": number(ratio_of(row["score"], found.calibration), 2)}
    alarm = row["score"] > found.line
    if alarm and row["label"] == 0:
        return f":material/notification_important: {t('evaluate.false_alarm_at', **values)}"
    if not alarm and row["label"] == 1:
        return f":material/visibility_off: {t('evaluate.missed_at', **values)}"
    return f":material/check: {t('evaluate.right_at', **values)}"
