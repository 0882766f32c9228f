"""The built-in sample sets: the same everywhere, honestly labelled, made once."""

from __future__ import annotations

import functools
import hashlib
import io
import threading
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from adlib import datasets, samples, store
from adlib._sample_draw import Flaw, changed, developed, exposed, png
from adlib.contract import AdlibError, DataError, Stopped
from adlib.samples import SAMPLES

DRAWN = [key for key, each in SAMPLES.items() if each.defects]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def few(monkeypatch):
    """Sets of a few pictures, so that whole sets can be made again and again."""
    monkeypatch.setattr(samples, "NORMALS", 3)
    monkeypatch.setattr(samples, "TEST_NORMALS", 2)
    monkeypatch.setattr(samples, "DEFECTS", 4)


@functools.cache
def drawn(key: str) -> dict[str, bytes]:
    """A small set, drawn once for all tests; only where `few` is at work."""
    return {item.name: item.data for item in samples.items(key)}


def test_a_drawn_set_is_large_enough_to_fit_to_hold_out_and_to_judge():
    assert samples.NORMALS >= 60
    assert samples.TEST_NORMALS >= 20
    for key in DRAWN:
        kinds = SAMPLES[key].defects
        assert len(kinds) >= 3
        assert samples.DEFECTS // len(kinds) * len(kinds) >= 40


@pytest.mark.parametrize("key", DRAWN)
def test_a_set_comes_in_the_layout_of_mvtec_with_a_mask_for_every_defect(key, few):
    made = {name: pixels(data) for name, data in drawn(key).items()}
    folders = Counter(name.rpartition("/")[0] for name in made)
    kinds = SAMPLES[key].defects
    assert folders["train/good"] == 3
    assert folders["test/good"] == 2
    for kind in kinds:
        assert folders[f"test/{kind}"] == folders[f"ground_truth/{kind}"] == 4 // len(kinds)
    assert len(made) == 5 + 2 * (4 // len(kinds)) * len(kinds)
    for name, picture in made.items():
        if not name.startswith("ground_truth/"):
            assert picture.shape == (256, 256, 3)
            continue
        assert picture.shape == (256, 256)
        assert set(np.unique(picture)) == {0, 255}
        assert name.replace("ground_truth/", "test/").replace("_mask.png", ".png") in made


@pytest.mark.parametrize("key", DRAWN)
def test_a_picture_is_the_same_to_the_byte_whenever_and_beside_whatever_it_is_drawn(key, few):
    kind = SAMPLES[key].defects[-1]
    once = drawn(key)
    again = [
        *samples._draw(key, f"test/{kind}", kind, 0),
        *samples._draw(key, "train/good", "", 2),
    ]
    assert len(again) == 3
    for item in again:
        assert item.data == once[item.name]
    pictures = [data for name, data in once.items() if not name.startswith("ground_truth/")]
    assert len({hashlib.sha256(data).digest() for data in pictures}) == len(pictures)


@pytest.mark.parametrize(("key", "kind"), [(key, kind) for key in DRAWN for kind in SAMPLES[key].defects])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_mask_holds_what_the_defect_changed_and_nothing_else(key, kind, strength):
    def photograph(flaw: Flaw | None) -> tuple[np.ndarray, np.ndarray]:
        light = exposed(samples._SCENES[key](np.random.default_rng(5), flaw), np.random.default_rng(6))
        return light, developed(light, np.random.default_rng(7))

    light, picture = photograph(Flaw(kind, strength, np.random.default_rng(8)))
    sound_light, sound = photograph(None)
    mask = changed(light, sound_light)
    difference = np.abs(picture.astype(int) - sound.astype(int)).max(axis=2)
    stray = (difference[~mask] > 12).sum()
    assert stray <= 0.01 * mask.sum(), "more than a speck of the same part changed outside its mask"
    assert (difference[mask] > 5).mean() > 0.4, "a mask that is mostly untouched"
    assert 20 <= mask.sum() <= 0.4 * mask.size
    regions, n = ndimage.label(mask, np.ones((3, 3)))
    peaks = ndimage.maximum(difference, regions, range(1, n + 1))
    assert (np.asarray(peaks) > 8).all(), "a region of the mask where nothing can be seen"


@pytest.mark.parametrize("key", DRAWN)
def test_normals_vary_more_than_the_sensor_does_but_look_alike(key):
    def sound(i: int) -> np.ndarray:
        return pixels(samples._draw(key, "train/good", "", i)[0].data).astype(float)

    first, second = sound(0), sound(1)
    assert np.abs(first - second).mean() > 3.0
    assert np.abs(first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))).max() < 40.0
    assert 40.0 < first.mean() < 215.0
    assert (first == 255.0).mean() < 0.05


def test_a_stored_png_reads_back_as_it_was():
    rng = np.random.default_rng(0)
    for shape in ((256, 256, 3), (5, 7), (1, 1, 3), (300, 400, 3)):
        array = rng.integers(0, 256, shape).astype(np.uint8)
        assert (pixels(png(array)) == array).all()


# --- digits -----------------------------------------------------------------------------------------------------------


def test_one_is_normal_and_nine_is_not_in_one_step():
    made = list(samples.items("digits"))
    folders = Counter(item.name.rpartition("/")[0] for item in made)
    assert set(folders) == {"train/good", "test/good", "test/9"}
    assert folders["train/good"] > 2 * folders["test/good"] > 60
    assert folders["test/9"] > 100
    assert {pixels(item.data).shape for item in made} == {(64, 64)}


def test_any_digits_can_be_normal_and_without_a_choice_all_others_are_not():
    folders = Counter(i.name.rpartition("/")[0] for i in samples.items("digits", normal=(1, 7), anomaly=None))
    assert set(folders) == {"train/good", "test/good", *(f"test/{d}" for d in (0, 2, 3, 4, 5, 6, 8, 9))}


def test_no_digit_picture_is_on_both_sides():
    made = list(samples.items("digits", normal=range(5), anomaly=None))
    assert len({item.data for item in made}) == len(made)


@pytest.mark.parametrize(
    "choice",
    [{"normal": ()}, {"normal": (1,), "anomaly": (1, 2)}, {"normal": range(10), "anomaly": None}, {"normal": (12,)}],
)
def test_a_choice_of_digits_that_cannot_be_judged_is_refused(choice):
    with pytest.raises(DataError, match="at least one digit"):
        samples.items("digits", **choice)


def test_an_unknown_set_or_choice_is_refused_with_what_there_is():
    with pytest.raises(AdlibError, match="fabric"):
        samples.ensure("bottle")
    with pytest.raises(AdlibError, match="no choices"):
        samples.items("ring", normal=(1,))


# --- as a data set ----------------------------------------------------------------------------------------------------


def test_a_set_is_made_once_and_then_is_a_data_set_like_any_other(few):
    first = samples.ensure("blister")
    written = (first.folder / "dataset.json").stat().st_mtime_ns
    second = samples.ensure("blister")
    assert first.id == second.id == "sample-blister"
    assert second.meta["source"] == "sample:blister"
    assert second.title == "Blister pack"
    assert (second.folder / "dataset.json").stat().st_mtime_ns == written
    assert [one.id for one in store.Dataset.all()] == ["sample-blister"]

    taken, refused = datasets.samples(second)
    assert not refused
    assert Counter((s.split, s.label) for s in taken) == {("train", 0): 3, ("test", 0): 2, ("test", 1): 4}
    assert all((s.mask is not None) == (s.label == 1) for s in taken)
    assert {s.kind for s in taken if s.label} == set(SAMPLES["blister"].defects)
    assert all(s.path.exists() for s in taken)


def test_each_choice_of_digits_is_a_data_set_of_its_own():
    one, other = samples.ensure("digits"), samples.ensure("digits", normal=(0,), anomaly=(6, 8))
    assert {one.id, other.id} == {"sample-digits-1-vs-9", "sample-digits-0-vs-68"}
    assert samples.ensure("digits", normal=[0], anomaly=[8, 6]).id == other.id


def test_a_set_that_was_stopped_half_way_leaves_nothing_behind(few, workspace, monkeypatch):
    def stop(fraction, message, /, **numbers):
        raise Stopped

    def slowly(key):
        for item in samples._drawn(key):
            threading.Event().wait(0.05)  # so that there is time for a word
            yield item

    monkeypatch.setattr(samples, "items", slowly)
    with pytest.raises(Stopped):
        samples.ensure("label", stop)
    assert store.Dataset.all() == []
    assert list((workspace / "datasets").iterdir()) == []


def test_two_who_ask_for_the_same_set_at_once_get_the_same_one(few, workspace):
    ready, got = threading.Barrier(2), []

    def ask():
        ready.wait()
        got.append(samples.ensure("fabric"))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.id for one in got] == ["sample-fabric"] * 2
    assert got[0].meta == got[1].meta
    assert [path.name for path in (workspace / "datasets").iterdir()] == ["sample-fabric"]


def test_a_set_that_another_process_finished_first_is_taken_over(few, workspace):
    def other_process():
        patient = samples._drawn("ring")
        yield next(patient)
        theirs = store.Dataset.create("Machined ring", "sample:ring", "sample-ring")
        theirs.meta["pictures"] = []
        theirs.save()
        yield from patient

    samples._build("sample-ring", "Machined ring", "ring", other_process(), lambda *a, **k: None)
    assert [path.name for path in (workspace / "datasets").iterdir()] == ["sample-ring"]
    assert store.Dataset.open("sample-ring").meta["pictures"] == []
