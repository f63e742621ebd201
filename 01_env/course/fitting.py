"""Makes a learner's function fit where the shipped one is called: it was asked for less."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps

import torch
from torch import Tensor

from shared.text.batches import NOT_COUNTED

rope_base = ContextVar("rope_base", default=10_000.0)  # of the model that runs at the moment


def by_rows(function: Callable) -> Callable:
    """A function of logits (V,) on logits (..., V)."""

    def on_each(logits: Tensor, setting: float) -> Tensor:
        rows = logits.flatten(0, -2) if logits.dim() > 1 else logits.unsqueeze(0)  # (B T, V)
        return torch.stack([function(row, setting) for row in rows]).view_as(logits)

    return on_each


def by_windows(cross_entropy: Callable) -> Callable:
    """A loss of targets that all count, on windows of which only the replies may count."""

    def over_windows(logits: Tensor, targets: Tensor) -> Tensor:
        counts = targets != NOT_COUNTED  # (B, T)
        if counts.all():
            return cross_entropy(logits, targets)
        losses = [
            cross_entropy(logits[row : row + 1, its_own], targets[row : row + 1, its_own])
            for row, its_own in enumerate(counts)
            if its_own.any()
        ]
        return sum(losses, start=0.0 * logits.sum()) / len(targets)

    return over_windows


def turning_by_the_models_base(rotate: Callable) -> Callable:
    """RoPE whose base, unless it is named, is that of the model that runs."""

    @wraps(rotate)
    def turning(x: Tensor, base: float | None = None) -> Tensor:
        return rotate(x, rope_base.get() if base is None else base)

    return turning
