"""Words for people in their language, without a page: what a report and the terminal say.

`assets/words/<language>/<section>.json` holds words by key, `assets/words/core.ja.json` the core's sentences by their
English template.  Nothing is escaped here: whoever draws knows what its place takes for a command.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adlib.contract import AdlibError, Sentence

ASSETS = Path(__file__).resolve().parent.parent / "assets"
LANGUAGES = {"en": "English", "ja": "日本語"}
# Control characters, halves of letters that no file can hold, and marks that turn the text around them.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]+")


@functools.cache
def by_key(language: str) -> dict[str, str]:
    """{"section.key": words} of one language."""
    words = {}
    for path in sorted((ASSETS / "words" / language).glob("*.json")):
        section = json.loads(path.read_text(encoding="utf-8"))
        words.update({f"{path.stem}.{key}": text for key, text in section.items()})
    return words


@functools.cache
def by_sentence() -> dict[str, str]:
    """{English template: Japanese template} of all that the core says."""
    return dict(json.loads((ASSETS / "words" / "core.ja.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Words:
    """What is said in one language.  Raises AdlibError for a language that there is none of."""

    language: str = "en"

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            known = ", ".join(LANGUAGES)
            raise AdlibError("There are no words in '{language}'. Known: {known}.", language=self.language, known=known)

    def t(self, key: str, /, **values: Any) -> str:
        """The words under `key`, filled in; English where the language has none.  Not escaped."""
        template = by_key(self.language).get(key) or by_key("en")[key]
        return template.format(**values) if values else template

    def tell(self, sentence: Sentence | str, /) -> str:
        """A sentence of the core, on one line.  Not escaped."""
        if isinstance(sentence, str):
            sentence = Sentence(sentence)
        values = {
            name: self._word(value) if isinstance(value, str) else value for name, value in sentence.values.items()
        }
        return clean(filled(self._word(sentence.template), values))

    def kind(self, kind: str) -> str:
        """A kind of defect as a person reads it: those of the sample sets are translated."""
        return clean(self._word(kind)).replace("_", " ")

    def dataset(self, id: str, title: str) -> str:
        """A data set's title as a person gave it; a sample set's in this language."""
        if not id.startswith("sample-"):
            return clean(title)
        name, colon, choice = title.partition(": ")
        return clean(self._word(name) + colon + choice)

    def _word(self, text: str) -> str:
        return by_sentence().get(text, text) if self.language == "ja" else text


def filled(template: str, values: Mapping[str, Any]) -> str:
    """A run that came from elsewhere may carry a template that does not fit its values: then it is shown as it stands."""
    try:
        return template.format(**values) if values else template
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        return template


def clean(text: object) -> str:
    """A stranger's text on one line, without what turns, breaks or hides the text around it."""
    return _CONTROLS.sub(" ", str(text))


def middle_cut(text: str, longest: int) -> str:
    """The beginning and the end of a long name: the end tells pictures apart."""
    return text if len(text) <= longest else f"{text[: longest // 3]}…{text[-(longest - longest // 3 - 1) :]}"
