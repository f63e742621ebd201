"""Strategies: how one step's batches become one gradient.

Promoted by 04_training.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from shared.model.moe import auxiliary_loss
from shared.training.loss import cross_entropy
from shared.training.precision import Precision


class OneProcess:
    """Runs `accumulation` micro-batches one after another and averages their gradients.

    Memory is that of one micro-batch; the gradient is that of all of them together. A
    strategy for several processes has the same methods; here, alone, most do nothing.
    """

    is_main = True
    """whether this process is the one that prints and writes"""

    def __init__(self, device: torch.device, accumulation: int = 1) -> None:
        self.device, self.accumulation = device, accumulation

    def wrap(self, model: nn.Module, precision: Precision) -> nn.Module:
        """Readies the model for `gradient`; to be called before optimizers are built."""
        return model

    def gradient(
        self, model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], precision: Precision
    ) -> tuple[float, int]:
        """Leaves the mean gradient in the parameters; returns mean loss (nats) and tokens seen."""
        total, tokens = torch.zeros((), device=self.device), 0
        for _ in range(self.accumulation):
            inputs, targets = (ids.to(self.device, non_blocking=True) for ids in next(batches))
            total += add_gradient(model, inputs, targets, precision, 1 / self.accumulation)
            tokens += targets.numel()
        return total.item(), tokens

    def clock(self) -> float:
        """Seconds, the same in every process."""
        return time.monotonic()

    def agree(self, flag: bool) -> bool:
        """True in every process if `flag` is true in any."""
        return flag

    def same(self, value: Any) -> Any:
        """The main process's value, in every process."""
        return value

    def barrier(self) -> None:
        """Waits until every process has come here."""

    def main_first(self) -> AbstractContextManager[None]:
        """A block that the main process goes through before the others do."""
        return nullcontext()

    def whole(self, model: nn.Module) -> nn.Module | None:
        """The model with all its weights in one place, to be saved; None outside the main."""
        return model

    def part(self, optimizer: Optimizer) -> Any:
        """What saves and loads the optimizer's state, whole whatever the strategy."""
        return optimizer

    def load(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Puts whole weights, the same in every process, into the model."""
        model.load_state_dict(weights)


def add_gradient(
    model: nn.Module, inputs: Tensor, targets: Tensor, precision: Precision, share: float
) -> Tensor:
    """Adds `share` of one micro-batch's gradient; returns that share of its loss (nats).

    Args:
        inputs: (B, T), on the model's device; so are the targets.
    """
    with precision.autocast():
        loss = cross_entropy(model(inputs), targets)
        total = (loss + auxiliary_loss(model)) * share
    precision.backward(total)
    return loss.detach() * share
