"""The first difference between what was expected and what came, in one line."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, sums in another order


def difference(expected: Any, got: Any, where: str = "") -> str | None:
    """None if the two are alike: same kind, same shape, numbers close to each other."""
    at = f" at {where}" if where else ""
    if isinstance(expected, Tensor):
        return tensor_difference(expected, got, at)
    if isinstance(expected, bool) or expected is None or isinstance(expected, str | bytes):
        return None if expected == got else unlike(expected, got, at)
    if isinstance(expected, int):
        return None if is_number(got) and expected == got else unlike(expected, got, at)
    if isinstance(expected, float):
        close = is_number(got) and np.isclose(float(got), expected, equal_nan=True, **CLOSE)
        return None if close else unlike(expected, got, at)
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping) or expected.keys() != got.keys():
            return unlike(expected, got, at)
        pairs = [(f"{where}[{key!r}]", expected[key], got[key]) for key in expected]
    else:
        if not isinstance(got, Sequence | np.ndarray) or isinstance(got, str | bytes):
            return unlike(expected, got, at)
        if len(expected) != len(got):
            return f"expected {len(expected)} entries{at}, got {len(got)}: {described(got)}"
        pairs = [(f"{where}[{i}]", *two) for i, two in enumerate(zip(expected, got, strict=True))]
    found = (difference(one, other, place) for place, one, other in pairs)
    return next((line for line in found if line is not None), None)


def tensor_difference(expected: Tensor, got: Any, at: str) -> str | None:
    """Shape first, then kind of number, then the first entry that is not close."""
    if not isinstance(got, Tensor):
        return unlike(expected, got, at)
    if expected.shape != got.shape:
        return f"expected shape {tuple(expected.shape)}{at}, got {tuple(got.shape)}"
    if expected.dtype.is_floating_point != got.dtype.is_floating_point:
        return f"expected {expected.dtype}{at}, got {got.dtype}"
    expected, got = expected.detach().double(), got.detach().double()
    apart = ~torch.isclose(expected, got, equal_nan=True, **CLOSE)
    if not apart.any():
        return None
    place = tuple(apart.nonzero()[0].tolist())
    entry = f"entry {list(place)}" if place else "value"
    share = f"{int(apart.sum())} of {apart.numel()} entries differ; " if place else ""
    return f"{share}{entry}{at}: expected {expected[place]:.6g}, got {got[place]:.6g}"


def is_number(value: Any) -> bool:
    """Also a tensor that holds one number."""
    return isinstance(value, int | float | np.number) or (
        isinstance(value, Tensor) and value.numel() == 1
    )


def unlike(expected: Any, got: Any, at: str) -> str:
    """Both, shortened."""
    return f"expected {described(expected)}{at}, got {described(got)}"


def described(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor) and value.numel() > 4:
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, tuple | list) and any(isinstance(part, Tensor) for part in value):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, Mapping) and any(isinstance(part, Tensor) for part in value.values()):
        return f"{{{', '.join(value)}}}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 70 else f"{text[:67]}..."
