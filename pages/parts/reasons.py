"""Why a picture got its score: opened on demand, computed once for all visitors, drawn beside the nearest normal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import streamlit as st

from adlib import store, study_plots, why
from pages.parts import findings, state, views
from pages.parts.words import bare, number, plain, t, tell, tell_bare

_BARE = {"displayModeBar": False}
_STANDS_OUT = 1.15  # times the usual distance; pictures of one lot differ by about so much


@st.fragment
def expander(run: store.Run, path: Path, digest: str, name: str, key: str) -> None:
    """ "Why?" under a picture; closed, it costs nothing, and opening it redraws nothing else of the page."""
    box = st.expander(t("why.title"), icon=":material/help:", key=f"why-{key}", on_change="rerun")
    if not box.open:
        return
    with box, views.error_box():
        with st.spinner(t("why.looking")):
            told, crops = _why(run.id, _stamp(run), digest, path)
        _place(told, crops, name)
        _whole(told, run)
        _levels(told, key)
        _rebuilt(told, path, digest, run, name)
        for note in told.notes:
            st.markdown(f":small[:material/info: {tell(note)}]")


def _stamp(run: store.Run) -> tuple[int, ...]:
    """Also changes when the data set comes or goes: the normals' pictures are there."""
    path = store.workspace() / "datasets" / run.card["dataset"] / "dataset.json"
    return (*findings.stamp(run)[2:], path.stat().st_mtime_ns if path.exists() else 0)


@st.cache_resource(max_entries=200, show_spinner=False)
def _why(run_id: str, changed: Any, digest: str, _path: Path) -> tuple[why.Why, tuple[bytes, bytes] | None]:
    with state.fitted(run_id) as fitted:
        told = why.explain(fitted, _path)
        place = told.place
        if place is None or place.path is None or place.here is None or place.there is None or not place.path.exists():
            return told, None
        return told, (why.crop(fitted, _path, place.here), why.crop(fitted, place.path, place.there))


def _place(told: why.Why, crops: tuple[bytes, bytes] | None, name: str) -> None:
    place = told.place
    if place is None:
        return
    times = "–" if place.times is None else number(place.times, 2)
    st.markdown(t("why.place_exact" if place.exact else "why.place", x=times))
    if crops is None:
        return
    sides = st.grid(2, min_column_width=100, gap="small")
    with sides.cell():
        st.image(crops[0], width="stretch", alt=bare("why.crop_alt", name=name))
        st.markdown(f":small[{t('why.here')}]")
    with sides.cell():
        st.image(crops[1], width="stretch", alt=bare("why.crop_normal_alt", name=place.name))
        st.markdown(f":small[{t('why.there', name=place.name.rpartition('/')[2])}]")


def _whole(told: why.Why, run: store.Run) -> None:
    picture = told.picture
    if picture is None:
        return
    photo = None if picture.path is None else state.thumbnail(picture.path, picture.digest, 360, run.card["white"])
    sides = st.grid(2, min_column_width=100, gap="small")
    if photo is not None:
        with sides.cell():
            st.image(photo, width="stretch", alt=bare("why.normal_alt", name=picture.name))
    with sides.cell():
        st.markdown(f"{t('why.whole')}  \n:small[{plain(picture.name)}]")
        if picture.times is not None:
            st.markdown(f":small[{t('why.times', x=number(picture.times, 2))}]")
        elif picture.usual is not None:
            st.markdown(f":small[{t('why.usual', x=number(picture.usual, 1))}]")
        if not picture.exact:
            st.markdown(f":small[{t('why.searched', n=told.searched)}]")


def _levels(told: why.Why, key: str) -> None:
    if not told.levels:
        return
    st.markdown(f"**{t('why.levels')}**")
    names = [tell_bare(level.name) for level in told.levels]
    here, usual = [level.distance for level in told.levels], [level.usual for level in told.levels]
    words = {
        "x": bare("why.levels_x"), "here": bare("why.levels_here"), "usual": bare("why.levels_usual"),
        "alt": bare("why.levels_alt"), "alt_level": bare("why.levels_alt_level"), "alt_usual": bare("why.levels_alt_usual"),
    }  # fmt: skip
    figure = study_plots.levels(names, here, usual, words)
    st.plotly_chart(figure, key=f"levels-{key}", config=_BARE, alt=study_plots.levels_text(names, here, usual, words))
    st.markdown(f":small[{_levels_said(told.levels)}]")


def _levels_said(levels: tuple[why.Level, ...]) -> str:
    """The level that stands out most: against what is usual where that is known, else by its share."""
    if all(level.usual for level in levels):
        most = max(levels, key=lambda level: level.distance / (level.usual or 1.0))
        times = most.distance / (most.usual or 1.0)
        about = {"name": tell_bare(most.name), "x": number(times, 1)}
        return t("why.levels_most", **about) if times > _STANDS_OUT else t("why.levels_none", **about)
    most = max(levels, key=lambda level: level.share)
    return t("why.levels_share", name=tell_bare(most.name), percent=f"{100 * most.share:.0f}")


def _rebuilt(told: why.Why, path: Path, digest: str, run: store.Run, name: str) -> None:
    if told.rebuilt is None:
        return
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(told.rebuilt).save(file, "JPEG", quality=90)
    st.markdown(f"**{t('why.rebuilt')}**")
    sides = st.grid(2, min_column_width=100, gap="small")
    photo = state.thumbnail(path, digest, 360, run.card["white"])
    if photo is not None:
        sides.image(photo, width="stretch", alt=name)
    sides.image(file.getvalue(), width="stretch", alt=bare("why.rebuilt_alt", name=name))
