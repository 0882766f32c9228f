"""What a data set holds: counts, the guessed layout to correct, how the normals are split, and the pictures themselves."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from adlib import datasets, store, thresholds, workflow
from adlib.contract import Sample, Sentence
from pages.parts import state, views
from pages.parts.words import amount, bare, kind_word, plain, t, tell

ALPHA = 0.01  # the usual false-alarm rate, to say how many normals it takes


def figures(dataset: store.Dataset, samples: Sequence[Sample]) -> None:
    """Counts, and how large the pictures are."""
    normals = sum(s.split == "train" for s in samples)
    good = sum(s.split == "test" and s.label == 0 for s in samples)
    defects = sum(s.label == 1 for s in samples)
    masks = sum(s.mask is not None for s in samples)
    pictures = dataset.meta["pictures"]
    sides = sorted({(p["width"], p["height"]) for p in pictures})
    size = "–" if not sides else f"{sides[0][0]}×{sides[0][1]}" + (" …" if len(sides) > 1 else "")
    total = amount(sum(p["bytes"] for p in pictures))
    views.metrics(
        [
            (t("data.normals"), f"{normals}", t("data.normals_help")),
            (t("data.good_tests"), f"{good}", t("data.good_tests_help")),
            (t("data.defects"), f"{defects}", t("data.defects_help", masks=masks)),
            (t("data.size"), size, t("data.size_help", total=total, sizes=len(sides))),
        ]
    )


def guessed(dataset: store.Dataset) -> None:
    """Which layout was recognised."""
    if dataset.meta["layout"]:
        st.caption(f":material/account_tree: {tell(Sentence.from_json(dataset.meta['layout']))}")


def version(dataset: store.Dataset) -> None:
    """How a later version came to be, and that the earlier one stands as it was."""
    taken = dataset.meta.get("taken_over", [])
    if taken:
        st.caption(f":material/history: {t('data.version', n=len(taken))}")


def split(dataset: store.Dataset, samples: Sequence[Sample], method: str = "patchcore") -> None:
    """How many normals teach, how many set the threshold, and what that can promise.  Raises DataError: too few."""
    aside = sum(s.split == "test" and datasets.role_of(dataset, s.name).role == "normal" for s in samples)
    if aside:
        st.markdown(t("data.split_aside", n=aside))
    normals = [s for s in samples if s.split == "train" and s.label == 0]
    division = workflow.divide(normals, method)
    held, needed = division.calibrating, thresholds.normals_needed(ALPHA)
    if division.folds:
        st.markdown(t("data.split_folds", n=len(normals), folds=len(division.folds)))
    else:
        st.markdown(t("data.split_held", fit=len(division.fit), held=held))
    if held >= needed:
        st.markdown(t("data.promise_kept", rate=ALPHA, held=held))
    else:
        st.markdown(t("data.promise_short", best=1 / (held + 1), rate=ALPHA, needed=needed, held=held))


def layout(dataset: store.Dataset) -> None:
    """What was guessed from the folders' names, each to be corrected."""
    folders = dataset.meta["folders"]
    if not folders:
        return
    counts: dict[str, int] = {}
    for picture in dataset.meta["pictures"]:
        folder = datasets.folder_of(picture["name"])
        counts[folder] = counts.get(folder, 0) + 1
    names = sorted(folders)
    shown = names[views.page_of(len(names), f"folders-{dataset.id}", 12)]
    with st.form(f"folders-{dataset.id}", border=True):
        for i, folder in enumerate(shown):
            _folder(dataset.id, folder, folders[folder], counts.get(folder, 0), first=i == 0)
        if st.form_submit_button(t("data.save_roles"), icon=":material/save:"):
            _save_roles(dataset.id, shown)
            st.rerun()


def _folder(id: str, folder: str, role: dict, count: int, first: bool) -> None:
    name, what, kind = st.columns([3, 2, 2], vertical_alignment="center")
    label = plain(folder or bare("data.no_folder"))
    name.markdown(f":material/folder: **{label}**  \n{t('data.pictures', n=count)}")
    seen = "visible" if first else "collapsed"
    what.selectbox(
        t("data.role"), datasets.ROLES, datasets.ROLES.index(role["role"]), format_func=lambda r: bare(f"data.role_{r}"),
        key=f"role-{id}-{folder}", label_visibility=seen,
    )  # fmt: skip
    kind.text_input(t("data.kind"), role["kind"], max_chars=60, key=f"kind-{id}-{folder}", label_visibility=seen)


def _save_roles(id: str, folders: Sequence[str]) -> None:
    """Only what was really changed counts as corrected, so that later uploads may still improve the other guesses."""
    dataset = store.Dataset.open(id)
    for folder in folders:
        role, kind = st.session_state[f"role-{id}-{folder}"], st.session_state[f"kind-{id}-{folder}"].strip()
        known = dataset.meta["folders"][folder]
        if (role, kind or known["kind"]) != (known["role"], known["kind"]):
            datasets.correct(dataset, folder, datasets.Role(role, kind or known["kind"]))


def gallery(dataset: store.Dataset, samples: Sequence[Sample]) -> None:
    """The pictures by group, a page at a time."""
    groups: dict[str, list[Sample]] = {}
    for s in samples:
        key = "normal" if s.split == "train" else "good" if s.label == 0 else f"kind:{s.kind}"
        groups.setdefault(key, []).append(s)
    order = sorted(groups, key=lambda key: (key != "normal", key != "good", key))
    if not order:
        return
    labels = {key: _group_label(key, len(groups[key])) for key in order}
    chosen = st.pills(
        t("data.group"), order, default=order[0], required=True, format_func=labels.__getitem__,
        key=f"group-{dataset.id}", label_visibility="collapsed",
    )  # fmt: skip
    shown = groups[chosen if chosen in groups else order[0]]
    shown = shown[views.page_of(len(shown), f"gallery-{dataset.id}-{chosen}", 18)]
    tiles = []
    for s in shown:
        image = state.thumbnail(s.path, s.digest, 256, dataset.meta["white"])
        tiles.append(views.Tile(image, bare("data.picture_alt", kind=s.kind, name=s.name), s.name.rpartition("/")[2]))
    views.gallery(tiles)


def _group_label(key: str, count: int) -> str:
    if key.startswith("kind:"):
        return f"{plain(kind_word(key[5:]))} ({count})"
    return f"{t('data.group_normal' if key == 'normal' else 'data.group_good')} ({count})"
