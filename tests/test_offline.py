"""The built-in backbones: the files that ship are those that were measured, and they find defects."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from adlib import features, folding, metrics, offline, samples, weights
from adlib.contract import Backbone
from adlib.methods.patchcore import PatchCore
from conftest import ROOT
from promises import Pictures

CARD = ROOT / "assets" / "weights" / "README.md"


each = pytest.mark.parametrize("name", weights.BUILT_IN)


@each
def test_the_file_is_the_one_that_its_card_describes(name):
    file = offline.FILES[name]
    assert hashlib.sha256(file.read_bytes()).hexdigest() in CARD.read_text(encoding="utf-8")
    said = weights.about(file)
    assert {"mean", "std", "recipe", "steps", "answers", "licence"} <= said.keys()
    recipe = json.loads(said["recipe"])
    assert recipe["seed"] == 0
    assert any(task.startswith("distil") for task in recipe["tasks"]) == (name == "offline")


def test_all_files_together_stay_small():
    assert sum(file.stat().st_size for file in CARD.parent.iterdir()) <= 8_000_000


@each
def test_its_file_is_complete_and_nothing_in_it_is_left_over(name):
    net = offline.OfflineNet((0, 1, 2), offline.form(name))
    held = {part: tuple(value.shape) for part, value in net.state_dict().items()}
    said = weights.header(offline.FILES[name])
    assert {part: tuple(about["shape"]) for part, about in said.items() if part[0] != "_"} == held


@each
@pytest.mark.parametrize("stages", [(0,), (1, 2), (0, 1, 2)])
def test_a_net_cut_after_its_last_stage_answers_as_the_whole_one(stages, name):
    x = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    whole = features.extractor(Backbone(name, (0, 1, 2), precision="fp32"))(x)
    cut = features.extractor(Backbone(name, stages, precision="fp32"))
    assert [m.shape[1] for m in cut(x)] == list(cut.channels)
    for stage, found in zip(stages, cut(x), strict=True):
        torch.testing.assert_close(found, whole[stage])


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [3, 8])
def test_a_convolution_sees_beyond_the_border_what_its_padding_says(padding, stride, channels):
    x = torch.randn(1, channels, 7, 6, generator=torch.Generator().manual_seed(0))
    conv = offline.conv3x3(channels, 3, stride, padding)
    modes = {"zeros": "constant", "reflect": "reflect"}
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode=modes[padding])
    with torch.no_grad():
        wanted = torch.nn.functional.conv2d(torch.from_numpy(padded), conv.weight, conv.bias, stride)
        torch.testing.assert_close(conv(offline.BORDERS[padding](x)), wanted)


@pytest.mark.parametrize("channels", [3, 8])
def test_a_single_row_or_column_is_mirrored_as_itself(channels):
    x = torch.randn(2, channels, 1, 4, generator=torch.Generator().manual_seed(0))
    wanted = np.pad(
        np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (0, 0)), "edge"), ((0, 0), (0, 0), (0, 0), (1, 1)), "reflect"
    )
    assert np.array_equal(offline.mirrored(x), wanted)
    assert np.array_equal(offline.mirrored(x.transpose(2, 3)), wanted.transpose(0, 1, 3, 2))


@each
@pytest.mark.parametrize("side", [1, 16, 17, 40])
def test_a_picture_of_any_size_gives_cells(side, name):
    x = torch.rand(1, 3, side, side + 3, generator=torch.Generator().manual_seed(0))
    maps = features.extractor(Backbone(name, (0, 1, 2), precision="fp32"))(x)
    assert [m.shape[2] for m in maps] == [-(-side // stride) for stride in offline.STRIDES]
    assert all(torch.isfinite(m).all() for m in maps)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_border_alone_is_nothing_to_look_at(precision):
    """A plain surface looks alike everywhere.  With zeros beyond it, border cells were off by 3 to 5 times the middle."""
    plain = torch.full((1, 3, 96, 128), 0.4)
    for maps in features.extractor(Backbone("offline", (0, 1, 2), precision=precision))(plain):
        middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]
        assert (maps - middle[..., None, None]).norm(dim=1).max() < 0.01 * middle.norm()


@each
def test_it_needs_fewer_operations_than_a_resnet18_up_to_the_same_layer(name):
    ours = features.macs(Backbone(name, (0, 1, 2)), 256, 256)
    assert features.macs(Backbone("resnet18", (1, 2, 3)), 256, 256) > 1.5 * ours


@pytest.mark.parametrize(
    ("name", "key", "least"), [("offline", "ring", 0.86), ("offline", "fabric", 0.91), ("offline_pure", "fabric", 0.9)]
)
def test_it_finds_the_defects_of_a_sample_set(name, key, least, monkeypatch):
    """`least`: 0.906 and 0.958 were measured; the rest is for rounding on other processors."""
    monkeypatch.setattr(samples, "NORMALS", 16)
    monkeypatch.setattr(samples, "TEST_NORMALS", 8)
    monkeypatch.setattr(samples, "DEFECTS", 12)
    stacks: dict[str, list[np.ndarray]] = {"train/good": [], "test/good": [], "defect": []}
    for item in samples.items(key):
        folder = item.name.rpartition("/")[0]
        if not folder.startswith("ground_truth"):
            side = Image.open(io.BytesIO(item.data)).convert("RGB").resize((160, 160), Image.Resampling.BILINEAR)
            stacks[folder if folder in stacks else "defect"].append(
                np.asarray(side, np.float32).transpose(2, 0, 1) / 255
            )
    normals, good, bad = (torch.from_numpy(np.stack(stack)) for stack in stacks.values())
    detector = PatchCore(Backbone(name, (0, 1), precision="fp32"), coreset=0.05).fit(Pictures(normals))
    scores = np.concatenate([detector.score(pixels).scores for pixels in (good, bad)])
    found = metrics.auroc([0] * len(good) + [1] * len(bad), scores)
    assert found >= least


def test_what_was_measured_of_the_suggested_backbones_stands_in_the_results():
    results = (ROOT / "benchmarks" / "results.md").read_text(encoding="utf-8")
    (row,) = [line for line in results.splitlines() if "**mean of the ten**" in line]
    cells = [float(cell.partition("/")[0]) for cell in row.split("|")[3:6]]
    told = {one.name: one.measured for one in weights.SUGGESTED if one.measured is not None}
    names = ("offline", "offline_pure", "resnet18.tv_in1k")
    assert told == {name: round(cell, 3) for name, cell in zip(names, cells, strict=True)}


@each
@pytest.mark.parametrize("stages", [(0,), (0, 1, 2)])
def test_the_built_in_network_runs_with_its_convolutions_made_ready(name, stages):
    net = features.extractor(Backbone(name, stages, precision="fp32"))._net
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert sum(isinstance(module, folding.Ready) for module in net.modules()) == 1 + 3 * len(stages)
    assert all(conv.kernel_size == (1, 1) for conv in convs)
