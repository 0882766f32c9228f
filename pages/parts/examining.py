"""The data doctor and the region of interest on the Data page: one line each, the rest folded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import streamlit as st

from adlib import curation, doctor, regions, store
from adlib.contract import AdlibError, Sample, Sentence, say
from pages.parts import drawing, state, views
from pages.parts.words import bare, plain, t, tell

_PER_PAGE = 6
_CHOICES = 200  # pictures offered to draw on
_SIDE = 1000  # pixels of the picture to draw on
_TALL = 620  # pixels of the screen that it may take from top to bottom: nobody can drag over what must be scrolled to


# --- the doctor -------------------------------------------------------------------------------------------------------


def checkup(dataset: store.Dataset, samples: Sequence[Sample]) -> None:
    """The verdict in one line, the findings folded, and what is left out with undo."""
    out = curation.excluded(dataset)
    if not samples and not out:
        return
    verdict, button = st.columns([3, 1], vertical_alignment="center")
    with button:
        known = doctor.last(dataset)
        label = t("doctor.check" if known is None else "doctor.check_again")
        asked = st.button(label, key="doctor-check", icon=":material/stethoscope:", width="stretch")
    if asked:
        known = _run(dataset) or known
    with verdict:
        _verdict(dataset, samples, known)
    if known is not None:
        _details(dataset, samples, known)
    if out:
        _left_out(dataset, out)


def _run(dataset: store.Dataset) -> doctor.Report | None:
    """Looks at all pictures in this run of the page; pressing Stop runs the page again and so ends it."""
    place = st.empty()
    with place.container(border=True):
        bar = st.progress(0.0, text=t("doctor.looking"))
        st.button(t("views.stop"), key="doctor-stop", icon=":material/stop:")

    def tick(fraction: float, message: str, /, **numbers: object) -> None:
        bar.progress(min(1.0, max(0.0, fraction)), text=tell(Sentence(message, numbers)))

    report = None
    with views.error_box():
        report = doctor.check(dataset, tick)
    place.empty()
    return report


def _verdict(dataset: store.Dataset, samples: Sequence[Sample], report: doctor.Report | None) -> None:
    if report is None:
        st.markdown(f":material/stethoscope: {t('doctor.not_yet')}")
        return
    found = [finding for finding in _standing(samples, report) if doctor.is_open(finding)]
    changed = doctor.outdated(report, dataset, samples)
    words = (
        t("doctor.findings", n=len(found), total=report.pictures) if found else t("doctor.nothing", n=report.pictures)
    )
    icon = ":material/search:" if found else ":material/check_circle:"
    st.markdown(f"{icon} **{words}**" + (f"  \n{t('doctor.changed')}" if changed else ""))


def _standing(samples: Sequence[Sample], report: doctor.Report) -> tuple[doctor.Finding, ...]:
    return doctor.standing(report, (s.digest for s in samples))


def _details(dataset: store.Dataset, samples: Sequence[Sample], report: doctor.Report) -> None:
    found, by_digest = _standing(samples, report), {s.digest: s for s in samples}
    if found:
        folded = st.expander(t("doctor.look"), icon=":material/search:", key="doctor-findings", on_change="rerun")
        if folded.open:
            with folded:
                for finding in found:
                    _finding(dataset, finding, by_digest)
    unusual = [one for one in report.unusual if one.digest in by_digest]
    if unusual:
        folded = st.expander(t("doctor.unusual"), icon=":material/sort:", key="doctor-unusual", on_change="rerun")
        if folded.open:
            with folded:
                st.markdown(t("doctor.unusual_about"))
                why = say("Normals that look unlike the others: {n}", n=len(unusual))
                _tiles(dataset, unusual, by_digest, "unusual", why)


def _finding(dataset: store.Dataset, finding: doctor.Finding, by_digest: dict[str, Sample]) -> None:
    with st.container(border=True):
        st.markdown(f"**{tell(finding.what)}**  \n{tell(finding.why)}")
        if not finding.suspects:
            return
        _tiles(dataset, finding.suspects, by_digest, finding.kind, finding.what)
        if len(finding.suspects) > 1:
            st.button(
                t("doctor.all_out", n=len(finding.suspects)), key=f"out-all-{finding.kind}", icon=":material/block:",
                on_click=_exclude, args=(dataset.id, [one.digest for one in finding.suspects], finding.what),
            )  # fmt: skip


def _tiles(
    dataset: store.Dataset, suspects: Sequence[doctor.Suspect], by_digest: dict[str, Sample], kind: str, why: Sentence
) -> None:
    shown = suspects[views.page_of(len(suspects), f"doctor-{dataset.id}-{kind}", _PER_PAGE)]
    paired = any(one.beside for one in shown)
    with st.grid(3 if paired else 6, min_column_width=220 if paired else 130, gap="small") as grid:
        for one in shown:
            with grid.cell(), st.container(key=f"suspect-{kind}-{one.digest[:16]}", gap="xsmall"):
                pair = [one.digest, *([one.beside] if one.beside in by_digest else [])]
                columns = st.columns(len(pair)) if len(pair) > 1 else [st.container()]
                for column, digest in zip(columns, pair, strict=True):
                    with column:
                        _picture(dataset, by_digest[digest])
                st.markdown(f":small[{plain(_short(one.name))}  \n{tell(one.note)}]")
                st.button(
                    t("doctor.out"), key=f"out-{kind}-{one.digest[:16]}", icon=":material/block:",
                    help=t("doctor.out_help"), on_click=_exclude, args=(dataset.id, [one.digest], why),
                )  # fmt: skip


def _picture(dataset: store.Dataset, sample: Sample) -> None:
    image = state.thumbnail(sample.path, sample.digest, 256, dataset.meta["white"])
    if image is None:
        st.markdown(":material/broken_image:")
    else:
        alt = bare("data.picture_alt", kind=sample.kind, name=sample.name)
        st.image(image, width="stretch", alt=views.plain_alt(alt))


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _exclude(id: str, digests: Sequence[str], why: Sentence) -> None:
    with suppress(AdlibError):
        step = curation.exclude(
            store.Dataset.open(id), digests, Sentence(why.template, {**why.values, "n": len(digests)})
        )
        if step is not None:
            st.toast(bare("doctor.done", n=len(step.digests)), icon=":material/block:")


# --- what is left out -------------------------------------------------------------------------------------------------


def _left_out(dataset: store.Dataset, out: dict[str, Sentence]) -> None:
    steps = curation.steps(dataset)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/block: {t('doctor.left_out', n=len(out))}")
        if steps:
            st.button(
                t("doctor.undo", n=len(steps[-1].digests)), key="doctor-undo", icon=":material/undo:",
                help=tell(steps[-1].why), on_click=_undo, args=(dataset.id,),
            )  # fmt: skip
    folded = st.expander(t("doctor.see_out"), icon=":material/block:", key="doctor-out", on_change="rerun")
    if not folded.open:
        return
    pictures = {p["digest"]: p for p in dataset.meta["pictures"]}
    digests = [digest for digest in reversed(out) if digest in pictures]
    with folded:
        with st.grid(6, min_column_width=130, gap="small") as grid:
            for digest in digests[views.page_of(len(digests), f"out-{dataset.id}", 12)]:
                picture = pictures[digest]
                sample = Sample(dataset.folder / picture["file"], None, "", None, "", digest, picture["name"])
                with grid.cell(), st.container(key=f"was-{digest[:16]}", gap="xsmall"):
                    _picture(dataset, sample)
                    st.markdown(f":small[{plain(_short(sample.name))}  \n{tell(out[digest])}]")
                    st.button(
                        t("doctor.back"), key=f"back-{digest[:16]}", icon=":material/undo:", on_click=_back,
                        args=(dataset.id, [digest]),
                    )  # fmt: skip
        if len(out) > 1:
            st.button(
                t("doctor.all_back", n=len(out)), key="all-back", icon=":material/undo:", on_click=_back,
                args=(dataset.id, list(out)),
            )  # fmt: skip


def _undo(id: str) -> None:
    with suppress(AdlibError):
        curation.undo(store.Dataset.open(id))


def _back(id: str, digests: Sequence[str]) -> None:
    with suppress(AdlibError):
        curation.restore(store.Dataset.open(id), digests)


# --- the smallest defect ----------------------------------------------------------------------------------------------


def smallest(dataset: store.Dataset) -> None:
    """What survives the resize, and which size keeps a given defect."""
    if not dataset.meta["pictures"]:
        return
    size = int(st.session_state.get("smallest-size") or 256)
    spot = doctor.smallest_of(dataset, size)
    title = t("doctor.smallest", size=size, spot=f"{spot:.1f}".removesuffix(".0"))
    folded = st.expander(title, icon=":material/straighten:", key="doctor-smallest", on_change="rerun")
    if not folded.open:
        return
    with folded:
        st.markdown(t("doctor.smallest_about"))
        left, right = st.columns(2)
        left.number_input(t("doctor.size"), 64, 2048, 256, step=32, key="smallest-size")
        wanted = right.number_input(
            t("doctor.keep"), 1.0, 10_000.0, max(1.0, float(round(spot))), step=1.0, format="%g", key="smallest-keep"
        )
        needed = doctor.size_that_keeps(dataset, float(wanted))
        if needed is None:
            st.markdown(f":material/crop: {t('doctor.keep_none', spot=f'{wanted:g}')}")
        else:
            st.markdown(f":material/arrow_forward: {t('doctor.keep_size', spot=f'{wanted:g}', size=needed)}")
        report = doctor.last(dataset)
        if report is not None and report.defects:
            small = sum(side < spot for side in report.defects)
            st.markdown(t("doctor.masked", small=small, n=len(report.defects), least=f"{report.defects[0]:.0f}"))


# --- the region -------------------------------------------------------------------------------------------------------


def region(dataset: store.Dataset, samples: Sequence[Sample]) -> None:
    """The region of interest in one line; folded, the picture to draw it on."""
    if not samples:
        return
    now = curation.region(dataset)
    title = t("doctor.region_part", share=regions.share(now)) if now else t("doctor.region_whole")
    folded = st.expander(title, icon=":material/crop_free:", key="region", on_change="rerun")
    if not folded.open:
        return
    with folded:
        st.markdown(t("doctor.region_about"))
        offered = sorted(samples, key=lambda s: s.split != "train")[:_CHOICES]
        row = st.selectbox(
            t("doctor.region_on"),
            range(len(offered)),
            format_func=lambda i: offered[i].name,
            key=f"region-on-{dataset.id}",
        )
        sample = offered[row or 0]
        photo = state.thumbnail(sample.path, sample.digest, _SIDE, dataset.meta["white"])
        of = next((p for p in dataset.meta["pictures"] if p["digest"] == sample.digest), None)
        if photo is None or of is None:
            st.markdown(":material/broken_image:")
            return
        key = f"drawing-{dataset.id}"
        with st.container(width=max(280, round(_TALL * of["width"] / of["height"]))):
            drawing.drawing(
                photo, (of["width"], of["height"]), now, alt=bare("doctor.region_alt", name=sample.name), key=key,
                on_save=lambda: _keep(dataset.id, key),
            )  # fmt: skip
        if "region-refused" in st.session_state:
            st.error(tell(st.session_state.pop("region-refused")), icon=":material/error:")


def _keep(id: str, key: str) -> None:
    """What the browser sends is a stranger's: `regions` has the last word."""
    try:
        corners = getattr(st.session_state.get(key), "saved", None)
        if isinstance(corners, list):
            curation.set_region(store.Dataset.open(id), regions.checked(corners))
            st.toast(bare("doctor.region_kept"), icon=":material/crop_free:")
    except AdlibError as error:
        st.session_state["region-refused"] = error.sentence


# --- runs -------------------------------------------------------------------------------------------------------------


def since(run: store.Run) -> None:
    """Which region the run judges, and what has been decided about the data set since; nothing where there is nothing."""
    with suppress(AdlibError):
        judged = regions.from_json(run.card.get("region"))
        if judged:
            st.markdown(f":material/crop_free: {t('fit.region', share=regions.share(judged))}")
        if store.Dataset.exists(run.card["dataset"]):
            for sentence in curation.since(run, store.Dataset.open(run.card["dataset"])):
                st.info(tell(sentence), icon=":material/history:")
