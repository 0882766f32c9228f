"""Every word on the screen: in the visitor's language, and never with a stranger's Markdown in it.

`assets/words/<language>/<section>.json` holds the pages' own words; `t("fit.title")` reads `title` in section `fit`.
`assets/words/core.ja.json` holds the sentences of the core, by their English template; `tell` looks them up there.
Streamlit draws most texts as Markdown, and a file's name is a stranger's text: `t` and `tell` escape the values they
put in.  Where no Markdown is drawn (alternative texts, table cells, figures, file names), `bare` and `tell_bare` serve.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from adlib.contract import Sentence
from adlib.wording import ASSETS as ASSETS
from adlib.wording import LANGUAGES as LANGUAGES
from adlib.wording import by_key, by_sentence, clean, filled

_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$^=&@/])")
_LINKS = re.compile(r"(?:https?(?=:)|www(?=\.)|@)", re.IGNORECASE)  # Markdown makes links of these though escaped


# --- language ---------------------------------------------------------------------------------------------------------


def language() -> str:
    """The visitor's language: as chosen, else as in the link, else as the browser says, else English."""
    chosen = st.session_state.get("language") or st.query_params.get("lang")
    if chosen not in LANGUAGES:
        chosen = (st.context.locale or "en").partition("-")[0]
    return chosen if chosen in LANGUAGES else "en"


def choose_language(chosen: str) -> None:
    """For this visit and for every link copied from it."""
    if chosen in LANGUAGES:
        st.session_state["language"] = chosen
        st.query_params["lang"] = chosen


# --- texts ------------------------------------------------------------------------------------------------------------


def t(key: str, /, **values: Any) -> str:
    """The page's words under `key`, for whatever Streamlit draws as Markdown; texts among the values are escaped."""
    return bare(key, **{name: plain(value) if isinstance(value, str) else value for name, value in values.items()})


def bare(key: str, /, **values: Any) -> str:
    """As `t`, for places that draw no Markdown: alternative texts, table cells, figures, file names."""
    template = by_key(language()).get(key) or by_key("en").get(key, key)
    return template.format(**values) if values else template


def tell(sentence: Sentence | str, /) -> str:
    """A sentence of the core in the visitor's language, for Markdown.  A template the core never said is escaped whole."""
    if isinstance(sentence, str):
        sentence = Sentence(sentence)
    if sentence.template not in by_sentence():
        return plain(filled(sentence.template, sentence.values))
    shown = {name: plain(_word(value)) if isinstance(value, str) else value for name, value in sentence.values.items()}
    return filled(_template(sentence), shown)


def tell_bare(sentence: Sentence | str, /) -> str:
    """As `tell`, for places that draw no Markdown."""
    if isinstance(sentence, str):
        sentence = Sentence(sentence)
    shown = {name: _word(value) if isinstance(value, str) else value for name, value in sentence.values.items()}
    return clean(filled(_template(sentence), shown))


def _template(sentence: Sentence) -> str:
    return by_sentence().get(sentence.template, sentence.template) if language() == "ja" else sentence.template


def _word(value: str) -> str:
    """A value may itself be one of the core's phrases."""
    return by_sentence().get(value, value) if language() == "ja" else value


def kind_word(kind: str) -> str:
    """A kind as a person reads it: "good" and the sample sets' kinds of defect are translated.  Not escaped."""
    if kind == "good":
        return bare("evaluate.good")
    return (tell_bare(kind) if kind in by_sentence() else kind).replace("_", " ")


def plain(text: object) -> str:
    """Text of a stranger (a file's name, a title), escaped so that Markdown draws it letter by letter.

    An unseen word joiner (U+2060) keeps an address from becoming a link.
    """
    return _MARKS.sub(r"\\\1", _LINKS.sub("\\g<0>\u2060", clean(text)))


# --- numbers ----------------------------------------------------------------------------------------------------------


def when(timestamp: float) -> str:
    """A moment on the visitor's own clock: 2026-11-20 14:05."""
    try:
        zone = ZoneInfo(st.context.timezone) if st.context.timezone else None
    except (KeyError, ValueError, OSError):
        zone = None
    return datetime.fromtimestamp(timestamp, zone).strftime("%Y-%m-%d %H:%M")


def amount(count: float) -> str:
    """Bytes: 1.5 GB, 23 MB, 640 kB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.{0 if count >= 10 * size else 1}f} {unit}"
    return f"{count / 1e3:.0f} kB"


def duration(seconds: float) -> str:
    """A rough length of time, in words."""
    if seconds < 90:
        return bare("shell.seconds", n=max(1, round(seconds)))
    if seconds < 5400:
        return bare("shell.minutes", n=round(seconds / 60))
    return bare("shell.hours", n=round(seconds / 3600))


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"
