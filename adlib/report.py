"""A run as one file for the people who decide: the decision, what it rests on, and what was not tested.

One self-contained page of HTML: no script, no outside request, pictures and charts inside, made to be printed on A4.
Beside it every score as CSV and the heatmaps as a zip.  Nothing here is computed by a network; the run's files say it all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import datetime

from adlib import report_cases, report_decision, report_graphs, store
from adlib import report_charts as charts
from adlib import report_record as record
from adlib.contract import VERSION, DataError
from adlib.markup import Markup, style, tag
from adlib.report_facts import Facts, facts_of
from adlib.report_pictures import MOST_HEATMAPS as MOST_HEATMAPS
from adlib.report_pictures import heatmaps_zip
from adlib.results import cell
from adlib.wording import ASSETS
from adlib.wording import LANGUAGES as LANGUAGES

# Heading → what stands below it; None leaves the section out.  A new finding is one line here.
SECTIONS: dict[str, Callable[[Facts], Markup | None]] = {
    "decision": report_decision.decision,
    "figures": report_decision.figures,
    "curves": report_graphs.curves,
    "distances": report_graphs.distances,
    "plane": report_graphs.plane,
    "pictures": report_cases.pictures,
    "threshold": record.threshold,
    "kinds": record.kinds,
    "studies": report_graphs.studies,
    "settings": record.settings,
    "card": record.card,
    "limits": record.limits,
    "glossary": record.glossary,
}
# Even if something slipped in, the browser would fetch nothing and run nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(run: store.Run, language: str = "en", now: datetime | None = None) -> str:
    """The report as HTML.  now: the date it shows; None = this moment.

    Raises NotFitted when the run has not finished, DataError when its files are damaged, AdlibError for a language that
    there are no words in.
    """
    facts = facts_of(run, language)
    t, date = facts.words.t, (now or datetime.now()).strftime("%Y-%m-%d %H:%M")
    sections = [_section(facts, name, body) for name, body in SECTIONS.items()]
    title = t("report.page_title", dataset=facts.dataset, method=facts.method)
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"), tag("title", title), style(_css()),
    )  # fmt: skip
    footer = tag("footer", tag("p", t("report.footer", version=VERSION, run=run.id, date=date)))
    body = tag("body", charts.patterns(), tag("main", _masthead(facts, date), *sections), footer)
    return "<!doctype html>\n" + tag("html", head, body, lang=language)


def _css() -> str:
    return (ASSETS / "report.css").read_text(encoding="utf-8")


def _masthead(facts: Facts, date: str) -> Markup:
    t = facts.words.t
    about = [
        ("dataset", tag("bdi", facts.dataset)), ("method", facts.method),
        ("network", facts.backbone or t("report.no_network")), ("made", date),
    ]  # fmt: skip
    entries = [tag("div", tag("dt", t(f"report.{name}")), tag("dd", value)) for name, value in about]
    titles = [tag("p", t("report.eyebrow"), cls="eyebrow"), tag("h1", tag("bdi", facts.title))]
    return tag("header", *titles, tag("dl", *entries, cls="about-run"), tag("p", t("report.to_print"), cls="on-screen"))


def _section(facts: Facts, name: str, body: Callable[[Facts], Markup | None]) -> Markup | None:
    inside = body(facts)
    if inside is None:
        return None
    heading = tag("h2", facts.words.t(f"report.{name}"), id=name)
    return tag("section", heading, inside, aria_labelledby=name, cls=f"section-{name}")


def sheet(run: store.Run) -> bytes:
    """Every score as CSV, the tests' and those of the normals that set the threshold; UTF-8 with a mark for Excel.

    Raises NotFitted or DataError as `page`.
    """
    facts, text = facts_of(run, "en"), io.StringIO()
    table = csv.writer(text)
    table.writerow(["name", "kind", "label", "used_as", "score", "normalised", "alarm", "sha256"])
    rows = [(row, "test", row["label"]) for row in facts.rows]
    held = run.read("normals.json") or []
    rows += [(row, "calibration", 0) for row in held if row.get("score") is not None]
    for row, used, label in rows:
        score = row["score"]
        figures = (f"{score:.6g}", f"{score / facts.calibration.unit:.6g}", int(score > facts.line))
        table.writerow([cell(row["name"]), cell(row["kind"]), label, used, *figures, row["digest"]])
    if not rows:
        raise DataError("Run '{run}' keeps no scores. Evaluate it on the Evaluate page.", run=run.id)
    return text.getvalue().encode("utf-8-sig", errors="replace")


def heatmaps(run: store.Run) -> bytes:
    """A zip with a PNG for each test, mistakes first, at most MOST_HEATMAPS, and the sheet of scores.

    Raises DataError when the run has no heatmaps, and as `page`.
    """
    return heatmaps_zip(facts_of(run, "en"), sheet(run))


def has_heatmaps(run: store.Run) -> bool:
    return (run.folder / "maps.npy").exists()


__all__ = ["LANGUAGES", "MOST_HEATMAPS", "SECTIONS", "has_heatmaps", "heatmaps", "page", "sheet"]
