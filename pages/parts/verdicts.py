"""Verdicts on the screen: a card a picture, the sum of them all, and what can be taken away."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from adlib import store
from adlib.contract import Sentence
from pages.parts import looking, overlay, reasons, views
from pages.parts.looking import Item, Seen
from pages.parts.words import bare, kind_word, plain, t, tell

PER_PAGE = 6
Pair = tuple[Item, Seen]


def draw(run: store.Run, items: Sequence[Item], refused: Sequence[tuple[str, Sentence]], *, dropped: bool) -> None:
    """dropped: all are looked at, summed up and can be taken away; else only those of the open page are looked at."""
    if not dropped:
        page = views.page_of(len(items), f"heatmaps-{run.id}", PER_PAGE)
        _cards(run, [(item, looking.see(run, item)) for item in items[page]], page.start)
        return
    seen = looking.see_all(run, items)
    pairs = [(item, one) for item, one in zip(items, seen, strict=True) if isinstance(one, Seen)]
    bad = [(item.name, one) for item, one in zip(items, seen, strict=True) if isinstance(one, Sentence)]
    _summary(pairs, [*bad, *refused])
    if len(pairs) > 1 and st.toggle(t("heatmaps.worst_first"), True, key="worst-first"):
        pairs.sort(key=lambda pair: -pair[1].ratio)
    page = views.page_of(len(pairs), f"heatmaps-{run.id}", PER_PAGE)
    _cards(run, pairs[page], page.start)
    if pairs:
        _take_away(run, items, seen)


def _cards(run: store.Run, pairs: Sequence[tuple[Item, Seen | Sentence]], before: int) -> None:
    heats = [one.heat is not None for _, one in pairs if isinstance(one, Seen)]
    many = len(pairs) > 1
    if heats and not any(heats):
        st.info(t("heatmaps.no_map"), icon=":material/info:")
    elif many and heats:
        overlay.controls(key="heat-controls")
    with st.grid("auto", min_column_width=320, gap="medium") if many else st.container(width=900):
        for place, (item, one) in enumerate(pairs, start=1 + before):
            if isinstance(one, Sentence):
                st.warning(f"{plain(item.name)}: {tell(one)}", icon=":material/broken_image:")
            else:
                _card(run, item, one, place, alone=not many)


def _card(run: store.Run, item: Item, seen: Seen, place: int, *, alone: bool) -> None:
    words, icon, colour = looking.verdict(seen)
    with st.container(border=True, height="stretch"):
        st.markdown(f"#### :{colour}[{icon}] {plain(words)}")
        score = t("heatmaps.score", x=f"{seen.ratio:.2f}", distance=f"{seen.normalised:.2f}")
        st.markdown(score, help=t("heatmaps.score_help"))
        if seen.heat is None:
            st.image(seen.photo, width="stretch", alt=item.name)
        else:
            overlay.overlay(
                seen.photo, seen.size, seen.heat, alt=item.name, key=f"heat-{item.digest}", controls=alone,
                heat_alt=bare("overlay.alt", name=item.name, x=f"{seen.ratio:.2f}"),
            )  # fmt: skip
        kind = f" · {t('heatmaps.known', kind=kind_word(item.kind))}" if item.kind else ""
        st.markdown(f":small[{plain(item.name)}{kind} · {seen.size[0]} × {seen.size[1]}]")
        reasons.expander(run, item.path, item.digest, item.name, item.digest)
        for note in seen.notes:
            st.markdown(f":small[:material/info: {tell(note)}]")
        st.download_button(
            t("heatmaps.png"), looking.png(run, item), looking.file_name(item, place), "image/png",
            key=f"png-{item.digest}", icon=":material/download:", on_click="ignore", type="tertiary",
        )  # fmt: skip


def _summary(pairs: Sequence[Pair], refused: Sequence[tuple[str, Sentence]]) -> None:
    alarms = sum(one.alarm for _, one in pairs)
    if len(pairs) > 1:
        st.markdown(f"**{t('heatmaps.summary', alarms=alarms, total=len(pairs))}**")
    if refused:
        with st.expander(t("heatmaps.refused", n=len(refused)), icon=":material/block:", expanded=not pairs):
            views.refused(refused)


def _take_away(run: store.Run, items: Sequence[Item], seen: Sequence[Seen | Sentence]) -> None:
    with st.container(horizontal=True):
        st.download_button(
            t("heatmaps.zip"), looking.packed(run, items, seen), f"heatmaps-{run.id}.zip", "application/zip",
            key="zip", icon=":material/folder_zip:", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            t("heatmaps.csv"), looking.table(items, seen), f"heatmaps-{run.id}.csv", "text/csv", key="csv",
            icon=":material/table:", on_click="ignore",
        )  # fmt: skip
