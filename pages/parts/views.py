"""What several pages draw: one red box for an error, progress of a job, galleries, figures, empty states, pickers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import streamlit as st

from adlib import jobs, store
from adlib.contract import AdlibError, Sentence, WeightsMissing
from pages.parts import learning, shell, state
from pages.parts.words import bare, duration, plain, t, tell, tell_bare, when

_LINE = 60  # bytes of text that a line of a table is sure to hold

# --- errors and empty places ------------------------------------------------------------------------------------------


@contextmanager
def error_box() -> Iterator[None]:
    """An AdlibError inside becomes one red box in the visitor's language; the rest of the block is left out."""
    try:
        yield
    except AdlibError as error:
        st.error(tell(error.sentence), icon=":material/error:")
        if isinstance(error, WeightsMissing):
            shell.link("models", t("views.to_weights"))


def empty(text: str, page: str, label: str, *, icon: str = ":material/image_search:") -> None:
    """An empty place: what will appear here, and the one next action.  text, label: Markdown of `t`."""
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        st.markdown(f"{icon} {text}", text_alignment="center")
        shell.link(page, label)
        st.space("small")


def refused(rows: Sequence[tuple[str, Sentence]], reason: str = "") -> None:
    """Pictures with a sentence each: why they were not taken, or what was done.  Table cells draw no Markdown."""
    title = reason or bare("views.reason")
    import pandas as pd  # a quarter of a second, which the first page of a server does not have

    name, reasons = bare("views.name"), [tell_bare(why) for _, why in rows]
    table = pd.DataFrame({name: [each for each, _ in rows], title: reasons})
    long = max(len(why.encode("utf-8")) for why in reasons) > _LINE  # a letter of Japanese is wider, and has more bytes
    st.dataframe(
        table, hide_index=True, alt=bare("views.refused_alt", n=len(rows), title=title), row_height=72 if long else None,
        column_config={name: st.column_config.TextColumn(width="medium"), title: st.column_config.TextColumn(width="large")},
    )  # fmt: skip


def metrics(figures: Sequence[tuple[str, str, str | None]]) -> None:
    """A row of figures that reflows on small screens.  figures: (label, value, help or None)."""
    with st.grid(min(6, len(figures)), min_column_width=150):
        for label, value, about in figures:
            st.metric(label, value, help=about, border=True)


# --- choosing ---------------------------------------------------------------------------------------------------------


def pick_dataset() -> store.Dataset | None:
    """A choice among the data sets, the current one chosen; the newest when there is no current one.

    Draws the empty state itself and returns None when there is no data set.
    """
    known = {line.id: line for line in state.datasets()}
    if not known:
        empty(t("views.no_dataset"), "data", t("views.to_data"), icon=":material/photo_library:")
        return None
    _pick("dataset", list(known), lambda id: bare("views.dataset_option", title=known[id].title, n=known[id].normals))
    return state.dataset()


def pick_run() -> store.Run | None:
    """A choice among the finished runs, and the current one even when it is still at work.  As `pick_dataset`.

    Where none was chosen it is the newest of the current data set.  A run of another data set says so.
    """
    lines, here = state.runs(), state.dataset()
    lines.sort(key=lambda line: here is None or line.dataset != here.id)  # stable: each part stays newest first
    titles = told_apart(lines)
    current = state.run()
    if current is not None and current.id not in titles:
        titles = {current.id: state.run_title(current), **titles}
    if not titles:
        empty(t("views.no_run"), "fit", t("views.to_fit"), icon=":material/model_training:")
        return None
    _pick("run", list(titles), titles.__getitem__)
    run = state.run()
    others = {line.id for line in lines if here is not None and line.dataset != here.id}
    if here is not None and run is not None and run.id in others:
        st.info(t("views.other_dataset", title=state.dataset_title(here.id, here.title)), icon=":material/database:")
        shell.link("fit", t("views.to_fit"))
    return run


def told_apart(lines: Sequence[state.RunLine]) -> dict[str, str]:
    """Id → title of each run; where titles are the same, with the moment, and with the id where that is not enough."""
    names = {line.id: line.title for line in lines}
    for marks in (
        {line.id: f" · {when(line.created)}" for line in lines},
        {line.id: f" ({line.id[:4]})" for line in lines},
    ):
        every = list(names.values())
        names = {id: name + (marks[id] if every.count(name) > 1 else "") for id, name in names.items()}
    return names


def _pick(kind: str, ids: list[str], name) -> None:
    key = f"pick-{kind}"
    if st.session_state.get(kind) not in ids:
        state.choose(**{kind: ids[0]}, along=False)  # nobody chose it, so nothing else may change with it
    st.session_state[key] = st.session_state[kind]  # the state is the truth, the widget follows it

    def chosen() -> None:
        state.choose(**{kind: st.session_state[key]})

    st.selectbox(t(f"shell.current_{kind}"), ids, format_func=name, key=key, on_change=chosen)


# --- jobs -------------------------------------------------------------------------------------------------------------


def job(run_id: str) -> jobs.State:
    """Where a job stands.  Active: live progress with Stop, and the page runs again at the end.  Failed or stopped: why,
    and another try.  Done: draws nothing.  Raises DataError when there is no such run."""
    now = jobs.state(run_id)
    if now.active:
        watch(run_id)
    elif now.status in ("failed", "stopped"):
        box = st.error if now.status == "failed" else st.warning
        box(tell(now.message), icon=":material/error:" if now.status == "failed" else ":material/stop_circle:")
        st.button(t("views.again"), icon=":material/refresh:", key=f"again-{run_id}", on_click=_again, args=(run_id,))
    return now


@st.fragment(run_every=1.0)
def watch(job: str) -> None:
    """Live progress of a fit or a study with Stop; the page runs again at its end.  job: as `jobs.state` takes it."""
    with error_box():
        now = jobs.state(job)
        if not now.active:
            st.rerun()
        with st.container(border=True):
            text = tell(now.message)
            if now.seconds_left is not None:
                text += f" · {t('views.left', time=duration(now.seconds_left))}"
            st.progress(min(1.0, max(0.0, now.fraction)), text=f"**{now.fraction:.0%}** · {text}")
            st.button(t("views.stop"), icon=":material/stop:", key=f"stop-{job}", on_click=jobs.stop, args=(job,))
            run_id, _, study = job.partition(".")
            if not study:
                learning.show(store.Run.open(run_id), "live", most=2)


def _again(run_id: str) -> None:
    with error_box():
        state.choose(run=jobs.again(run_id))


# --- pictures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A picture in a gallery.  image: JPEG or PNG bytes, None when its file is gone.  alt, caption: a stranger's text."""

    image: bytes | None
    alt: str
    caption: str = ""


def page_of(count: int, key: str, per_page: int = 24) -> slice:
    """Draws the page numbers when there is more than one page, and returns which of `count` things stand on this one."""
    pages = max(1, -(-count // per_page))
    page = st.pagination(pages, key=f"page-{key}") if pages > 1 else 1
    page = min(max(1, page), pages)
    return slice((page - 1) * per_page, page * per_page)


def gallery(tiles: Sequence[Tile], *, width: int = 108, columns: int = 6) -> None:
    """Pictures side by side, as many in a row as fit.  width: least width of one, in pixels.  columns: at most."""
    with st.grid(columns, min_column_width=width, gap="small"):
        for tile in tiles:
            if tile.image is None:
                st.caption(f":material/broken_image: {plain(tile.caption or tile.alt)}")
            else:
                st.image(tile.image, width="stretch", caption=plain(tile.caption) or None, alt=plain_alt(tile.alt))


def plain_alt(text: str) -> str:
    """Alternative text is drawn as it is; it only has to be short."""
    return text if len(text) <= 120 else f"…{text[-119:]}"
