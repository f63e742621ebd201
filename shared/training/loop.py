"""The training loop: a generator of records, one a step.

Promoted by 04_training.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from shared.model.moe import auxiliary_loss
from shared.training.budget import Budget
from shared.training.clipping import Clipping
from shared.training.loss import cross_entropy
from shared.training.optimizer import scale_learning_rates
from shared.training.precision import Precision
from shared.training.strategy import OneProcess

Loss = Callable[[nn.Module, Any], Tensor]
"""model, one batch of whatever it learns from -> what to make small, a scalar"""


class TrainingDiverged(ArithmeticError):
    """Loss or gradient is no longer a number; the weights are those before that step."""


@dataclass(frozen=True)
class Record:
    """What one step did."""

    step: int
    loss: float
    """nats a token, mean over the step's batch, before the weights moved"""
    grad_norm: float
    """length of the gradient before clipping"""
    lr_factor: float
    """what the schedule multiplied the learning rates by"""
    tokens: int
    """targets in this step, or other ids"""
    seconds: float
    """training time so far"""
    skipped: bool = False
    """the gradient was a spike, or overflowed: the weights did not move"""


def train(
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    batches: Iterator[tuple[Tensor, ...]],
    budget: Budget,
    schedule: Callable[[float], float],
    precision: Precision,
    strategy: OneProcess,
    clipping: Clipping | None = None,
    loss: Loss | None = None,
) -> Iterator[Record]:
    """Trains until the budget is spent, yielding after every step.

    Between two records everything is at rest: the caller may save, evaluate,
    sample, or simply stop asking.

    Args:
        batches: of inputs and targets; or what another `loss` takes.
        loss: none: `next_id_loss`.

    Raises:
        TrainingDiverged: names the step; that step has not moved the weights.
    """
    clipping = clipping or Clipping()
    for step in budget.remaining_steps():
        factor = schedule(budget.progress_before_step)
        scale_learning_rates(optimizers, factor)
        model.train()
        mean, tokens = gradient(model, batches, precision, strategy, loss or next_id_loss)
        norm = precision.clip(optimizers, model.parameters(), clipping.max_norm).item()
        if not math.isfinite(mean) or not (math.isfinite(norm) or precision.skips_overflow):
            raise TrainingDiverged(f"step {step}: loss {mean}, gradient norm {norm}")
        skipped = not math.isfinite(norm) or clipping.skips(norm)
        precision.step(optimizers, move=not skipped)
        yield Record(step, mean, norm, factor, tokens, budget.elapsed, skipped)


def next_id_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """What a language model learns by: inputs and targets, (B, T) each -> nats a token."""
    device = next(model.parameters()).device
    inputs, targets = (ids.to(device, non_blocking=True) for ids in batch)
    return cross_entropy(model(inputs), targets)  # (B, T) -> (B, T, V) -> ()


def gradient(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, ...]],
    precision: Precision,
    strategy: OneProcess,
    loss: Loss = next_id_loss,
) -> tuple[float, int]:
    """Leaves a step's mean gradient in the parameters; returns its mean loss (nats) and targets.

    `backward` adds to what is there, so micro-batches one after another, each with its
    share of the loss, leave the gradient of all of them together.
    """
    mean = torch.zeros((), device=strategy.device)
    tokens = 0
    for batch, share in strategy.micro_batches(batches):
        with precision.autocast():
            found = loss(strategy.called(model), batch)  # ()
            total = (found + auxiliary_loss(model)) * share
        precision.scaled(total).backward()
        mean += found.detach() * share
        tokens += batch[0].numel()
    return strategy.over_all(mean.item(), tokens)
