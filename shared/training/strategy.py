"""Strategies: how one step's batches become one gradient.

Promoted by 04_training.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from shared.model.moe import auxiliary_loss
from shared.training.loss import cross_entropy
from shared.training.precision import Precision


class OneProcess:
    """Runs `accumulation` micro-batches one after another and averages their gradients.

    Memory is that of one micro-batch; the gradient is that of all of them together.
    """

    def __init__(self, device: torch.device, accumulation: int = 1) -> None:
        self.device, self.accumulation = device, accumulation

    def gradient(
        self, model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], precision: Precision
    ) -> tuple[float, int]:
        """Leaves the mean gradient in the parameters; returns mean loss (nats) and tokens seen."""
        total, tokens = torch.zeros((), device=self.device), 0
        for _ in range(self.accumulation):
            inputs, targets = (ids.to(self.device, non_blocking=True) for ids in next(batches))
            with precision.autocast():
                loss = cross_entropy(model(inputs), targets)
                share = (loss + auxiliary_loss(model)) / self.accumulation
            precision.backward(share)
            total += loss.detach() / self.accumulation
            tokens += targets.numel()
        return total.item(), tokens
