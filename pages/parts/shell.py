"""What every page begins with: `shell.page("fit")` is the first statement of each page and of streamlit_app.py.

It sets the page's title, closes the gate where there is one, draws the menu, and keeps address and state in step.
Streamlit runs a page of this folder without the entry file when its address is opened first, so a gate in the entry
file alone would protect nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time

import streamlit as st

from pages.parts import state
from pages.parts.words import ASSETS, LANGUAGES, choose_language, language, plain, t

MENU = {  # page: (file, icon)
    "start": ("streamlit_app.py", ":material/home:"),
    "data": ("pages/data.py", ":material/photo_library:"),
    "fit": ("pages/fit.py", ":material/model_training:"),
    "evaluate": ("pages/evaluate.py", ":material/query_stats:"),
    "heatmaps": ("pages/heatmaps.py", ":material/local_fire_department:"),
    "compare": ("pages/compare.py", ":material/compare_arrows:"),
    "models": ("pages/models.py", ":material/inventory_2:"),
}
LOGO = str(ASSETS / "logo.svg")
WARM_SECONDS = 1.0
_STYLE = """<style>
[class*="st-key-primary-"] button:enabled :is(p, span) { color: light-dark(#fff, #06121f) }
</style>"""


def page(name: str) -> None:
    """Everything that a page needs before its first own line.  name: a key of MENU."""
    st.set_page_config(page_title=f"{t(f'shell.{name}')} · adlib", page_icon=LOGO, layout="wide")
    if st.query_params.get("lang") in LANGUAGES:
        st.session_state["language"] = st.query_params["lang"]
    st.html(_STYLE)  # the theme has no colour for the words on a primary button; in dark they would be 2:1
    st.logo(LOGO, size="large")
    _gate()
    gone = state.sync()
    _menu(name)
    for kind in gone:
        st.warning(t(f"shell.gone_{kind}"), icon=":material/link_off:")
    _warm_soon()


def title(name: str) -> None:
    """The page's heading with one line on what it is for."""
    st.title(t(f"shell.{name}"), anchor=False)
    st.markdown(t(f"shell.{name}_about"))


def link(name: str, label: str, *, icon: str | None = None, **params: str) -> None:
    """A link to another page that takes the state along.  params: what the page shall open with (run=…, dataset=…)."""
    file, usual = MENU[name]
    st.page_link(file, label=label, icon=icon or usual, query_params=_carried() | params)


def go(name: str, **params: str) -> None:
    """Opens another page at once; for buttons that have done their work."""
    st.switch_page(MENU[name][0], query_params=_carried() | params)


def _carried() -> dict[str, str]:
    return {key: st.query_params[key] for key in ("lang", "dataset", "run") if key in st.query_params}


# --- menu -------------------------------------------------------------------------------------------------------------


def _menu(name: str) -> None:
    with st.sidebar:
        for key, (file, icon) in MENU.items():
            st.page_link(file, label=t(f"shell.{key}"), icon=icon, query_params=_carried(), width="stretch")
        st.space("small")
        dataset, run = state.dataset(), state.run()
        if dataset is not None:
            st.caption(f"{t('shell.current_dataset')}  \n**{plain(state.dataset_title(dataset.id, dataset.title))}**")
        if run is not None:
            st.caption(f"{t('shell.current_run')}  \n**{plain(state.run_title(run))}**")
        st.space("small")
        st.segmented_control(
            t("shell.language"), list(LANGUAGES), format_func=LANGUAGES.__getitem__, default=language(),
            required=True, key="language-switch", on_change=_language_chosen, label_visibility="collapsed",
        )  # fmt: skip


def _language_chosen() -> None:
    choose_language(st.session_state["language-switch"])


# --- gate -------------------------------------------------------------------------------------------------------------


def _gate() -> None:
    """Sign-in by `[auth]` in secrets.toml, or one password for all in ADLIB_PASSWORD; open when there is neither."""
    if st.secrets.load_if_toml_exists() and "auth" in st.secrets:
        if not st.user.is_logged_in:
            st.title(t("shell.sign_in"))
            st.button(t("shell.sign_in"), key="primary-login", type="primary", on_click=st.login)
            st.stop()
        return
    password = os.environ.get("ADLIB_PASSWORD", "")
    if password and not st.session_state.get("signed_in"):
        st.title(t("shell.sign_in"))
        given = st.text_input(t("shell.password"), type="password", key="password")
        if given and _same(given, password):
            st.session_state["signed_in"] = True
            st.rerun()
        if given:
            time.sleep(1.0)  # makes guessing slow
            st.error(t("shell.wrong_password"))
        st.stop()


def _same(given: str, wanted: str) -> bool:
    """Compared in constant time, whatever the lengths."""
    first, second = (hashlib.sha256(text.encode()).digest() for text in (given, wanted))
    return hmac.compare_digest(first, second)


# --- worker -----------------------------------------------------------------------------------------------------------

_warmed = 0.0


def _warm_soon() -> None:
    """Starts the worker a moment later, in a thread: the first page of a fresh server must not wait for it."""
    global _warmed
    now = time.monotonic()
    if now - _warmed > 20.0 or not _warmed:
        _warmed = now
        timer = threading.Timer(WARM_SECONDS, _warm)
        timer.daemon = True
        timer.start()


def _warm() -> None:
    from adlib import worker

    worker.warm()
