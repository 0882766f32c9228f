"""A run travels as a zip and arrives the same; whatever else comes in a zip is refused and leaves nothing behind."""

from __future__ import annotations

import io
import json
import random
import stat
import struct
import zipfile

import numpy as np
import pytest
from kit_pages import finished_run, part, png

from adlib import exchange, store, workflow
from adlib.contract import DataError


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A run of another workspace, and its zip."""
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("ADLIB_WORKSPACE", str(tmp_path_factory.mktemp("elsewhere")))
        run = finished_run()
        return run, exchange.pack(run)


def repacked(data: bytes, **changes: bytes | None) -> io.BytesIO:
    """The zip with members replaced, added or (None) left out; "__" in a name stands for a dot."""
    changed = {name.replace("__", "."): content for name, content in changes.items()}
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            if name not in changed:
                new.writestr(name, old.read(name))
        for name, content in changed.items():
            if content is not None:
                new.writestr(name, content)
    out.seek(0)
    return out


def edited(data: bytes, name: str, **values) -> io.BytesIO:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {**json.loads(archive.read(name)), **values}
    return repacked(data, **{name.replace(".", "__"): json.dumps(content).encode()})


def folders() -> set[str]:
    return {path.name for path in (store.workspace() / "runs").glob("*")}


def refuses(file: io.BytesIO) -> str:
    before = folders()
    with pytest.raises(DataError) as caught:
        exchange.unpack(file)
    assert folders() == before, "a refused zip left a folder behind"
    return str(caught.value)


def test_a_run_arrives_under_a_new_id_and_judges_to_the_bit_as_before(packed):
    run, data = packed
    arrived = exchange.unpack(io.BytesIO(data))
    assert arrived.id != run.id
    assert arrived.id in {one.id for one in store.Run.all()}
    picture = png(part(5, defect=True))
    here, there = (workflow.look(workflow.load(one), picture) for one in (run, arrived))
    assert here.score == there.score
    np.testing.assert_array_equal(here.heat, there.heat)


def test_results_arrive_with_the_run(packed):
    run, data = packed
    arrived = exchange.unpack(io.BytesIO(data))
    assert arrived.read("report.json") == run.read("report.json")
    np.testing.assert_array_equal(np.load(arrived.folder / "maps.npy"), np.load(run.folder / "maps.npy"))
    kept = ("name", "kind", "label", "digest", "score", "normalised", "alarm")
    rows = [[{key: row[key] for key in kept} for row in one.read("scores.json")] for one in (run, arrived)]
    assert rows[0] == rows[1]


def test_the_card_arrives_with_every_field_that_a_page_may_ask_for(packed):
    run, data = packed
    arrived = exchange.unpack(io.BytesIO(data)).card
    own = ("id", "imported", "versions", "state_bytes")
    assert {k: v for k, v in arrived.items() if k not in own} == {k: v for k, v in run.card.items() if k not in own}


@pytest.mark.parametrize("method", ["patchcore", "padim", "gaussian", "knn"])
def test_a_run_of_every_method_can_travel(method):
    arrived = exchange.unpack(io.BytesIO(exchange.pack(finished_run(method=method))))
    assert workflow.look(workflow.load(arrived), png(part(5, defect=True))).alarm in (True, False)


def test_where_pictures_lie_does_not_travel(packed):
    run, data = packed
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist())
    assert str(run.folder.parent.parent).encode() not in text


def test_a_path_that_a_stranger_wrote_into_the_scores_is_dropped(packed):
    _, data = packed
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        rows = json.loads(archive.read("scores.json"))
    rows = [{**row, "path": "/etc/passwd", "mask": "/etc/passwd"} for row in rows]
    arrived = exchange.unpack(repacked(data, scores__json=json.dumps(rows).encode()))
    assert not any("passwd" in json.dumps(row) for row in arrived.read("scores.json"))


def test_an_imported_run_never_stands_in_for_a_fit(packed):
    _, data = packed
    assert "key" not in exchange.unpack(edited(data, "run.json", key="0" * 64)).request


@pytest.mark.parametrize("name", ["../evil.json", "/etc/cron.d/x", "state.pkl", "sub/run.json", "C:\\run.json"])
def test_a_member_that_is_not_on_the_list_is_refused(packed, name):
    assert "does not belong" in refuses(repacked(packed[1], **{name: b"{}"}))


@pytest.mark.parametrize("name", ["run.json", "calibration.json", "normals.json", "state.safetensors"])
def test_a_zip_without_a_needed_member_is_refused(packed, name):
    assert name in refuses(repacked(packed[1], **{name.replace(".", "__"): None}))


def test_a_bomb_is_refused_by_the_zips_own_list(packed):
    out = repacked(packed[1], title__json=None)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("title.json", b"0" * 30_000_000)
    assert "larger" in refuses(out)


def test_a_link_is_refused(packed):
    out = repacked(packed[1], title__json=None)
    link = zipfile.ZipInfo("title.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "link" in refuses(out)


def test_a_zip_with_wrong_bytes_anywhere_is_taken_in_or_refused_and_nothing_else(packed):
    """Wrong bytes in a member and in the zip's own list raise a dozen kinds of error within."""
    data, chance = packed[1], random.Random(0)
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        starts = [(info.header_offset, info.compress_size + 60) for info in whole.infolist()]
        starts += [(whole.start_dir, len(data) - whole.start_dir)] * len(starts)
    refused = 0
    for _ in range(300):
        wrong = bytearray(data)
        start, length = chance.choice(starts)
        for _ in range(chance.choice((1, 2, 8))):
            wrong[min(len(data) - 1, start + chance.randrange(length))] = chance.randrange(256)
        before = folders()
        try:
            exchange.unpack(io.BytesIO(bytes(wrong))).delete()
        except DataError:
            refused += 1
        assert folders() == before
    assert refused > 150


def test_what_is_no_zip_or_was_cut_off_is_refused(packed):
    assert "damaged" in refuses(io.BytesIO(b"not a zip"))
    assert "damaged" in refuses(io.BytesIO(packed[1][: len(packed[1]) // 2]))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "os:system"},
        {"method": "padim"},  # needs a backbone
        {"settings": {"no such": 1}},
        {"settings": [1]},
        {"size": 10**9},
        {"seed": -1},
        {"alpha": "0.01"},
        {"white": -5},
        {"letterbox": "yes"},
        {"created": float("inf")},
    ],
    ids=str,
)
def test_a_card_that_is_not_as_it_should_be_is_refused(packed, change):
    assert "run.json" in refuses(edited(packed[1], "run.json", **change))


@pytest.mark.parametrize("template", ["{n:>999999999}", "{n.__class__}", "{n[0]}", "{", "{missing}", "{n!r}"])
def test_a_sentence_that_would_do_harm_when_shown_is_refused(packed, template):
    threshold = {"value": 1.0, "rule": [template, {"n": 1}], "fitted_on": ["x", {}], "alpha": 0.01}
    assert "calibration.json" in refuses(edited(packed[1], "calibration.json", threshold=threshold))


@pytest.mark.parametrize("unit", [0, -1, None, "1", float("nan")], ids=str)
def test_a_calibration_that_cannot_divide_is_refused(packed, unit):
    assert "calibration.json" in refuses(edited(packed[1], "calibration.json", unit=unit))


def safetensors(header: dict, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_a_state_of_another_shape_is_refused(packed):
    wrong = safetensors({"median": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0\0\0\0")
    assert "state" in refuses(repacked(packed[1], state__safetensors=wrong))


def test_a_state_that_promises_more_than_it_holds_is_refused_before_anything_is_allocated(packed):
    huge = safetensors(
        {"median": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}, b"\0\0\0\0"
    )
    assert "damaged" in refuses(repacked(packed[1], state__safetensors=huge))


def test_maps_that_do_not_belong_to_the_scores_are_refused(packed):
    one = np.zeros((1, 4, 4), np.float32).tobytes()
    wrong = safetensors({"maps": {"dtype": "F32", "shape": [1, 4, 4], "data_offsets": [0, len(one)]}}, one)
    assert "maps" in refuses(repacked(packed[1], arrays__safetensors=wrong))


def test_an_unfinished_run_cannot_be_packed():
    run = store.Run.create()
    with pytest.raises(DataError, match="not finished"):
        exchange.pack(run)
