"""A backbone's name → a frozen network that answers with feature maps, and what it costs to run.

`resolve` makes every choice explicit before a fit, `extractor` builds the network from weights on this machine, and
`embed` makes one grid of patch vectors out of the maps of several stages.  Nothing here ever asks the network.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adlib import folding, networks, offline, remembered, weights
from adlib.contract import AdlibError, Backbone, DataError
from adlib.threads import in_slices

CHUNK = 4  # pictures run at once on a CPU: as fast as more (their maps stay in the cache), with less memory
KEPT = 4  # networks kept in memory
LARGEST = 256  # pixels of the picture with which a network is made ready: the order found there also suits larger ones


class Extractor:
    """See `FeatureExtractor` in the contract.  May be called by several threads at once.

    A picture's maps do not depend on its batch, up to 1e-5 of their largest value: oneDNN chooses other kernels for a
    single small picture than for four (measured: 6e-6 in float32, no bit in bf16).  Running every picture alone would
    give equal bits, at up to twice the time on two cores; the built-in network, which loses least by it, does so in float32.
    channels, strides: of each stage asked for; a stride is how many pixels of the picture a cell is wide.
    """

    def __init__(self, net: nn.Module, backbone: Backbone, anatomy: networks.Anatomy, mean: Any, std: Any) -> None:
        self.device = device()
        self.dtype = torch.bfloat16 if backbone.precision == "bf16" else torch.float32
        self.layout = torch.channels_last if anatomy.convolutional else torch.contiguous_format
        self.channels = tuple(anatomy.channels[stage] for stage in backbone.stages)
        self.strides = tuple(anatomy.strides[stage] for stage in backbone.stages)
        self._sides = anatomy.sides
        self._chunk = 1 if backbone.name in weights.BUILT_IN and self.dtype == torch.float32 else CHUNK
        self._shift = -torch.tensor(mean, device=self.device)[:, None, None]
        self._scale = 1 / torch.tensor(std, device=self.device)[:, None, None]
        self._net = net.eval().requires_grad_(False).to(self.device, self.dtype).to(memory_format=self.layout)
        if self.device.type == "cpu":
            side = min(backbone.size, LARGEST)
            self._net = folding.fused(self._net, self._standardised(folding.trial(side)))

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """pixels: (B, 3, H, W) in [0, 1], on any device → float32 maps (B, C, h, w) on `device()`, one a stage."""
        return self._run(pixels, list, torch.channels_last)

    def through(self, pixels: Tensor, then: Callable[[list[Tensor]], Tensor]) -> Tensor:
        """`then` of the maps, (B, …) float32: for a method that needs a part of them only.

        then: maps of a few pictures, (b, C, h, w) each in the network's own precision → (b, …).  It sees them while they are
        near the processor, and what it leaves out is never copied.
        """
        return self._run(pixels, lambda maps: [then(maps)], torch.contiguous_format)[0]

    def _run(
        self, pixels: Tensor, then: Callable[[list[Tensor]], list[Tensor]], layout: torch.memory_format
    ) -> list[Tensor]:
        made: list[Tensor] = []
        making = threading.Lock()

        def run(part: slice) -> None:
            with torch.inference_mode():
                found = then(self._net(self._standardised(pixels[part])))
            with making:
                if not made:  # ordinary tensors, not inference ones: methods may compute with them in place
                    sizes = [(len(pixels), *one.shape[1:]) for one in found]
                    made.extend(torch.empty(size, device=self.device, memory_format=layout) for size in sizes)
            for whole, some in zip(made, found, strict=True):
                whole[part].copy_(some)

        if self.device.type != "cpu" or len(pixels) <= self._chunk:
            run(slice(None))
        else:  # each chunk on one thread: threads within a layer wait for each other, which a busy machine punishes
            for _ in in_slices(len(pixels), self._chunk, run):
                pass
        return made

    def _standardised(self, pixels: Tensor) -> Tensor:
        x = pixels.to(self.device)
        sides = self._sides(x.shape[-2], x.shape[-1])
        if x.shape[-2:] != sides:
            x = F.interpolate(x, size=sides, mode="bilinear", align_corners=False)
        x = (x + self._shift) * self._scale
        return x.to(self.dtype, memory_format=self.layout)


# --- choosing ---------------------------------------------------------------------------------------------------------


def device() -> torch.device:
    """Where networks run: the GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve(backbone: Backbone, usual: str) -> Backbone:
    """The backbone with stages and precision made explicit, after looking at the weights on this machine.

    usual: "early" (strides 4, 8, 16), "middle" (strides 8, 16) or "all"; used when `backbone.stages` is empty, among the
    stages that the weights file holds.
    Raises WeightsMissing when weights are not here or hold too little, AdlibError for an unknown name, stage or precision.
    """
    if backbone.precision not in ("auto", "fp32", "bf16"):
        raise AdlibError("Precision '{given}' is unknown. Known: auto, fp32, bf16.", given=backbone.precision[:80])
    anatomy = anatomy_of(backbone)
    count = len(anatomy.channels)
    beyond = [stage for stage in backbone.stages if not 0 <= stage < count]
    if beyond:
        raise AdlibError(
            "'{name}' has stages 0 to {last}, not {stage}.", name=backbone.name, last=count - 1, stage=beyond[0]
        )
    made_before = bool(backbone.stages) and backbone.precision != "auto"  # then it may come from another machine
    if backbone.weights and not made_before and not Path(backbone.weights).expanduser().exists():
        raise DataError(
            "There is no file or folder '{given}' to take weights from. Correct the path, or leave it out.",
            given=backbone.weights[:200],
        )
    here = tuple(range(count))
    if backbone.name not in weights.BUILT_IN:
        path = _path(backbone)
        here = networks.held(backbone.name, backbone.size, path)
        if not here or not set(backbone.stages) <= set(here):
            networks.load(backbone.name, backbone.size, backbone.stages or (0,), path)  # raises with what is missing
    stages = tuple(sorted(set(backbone.stages))) or _usual(usual, anatomy, here)
    precision = _precision(backbone)
    return dataclasses.replace(backbone, stages=stages, precision=precision)


def anatomy_of(backbone: Backbone) -> networks.Anatomy:
    """Channels and strides of all stages that a backbone has; needs no weights."""
    if backbone.name in weights.BUILT_IN:
        return networks.Anatomy(offline.channels(backbone.name), offline.STRIDES)
    return networks.anatomy(backbone.name, backbone.size)


def _usual(usual: str, anatomy: networks.Anatomy, here: tuple[int, ...]) -> tuple[int, ...]:
    if usual == "all":
        return here
    strides = {"early": (4, 8, 16), "middle": (8, 16)}[usual]
    if len(set(anatomy.strides)) == 1:  # a transformer: the ends of its second and third quarter, and of its first
        quarters = [len(anatomy.strides) * i // 4 - 1 for i in (1, 2, 3)]
        chosen = [stage for stage in quarters[3 - len(strides) :] if stage in here]
    else:  # the deepest stage of each resolution
        deepest = {stride: stage for stage, stride in enumerate(anatomy.strides) if stage in here}
        chosen = [deepest[stride] for stride in strides if stride in deepest]
    return tuple(chosen) or here[-1:]


def _precision(backbone: Backbone) -> str:
    if backbone.precision != "auto":
        return backbone.precision
    return "bf16" if _fast_bf16() else "fp32"


@functools.cache
def _fast_bf16() -> bool:
    """Whether bf16 is computed by hardware made for it: tensor cores, or the tiles (AMX) of a processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe is not None and probe())


# --- building ---------------------------------------------------------------------------------------------------------

_built: OrderedDict[tuple[Any, ...], Extractor] = OrderedDict()
_building = threading.Lock()


def extractor(backbone: Backbone) -> Extractor:
    """The frozen network of a resolved backbone.  The last few are kept and shared by everyone who asks.

    Raises WeightsMissing when the weights are not on this machine.
    """
    if not backbone.stages or backbone.precision == "auto":
        backbone = resolve(backbone, "early")
    path = _path(backbone)
    key = (dataclasses.replace(backbone, weights=""), path, path.stat().st_mtime_ns, device())
    with _building:
        if key not in _built:
            _built[key] = _build(backbone, path)
            while len(_built) > KEPT:
                _built.popitem(last=False)
        _built.move_to_end(key)
        return remembered.by_whoever_asked(_built[key])


def _build(backbone: Backbone, path: Path) -> Extractor:
    anatomy = anatomy_of(backbone)
    net = folding.folded(_network(backbone, path), anatomy.side)
    return Extractor(net, backbone, anatomy, *_standard(backbone, path))


def _network(backbone: Backbone, path: Path) -> nn.Module:
    if backbone.name in weights.BUILT_IN:
        return offline.load(backbone.name, backbone.stages)
    return networks.load(backbone.name, backbone.size, backbone.stages, path)


def _standard(backbone: Backbone, path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pictures that the weights were made with."""
    known = None if backbone.name in weights.BUILT_IN else networks.standard(backbone.name)
    said = weights.about(path)
    mean = _three(said.get("mean")) or (known.mean if known else (0.485, 0.456, 0.406))
    std = _three(said.get("std")) or (known.std if known else (0.229, 0.224, 0.225))
    return mean, std


def _three(text: str | None) -> tuple[float, ...] | None:
    """ "0.485,0.456,0.406" → three numbers; None when the file does not say."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.strip("[]()").split(","))
    except ValueError:
        return None
    return numbers if len(numbers) == 3 else None


def _path(backbone: Backbone) -> Path:
    if backbone.name in weights.BUILT_IN:
        return offline.FILES[backbone.name]
    path = weights.find(backbone.name, backbone.weights)
    if path is None:
        networks.check(backbone.name)
        raise weights.missing(backbone.name)
    return path


def weights_of(backbone: Backbone) -> dict[str, Any]:
    """For run.json: {"file", "sha256"} of the weights."""
    path = _path(backbone)
    return {"file": path.name, "sha256": weights.digest(path)}


# --- a network that learns --------------------------------------------------------------------------------------------


class Trunk(nn.Module):
    """A backbone to be trained further, in float32.  pixels: (B, 3, H, W) in [0, 1] → maps (B, C, h, w), one a stage.

    It stays in eval mode while it is trained: the statistics of its normalisation are those of its weights, and a picture
    is treated alike in training and at a test, whatever its batch.
    """

    _shift: Tensor
    _scale: Tensor

    def __init__(self, net: nn.Module, anatomy: networks.Anatomy, mean: Any, std: Any) -> None:
        super().__init__()
        self.net = net
        self._sides = anatomy.sides
        self.register_buffer("_shift", -torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("_scale", 1 / torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        sides = self._sides(pixels.shape[-2], pixels.shape[-1])
        if pixels.shape[-2:] != sides:
            pixels = F.interpolate(pixels, size=sides, mode="bilinear", align_corners=False)
        maps: list[Tensor] = self.net((pixels + self._shift) * self._scale)
        return maps

    def train(self, mode: bool = True) -> Trunk:
        return super().train(False)


def trunk(backbone: Backbone) -> Trunk:
    """A network of its own with the weights of a resolved backbone, up to its last stage.  Raises WeightsMissing."""
    path = _path(backbone)
    net = _network(backbone, path).float().requires_grad_(True)
    return Trunk(net, anatomy_of(backbone), *_standard(backbone, path)).eval()


def bare_trunk(backbone: Backbone) -> Trunk:
    """The same without weights, on the meta device: for its shapes and its cost."""
    with torch.device("meta"):
        return Trunk(_skeleton(backbone), anatomy_of(backbone), (0.5,) * 3, (0.5,) * 3).eval()


# --- patch vectors ----------------------------------------------------------------------------------------------------


def embed(maps: list[Tensor], pool: int = 0, mode: str = "bilinear") -> Tensor:
    """Maps of several stages as one grid of patch vectors (B, D, h, w): D is the sum of their channels.

    pool: side of the neighbourhood that each cell is averaged over, at the stage's own resolution, zeros beyond the
    border counted (PatchCore: 3); 0 or 1 for none.  The grid is the first map's; the others are resized to it.
    mode: "nearest" (PaDiM) or "bilinear" (PatchCore).
    Channels lie together in memory, so that `embed(…).permute(0, 2, 3, 1).reshape(-1, D)` copies nothing.
    """
    if pool > 1:
        maps = [F.avg_pool2d(m, pool, stride=1, padding=pool // 2) for m in maps]
    grid = maps[0].shape[-2:]
    corners = None if mode == "nearest" else False
    same = [m if m.shape[-2:] == grid else F.interpolate(m, size=grid, mode=mode, align_corners=corners) for m in maps]
    return same[0] if len(same) == 1 else torch.cat(same, dim=1)


# --- cost -------------------------------------------------------------------------------------------------------------


def shapes(backbone: Backbone, height: int, width: int) -> list[tuple[int, int, int]]:
    """(C, h, w) of each stage for one picture of that size; needs no weights."""
    return list(_dry(_bare(backbone), height, width)[0])


def grid_of(backbone: Backbone, height: int, width: int) -> tuple[int, int]:
    """(h, w) of the grid that `embed` makes of one picture of that size."""
    _, h, w = shapes(backbone, height, width)[0]
    return h, w


def macs(backbone: Backbone, height: int, width: int) -> int:
    """Multiply-adds for one picture of that size."""
    return _dry(_bare(backbone), height, width)[1]


def activation_bytes(backbone: Backbone, height: int, width: int, pictures: int = 1) -> int:
    """Most memory held at once while these pictures go through the network, their maps included."""
    found, _, widest = _dry(_bare(backbone), height, width)
    kept = sum(4 * c * h * w for c, h, w in found)
    at_once = min(pictures, CHUNK) if device().type == "cpu" else pictures
    return pictures * kept + at_once * widest


def _bare(backbone: Backbone) -> Backbone:
    stages = backbone.stages or _usual("early", anatomy := anatomy_of(backbone), tuple(range(len(anatomy.channels))))
    return dataclasses.replace(backbone, stages=stages, weights="", precision=_precision(backbone))


@functools.lru_cache(maxsize=64)
def _dry(backbone: Backbone, height: int, width: int) -> tuple[tuple[tuple[int, int, int], ...], int, int]:
    """Shapes of the maps, multiply-adds and bytes of the widest moment, found by a run without numbers."""
    net = _skeleton(backbone)
    x = torch.empty(1, 3, *anatomy_of(backbone).sides(height, width), device="meta")
    widest = work = 0

    def watch(module: nn.Module, given: Any, answer: Any) -> None:
        nonlocal widest, work
        tensors = [t for t in (*given, answer) if isinstance(t, Tensor)]
        if not list(module.children()):
            widest = max(widest, sum(t.numel() for t in tensors))
        work += _work(module, tensors)

    for module in net.requires_grad_(False).modules():
        module.register_forward_hook(watch)
    with torch.no_grad():
        maps = net(x)
    width_of_number = 2 if backbone.precision == "bf16" else 4
    held = sum(m.numel() for m in maps)
    found = tuple((int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for m in maps)
    return found, work, width_of_number * (held + widest)


def _skeleton(backbone: Backbone) -> nn.Module:
    """The network without weights, on the meta device."""
    if backbone.name in weights.BUILT_IN:
        return offline.skeleton(backbone.name, backbone.stages, "meta")
    return networks.skeleton(backbone.name, backbone.size, backbone.stages, "meta").eval()


def _work(module: nn.Module, tensors: list[Tensor]) -> int:
    """Multiply-adds of one module.  torch's own counter would import its compiler first, which takes seconds."""
    if not tensors:
        return 0
    given, answer = tensors[0], tensors[-1]
    if isinstance(module, nn.Conv2d):
        return answer.numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return answer.numel() * module.in_features
    if hasattr(module, "num_heads") and hasattr(module, "qkv") and given.ndim == 3:  # attention: q·k and the sum over v
        return 2 * given.shape[0] * given.shape[1] ** 2 * given.shape[2]
    return 0
