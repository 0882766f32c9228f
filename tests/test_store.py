"""Folders: atomic, unguessable, never half-listed, and no way from an id to a path outside."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adlib import store
from adlib.contract import DataError


@pytest.mark.parametrize("id", ["../x", "a/b", "", "a" * 65, "a b", "..", "a\x00b"])
def test_an_id_is_never_a_path(id):
    with pytest.raises(DataError):
        store.Dataset.open(id)
    assert not store.Dataset.exists(id)
    assert not store.Run.exists(id)


def test_ids_are_long_and_never_repeat():
    made = {store.new_id() for _ in range(500)}
    assert len(made) == 500
    assert all(len(id) >= 16 and not id.startswith("-") for id in made)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    store.write_json(path, {"n": 1})
    with pytest.raises(ValueError, match="Out of range"):
        store.write_json(path, {"n": float("nan")})
    assert store.read_json(path) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json", "workspace"] or [p.name for p in tmp_path.iterdir()] == [
        "a.json"
    ]


def test_a_damaged_file_is_a_sentence(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"'a\.json' in folder .* is damaged"):
        store.read_json(tmp_path / "a.json")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(DataError, match=r"a\.npy"):
        store.read_array(tmp_path / "a.npy")


def test_arrays_of_python_objects_are_refused(tmp_path):
    np.save(
        tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True
    )  # what a hostile upload would hold
    with pytest.raises(DataError):
        store.read_array(tmp_path / "a.npy")


def test_a_data_set_is_listed_once_it_is_saved():
    made = store.Dataset.create("parts", "upload")
    made.folder.mkdir(parents=True)
    assert store.Dataset.all() == []
    made.save()
    assert [d.title for d in store.Dataset.all()] == ["parts"]
    made.delete()
    assert store.Dataset.all() == []
    assert list(made.folder.parent.iterdir()) == []


def test_a_run_without_its_card_is_not_listed():
    run = store.Run.create()
    run.write("request.json", {})
    assert store.Run.all() == []
    assert store.Run.exists(run.id)
    run.write("run.json", {})
    assert [r.id for r in store.Run.all()] == [run.id]
    run.forget()
    assert store.Run.all() == []
    assert run.request == {}


def test_a_half_written_event_is_left_out():
    run = store.Run.create()
    run.append({"status": "queued"})
    with open(run.folder / "events.jsonl", "a") as file:
        file.write('{"status": "run')
    assert run.last_event()["status"] == "queued"
    assert [e["status"] for e in run.events()] == ["queued"]


def test_a_run_is_found_by_id_and_by_path(tmp_path):
    inside, outside = store.Run.create(), store.Run.create(tmp_path / "elsewhere")
    for run in (inside, outside):
        run.write("request.json", {})
    assert store.Run.open(inside.id).folder == inside.folder
    assert store.Run.open(str(outside.folder)).folder == outside.folder
    with pytest.raises(DataError, match="no run 'nobody'"):
        store.Run.open("nobody")


def test_a_state_survives_to_the_bit_and_its_shapes_are_seen_first(tmp_path):
    import torch

    state = {"bank": torch.randn(5, 3), "n": torch.tensor(7)}
    store.save_state(tmp_path / "s.safetensors", state)
    loaded = store.load_state(tmp_path / "s.safetensors")
    assert all(torch.equal(state[name], loaded[name]) for name in state)

    def refuse(shapes):
        assert shapes["bank"] == ("F32", (5, 3))
        raise DataError("too many")

    with pytest.raises(DataError, match="too many"):
        store.load_state(tmp_path / "s.safetensors", refuse)


def test_a_damaged_state_is_a_sentence(tmp_path):
    (tmp_path / "s.safetensors").write_bytes(json.dumps({}).encode())
    with pytest.raises(DataError, match="missing or damaged"):
        store.load_state(tmp_path / "s.safetensors")
    with pytest.raises(DataError, match="missing or damaged"):
        store.load_state(tmp_path / "none.safetensors")
