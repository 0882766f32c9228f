"""Every word a person may read exists in English and in Japanese, with the same values in it."""

from __future__ import annotations

import ast
import json
import string
from functools import cache

import pytest

from adlib.contract import say
from conftest import ROOT
from pages.parts import words

WORDS = ROOT / "assets" / "words"
SECTIONS = sorted({path.stem for language in words.LANGUAGES for path in (WORDS / language).glob("*.json")})
PAGES = [
    ROOT / "streamlit_app.py",
    *sorted((ROOT / "pages").rglob("*.py")),
    *sorted((ROOT / "adlib").glob("report*.py")),
]
CORE = sorted((ROOT / "adlib").rglob("*.py"))
ERRORS = {"AdlibError", "DataError", "NotFitted", "WeightsMissing", "TooLarge"}


def section(language: str, name: str) -> dict[str, str]:
    return json.loads((WORDS / language / f"{name}.json").read_text(encoding="utf-8"))


def core() -> dict[str, str]:
    return json.loads((WORDS / "core.ja.json").read_text(encoding="utf-8"))


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


@cache
def tree(path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(path) -> list[tuple[str, ast.Call]]:
    """Calls in a file by the name of what is called, without what stands before the last dot."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found.append((name, node))
    return found


# --- the pages' own words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECTIONS)
def test_both_languages_have_the_same_keys_with_the_same_values(name):
    english, japanese = section("en", name), section("ja", name)
    assert english.keys() == japanese.keys()
    assert {key: fields(text) for key, text in english.items()} == {key: fields(text) for key, text in japanese.items()}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_word_that_a_page_asks_for_exists(path):
    known = {f"{name}.{key}" for name in SECTIONS for key in section("en", name)}
    for name, call in calls(path):
        if name not in ("t", "bare") or not call.args:
            continue
        key = call.args[0]
        if isinstance(key, ast.Constant):
            assert key.value in known, f"{path.name}:{call.lineno} asks for {key.value}"
        elif isinstance(key, ast.JoinedStr) and isinstance(key.values[0], ast.Constant):
            beginning = key.values[0].value
            assert any(one.startswith(beginning) for one in known), f"{path.name}:{call.lineno}: {beginning}…"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_a_page_gives_its_words_the_values_they_take(path):
    known = {f"{name}.{key}": text for name in SECTIONS for key, text in section("en", name).items()}
    for name, call in calls(path):
        if name in ("t", "bare") and call.args and isinstance(call.args[0], ast.Constant):
            given = {keyword.arg for keyword in call.keywords}
            raw = name == "bare" and not given  # the template itself, for a chart to fill in
            if None not in given and not raw:  # not with **values
                assert fields(known[call.args[0].value]) <= given, f"{path.name}:{call.lineno}: {call.args[0].value}"


# --- the core's sentences ---------------------------------------------------------------------------------------------


def constants(path) -> dict[str, str]:
    """Texts that a module gives a name at its top."""
    return {
        node.targets[0].id: node.value.value
        for node in tree(path).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def templates(path) -> list[tuple[str | None, int]]:
    """Every sentence a file can say, with its line; None where it is not written out."""
    named, found = constants(path), []

    def literal(node: ast.expr) -> str | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return named.get(node.id) if isinstance(node, ast.Name) else None

    for name, call in calls(path):
        about = {keyword.arg: keyword.value for keyword in call.keywords}
        if (name == "say" or name in ERRORS) and call.args:
            found.append((literal(call.args[0]), call.lineno))
        elif name == "tick" and len(call.args) > 1 and not isinstance(call.args[1], ast.Name):
            found.append((literal(call.args[1]), call.lineno))
        elif name == "Card":
            found.append((literal(about["good_at"]), call.lineno))
        elif name == "setting":
            found += [(literal(about[key]), call.lineno) for key in ("help", "label") if key in about]
        elif name == "Suggestion":
            found.append((literal(call.args[-1]), call.lineno))
        elif name == "__init__" and call.args and isinstance(call.args[0], ast.Constant):
            found.append((literal(call.args[0]), call.lineno))  # an error with a sentence of its own
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda p: p.stem)
def test_every_sentence_of_the_core_is_written_out_and_has_its_japanese(path):
    japanese = core()
    for template, line in templates(path):
        assert template is not None, f"{path.name}:{line} makes up a sentence: write the template out"
        if not template or not any(letter.isalpha() for letter in template):
            continue
        assert template in japanese, f"{path.name}:{line}: no Japanese for {template!r}"
        assert fields(japanese[template]) == fields(template), template


def test_no_japanese_is_kept_for_a_sentence_that_nobody_says():
    said = {template for path in CORE for template, _ in templates(path)}
    spoken = said | {node.value for path in CORE for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
    assert set(core()) <= spoken


# --- strangers' texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["![x](https://evil.example/t.png)", "[a](http://b)", "<b>", "`x`", "$x$", ":red[x]", "**x**", "# x", "a\nb"],
)
def test_a_strangers_text_is_escaped_letter_by_letter(name):
    escaped = words.plain(name)
    kept = escaped.replace("\\", "").replace("\u2060", "")
    assert kept == name.replace("\n", " ")
    for i, letter in enumerate(escaped):
        if letter in "![]()<>`$:*#|_~":
            assert escaped[i - 1] == "\\"


@pytest.mark.parametrize("address", ["https://evil.example", "WWW.evil.example", "a@evil.example"])
def test_an_address_in_a_strangers_text_is_broken_so_that_it_becomes_no_link(address):
    assert "\u2060" in words.plain(address)


def test_a_sentence_that_the_core_never_said_is_escaped_whole():
    assert words.tell(say("![x](http://evil.example)")) == words.plain("![x](http://evil.example)")


def test_a_template_that_does_not_fit_its_values_is_shown_as_it_stands():
    assert words.tell_bare(say("{a.b} and {c}", a=1)) == "{a.b} and {c}"
