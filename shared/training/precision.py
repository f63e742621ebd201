"""Precision: which dtype the matrix products run in; weights stay in float32.

Promoted by 04_training.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from shared.device import dtype_name, fastest_right_dtype, measure_dtypes


class Precision:
    """Autocast, and for float16 the scaling that keeps small gradients from vanishing.

    bfloat16 has float32's range and needs no scaling. float16 is coarse below 6e-5 and
    zero below 3e-8: the loss
    is multiplied by a large factor before `backward`, gradients are divided by it
    after, and a step whose gradients overflowed is skipped and the factor halved.
    Source: Micikevicius et al. 2017, "Mixed Precision Training".
    """

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = device, dtype
        self.skips_overflow = dtype is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.skips_overflow)

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        enabled = self.dtype is not torch.float32
        return torch.autocast(self.device.type, self.dtype if enabled else None, enabled=enabled)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to call `backward` on: itself, or for float16 a multiple of it."""
        return self.scaler.scale(loss)

    def clip(
        self, optimizers: Sequence[Optimizer], parameters: Iterable[nn.Parameter], max_norm: float
    ) -> Tensor:
        """Takes the scale off and shortens the gradient to `max_norm`; returns its norm before."""
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        return nn.utils.clip_grad_norm_(parameters, max_norm)

    def step(self, optimizers: Sequence[Optimizer], move: bool = True) -> None:
        """Moves the weights, if `move`, and forgets the gradients.

        One optimizer's overflow must hold back all of them: clipping by a norm that is
        no number has spoilt the other gradients too.
        """
        for optimizer in optimizers:
            if move:
                self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The dtype, and the scale if there is one."""
        return {"dtype": dtype_name(self.dtype), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on in the dtype that the run began with, and with its scale."""
        self.__init__(self.device, getattr(torch, state["dtype"]))
        self.scaler.load_state_dict(state["scaler"])


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The named dtype, or for "auto" the fastest one that measures right (a second's work)."""
    if precision != "auto":
        return getattr(torch, precision)
    return fastest_right_dtype(measure_dtypes(device))
