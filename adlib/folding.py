"""Batch normalisation taken into the convolution before it: the same maps up to rounding, in fewer passes over them."""

from __future__ import annotations

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CLOSE = 1e-4  # of the largest value of a map
SIDE = 64  # pixels of the picture that is tried, where the net takes any


def folded(net: nn.Module, side: int = 0) -> nn.Module:
    """The network, in evaluation mode, with every batch normalisation that directly follows a convolution folded into it.

    net: x (B, 3, H, W) → list of maps.  It is changed in place, or left as it was where it would answer otherwise.
    side: the only side in pixels that it takes; 0: any.

    Which norm follows which convolution is seen in a picture's way through the net, for its code may go any way; then both
    have to agree on that picture.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
        return net
    x = torch.randn(1, 3, side or SIDE, side or SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(False), torch.no_grad():  # tensors of inference tell no version
        pairs, wanted = _followers(net, x)
        changed: dict[nn.Module, nn.Module] = {}
        for conv, norm in pairs:
            changed[conv] = fuse_conv_bn_eval(conv, norm)
            changed[norm] = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
        _exchange(net, changed)
        if not all(_close(map_, before) for map_, before in zip(net(x), wanted, strict=True)):
            _exchange(net, {new: old for old, new in changed.items()})
    return net


def _followers(net: nn.Module, x: Tensor) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], list[Tensor]]:
    """(convolution, norm) wherever the norm was given what the convolution had just made; and the net's maps."""
    made: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}
    calls: dict[nn.Module, int] = {}
    pairs = []

    def after(conv: nn.Conv2d, given: tuple[Tensor, ...], answer: Tensor) -> None:
        calls[conv] = calls.get(conv, 0) + 1
        made[id(answer)] = conv, answer, answer._version  # held, so that no other tensor gets its id

    def before(norm: nn.BatchNorm2d, given: tuple[Tensor, ...]) -> None:
        calls[norm] = calls.get(norm, 0) + 1
        if id(given[0]) in made and norm.running_var is not None:
            conv, answer, version = made[id(given[0])]
            if answer._version == version:  # nothing changed it in place
                pairs.append((conv, norm))

    hooks = [m.register_forward_hook(after) for m in net.modules() if type(m) in (nn.Conv2d, Conv2dSame)]
    hooks += [m.register_forward_pre_hook(before) for m in net.modules() if type(m) in (nn.BatchNorm2d, BatchNormAct2d)]
    try:
        maps = [map_.clone() for map_ in net(x)]
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1], maps


def _exchange(net: nn.Module, new: dict[nn.Module, nn.Module]) -> None:
    """Puts a new module in each place of an old one."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if child in new:
                setattr(parent, name, new[child])


def _close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= CLOSE * wanted.abs().max())
