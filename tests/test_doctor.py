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
from adlib.frames import to_pixels
from adlib.images import read
from worlds import dataset, part, png, tree

KINDS = ("fabric", "blister")
NORMALS = 16


@pytest.fixture(scope="module")
def drawn() -> dict[str, dict[str, bytes]]:
    """A few normals of built-in sets, drawn once: {set: {name: png}}."""
    return {
        key: {item.name: item.data for i in range(NORMALS) for item in samples._draw(key, "train/good", "", i)}
        for key in KINDS
    }


@pytest.fixture(scope="module")
def known(drawn) -> dict[str, dict[str, tuple]]:
    """Their traits, made once."""
    return {key: {name: looked_at(data) for name, data in files.items()} for key, files in drawn.items()}


def looked_at(data: bytes) -> tuple:
    cells, print_, stats = traits.of_pixels(to_pixels(read(data), traits.SIDE)[0])
    return cells.astype(np.float16), print_.astype(np.float16), stats, ""


def together(*rows: dict[str, tuple]) -> traits.Traits:
    """Traits with names in place of digests."""
    return traits._joined({name: row for part_ in rows for name, row in part_.items()})


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
def test_a_copy_in_another_format_size_or_brightness_is_found(drawn, known, key, how):
    name = sorted(drawn[key])[7]
    found = together(known[key], {"copy": looked_at(how(drawn[key][name]))})
    assert [(found.digests[i], found.digests[j]) for i, j, _ in suspects.twins(found.prints)] == [(name, "copy")]


@pytest.mark.parametrize(("factor", "kind"), [(0.6, "dark"), (1.35, "bright")])
@pytest.mark.parametrize("key", KINDS)
def test_a_picture_of_another_exposure_is_found(drawn, known, key, factor, kind):
    name = sorted(drawn[key])[5]
    found = together({**known[key], name: looked_at(changed(drawn[key][name], times(factor)))})
    assert [found.digests[i] for i in np.flatnonzero(suspects.exposure(found)[kind] > 1)] == [name]


@pytest.mark.parametrize("radius", [2, 5])
@pytest.mark.parametrize("key", KINDS)
def test_a_blurred_picture_is_found(drawn, known, key, radius):
    name = sorted(drawn[key])[5]
    blurred = changed(drawn[key][name], lambda image: image.filter(ImageFilter.GaussianBlur(radius)))
    found = together({**known[key], name: looked_at(blurred)})
    assert [found.digests[i] for i in np.flatnonzero(suspects.blurred(found, 256) > 1)] == [name]


def test_defects_hidden_among_the_normals_come_to_the_top(known):
    """Three holes among sixteen fabrics, three spots among twenty discs: at least two of three are the strangest."""
    holes = {f"hidden{i}": looked_at(samples._draw("fabric", "test/hole", "hole", i)[0].data) for i in (3, 8, 6)}
    discs = {f"{i}": looked_at(png(part(i)[0])) for i in range(20)}
    spots = {f"hidden{i}": looked_at(png(part(100 + i, defect=True)[0])) for i in range(3)}
    for found in (together(known["fabric"], holes), together(discs, spots)):
        scores, maps = suspects.unlike(found.cells)
        ranked = [found.digests[i] for i in np.argsort(-scores)]
        assert sum(name.startswith("hidden") for name in ranked[:3]) >= 2
        assert maps.shape == (len(scores), 16, 16)


def test_two_products_in_one_folder_are_told_apart(known):
    fabric = dict(list(known["fabric"].items())[:10])
    labels = suspects.clusters(together({f"f{n}": row for n, row in fabric.items()}, known["blister"]).cells)
    assert labels.tolist() == [1] * 10 + [0] * NORMALS


def test_a_foreign_picture_and_a_leak_are_findings_shown_with_what_they_are_like(drawn):
    files = dict(drawn["blister"])
    name = sorted(files)[3]
    files["test/good/a.png"] = changed(files[name], lambda image: image, "JPEG", quality=80)
    files["train/good/foreign.png"] = drawn["fabric"]["train/good/000.png"]
    found = {finding.kind: finding for finding in doctor.check(taken(files)).findings}
    assert [one.name for one in found["unlike"].suspects] == ["train/good/foreign.png"]
    assert [one.name for one in found["leak"].suspects] == ["test/good/a.png"]
    assert found["leak"].suspects[0].beside == hashlib.sha256(files[name]).hexdigest()
    assert "near" not in found


def test_products_in_folders_of_their_own_are_no_finding():
    """Discs and stripes: told apart in one folder, and no matter when each has its own kind."""
    stripes = [np.where(np.arange(64) % 8 < 4, 40, 200)[None, :, None] + part(i)[0] // 8 for i in range(12)]
    mixed = {f"train/good/{i}.png": png(part(i)[0]) for i in range(12)}
    mixed |= {f"train/good/s{i}.png": png(picture.astype(np.uint8)) for i, picture in enumerate(stripes)}
    assert len(findings(taken(mixed))["products"]) == 12
    sorted_ = {n.replace("good/s", "stripes/").replace("good/", "discs/"): data for n, data in mixed.items()}
    made = taken(sorted_)
    for folder in list(made.meta["folders"]):
        datasets.correct(made, folder, datasets.Role("normal", folder))
    assert "products" not in findings(made)


def test_another_shape_size_camera_or_grey_is_named():
    files = tree(normals=16, good=0, broken=0)
    names = sorted(files)
    colour = np.array([1.0, 0.8, 0.6])
    for i, name in enumerate(names):
        exif = Image.Exif()
        exif[0x0110] = "Telephone" if i == 3 else "Line camera 7"
        files[name] = changed(png((part(i)[0] * colour).astype(np.uint8)), lambda image: image, exif=exif)
    files[names[0]] = changed(files[names[0]], lambda image: image.crop((0, 0, 32, 64)))
    files[names[1]] = changed(files[names[1]], lambda image: image.resize((32, 32)))
    files[names[2]] = changed(files[names[2]], lambda image: image.convert("L"))
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


@pytest.mark.parametrize("key", KINDS)
def test_sound_sets_are_left_in_peace(known, key):
    """Not one of them is suspected of anything; how it is with whole sets stands in benchmarks/results.md."""
    found = together(known[key])
    assert suspects.twins(found.prints) == []
    assert not any((strength > 1).any() for strength in suspects.exposure(found).values())
    assert not (suspects.blurred(found, 256) > 1).any()
    assert not suspects.clusters(found.cells).any()


def test_a_sound_little_world_has_no_finding():
    assert findings(dataset(normals=20)) == {}


def test_noise_alone_never_makes_two_products_or_twins():
    rng = np.random.default_rng(0)
    for n in (8, 16, 40):
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
    files = dict(drawn["blister"])
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


@pytest.mark.parametrize(("side", "size"), [(500, 128), (389, 112), (320, 256)])
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
