"""Frozen networks: which stages, which weights, and that their maps are the network's own."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from timm.layers import Conv2dSame

from adlib import features, folding, networks
from adlib.contract import AdlibError, Backbone, WeightsMissing
from conftest import ROOT


@pytest.fixture(autouse=True)
def only_what_the_test_brings(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    features._built.clear()


def pictures(n=2, height=64, width=64):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def saved(folder, name, **options):
    """A timm network with random weights and lively statistics, and its file."""
    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    return model


def standardised(pixels, model):
    mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    return (pixels - mean) / std


# --- the network's own maps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "vit_tiny_patch16_224", "regnetx_002"])
def test_maps_equal_what_timm_taps(tmp_path, name):
    model = saved(tmp_path, name, **({"dynamic_img_size": True} if name.startswith("vit") else {}))
    backbone = Backbone(name, stages=(1, 3), weights=str(tmp_path), precision="fp32")
    with torch.no_grad():
        expected = model.forward_intermediates(standardised(pictures(), model), indices=[1, 3], intermediates_only=True)
    for found, wanted in zip(features.extractor(backbone)(pictures()), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_an_efficientnet_gives_all_nine_levels(tmp_path):
    model = saved(tmp_path, "tf_efficientnet_b0")
    expected, hooks = [], [model.bn1, *model.blocks, model.bn2]
    for part in hooks:
        part.register_forward_hook(lambda part, given, answer: expected.append(answer.clone()))
    with torch.no_grad():
        model(standardised(pictures(), model))
    backbone = features.resolve(Backbone("tf_efficientnet_b0", weights=str(tmp_path), precision="fp32"), "all")
    extractor = features.extractor(backbone)
    assert extractor.channels == (32, 16, 24, 40, 80, 112, 192, 320, 1280)
    for found, wanted in zip(extractor(pictures()), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_a_resnet_gives_its_stem_after_the_pooling(tmp_path):
    model = saved(tmp_path, "resnet10t")
    with torch.no_grad():
        stem = model.maxpool(model.act1(model.bn1(model.conv1(standardised(pictures(), model)))))
    backbone = Backbone("resnet10t", stages=(0,), weights=str(tmp_path), precision="fp32")
    torch.testing.assert_close(features.extractor(backbone)(pictures())[0], stem, rtol=1e-4, atol=1e-5)


def test_real_weights_that_hold_some_stages_answer_as_the_network_they_came_from(test_data):
    folder = test_data / "weights"
    backbone = features.resolve(Backbone("resnet18", weights=str(folder), precision="fp32"), "early")
    assert backbone.stages == (1, 2, 3)
    model = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3)).eval()
    model.load_state_dict(load_file(folder / "resnet18.safetensors"))
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        expected = model((pictures() - mean) / std)
    for found, wanted in zip(features.extractor(backbone)(pictures()), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv2_100"])
def test_mean_std_and_padding_in_the_file_win_over_what_timm_says(test_data, name):
    folder = test_data / "weights"
    backbone = features.resolve(Backbone(name, weights=str(folder), precision="fp32"), "all")
    model = timm.create_model(name, pad_type="same").eval()
    model.load_state_dict(load_file(folder / f"{name}.safetensors"))
    with torch.no_grad():
        expected = model.forward_features(2 * pictures() - 1)
    found = features.extractor(backbone)(pictures())[-1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# --- pictures of any size, alone or together --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["resnet10t", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "test_vit_relpos"]
)
@pytest.mark.parametrize("size", [(96, 96), (75, 110)])
def test_any_size_is_taken_and_announced(tmp_path, name, size):
    stages = (0, 1)
    net = networks.skeleton(name, 96, stages, "cpu")
    backbone = Backbone(name, stages, size=96, precision="fp32")
    extractor = features.Extractor(net, backbone, features.anatomy_of(backbone), (0.5,) * 3, (0.5,) * 3)
    maps = extractor(pictures(1, *size))
    assert [tuple(m.shape[1:]) for m in maps] == features.shapes(backbone, *size)
    assert tuple(m.shape[1] for m in maps) == extractor.channels


@pytest.mark.parametrize("name", ["offline", "resnet18", "mobilenetv2_100"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_picture_has_the_same_maps_alone_and_in_any_batch(test_data, name, precision):
    backbone = Backbone(name, weights=str(test_data / "weights"), precision=precision)
    extractor = features.extractor(features.resolve(backbone, "early"))
    together = extractor(pictures(7))
    for k, one in enumerate(pictures(7)):
        for alone, all in zip(extractor(one[None]), together, strict=True):
            torch.testing.assert_close(alone[0], all[k], rtol=0, atol=1e-5 * float(all.abs().max()))


def test_two_threads_may_use_one_network_at_once(tmp_path):
    saved(tmp_path, "resnet10t")
    extractor = features.extractor(Backbone("resnet10t", (1, 2), weights=str(tmp_path), precision="fp32"))
    inputs = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(16)]
    expected = [extractor(pixels) for pixels in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(extractor, inputs))
    assert all(torch.equal(a, b) for f, e in zip(found, expected, strict=True) for a, b in zip(f, e, strict=True))


def test_a_network_is_built_once_frozen_and_ends_at_its_last_stage(tmp_path):
    saved(tmp_path, "resnet10t")
    backbone = Backbone("resnet10t", (0, 1), weights=str(tmp_path), precision="fp32")
    extractor = features.extractor(backbone)
    assert features.extractor(backbone) is extractor
    names = [name for name, _ in extractor._net.named_parameters()]
    assert not any("layer2" in name or "fc" in name for name in names)
    assert not extractor._net.training
    assert not any(value.requires_grad for value in extractor._net.parameters())


def test_maps_are_ordinary_float32_tensors_that_a_method_may_change(tmp_path):
    saved(tmp_path, "resnet10t")
    for precision in ("fp32", "bf16"):
        for m in features.extractor(Backbone("resnet10t", (1,), weights=str(tmp_path), precision=precision))(
            pictures()
        ):
            assert m.dtype == torch.float32
            m += 1


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "early", "middle"),
    [
        ("offline", (0, 1, 2), (1, 2)),
        ("resnet10t", (1, 2, 3), (2, 3)),
        ("tf_efficientnet_b0", (2, 3, 5), (3, 5)),
        ("convnext_atto", (0, 1, 2), (1, 2)),
        ("vit_tiny_patch16_224", (2, 5, 8), (5, 8)),
    ],
)
def test_usual_stages_are_the_deepest_of_each_resolution(tmp_path, name, early, middle):
    if name != "offline":
        saved(tmp_path, name)
    for usual, stages in (("early", early), ("middle", middle)):
        assert features.resolve(Backbone(name, weights=str(tmp_path)), usual).stages == stages


def test_resolving_makes_every_choice_explicit_and_changes_nothing_twice():
    once = features.resolve(Backbone("offline"), "all")
    assert once.stages == (0, 1, 2)
    assert once.precision == ("bf16" if features._fast_bf16() else "fp32")
    assert features.resolve(once, "middle") == once


def test_a_file_with_the_first_stages_serves_those_and_refuses_the_others(test_data):
    folder = str(test_data / "weights")
    assert features.resolve(Backbone("resnet18", weights=folder), "all").stages == (0, 1, 2, 3)
    assert features.resolve(Backbone("resnet18", (3,), weights=folder), "all").stages == (3,)
    with pytest.raises(WeightsMissing, match=r"holds stages 0, 1, 2, 3 of 'resnet18', but stages 2, 4"):
        features.resolve(Backbone("resnet18", (2, 4), weights=folder), "all")


def test_a_file_of_another_network_is_refused_with_what_is_wrong(tmp_path):
    saved(tmp_path, "resnet10t")
    with pytest.raises(WeightsMissing, match=r"'resnet10t.safetensors' does not fit 'regnetx_002': \d+ tensors"):
        features.resolve(Backbone("regnetx_002", weights=str(tmp_path / "resnet10t.safetensors")), "all")


def test_one_missing_tensor_within_a_stage_is_noticed(tmp_path):
    saved(tmp_path, "resnet10t")
    state = load_file(tmp_path / "resnet10t.safetensors")
    del state["layer3.0.bn1.bias"]
    save_file(state, tmp_path / "resnet10t.safetensors")
    assert features.resolve(Backbone("resnet10t", weights=str(tmp_path)), "all").stages == (0, 1, 2)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (Backbone("resnet-18"), r"no backbone called 'resnet-18'\. Close: resnet18"),
        (Backbone("resnet18.best"), r"'resnet18' has no weights called 'best'\. Known: .*tv_in1k"),
        (Backbone("offline", (3,)), r"'offline' has stages 0 to 2, not 3"),
        (Backbone("offline", precision="fp8"), r"Precision 'fp8' is unknown"),
        (Backbone("resnet18"), r"weights of 'resnet18' are not on this machine"),
        (Backbone("resnet18", weights="/gone"), r"no file or folder '/gone'"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(backbone, message):
    with pytest.raises(AdlibError, match=message):
        features.resolve(backbone, "early")


def test_the_run_card_names_the_weights_by_their_hash(test_data):
    about = features.weights_of(Backbone("resnet18", weights=str(test_data / "weights")))
    assert about["file"] == "resnet18.safetensors"
    assert about["sha256"].startswith("e3d6a6ca305e9381")
    built_in = ROOT / "assets" / "weights" / "offline.safetensors"
    expected = {"file": "offline.safetensors", "sha256": hashlib.sha256(built_in.read_bytes()).hexdigest()}
    assert features.weights_of(Backbone("offline")) == expected


# --- patch vectors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_patch_vectors_are_pooled_at_their_own_resolution_then_resized_and_stacked(mode):
    maps = [torch.rand(2, 3, 8, 6), torch.rand(2, 5, 4, 3)]
    pooled = [F.conv2d(m, torch.full((m.shape[1], 1, 3, 3), 1 / 9), padding=1, groups=m.shape[1]) for m in maps]
    options = {} if mode == "nearest" else {"align_corners": False}
    expected = torch.cat([pooled[0], F.interpolate(pooled[1], size=(8, 6), mode=mode, **options)], dim=1)
    torch.testing.assert_close(features.embed(maps, pool=3, mode=mode), expected)


def test_patch_vectors_of_a_network_lie_together_in_memory():
    extractor = features.extractor(features.resolve(Backbone("offline"), "early"))
    for pool in (0, 3):
        grid = features.embed(extractor(pictures()), pool=pool)
        rows = grid.permute(0, 2, 3, 1).reshape(-1, grid.shape[1])
        assert rows.data_ptr() == grid.data_ptr()


# --- cost -------------------------------------------------------------------------------------------------------------


def test_multiply_adds_of_known_networks():
    # 1.814e9 is what the literature gives for a whole ResNet-18 at 224 pixels; the last layer adds half a million.
    assert features.macs(Backbone("resnet18", (4,)), 224, 224) == pytest.approx(1.8136e9, rel=2e-3)
    assert features.macs(Backbone("resnet18", (1,)), 224, 224) < features.macs(Backbone("resnet18", (3,)), 224, 224)


def test_announced_activations_are_near_what_is_allocated():
    net = networks.skeleton("resnet18", 128, (1, 2, 3), "cpu").eval()
    backbone = Backbone("resnet18", (1, 2, 3), size=128, precision="fp32")
    extractor = features.Extractor(net, backbone, features.anatomy_of(backbone), (0.5,) * 3, (0.5,) * 3)
    pixels = pictures(4, 128, 128)
    extractor(pixels)
    with torch.profiler.profile(profile_memory=True, record_shapes=False) as profile:
        extractor(pixels)
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert peak / 2 < features.activation_bytes(backbone, 128, 128, pictures=4) < peak * 2


# --- the offline backbone ----------------------------------------------------------------------------------------------


def test_the_offline_backbone_sees_direction_contrast_and_colour():
    extractor = features.extractor(features.resolve(Backbone("offline"), "early"))
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    grey, red = torch.full((3, 128, 128), 0.5), torch.tensor([0.9, 0.3, 0.3])[:, None, None].expand(3, 128, 128)
    for stage, stride in enumerate(extractor.strides):
        stripes = [0.5 + 0.3 * torch.sin(torch.pi * axis / stride).expand(3, 128, 128) for axis in (x, y)]
        vectors = extractor(torch.stack([grey, red, *stripes]))[stage].mean((2, 3))
        apart = torch.cdist(vectors, vectors)[~torch.eye(4, dtype=torch.bool)]
        assert apart.min() > 0.1


def test_the_offline_backbone_answers_the_same_twice():
    a, b = (features.extractor(features.resolve(Backbone("offline"), "all"))(pictures()) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# --- batch normalisation ----------------------------------------------------------------------------------------------


def lively(net):
    """Statistics, scales and shifts of every norm away from 1 and 0, as training leaves them."""
    chance = torch.Generator().manual_seed(5)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low in (
                (module.running_mean, -0.3),
                (module.running_var, 0.5),
                (module.bias, -0.2),
                (module.weight, 0.7),
            ):
                tensor.data.copy_(low + 0.6 * torch.rand(tensor.shape, generator=chance))
    return net.eval().requires_grad_(False)


def norms(net) -> int:
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize(
    ("name", "stages", "left"),
    [("resnet10t", (1, 2, 3), 0), ("mobilenetv3_small_050", (0, 2), 0), ("tf_efficientnet_b0", (0, 4), 0),
     ("regnetx_002", (1, 2), 0), ("densenet121", (1,), 6)],
)  # fmt: skip
def test_a_network_without_its_norms_answers_as_before(name, stages, left):
    """A DenseNet normalises what several convolutions made: those norms stay."""
    net = lively(networks.load(name, 64, stages, None))
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = [map_.clone() for map_ in net(x)]
    assert norms(net) > left
    with torch.inference_mode():
        net = folding.folded(net)
        assert norms(net) == left
        for found, before in zip(net(x), wanted, strict=True):
            torch.testing.assert_close(found, before, rtol=1e-4, atol=1e-5 * float(before.abs().max()))


class Odd(torch.nn.Module):
    """A net whose convolution is looked at by more than the norm after it, or changed before the norm sees it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

    def forward(self, x):
        made = self.conv(x)
        if self.kind == "in place":
            made.relu_()
        if self.kind == "twice":
            return [self.norm(made), self.norm(self.conv(x + 1))]
        return [self.norm(made) + (made if self.kind == "beside" else 0)]


@pytest.mark.parametrize("kind", ["beside", "in place", "twice"])
def test_a_norm_that_cannot_be_folded_stays(kind):
    net = lively(Odd(kind))
    x = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    wanted = net(x)
    net = folding.folded(net)
    assert norms(net) == 1
    assert all(torch.equal(a, b) for a, b in zip(net(x), wanted, strict=True))


def ready(net) -> int:
    return sum(isinstance(module, folding.Ready) for module in net.modules())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("name", "stages", "count"),
    [
        ("resnet10t", (1, 2, 3), 9),
        ("vgg11", (0, 1), 2),
        ("regnety_002", (1, 2), 1),
        ("mobilenetv3_small_050", (0, 2), 0),
    ],
)
def test_convolutions_made_ready_answer_as_before_at_any_size(name, stages, count, precision):
    """Those that see all channels of several cells, in bf16 only where the processor has bf16 of its own.

    count: how many those are; no ReLU follows the fourth net's only one.
    """
    made = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision], torch.channels_last
    net = folding.folded(lively(networks.load(name, 64, stages, None))).to(made[0]).to(memory_format=made[1])
    pictures = [
        folding.trial(side).expand(n, -1, -1, -1).to(made[0], memory_format=made[1]) for side, n in ((64, 1), (96, 3))
    ]
    with torch.inference_mode():
        wanted = [net(x) for x in pictures]
        net = folding.fused(net, pictures[0])
        if precision == "fp32" or features._fast_bf16():
            assert ready(net) == count
        for x, before in zip(pictures, wanted, strict=True):
            for found, map_ in zip(net(x), before, strict=True):
                assert (found - map_).abs().max() <= (1e-5 if precision == "fp32" else 0.02) * map_.abs().max()


class Chancy(torch.nn.Module):
    """A net with a ReLU after a convolution, and something else that comes between them, or looks at the convolution."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.relu = (
            torch.nn.Conv2d(3, 4, 3, padding_mode="circular" if kind == "circular" else "zeros"),
            torch.nn.ReLU(),
        )

    def forward(self, x):
        made = self.conv(x)
        if self.kind == "in place":
            made.sub_(1)
        if self.kind == "twice":
            return [self.relu(made), self.relu(self.conv(x + 1) - 1)]
        if self.kind == "weights":
            return [self.relu(made) + self.conv.weight.mean()]
        return [self.relu(made) + (made if self.kind == "beside" else 0)]


@pytest.mark.parametrize("kind", ["beside", "in place", "twice", "weights", "circular"])
def test_a_relu_that_does_not_only_follow_its_convolution_stays(kind):
    net = Chancy(kind).eval().requires_grad_(False)
    x = folding.trial(20)
    wanted = net(x)
    net = folding.fused(net, x)
    assert isinstance(net.relu, torch.nn.ReLU)
    assert ready(net) == 0
    assert all(torch.equal(a, b) for a, b in zip(net(x), wanted, strict=True))


class Mixed(torch.nn.Module):
    """A convolution that pads in its own way, and a plain one, each before a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.first = Conv2dSame(3, 4, 3, stride=2), torch.nn.ReLU()
        self.conv, self.second = torch.nn.Conv2d(4, 5, 3), torch.nn.ReLU()

    def forward(self, x):
        return [self.second(self.conv(self.first(self.own(x))))]


def test_a_convolution_that_pads_in_its_own_way_keeps_its_relu():
    net = Mixed().eval().requires_grad_(False)
    x = folding.trial(21)
    wanted = net(x)[0]
    net = folding.fused(net, x)
    assert ready(net) == 1
    assert isinstance(net.first, torch.nn.ReLU)
    torch.testing.assert_close(net(x)[0], wanted)
