"""Reading a weights file into tensors: numbers only, never code.

safetensors, or torch files opened with weights_only, as a plain state dict or nested as training scripts leave it.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from adlib import weights


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in the file.  Raises DataError when it is damaged."""
    if path.suffix == ".safetensors":
        listed = {name: about for name, about in weights.header(path).items() if name != "__metadata__"}
        try:
            return {_plain(name, listed): tuple(about["shape"]) for name, about in listed.items()}
        except (TypeError, KeyError) as error:
            raise weights.damaged(path, error) from None
    return dict(_shapes_of_torch_file(path, *weights.stamp(path)))


def read(path: Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The tensors of these names (None: all) that the file holds, on the CPU, fractions in float32.

    Raises DataError when the file is damaged or is not a table of tensors.
    """
    wanted = None if names is None else set(names)
    state = _safetensors(path, wanted) if path.suffix == ".safetensors" else _torch_file(path)
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in state.items()
        if wanted is None or name in wanted
    }


def _plain(name: str, all_names: Iterable[str]) -> str:
    """Without the "module." that parallel training puts before every name."""
    return name.removeprefix("module.") if all(other.startswith("module.") for other in all_names) else name


def _safetensors(path: Path, wanted: set[str] | None) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            plain = {name: _plain(name, file.keys()) for name in file.keys()}  # noqa: SIM118
            return {to: file.get_tensor(name) for name, to in plain.items() if wanted is None or to in wanted}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise weights.damaged(path, error) from None


@functools.lru_cache(maxsize=16)
def _shapes_of_torch_file(path: Path, *stamp: int) -> Mapping[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in _torch_file(path).items()}


def _torch_file(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        raise weights.damaged(path, error) from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    tensors = {n: v for n, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise weights.damaged(path, TypeError())
    return {_plain(name, tensors): value for name, value in tensors.items()}
