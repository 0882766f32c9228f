"""Networks of timm as stages: which parts make a stage, where the net may be cut, and what a stage needs from a file.

ResNets and EfficientNets are described as data, because timm's own taps leave levels out (the stem of the one, four of
nine levels of the other).  All other architectures are tapped where timm says.  Either way a network keeps only the
parts up to its last stage, holds nothing between calls, and may be used by several threads at once.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from adlib import states, weights
from adlib.contract import AdlibError, WeightsMissing

# Class in timm → the modules of each stage, in the order they run; "blocks.*" stands for one stage a block.
FAMILIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "ResNet": (("conv1", "bn1", "act1", "maxpool"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)),
    "EfficientNet": (("conv_stem", "bn1"), ("blocks.*",), ("conv_head", "bn2")),
    "MobileNetV3": (("conv_stem", "bn1"), ("blocks.*",)),
}


@dataclass(frozen=True)
class Anatomy:
    """A backbone's stages, known without its weights.  channels, strides: of each; a stride is pixels per cell.

    multiple: sides are resized to a multiple of this, so that the cells cover the picture and nothing but the picture.
    side: the only side in pixels that the net takes, 0 when it takes any.
    convolutional: runs fastest with its channels together in memory.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int = 1
    side: int = 0
    convolutional: bool = True

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """The size in pixels at which the net sees a picture of this size."""
        if self.side:
            return self.side, self.side
        m = self.multiple
        return max(1, round(height / m)) * m, max(1, round(width / m)) * m


class Network(nn.Module):
    """x (B, 3, H, W), standardised → the maps (B, C, h, w) of the stages asked for, low to high."""

    def __init__(self, body: nn.Module, stages: tuple[int, ...], chain: list[tuple[str, ...]] | None) -> None:
        super().__init__()
        self.body: Any = body
        self.stages = stages
        self.chain = chain

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.chain is None:
            maps: list[Tensor] = self.body.forward_intermediates(
                x, indices=list(self.stages), stop_early=True, intermediates_only=True
            )
            return maps
        maps = []
        for stage, paths in enumerate(self.chain):
            for path in paths:
                x = self.body.get_submodule(path)(x)
            if stage in self.stages:
                maps.append(x)
        return maps


# --- names ------------------------------------------------------------------------------------------------------------


def check(name: str) -> str:
    """The architecture in a backbone's name.  Raises AdlibError when timm has none of that name or no such tag."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        raise AdlibError(
            "There is no backbone called '{name}'. Close: {near}.",
            name=name[:80],
            near=", ".join([*near, *weights.BUILT_IN]),
        )
    known = [full.partition(".")[2] for full in timm.list_pretrained(architecture + ".*")]
    if tag and tag not in known:
        raise AdlibError(
            "'{architecture}' has no weights called '{tag}'. Known: {known}.",
            architecture=architecture,
            tag=tag[:80],
            known=", ".join(known) or "none",
        )
    return architecture


def standard(name: str) -> PretrainedCfg | None:
    """What timm knows of the weights of this name: mean, std, size; None for an architecture without any."""
    architecture, tag = weights.split(name)
    return timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)


# --- building ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def anatomy(name: str, size: int) -> Anatomy:
    """The stages of a backbone.  Built on the meta device: nothing is allocated or computed."""
    model, side = _model(name, size, "meta", ())
    if (chain := _chain(model)) is not None:
        net = Network(model, tuple(range(len(chain))), chain).eval()
        probe = 256
        with torch.no_grad():
            maps = net(torch.empty(1, 3, probe, probe, device="meta"))
        return Anatomy(tuple(m.shape[1] for m in maps), tuple(round(probe / m.shape[-1]) for m in maps))
    strides = tuple(int(stage["reduction"]) for stage in _info(model))
    wide = sum(isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1 for part in model.modules())
    return Anatomy(
        tuple(int(stage["num_chs"]) for stage in _info(model)),
        strides,
        multiple=max(strides),
        side=side,
        convolutional=wide > 3,  # a transformer has one, in front
    )


def load(name: str, size: int, stages: tuple[int, ...], path: Path | None) -> Network:
    """The network up to its last stage, with weights from the file, frozen.  path: None leaves random weights (tests).

    Raises WeightsMissing when the file lacks a part that these stages need, with what it holds instead.
    """
    said = weights.about(path) if path else {}
    extra = tuple((key, said[key]) for key in ("pad_type",) if key in said)
    for device in (
        "meta",
        "cpu",
    ):  # meta: no time for random numbers; some nets compute tables when built, so not there
        net = skeleton(name, size, stages, device, extra)
        if path is not None:
            _fill(net.body, name, path, stages, size)
        if not any(tensor.is_meta for tensor in [*net.parameters(), *net.buffers()]):
            break
    return net.eval().requires_grad_(False)


def skeleton(
    name: str, size: int, stages: tuple[int, ...], device: str, extra: tuple[tuple[str, str], ...] = ()
) -> Network:
    """The network without weights, cut after its last stage."""
    model, _ = _model(name, size, device, extra)
    chain = _chain(model)
    if chain is None:
        model.prune_intermediate_layers(indices=list(stages), prune_norm=True, prune_head=True)
        return Network(model, stages, None)
    chain = chain[: max(stages) + 1]
    _cut(model, {path for paths in chain for path in paths})
    return Network(model, stages, chain)


def held(name: str, size: int, path: Path) -> tuple[int, ...]:
    """The stages for which the file has every tensor: from the first one up to where it ends, maybe none."""
    return _held(name, size, path, *weights.stamp(path))


@functools.lru_cache(maxsize=64)
def _held(name: str, size: int, path: Path, *stamp: int) -> tuple[int, ...]:
    found = states.shapes(path)
    count = len(anatomy(name, size).channels)
    for last in reversed(range(count)):
        net = skeleton(name, size, (last,), "meta")
        if not _lacking(net.body, found) or (last == count - 1 and _convert(net.body, path) is not None):
            return tuple(range(last + 1))
    return ()


def _model(name: str, size: int, device: str, extra: tuple[tuple[str, str], ...]) -> tuple[Any, int]:
    """The whole timm model, and the only side it takes in pixels, 0 when it takes any."""
    architecture = check(name)

    def build(**options: Any) -> Any:
        with contextlib.suppress(TypeError), torch.device(device):  # timm answers so to an option that a net lacks
            return timm.create_model(architecture, **{**dict(extra), **options})
        return None

    for flexible in ({"dynamic_img_size": True}, {"strict_img_size": False}):
        if (model := build(**flexible)) is not None:
            return model, 0
    plain = build()
    if plain is None:
        raise AdlibError("The backbone '{name}' cannot be built by this version of timm.", name=name)
    multiple = max(int(stage["reduction"]) for stage in _info(plain))
    side = max(1, round(size / multiple)) * multiple
    if (model := build(img_size=side)) is not None:
        return model, side
    return plain, plain.pretrained_cfg["input_size"][-1] if plain.pretrained_cfg.get("fixed_input_size") else 0


def _info(model: Any) -> list[dict[str, Any]]:
    """timm's own description of the places where a net may be tapped."""
    info = model.feature_info
    return list(getattr(info, "info", info))


def _chain(model: nn.Module) -> list[tuple[str, ...]] | None:
    family = FAMILIES.get(type(model).__name__)
    if family is None:
        return None
    chain: list[tuple[str, ...]] = []
    for paths in family:
        if paths == ("blocks.*",):
            chain += [(f"blocks.{i}",) for i in range(len(model.blocks))]  # type: ignore[arg-type]
        elif not all(isinstance(model.get_submodule(path), nn.Identity) for path in paths):
            chain.append(paths)
    return chain


def _cut(model: nn.Module, keep: set[str]) -> None:
    """Removes every part of the model that no kept path leads to."""
    for name, child in list(model.named_children()):
        inside = {path.removeprefix(name + ".") for path in keep if path.startswith(name + ".")}
        if inside:
            _cut(child, inside)
        elif name not in keep:
            delattr(model, name)


# --- weights ----------------------------------------------------------------------------------------------------------


def _needed(body: nn.Module) -> dict[str, tuple[int, ...]]:
    counters = "num_batches_tracked"  # of training; old files lack it
    return {name: tuple(value.shape) for name, value in body.state_dict().items() if not name.endswith(counters)}


def _lacking(body: nn.Module, found: Mapping[str, Any]) -> list[str]:
    """Names of tensors that the network needs and that are absent or of another shape."""
    return [
        name
        for name, shape in _needed(body).items()
        if name not in found or tuple(getattr(found[name], "shape", found[name])) != shape
    ]


def _convert(body: nn.Module, path: Path) -> dict[str, Tensor] | None:
    """The file's tensors under timm's names, for files in the format of the authors; None when that does not help."""
    convert = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None
    try:
        state = convert(states.read(path), body)
    except Exception:  # it was written for other files: what it raises tells a person nothing
        return None
    return state if isinstance(state, dict) and not _lacking(body, state) else None


def _fill(body: nn.Module, name: str, path: Path, stages: tuple[int, ...], size: int) -> None:
    lacking = _lacking(body, states.shapes(path))
    state = states.read(path, body.state_dict()) if not lacking else _convert(body, path)
    if state is None:
        raise lacks(name, path, stages, held(name, size, path), lacking)
    kept = body.state_dict()
    body.load_state_dict({key: value for key, value in state.items() if key in kept}, strict=False, assign=True)
    for key, value in body.named_buffers():
        if value.is_meta and key.endswith("num_batches_tracked"):
            owner, _, last = key.rpartition(".")
            setattr(body.get_submodule(owner), last, torch.zeros((), dtype=torch.long))


def lacks(name: str, path: Path, stages: tuple[int, ...], holds: tuple[int, ...], lacking: list[str]) -> WeightsMissing:
    """A file was found, but not everything is in it."""
    if holds:
        return WeightsMissing(
            "'{file}' holds stages {holds} of '{name}', but stages {stages} were asked for. Choose among those it holds, "
            "or take another file.",
            file=path.name, holds=", ".join(map(str, holds)), name=name, stages=", ".join(map(str, stages)),
        )  # fmt: skip
    return WeightsMissing(
        "'{file}' does not fit '{name}': {n} tensors are missing or of another shape, the first is '{first}'. "
        "Take the file that belongs to this backbone.",
        file=path.name, name=name, n=len(lacking), first=lacking[0] if lacking else "?",
    )  # fmt: skip
