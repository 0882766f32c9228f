"""What a detector has learned, on its way into a file and back.

A fit ends by handing its result to `restore`, so that a fitted and a restored detector took the same way in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from adlib.contract import DataError, NotFitted


def recall(detector: object, *names: str) -> dict[str, Tensor]:
    """Learned values by name, without the trailing `_`, on the CPU.  Raises NotFitted when there are none."""
    return {name: learned(detector, f"{name}_").cpu() for name in names}


def learned(detector: object, name: str) -> Any:
    """One learned value.  Raises NotFitted when the detector has none: not fitted, stopped, or failed."""
    try:
        return vars(detector)[name]
    except KeyError:
        raise NotFitted(
            "This {method} has not been fitted yet. Fit it, or load a finished run.", method=type(detector).__name__
        ) from None


def forget(detector: object) -> None:
    """Drops all that an earlier fit learned, so that a fit that fails or is stopped leaves nothing behind."""
    for name in [name for name in vars(detector) if name.endswith("_")]:
        delattr(detector, name)


def take(state: Mapping[str, Tensor], method: str, /, **shapes: Sequence[str | int]) -> list[Tensor]:
    """The tensors of a state, checked, in the order asked for.

    shapes: name → a letter or a length for each axis; the same letter must be the same length everywhere.
    Raises DataError when one is missing, has another shape, or holds a value that is not finite.

    >>> mean, factor = take({"mean": torch.zeros(4, 2), "factor": torch.zeros(4, 2, 2)}, "demo", mean="PC", factor="PCC")
    """
    lengths: dict[str, int] = {}
    found = []
    for name, letters in shapes.items():
        tensor = state.get(name)
        if tensor is None:
            raise DataError("This is not a state of {method}: it holds no '{name}'.", method=method, name=name)
        fits = tensor.ndim == len(letters) and all(
            length == (letter if isinstance(letter, int) else lengths.setdefault(letter, length))
            for letter, length in zip(letters, tensor.shape, strict=True)
        )
        if (
            not fits or tensor.numel() == 0 or not all(math.isfinite(end) for end in tensor.aminmax())
        ):  # takes no memory
            raise DataError(
                "This is not a state of {method}: '{name}' of shape {shape} is damaged or belongs to other settings.",
                method=method, name=name, shape="×".join(map(str, tensor.shape)) or "()",
            )  # fmt: skip
        found.append(tensor)
    return found
