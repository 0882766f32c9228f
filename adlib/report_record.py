"""The second half of a report: the threshold's law, kinds, settings, the run card, limits and words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np

from adlib import metrics, regions, thresholds
from adlib.markup import Markup, join, tag
from adlib.report_decision import notes, number, percent, promised_percent, warnings
from adlib.report_facts import Facts
from adlib.wording import middle_cut

_MOST_KINDS = 60
_RARE = 10  # pictures of a kind, below which its share means little
_FEW_DEFECTS = 100


# --- the threshold ----------------------------------------------------------------------------------------------------


def threshold(facts: Facts) -> Markup:
    t, calibration = facts.words.t, facts.calibration
    line, promised = calibration.threshold, calibration.threshold.alpha
    normalised = number(line.value / calibration.unit, 3)
    entries = [
        (t("report.threshold_value"), t("report.threshold_is", normalised=normalised, value=f"{line.value:.6g}")),
        (t("report.law"), facts.words.tell(line.rule)),
        (t("report.learned_on"), facts.words.tell(line.fitted_on)),
        (
            t("report.promise"),
            t("report.promised", percent=promised_percent(promised)) if promised else t("report.promised_none"),
        ),
    ]
    if (expected := _expected(facts)) is not None:
        low, high = (percent(end) for end in expected)
        entries.append((t("report.expected"), t("report.expected_range", n=calibration.normals, low=low, high=high)))
    if facts.report is not None:
        entries.append((t("report.seen"), _seen(facts)))
    return _pairs(entries)


def _expected(facts: Facts) -> tuple[float, float] | None:
    """Where the line's true false-alarm rate lies, by its Beta law; None for any other line than the quantile of
    normals that were kept out of the fit."""
    held = facts.calibration
    alpha = held.threshold.alpha
    if not alpha or held.cross_fitted or facts.by_hand or not held.scores:
        return None
    quantile = thresholds.at_false_alarm_rate(held.scores, alpha)
    return thresholds.false_alarm_range(len(held.scores), alpha) if quantile.value == held.threshold.value else None


def _seen(facts: Facts) -> str:
    found = facts.rate("fpr")
    if found is None:
        return facts.words.t("report.seen_none")
    k, n, low, high = found
    return facts.words.t("report.seen_rate", k=k, n=n, share=percent(k / n), low=percent(low), high=percent(high))


# --- kind by kind -----------------------------------------------------------------------------------------------------


def kinds(facts: Facts) -> Markup:
    t = facts.words.t
    if not facts.rows:
        return tag("p", t("report.kinds_none"))
    heads = ("kind", "number", "alarms", "share_head", "median", "span")
    groups: dict[int, list[Markup]] = {0: [], 1: []}
    found = facts.kinds()
    for kind, places in list(found.items())[:_MOST_KINDS]:
        groups[int(facts.labels[places[0]])].append(_kind_row(facts, kind, places))
    bodies = [
        tag("tbody", tag("tr", tag("th", t(f"report.{name}"), colspan=len(heads), scope="rowgroup", cls="group")), *rows)
        for name, rows in (("normal_group", groups[0]), ("defect_group", groups[1])) if rows
    ]  # fmt: skip
    head = tag("thead", tag("tr", *(tag("th", t(f"report.{name}"), scope="col") for name in heads)))
    over = len(found) - _MOST_KINDS
    more = tag("p", t("report.kinds_over", n=over)) if over > 0 else None
    return join([tag("div", tag("table", head, *bodies, cls="kinds"), cls="scrolled", tabindex=0, role="group",
                     aria_label=t("report.kinds")), more])  # fmt: skip


def _kind_row(facts: Facts, kind: str, places: Sequence[int]) -> Markup:
    values = facts.normalised[list(places)]
    k, n = int(facts.alarms[list(places)].sum()), len(places)
    low, high = metrics.rate_interval(k, n)
    share = f"{percent(k / n)} % ({percent(low)}–{percent(high)} %)"
    cells = (
        str(n),
        str(k),
        share,
        number(float(np.median(values)), 2),
        f"{number(values.min(), 2)} – {number(values.max(), 2)}",
    )
    name = tag("th", tag("bdi", kind), scope="row")
    return tag("tr", name, *(tag("td", cell, cls="number") for cell in cells))


# --- settings and run card --------------------------------------------------------------------------------------------


def settings(facts: Facts) -> Markup:
    t, card = facts.words.t, facts.card
    backbone = card.get("backbone") or {}
    entries = [(t("report.method"), facts.method), (t("report.network"), facts.backbone or t("report.no_network"))]
    if backbone.get("stages"):
        entries.append((t("report.levels"), ", ".join(map(str, backbone["stages"]))))
    entries += [
        (t("report.size"), t("report.pixels", n=card["size"])),
        (t("report.proportions"), t("report.kept" if card["letterbox"] else "report.stretched")),
    ]
    if backbone.get("precision"):
        entries.append((t("report.precision"), backbone["precision"]))
    entries += [
        (t("report.alpha"), t("report.percent", percent=promised_percent(card["alpha"]))),
        (t("report.seed"), card["seed"]),
    ]
    if facts.region:
        share = promised_percent(regions.share(facts.region))
        entries.append((t("report.region"), t("report.region_set", percent=share)))
    if card.get("white"):
        entries.append((t("report.white"), card["white"]))
    for name, value in card["settings"].items():
        shown = t("report.yes" if value else "report.no") if isinstance(value, bool) else value
        entries.append((t("report.own_setting", method=facts.method, name=name), shown))
    return _pairs(entries)


def card(facts: Facts) -> Markup:
    t, card, report = facts.words.t, facts.card, facts.report
    normals, weights = card["normals"], card.get("weights") or {}
    used = "report.normals_crossed" if normals["cross_fitted"] else "report.normals_held"
    versions = [
        f"adlib {card['version']}",
        *(f"{name} {version}" for name, version in card.get("versions", {}).items()),
    ]
    device = str(card.get("device") or t("report.not_known"))
    entries: list[tuple[str, object]] = [
        (t("report.run"), facts.run.id),
        (t("report.fitted_on_day"), day(card["created"])),
        (t("report.versions"), ", ".join(versions)),
        (t("report.seed"), card["seed"]),
        (t("report.normals_used"), t(used, fitted=normals["fitted"], calibrating=normals["calibrating"])),
        (t("report.hash_normals"), _hash(card["data_hash"])),
    ]
    if facts.values.get("tests_hash"):
        entries.append((t("report.hash_tests"), _hash(facts.values["tests_hash"])))
    if weights.get("sha256"):
        entries.append((t("report.hash_weights"), join([f"{weights.get('file') or ''} ", _hash(weights["sha256"])])))
    if state := facts.state_hash():
        entries.append((t("report.hash_state"), _hash(state)))
    threads = t("report.threads", device=device, n=card["threads"]) if card.get("threads") else device
    entries += [
        (t("report.hardware"), threads),
        (t("report.fit_time"), t("report.seconds", n=f"{card['fit_seconds']:.1f}")),
        (t("report.memory"), t("report.megabytes", n=f"{card['peak_mb']:.0f}")),
    ]
    if report is not None:
        entries.append((t("report.speed"), t("report.per_picture", n=f"{report.ms_per_image:.1f}")))
    if card.get("imported"):
        entries.append((t("report.taken_in"), day(card["imported"])))
    return join([tag("p", t("report.card_about")), _pairs(entries)])


def day(moment: float) -> str:
    """2026-11-20 14:05, by this machine's clock."""
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M")


def _hash(digest: str) -> Markup:
    return tag("code", digest)


def _pairs(entries: Iterable[tuple[str, object]]) -> Markup:
    """Names and values as a table of two columns."""
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in entries]
    return tag("table", tag("tbody", *rows), cls="pairs")


# --- limits and words -------------------------------------------------------------------------------------------------


def limits(facts: Facts) -> Markup:
    """What was not tested, from the counts and from what the evaluation warned of."""
    t, report, said = facts.words.t, facts.report, []
    if report is None:
        said.append(t("report.limit_untested"))
    else:
        said += [*warnings(facts), *_limits_of_counts(facts)]
    if facts.calibration.cross_fitted:
        said.append(t("report.limit_crossed", n=facts.calibration.normals))
    if facts.oracle or facts.by_hand:
        said.append(t("report.basis_oracle" if facts.oracle else "report.basis_hand"))
    has_map = bool(facts.calibration.map_unit)
    if not has_map:
        said.append(t("report.limit_no_map"))
    elif report is not None and report.n_defect and report.pixel_auroc is None:
        said.append(t("report.limit_no_masks"))
    said.append(t("report.limit_size", n=facts.card["size"]))
    said += [t("report.limit_heat")] if has_map else []
    said += [t("report.limit_region")] if facts.region else []
    return notes([*said, t("report.limit_scene"), t("report.limit_labels")]) or Markup()


def _limits_of_counts(facts: Facts) -> list[str]:
    t, said = facts.words.t, []
    false, hits = facts.rate("fpr"), facts.rate("tpr")
    needed = math.ceil(math.log(0.025) / math.log(0.99))  # normals without a false alarm, for an interval below 1 %
    if false is not None and false[1] < needed:
        said.append(t("report.limit_normals", k=false[0], n=false[1], high=percent(false[3]), needed=needed))
    if hits is None:
        return said
    if hits[1] < _FEW_DEFECTS:
        said.append(t("report.limit_defects", k=hits[1] - hits[0], n=hits[1], high=percent(1 - hits[2])))
    found = {kind: places for kind, places in facts.kinds().items() if facts.labels[places[0]] == 1}
    said.append(t("report.limit_kinds", kinds=_listed(found)))
    rare = [kind for kind, places in found.items() if len(places) < _RARE]
    if rare:
        said.append(t("report.limit_rare", least=_RARE, kinds=_listed(rare)))
    if false is not None:
        said.append(t("report.limit_share", share=percent(float(facts.labels.mean()))))
    return said


def _listed(kinds: Iterable[str]) -> str:
    """At most a dozen names."""
    names = [middle_cut(kind, 40) for kind in kinds]
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


def glossary(facts: Facts) -> Markup:
    """The words that those who decide may not know."""
    t, terms = facts.words.t, ["defect", "score", "threshold", "missed", "interval", "oracle", "auroc", "heatmap"]
    if not facts.calibration.map_unit:
        terms.remove("heatmap")
    return tag("dl", *(tag("div", tag("dt", t(f"report.word_{term}")), tag("dd", t(f"report.means_{term}"))) for term in terms),
               cls="glossary")  # fmt: skip
