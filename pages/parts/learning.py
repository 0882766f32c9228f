"""A network seen while it learns: its loss epoch by epoch, and what it draws in place of a few normals."""

from __future__ import annotations

import streamlit as st

from adlib import learning, plots, store
from adlib.alt_text import losses_text
from pages.parts.words import bare, t

PARTS = ("pixels", "codes", "features", "generator", "discriminator", "encoder", "distance")  # of an adversarial loss


def show(run: store.Run, key: str, most: int = 4) -> bool:
    """Draws the run's record of its training as far as it has come; False, and nothing, when it has none.

    key: where on the page this is drawn, so that a chart keeps its place while it grows.  most: strips, at most.
    """
    curves, strips = learning.curves(run), learning.strips(run, most)
    if not curves and not strips:
        return False
    left, right = st.columns([2, 3], gap="medium")
    if curves:
        words = {name: bare(f"fit.loss_{name}") for name in curves if name in PARTS}
        words |= {
            "x": bare("fit.epoch"), "y": bare("fit.loss"), "fit": bare("fit.loss_fit"), "held_out": bare("fit.loss_held_out"),
            "best": bare("fit.loss_best"), "alt": bare("fit.loss_alt"), "alt_curve": bare("fit.loss_alt_curve"),
        }  # fmt: skip
        with left:
            figure = plots.losses(curves, words)
            st.plotly_chart(
                figure, key=f"losses-{key}-{run.id}", config={"displayModeBar": False}, alt=losses_text(curves, words)
            )
    with right:
        for epoch, path in strips:
            st.image(
                path.read_bytes(), width="stretch", caption=t("fit.strip", n=epoch), alt=bare("fit.strip_alt", n=epoch)
            )
        if strips:
            st.caption(t("fit.strip_about"))
    return True
