"""What follows a convolution, done by the convolution on its way: the same maps in fewer passes over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CLOSE = {torch.float32: 1e-4, torch.bfloat16: 0.02}  # of the largest value of a map
SIDE = 64  # pixels of the picture that is tried, where the net takes any

Pair = tuple[nn.Conv2d, nn.Module]  # and what follows it
Shapes = dict[nn.Conv2d, list[int]]  # of what each plain convolution is given
Changes = dict[nn.Module, nn.Module]  # old → new


def folded(net: nn.Module, side: int = 0) -> nn.Module:
    """The network, in evaluation mode, with every batch normalisation that directly follows a convolution folded into it.

    net: x (B, 3, H, W) → list of maps.  It is changed in place, or left as it was where it would answer otherwise.
    side: the only side in pixels that it takes; 0: any.

    What follows which convolution is seen in a picture's way through the net, for its code may go any way; then both have
    to agree on that picture.
    """

    def changes(pairs: Sequence[Pair], _: Shapes) -> Changes:
        changed: Changes = {}
        for conv, norm in pairs:
            if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
                changed[conv] = fuse_conv_bn_eval(conv, norm)
                changed[norm] = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
        return changed

    return _changed(net, (nn.BatchNorm2d, BatchNormAct2d), changes, trial(side))


def fused(net: nn.Module, x: Tensor) -> nn.Module:
    """The network, as it will run on a CPU, with every ReLU that directly follows a convolution computed by it, and the
    weights of its convolutions in the processor's own order once instead of at every call.

    x: a picture of the net's type and layout, about as large as those to come; the processor's order depends on its size.
    The net is changed in place, or left as it was where no ReLU follows a convolution, where it would answer otherwise, and
    where oneDNN, the library beneath, lacks these functions.
    """

    def changes(pairs: Sequence[Pair], shapes: Shapes) -> Changes:
        gaining = [
            conv for conv in shapes if conv.groups == 1 and max(conv.kernel_size) > 1
        ]  # others may lose: decision 43
        followed = {conv: relu for conv, relu in pairs if conv in gaining}
        if not followed or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
            return {}
        changed: Changes = {relu: nn.Identity() for relu in followed.values()}
        try:
            changed |= {conv: Ready(conv, shapes[conv], conv in followed) for conv in gaining}
        except RuntimeError:  # as where the processor has no bf16 of its own
            return {}
        return changed

    return _changed(net, (nn.ReLU,), changes, x)


def trial(side: int = 0) -> Tensor:
    """(1, 3, side, side): a picture that tells two networks apart."""
    return torch.randn(1, 3, side or SIDE, side or SIDE, generator=torch.Generator().manual_seed(0))


class Ready(nn.Module):
    """A convolution whose weights wait in the processor's own order, and the ReLU after it.  x (B, C, h, w), on a CPU.

    shape: of what it will be given; anything else is taken too, but more slowly.
    """

    def __init__(self, conv: nn.Conv2d, shape: list[int], relu: bool) -> None:
        super().__init__()
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            raise RuntimeError("oneDNN has no such border")
        self.how = ([*conv.padding], [*conv.stride], [*conv.dilation], conv.groups)
        self.after: tuple[str, list[float], str] = ("relu" if relu else "none", [], "")
        self.bias = conv.bias
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *self.how, shape)

    def __deepcopy__(self, memo: object) -> Ready:
        return self  # never changed, and torch cannot copy such weights

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.how, *self.after)
        return made


def _changed(
    net: nn.Module, kinds: tuple[type[nn.Module], ...], changes: Callable[[Sequence[Pair], Shapes], Changes], x: Tensor
) -> nn.Module:
    """The network with new modules in the places of old ones, if it then answers as before.

    kinds: what may follow a convolution.  changes: what to exchange, told what follows which and all convolutions.
    """
    if not any(type(module) in kinds for module in net.modules()):
        return net
    with torch.inference_mode(False), torch.no_grad():  # tensors of inference tell no version
        pairs, shapes, wanted = _followers(net, kinds, x)
        changed = changes(pairs, shapes)
        _exchange(net, changed)
        if changed and not _agrees(net, x, wanted):
            _exchange(net, {new: old for old, new in changed.items()})
    return net


def _followers(
    net: nn.Module, kinds: tuple[type[nn.Module], ...], x: Tensor
) -> tuple[list[Pair], Shapes, list[Tensor]]:
    """(convolution, module) wherever one of these kinds was given what the convolution had just made; all plain
    convolutions; and the net's maps."""
    made: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}
    calls: dict[nn.Module, int] = {}
    pairs, shapes = [], {}

    def after(conv: nn.Conv2d, given: tuple[Tensor, ...], answer: Tensor) -> None:
        calls[conv] = calls.get(conv, 0) + 1
        made[id(answer)] = conv, answer, answer._version  # held, so that no other tensor gets its id
        if type(conv) is nn.Conv2d:
            shapes[conv] = list(given[0].shape)

    def before(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1
        if id(given[0]) in made:
            conv, answer, version = made[id(given[0])]
            if answer._version == version:  # nothing changed it in place
                pairs.append((conv, module))

    hooks = [m.register_forward_hook(after) for m in net.modules() if type(m) in (nn.Conv2d, Conv2dSame)]
    hooks += [m.register_forward_pre_hook(before) for m in net.modules() if type(m) in kinds]
    try:
        maps = [map_.clone() for map_ in net(x)]
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1], shapes, maps


def _exchange(net: nn.Module, new: Changes) -> None:
    """Puts a new module in each place of an old one."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if child in new:
                setattr(parent, name, new[child])


def _agrees(net: nn.Module, x: Tensor, wanted: list[Tensor]) -> bool:
    try:
        found = net(x)
    except (RuntimeError, AttributeError):  # a net may also read its convolutions' weights itself
        return False
    limits = [CLOSE[x.dtype] * map_.abs().max() for map_ in wanted]
    return all(bool((a - b).abs().max() <= limit) for a, b, limit in zip(found, wanted, limits, strict=True))
