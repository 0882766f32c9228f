"""What an evaluation found, loaded once a change, and its figures: each beside the pictures it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from adlib import decisions, doubts, metrics, rules, store
from adlib.contract import Calibration, Sentence, Threshold
from adlib.results import calibration_of
from pages.parts.words import bare, number, t, tell, tell_bare


@dataclass(frozen=True)
class Found:
    """An evaluated run.  rows: lines of scores.json.  labels, scores: (N,) in their order; scores in the method's unit.

    calibration: the one in use.  learned: what the fit learned; the same unless a person set another line.
    """

    run: store.Run
    card: dict[str, Any]
    report: dict[str, Any]
    calibration: Calibration
    learned: Calibration
    rows: list[dict[str, Any]]
    labels: np.ndarray
    scores: np.ndarray

    @property
    def line(self) -> float:
        return self.calibration.threshold.value

    @property
    def normalised(self) -> np.ndarray:
        return self.scores / self.calibration.unit

    @property
    def both_classes(self) -> bool:
        return 0 < self.labels.sum() < len(self.labels)


def load(run: store.Run) -> Found | None:
    """None when the run was not evaluated.  Raises DataError when its files are damaged."""
    if not (run.folder / "report.json").exists() or not (run.folder / "scores.json").exists():
        return None
    return _load(str(run.folder), stamp(run))


def stamp(run: store.Run) -> tuple[int, ...]:
    """Changes whenever the evaluation or the threshold does; the key of everything cached about them."""
    names = ("report.json", "scores.json", "calibration.json", decisions.LEARNED)
    paths = [run.folder / name for name in names]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


@st.cache_resource(max_entries=8, show_spinner=False)
def _load(folder: str, changed: Any) -> Found:
    run = store.Run(Path(folder))
    rows = store.read_json(run.folder / "scores.json")
    labels, scores = np.array([row["label"] for row in rows]), np.array([row["score"] for row in rows])
    report = store.read_json(run.folder / "report.json")
    return Found(run, run.card, report, calibration_of(run), decisions.learned(run), rows, labels, scores)


# --- figures ----------------------------------------------------------------------------------------------------------


def line_words(line: Threshold) -> str:
    """What a line's rule is called, in one or two words.  Not escaped: for places that draw no Markdown."""
    if line.key in rules.RULES:
        return tell_bare(rules.RULES[line.key].title)
    return bare("evaluate.rule_hand" if line.key == "hand" else "evaluate.rule_learned")  # older runs kept no key


def decision(found: Found) -> None:
    """The page's first sentence: where the line lies, by which rule, and what that did to the tests."""
    line, report = found.calibration.threshold, found.report
    value = f"{line.value / found.calibration.unit:.2f}"
    parts = [t("evaluate.decision", value=value, rule=line_words(line))]
    for key, (count, total) in (("decision_false", _false(report)), ("decision_caught", _caught(report))):
        if total:
            low, high = (f"{100 * end:.0f}" for end in metrics.rate_interval(count, total))
            parts.append(t(f"evaluate.{key}", k=count, n=total, low=low, high=high))
    text = " ".join(parts)
    if line.oracle:
        text += f" :orange-badge[:material/visibility: {t('evaluate.oracle')}]"
    st.markdown(f"#### {text}" if len(parts) == 1 else f"**{text}**")
    st.markdown(f":small[{tell(line.rule)} {t('evaluate.learned_on')} {tell(line.fitted_on)}]")
    for sentence in _grave(str(found.run.folder), stamp(found.run)):
        st.warning(tell(sentence), icon=":material/warning:")


@st.cache_data(max_entries=50, show_spinner=False)
def _grave(folder: str, changed: Any) -> tuple[Sentence, ...]:
    return doubts.grave(store.Run(Path(folder)))


def _false(report: dict[str, Any]) -> tuple[int, int]:
    table = report["confusion"]
    return table["false_positive"], table["false_positive"] + table["true_negative"]


def _caught(report: dict[str, Any]) -> tuple[int, int]:
    table = report["confusion"]
    return table["true_positive"], table["true_positive"] + table["false_negative"]


def figures(found: Found) -> None:
    """The row of figures, each with its interval and the pictures it rests on.  What could not be measured is a dash,
    with the reason below."""
    report = found.report
    normal, defect = report["n_normal"], report["n_defect"]
    tests = t("evaluate.on_tests", normal=normal, defect=defect)
    masks = t("evaluate.on_pixels", normal=normal, defect=sum(bool(row["mask"]) for row in found.rows))
    oracle = f"{t('evaluate.oracle')} · {tests}"
    at_line = oracle if found.calibration.threshold.oracle else tests
    bases = {
        "image_auroc": tests, "image_ap": tests, "image_f1_oracle": oracle, "pixel_auroc": masks, "aupro": masks,
        "f1": at_line,
    }  # fmt: skip
    names = {"image_auroc": "auroc", "image_ap": "ap", "image_f1_oracle": "f1", "f1": "f1_used"}
    cells = [
        (
            t(f"evaluate.{name}"),
            number(report.get(field)),
            _with_interval(report, field, basis),
            t(f"evaluate.{name}_help"),
        )
        for field, basis in bases.items()
        for name in [names.get(field, field)]
    ]
    cells += rates(report["confusion"], found.calibration.threshold.oracle)
    with st.grid("auto", min_column_width=160, gap="small"):
        for label, value, basis, about in cells:
            with st.container(border=True, height="stretch", gap="xxsmall"):
                st.metric(label, value, help=about)
                st.markdown(f":small[{basis}]")
    if report["image_auroc"] is not None and report["image_auroc"] < 0.5:
        st.warning(t("evaluate.under_half"), icon=":material/swap_vert:")
    for pair in report["skipped"]:
        st.markdown(f":material/info: {tell(Sentence.from_json(pair))}")
    for sentence in doubts.few(normal, defect):
        st.markdown(f":material/info: {tell(sentence)}")


def _with_interval(report: dict[str, Any], field: str, basis: str) -> str:
    if field not in report["intervals"] or report.get(field) is None:
        return basis
    low, high = report["intervals"][field]
    return f"{t('evaluate.interval', low=number(low), high=number(high))} · {basis}"


def rates(table: dict[str, int] | None, oracle: bool = False) -> list[tuple[str, str, str, str]]:
    """False alarms and missed defects at one line: label, "k of n", share with its interval, help.

    oracle: the line was chosen on these very pictures, and the basis says so.
    """
    if table is None:
        return []
    good = table["false_positive"] + table["true_negative"]
    bad = table["false_negative"] + table["true_positive"]
    found = [
        (t("evaluate.false_alarms"), *_rate(table["false_positive"], good), t("evaluate.false_alarms_help")),
        (t("evaluate.missed"), *_rate(table["false_negative"], bad), t("evaluate.missed_help")),
    ]
    mark = f" · {t('evaluate.oracle')}" if oracle else ""
    return [(label, value, basis + mark, about) for label, value, basis, about in found]


def _rate(count: int, total: int) -> tuple[str, str]:
    """ "k of n", and the share in per cent with its interval."""
    if not total:
        return "–", t("evaluate.no_such")
    share, low, high = (f"{100 * value:.1f}" for value in (count / total, *metrics.rate_interval(count, total)))
    return t("evaluate.k_of_n", k=count, n=total), t("evaluate.share", share=share, low=low, high=high)
