"""Where weights are found, what their files say, and how they are fetched."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest
import torch
from safetensors.torch import save_file

from adlib import states, weights
from adlib.contract import AdlibError, DataError, Stopped


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    return folder


def put(path, **said):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.arange(3.0)}, path, said or None)
    return path


def test_weights_given_win_over_the_environment_and_that_over_the_cache(tmp_path, monkeypatch, cache):
    hub = put(cache / "models--timm--resnet18.tv_in1k" / "snapshots" / "abc" / "model.safetensors")
    assert weights.find("resnet18") == hub
    general = put(tmp_path / "general" / "resnet18.safetensors")
    monkeypatch.setenv("ADLIB_WEIGHTS", str(general.parent))
    assert weights.find("resnet18") == general
    given = put(tmp_path / "given" / "resnet18.tv_in1k.safetensors")
    assert weights.find("resnet18", str(given.parent)) == given
    assert weights.find("resnet18", str(general)) == general
    assert weights.find("resnet18", str(tmp_path / "gone")) == general


@pytest.mark.parametrize("file", ["resnet18.pth", "resnet18.tv_in1k.bin", "resnet18/model.safetensors"])
def test_a_folder_may_be_laid_out_in_several_ways(tmp_path, cache, file):
    path = put(tmp_path / "given" / file)
    assert weights.find("resnet18", str(tmp_path / "given")) == path


def test_the_revision_that_main_names_is_taken(cache):
    repository = cache / "models--timm--resnet18.tv_in1k"
    for revision in ("aaa", "bbb", "ccc"):
        put(repository / "snapshots" / revision / "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("bbb")
    found = weights.find("resnet18.tv_in1k")
    assert found is not None
    assert found.parent.name == "bbb"


def test_weights_with_another_tag_are_not_taken_for_those_asked_for(tmp_path, cache):
    put(tmp_path / "resnet18.safetensors")
    assert weights.find("resnet18.a1_in1k", str(tmp_path)) is None
    assert weights.find("resnet18.tv_in1k", str(tmp_path)) == tmp_path / "resnet18.safetensors"


def test_a_name_is_never_a_path(tmp_path, cache):
    put(tmp_path / "secret.safetensors")
    (tmp_path / "folder").mkdir()
    assert weights.find("../secret", str(tmp_path / "folder")) is None


def test_the_list_of_ready_backbones_says_size_and_licence_and_begins_with_the_offline_one(
    tmp_path, monkeypatch, cache
):
    put(tmp_path / "given" / "mine.safetensors", licence="MIT")
    put(cache / "models--timm--resnet18.tv_in1k" / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setenv("ADLIB_WEIGHTS", str(tmp_path / "given"))
    ready = weights.ready()
    assert [one.name for one in ready] == ["offline", "offline_pure", "mine", "resnet18.tv_in1k"]
    assert [one.licence for one in ready[2:]] == ["MIT", "BSD-3-Clause"]
    assert [one.offline for one in ready] == [True, True, False, False]
    assert ready[2].megabytes > 0


def test_missing_weights_are_told_with_three_ways_and_the_offline_backbone():
    text = str(weights.missing("resnet18"))
    for way in ("ADLIB_WEIGHTS", "python -m adlib weights resnet18", "--weights", "'offline'"):
        assert way in text


def test_the_digest_is_the_sha256_of_the_file_and_follows_its_changes(tmp_path):
    path = tmp_path / "x.safetensors"
    for content in (b"one", b"another"):
        path.write_bytes(content)
        assert weights.digest(path) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("nest", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_files_are_read_however_a_training_script_left_them(tmp_path, nest, prefix):
    state = {prefix + "a": torch.ones(2, dtype=torch.float16), prefix + "n": torch.tensor(3)}
    torch.save(nest(state), tmp_path / "x.pth")
    assert states.shapes(tmp_path / "x.pth") == {"a": (2,), "n": ()}
    read = states.read(tmp_path / "x.pth")
    assert read["a"].dtype == torch.float32
    assert read["n"].dtype == torch.int64


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_that_would_run_code_or_is_damaged_is_refused(tmp_path, capsys, name):
    torch.save({"a": Evil()}, tmp_path / name)
    for content in (None, b"", b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0[]"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as weights"):
            states.shapes(tmp_path / name)
        with pytest.raises(DataError, match="cannot be read as weights"):
            states.read(tmp_path / name)
    assert "this ran" not in capsys.readouterr().out


# --- fetching ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, cache):
    """A small hub on this machine that holds resnet18.tv_in1k."""
    from huggingface_hub import constants

    content = bytes(range(256)) * 4096  # 1 MB

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            known = self.path == "/timm/resnet18.tv_in1k/resolve/main/model.safetensors"
            self.send_response(200 if known else 404)
            if known:
                self.send_header("ETag", '"abc"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield content
    server.shutdown()
    server.server_close()


def test_fetched_weights_are_found_afterwards_and_progress_is_told(hub):
    told = []
    path = weights.fetch("resnet18", lambda fraction, message, **numbers: told.append(fraction))
    assert path.read_bytes() == hub
    assert weights.find("resnet18") == path
    assert told == sorted(told)
    assert len(told) > 5
    assert told[-1] == 1.0


def test_fetching_stops_on_request_and_leaves_nothing_that_looks_ready(hub):
    def tick(fraction, message, **numbers):
        if fraction > 0.3:
            raise Stopped

    with pytest.raises(Stopped):
        weights.fetch("resnet18", tick)
    assert weights.find("resnet18") is None


def test_weights_that_the_hub_does_not_have_are_told(hub):
    with pytest.raises(AdlibError, match="has no open weights 'timm/resnet19'"):
        weights.fetch("resnet19")


def test_a_hub_out_of_reach_is_told_with_the_way_round(cache):
    with pytest.raises(AdlibError, match=r"could not be reached.*ADLIB_WEIGHTS"):  # the tests run offline
        weights.fetch("resnet18")


def test_what_is_no_name_is_not_put_into_a_command():
    text = str(weights.missing("resnet18; rm -rf /"))
    assert "is not the name" in text
    assert "python -m" not in text


@pytest.mark.parametrize("name", ["offline", "offline_pure", "../etc/passwd"])
def test_only_names_of_backbones_are_fetched(name):
    with pytest.raises(AdlibError):
        weights.fetch(name)


def test_the_better_choice_is_one_that_is_ready_and_was_measured_above_the_built_in_one(monkeypatch):
    def known(name: str, measured: float | None) -> weights.Suggestion:
        return weights.Suggestion(name, "", 1, "", "", measured)

    listed = (
        known("offline", 0.8),
        known("low.a", 0.7),
        known("high.a", 0.9),
        known("higher.a", 0.95),
        known("new.a", None),
    )
    monkeypatch.setattr(weights, "SUGGESTED", listed)
    assert weights.better(["offline", "low.a", "high.a", "new.a"]) == "high.a"
    assert weights.better(["offline", "low.a", "new.a", "unheard_of"]) is None
    assert weights.better([]) is None
