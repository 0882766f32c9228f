"""Handing a run over: the report for the people who decide, every score, and the heatmaps; made when asked for."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from adlib import report, store
from pages.parts.words import language, t


def over(run: store.Run) -> None:
    """The section "Report" of a finished run, in a language of its own choice."""
    st.subheader(t("report.section"))
    st.markdown(t("report.section_about"))
    chosen = st.segmented_control(
        t("report.language"), list(report.LANGUAGES), format_func=report.LANGUAGES.__getitem__, required=True,
        default=language(), key=f"report-language-{language()}",
    )  # fmt: skip
    with st.container(horizontal=True):
        _download(
            t("report.get_html"), _page(run, chosen or language()), f"report-{run.id}-{chosen}.html", "text/html",
            key="primary-report",
        )  # fmt: skip
        _download(t("report.get_csv"), lambda: report.sheet(run), f"scores-{run.id}.csv", "text/csv", key="csv")
        if report.has_heatmaps(run):
            _download(
                t("report.get_zip"), lambda: report.heatmaps(run), f"heatmaps-{run.id}.zip", "application/zip",
                key="heatmaps-zip", help=t("report.zip_about", most=report.MOST_HEATMAPS),
            )  # fmt: skip


def _page(run: store.Run, chosen: str) -> Callable[[], bytes]:
    return lambda: report.page(run, chosen).encode()


def _download(label: str, make: Callable[[], bytes], name: str, mime: str, *, key: str, help: str = "") -> None:
    kind = "primary" if key.startswith("primary-") else "secondary"
    st.download_button(
        label, make, name, mime, key=key, on_click="ignore", icon=":material/download:", type=kind, help=help or None
    )
