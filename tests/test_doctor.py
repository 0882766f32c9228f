"""The data doctor on planted faults: each is found, sound sets are left in peace, and nothing happens by itself."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from adlib import curation, datasets, doctor, intake, samples, store, suspects, traits, workflow
from adlib.__main__ import main
from adlib.contract import DataError, Stopped, say
from adlib.images import read, to_pixels
from worlds import dataset, part, png, tree

KINDS = ("fabric", "ring", "blister", "label")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """Fewer pictures of each built-in set, drawn once: {set: {name: png}}."""
    found: dict[str, dict[str, bytes]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADLIB_WORKSPACE", str(tmp_path_factory.mktemp("drawn")))
        for key in KINDS:
            made = samples.ensure(key)
            found[key] = {p["name"]: (made.folder / p["file"]).read_bytes() for p in made.meta["pictures"]}
    return found


def some(files: dict[str, bytes], normals: int = 24) -> dict[str, bytes]:
    chosen = [name for name in sorted(files) if name.startswith("train/")][:normals]
    return {name: files[name] for name in chosen}


def taken(files: dict[str, bytes]) -> store.Dataset:
    made = store.Dataset.create("planted", "upload")
    intake.take(made, intake.from_uploads(files.items()))
    return made


def changed(data: bytes, how: Callable[[Image.Image], Image.Image], format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    how(Image.open(io.BytesIO(data)).convert("RGB")).save(buffer, format, **options)
    return buffer.getvalue()


def times(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: Image.fromarray(np.clip(np.asarray(image) * factor, 0, 255).astype(np.uint8))


def findings(made: store.Dataset) -> dict[str, list[str]]:
    report = doctor.check(made)
    return {found.kind: [one.name for one in found.suspects] for found in report.findings}


# --- planted faults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KINDS)
@pytest.mark.parametrize(
    "how",
    [
        lambda data: changed(data, lambda image: image, "JPEG", quality=70),
        lambda data: changed(data, lambda image: image.resize((200, 200)), "JPEG", quality=85),
        lambda data: changed(data, times(1.1)),
    ],
    ids=["jpeg", "smaller", "brighter"],
)
def test_a_copy_in_another_format_size_or_brightness_is_found(drawn, key, how):
    files = some(drawn[key])
    name = sorted(files)[7]
    files["train/good/zz.png"] = how(files[name])
    found = findings(taken(files))
    assert found["near"] == ["train/good/zz.png"]


def test_a_test_that_is_nearly_a_normal_is_called_a_leak_and_shown_beside_it(drawn):
    files = some(drawn["blister"])
    name = sorted(files)[3]
    files["test/good/a.png"] = changed(files[name], lambda image: image, "JPEG", quality=80)
    made = taken(files)
    leak = next(f for f in doctor.check(made).findings if f.kind == "leak")
    assert [one.name for one in leak.suspects] == ["test/good/a.png"]
    assert leak.suspects[0].beside == hashlib.sha256(files[name]).hexdigest()


@pytest.mark.parametrize(("factor", "kind"), [(0.6, "dark"), (1.35, "bright")])
@pytest.mark.parametrize("key", KINDS)
def test_a_picture_of_another_exposure_is_found(drawn, key, factor, kind):
    files = some(drawn[key])
    name = sorted(files)[5]
    files[name] = changed(files[name], times(factor))
    assert findings(taken(files)).get(kind) == [name]


@pytest.mark.parametrize("radius", [2, 5])
@pytest.mark.parametrize("key", KINDS)
def test_a_blurred_picture_is_found(drawn, key, radius):
    files = some(drawn[key])
    name = sorted(files)[5]
    files[name] = changed(files[name], lambda image: image.filter(ImageFilter.GaussianBlur(radius)))
    assert findings(taken(files)).get("blurred") == [name]


@pytest.mark.parametrize(
    ("key", "kind"), [("fabric", "hole"), ("ring", "chip"), ("blister", "missing"), ("label", "smear")]
)
def test_defects_hidden_among_the_normals_come_to_the_top(drawn, key, kind):
    """Three defects among forty normals: at least two are among the six that a person sees first."""
    files = some(drawn[key], 40)
    hidden = [name for name in sorted(drawn[key]) if name.startswith("test/") and kind in name.lower()][:3]
    assert len(hidden) == 3, sorted({name.split("/")[1] for name in drawn[key] if name.startswith("test/")})
    for i, name in enumerate(hidden):
        files[f"train/good/hidden{i}.png"] = drawn[key][name]
    unusual = [one.name for one in doctor.check(taken(files)).unusual]
    assert sum("hidden" in name for name in unusual[:6]) >= 2


def test_one_foreign_picture_among_the_normals_is_a_finding(drawn):
    files = some(drawn["blister"])
    files["train/good/foreign.png"] = next(iter(some(drawn["ring"]).values()))
    assert findings(taken(files))["unlike"] == ["train/good/foreign.png"]


def test_two_products_in_one_folder_are_told_apart(drawn):
    files = some(drawn["ring"], 20)
    other = {f"train/good/label{i}.png": data for i, data in enumerate(some(drawn["label"], 12).values())}
    assert set(findings(taken({**files, **other}))["products"]) == set(other)


def test_two_kinds_in_folders_of_their_own_are_no_finding(drawn):
    rings = {f"train/ring/{i}.png": data for i, data in enumerate(some(drawn["ring"], 16).values())}
    labels = {f"train/label/{i}.png": data for i, data in enumerate(some(drawn["label"], 16).values())}
    made = taken({**rings, **labels})
    for folder in made.meta["folders"]:
        datasets.correct(made, folder, datasets.Role("normal", folder))
    assert "products" not in findings(made)


def test_another_shape_size_camera_or_grey_is_named(drawn):
    files = some(drawn["label"], 16)
    names = sorted(files)
    files[names[0]] = changed(files[names[0]], lambda image: image.crop((0, 0, image.width // 2, image.height)))
    files[names[1]] = changed(files[names[1]], lambda image: image.resize((image.width // 2, image.height // 2)))
    files[names[2]] = changed(files[names[2]], lambda image: image.convert("L"))
    for i, name in enumerate(names[3:]):
        exif = Image.Exif()
        exif[0x0110] = "Line camera 7" if i else "Telephone"
        files[name] = changed(files[name], lambda image: image, exif=exif)
    found = findings(taken(files))
    assert found["shape"] == [names[0]]
    assert found["size"] == [names[1]]
    assert found["colour"] == [names[2]]
    assert found["camera"] == [names[3]]


def test_good_as_png_and_defects_as_jpeg_gives_the_answer_away():
    files = tree(normals=10)
    for name in [name for name in files if name.startswith("test/spot")]:
        files[name.replace(".png", ".jpg")] = changed(files.pop(name), lambda image: image, "JPEG")
    assert "format" in findings(taken({n: d for n, d in files.items() if "ground_truth" not in n}))


def test_exact_copies_are_told_and_need_no_decision():
    files = tree(normals=10)
    files["train/good/again.png"] = files["train/good/000.png"]
    exact = next(f for f in doctor.check(taken(files)).findings if f.kind == "exact")
    assert exact.what.values["n"] == 1
    assert not doctor.is_open(exact)


# --- sound sets -------------------------------------------------------------------------------------------------------


def test_sound_sets_are_left_in_peace(drawn):
    """In the four drawn sets with 150 pictures each, and in a little world, at most one picture of 600 is suspected."""
    suspected = [one for key in KINDS for names in findings(taken(drawn[key])).values() for one in names]
    assert len(suspected) <= 1
    assert [kind for kind in findings(dataset(normals=20)) if kind != "exact"] == []


def test_noise_alone_never_makes_two_products_or_twins():
    rng = np.random.default_rng(0)
    for n in (8, 16, 40, 120):
        cells = rng.normal(size=(n, 16, 16, 24))
        assert not suspects.clusters(cells).any()
        assert suspects.twins(rng.random((n, 32, 32))) == []


# --- what it keeps ----------------------------------------------------------------------------------------------------


def test_a_second_look_reads_no_picture_and_says_the_same(monkeypatch):
    made = dataset(normals=12)
    first = doctor.check(made)
    monkeypatch.setattr(traits, "read", None)
    again = doctor.check(store.Dataset.open(made.id))
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(first, seconds=0)
    assert doctor.last(made) == again


def test_a_stopped_check_keeps_what_it_has_looked_at():
    made, looked = dataset(normals=12), []

    def stop(fraction: float, message: str, /, **numbers) -> None:
        looked.append(fraction)
        if len(looked) == 5:
            raise Stopped

    with pytest.raises(Stopped):
        doctor.check(made, stop)
    assert doctor.last(made) is None
    wanted = datasets.samples(made)[0]
    rest: list[float] = []
    traits.gather(made, wanted, (), lambda fraction, *_, **__: rest.append(fraction))
    assert len(rest) == len(wanted) - 5


def test_a_damaged_report_or_cache_is_made_anew():
    made = dataset(normals=10)
    first = doctor.check(made)
    for name in (doctor.FILE, traits.FILE, curation.FILE):
        (made.folder / name).write_bytes(b"\x00{")
    assert doctor.last(made) is None
    assert dataclasses.replace(doctor.check(made), seconds=0) == dataclasses.replace(first, seconds=0)


def test_a_picture_that_is_gone_is_passed_over_and_none_at_all_is_an_error():
    made = dataset(normals=10)
    sample = datasets.samples(made)[0][0]
    sample.path.unlink()
    assert doctor.check(made).pictures == len(datasets.samples(made)[0]) - 1
    with pytest.raises(DataError):
        doctor.check(store.Dataset.create("empty", "upload"))


# --- leaving out and taking back --------------------------------------------------------------------------------------


def test_what_is_left_out_takes_no_part_anywhere_and_undo_brings_it_back():
    made = dataset(normals=14)
    request = workflow.Request(made.id, "pixel_median", {}, None)
    before, key = datasets.samples(made)[0], workflow.identity(request)
    out = [before[0].digest, before[-1].digest]
    step = curation.exclude(made, [*out, "0" * 64], say("left out by hand"))
    assert step.digests == tuple(out)
    elsewhere = store.Dataset.open(made.id)  # another session
    assert {s.digest for s in before} - {s.digest for s in datasets.samples(elsewhere)[0]} == set(out)
    assert workflow.identity(request)[0] != key[0]
    assert workflow.identity(request)[1] != key[1]
    run = store.Run.create()
    run.write("request.json", request.as_json())
    workflow.run_request(run)
    assert not {row["digest"] for row in run.read("normals.json") + run.read("scores.json")} & set(out)
    assert curation.undo(elsewhere).digests == tuple(out)
    assert datasets.samples(made)[0] == before
    assert workflow.identity(request) == key
    assert curation.undo(made) is None


def test_steps_are_undone_newest_first_and_single_pictures_can_come_back():
    made = dataset(normals=12)
    digests = [s.digest for s in datasets.samples(made)[0]]
    curation.exclude(made, digests[:3], say("left out by hand"))
    curation.exclude(made, digests[2:5], say("left out by hand"))  # the third is out already
    assert [step.digests for step in curation.steps(made)] == [tuple(digests[:3]), tuple(digests[3:5])]
    assert curation.restore(made, [digests[0]]) == 1
    assert curation.undo(made).digests == tuple(digests[3:5])
    assert set(curation.excluded(made)) == set(digests[1:3])


def test_an_upload_that_ends_later_does_not_undo_a_decision():
    made = dataset(normals=12)
    uploading = store.Dataset.open(made.id)
    digest = datasets.samples(made)[0][0].digest
    curation.exclude(made, [digest], say("left out by hand"))
    intake.take(uploading, intake.from_uploads([("train/good/new.png", png(part(77)[0]))]))
    assert digest in curation.excluded(store.Dataset.open(made.id))


def test_a_run_of_before_keeps_working_and_says_what_it_was_fitted_on():
    made = dataset(normals=14)
    run = store.Run.create()
    run.write("request.json", workflow.Request(made.id, "pixel_median", {}, None).as_json())
    workflow.run_request(run)
    picture = png(part(5, defect=True)[0])
    before = workflow.look(workflow.load(run), picture).score
    curation.exclude(made, [row["digest"] for row in run.read("normals.json")][:3], say("left out by hand"))
    assert workflow.look(workflow.load(run), picture).score == before
    told = curation.since(run, made)
    assert [sentence.values for sentence in told] == [{"n": 14, "gone": 3}]


def test_a_finding_is_settled_when_its_pictures_are_out_and_open_again_after_undo(drawn):
    files = some(drawn["blister"])
    names = sorted(files)
    files["train/good/zz.png"] = changed(files[names[7]], lambda image: image, "JPEG", quality=80)
    made = taken(files)
    report = doctor.check(made)

    def near() -> list[str]:
        here = [s.digest for s in datasets.samples(made)[0]]
        return [one.name for f in doctor.standing(report, here) if f.kind == "near" for one in f.suspects]

    copy, original = (hashlib.sha256(files[name]).hexdigest() for name in ("train/good/zz.png", names[7]))
    assert near() == ["train/good/zz.png"]
    curation.exclude(made, [copy], say("left out by hand"))
    assert near() == []
    curation.undo(made)
    assert near() == ["train/good/zz.png"]
    curation.exclude(made, [original], say("left out by hand"))
    assert near() == []  # what is left is no copy of anything


# --- the smallest defect ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "size"), [(1000, 256), (777, 224), (2000, 256), (640, 512)])
def test_half_the_contrast_of_the_smallest_spot_survives_wherever_it_lies(side, size):
    """By the resize itself: a white square on black, at many places; a much smaller one is lost at some of them."""

    def kept(spot: int) -> float:
        found = []
        for offset in range(0, 2 * side // size + 2):
            pixels = np.zeros((side, side), np.uint8)
            at = side // 2 + offset
            pixels[at : at + spot, at : at + spot] = 255
            found.append(to_pixels(read(png(pixels)), size)[0].max())
        return min(found)

    wanted = doctor.smallest(side, side, size)
    assert kept(int(np.ceil(wanted))) >= 0.47
    assert kept(max(1, int(0.7 * wanted))) < 0.47
    assert doctor.size_for(side, side, wanted) <= size + 32


def test_a_region_lets_smaller_defects_through():
    whole = doctor.smallest(2000, 1000, 256)
    assert doctor.smallest(2000, 1000, 256, region=((0.25, 0.0), (0.75, 1.0))) == pytest.approx(whole / 2)
    assert doctor.smallest(200, 100, 256) == 1
    assert doctor.size_for(20000, 20000, 3) is None


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_tells_and_writes_what_it_found(tmp_path, capsys):
    for name, data in tree(normals=12).items():
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(data)
    file = tmp_path / "found.json"
    assert main(["doctor", str(tmp_path / "d"), "--json", str(file)]) == 0
    assert "Nothing suspicious in 20 pictures" in capsys.readouterr().out
    told = json.loads(file.read_text())
    assert told["pictures"] == 20
    assert told["smallest"] == 1.0
    assert main(["doctor", str(tmp_path / "nowhere")]) == 1
    capsys.readouterr()
    made = dataset(normals=10)
    (name, data), *_ = tree(normals=1).items()
    intake.take(made, intake.from_uploads([("train/good/dark.png", changed(data, times(0.3)))]))
    assert main(["doctor", made.id]) == 0
    assert "much darker" in capsys.readouterr().out
