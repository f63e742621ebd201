"""The training loop: a generator of records, one a step.

Promoted by 04_training.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from shared.training.budget import Budget
from shared.training.clipping import Clipping
from shared.training.optimizer import scale_learning_rates
from shared.training.precision import Precision
from shared.training.strategy import OneProcess


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
    """targets in this step"""
    seconds: float
    """training time so far"""
    skipped: bool = False
    """the gradient was a spike, or overflowed: the weights did not move"""


def train(
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    batches: Iterator[tuple[Tensor, Tensor]],
    budget: Budget,
    schedule: Callable[[float], float],
    precision: Precision,
    strategy: OneProcess,
    clipping: Clipping | None = None,
) -> Iterator[Record]:
    """Trains until the budget is spent, yielding after every step.

    Between two records everything is at rest: the caller may save, evaluate,
    sample, or simply stop asking.

    Raises:
        TrainingDiverged: names the step; that step has not moved the weights.
    """
    clipping = clipping or Clipping()
    for step in budget.remaining_steps():
        factor = schedule(budget.progress_before_step)
        scale_learning_rates(optimizers, factor)
        model.train()
        loss, tokens = strategy.gradient(model, batches, precision)
        norm = precision.clip(optimizers, model.parameters(), clipping.max_norm).item()
        if not math.isfinite(loss) or not (math.isfinite(norm) or precision.skips_overflow):
            raise TrainingDiverged(f"step {step}: loss {loss}, gradient norm {norm}")
        skipped = not math.isfinite(norm) or clipping.skips(norm)
        precision.step(optimizers, move=not skipped)
        yield Record(step, loss, norm, factor, tokens, budget.elapsed, skipped)
