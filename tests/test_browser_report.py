"""The report as a file in a real browser, without a network: readable by everyone, on a phone, and on paper."""

from __future__ import annotations

import json
import re

import pytest
from kit_report import run as run
from kit_runs import made as made

from adlib import report
from browser import AXE

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FIND = (
    "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))"
)


@pytest.fixture
def opened(browser, tmp_path):
    """opened(html, **context) → a page that shows the file from disk, with the network cut off."""
    visitors, asked = [], []

    def open_file(html: str, **context):
        file = tmp_path / "report.html"
        file.write_text(html, encoding="utf-8")
        visitors.append(browser.new_context(offline=True, **context))
        visitors[-1].on("request", lambda request: asked.append(request.url))
        page = visitors[-1].new_page()
        page.on("console", lambda message: asked.append(message.text))  # a broken policy speaks there
        page.goto(file.as_uri())
        return page

    yield open_file
    for visitor in visitors:
        visitor.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize(
    ("language", "scheme", "width"), [("en", "light", 1280), ("ja", "dark", 1280), ("ja", "light", 390)]
)
def test_everyone_can_read_the_report(language, scheme, width, run, opened):
    page = opened(report.page(run, language), color_scheme=scheme, viewport={"width": width, "height": 900})
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = [
        (rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in json.loads(page.evaluate(FIND, RULES))
    ]
    assert found == []
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth + 1"), "scrolls sideways"
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.evaluate("document.images.length") > 0


def test_it_prints_on_a_few_pages_of_a4_without_cutting_a_figure(run, opened):
    page = opened(report.page(run), color_scheme="dark")
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 4 <= pages <= 10
    (box,) = {tuple(map(float, found.split())) for found in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", pdf)}
    assert box[2:] == pytest.approx((595, 842), abs=1.5), "A4 in points"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(16, 20, 24)", "dark ink on white paper"
    height = page.evaluate("Math.max(...[...document.querySelectorAll('figure, .case')].map(f => f.offsetHeight))")
    assert height < 980, "taller than a sheet: it would be cut"
