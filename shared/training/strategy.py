"""Strategies: which part of a step's batches this process takes.

Promoted by 04_training.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from shared.training.precision import Precision


class OneProcess:
    """Takes all of them: `accumulation` micro-batches a step, one after another.

    Memory is that of one micro-batch; the gradient is that of all of them together. A
    strategy for several processes has the same methods; here, alone, most do nothing.
    """

    is_main = True
    """whether this process is the one that prints and writes"""

    def __init__(self, device: torch.device, accumulation: int = 1) -> None:
        self.device, self.accumulation = device, accumulation

    def wrap(self, model: nn.Module, precision: Precision) -> nn.Module:
        """Readies the model for training; to be called before optimizers are built."""
        return model

    def called(self, model: nn.Module) -> nn.Module:
        """What to call in the forward pass: the model, or what is wrapped around it."""
        return model

    def micro_batches(
        self, batches: Iterator[tuple[Tensor, ...]]
    ) -> Iterator[tuple[tuple[Tensor, ...], float]]:
        """This process's batches of one step, and what share of it each is."""
        for _ in range(self.accumulation):
            yield next(batches), 1 / self.accumulation

    def over_all(self, loss: float, tokens: int) -> tuple[float, int]:
        """Mean loss and number of targets of all processes, from this one's."""
        return loss, tokens

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
