"""Muon for many matrices at once: those of one shape are orthogonalized as one batch.

Promoted by 04_training.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Muon

from shared.device import dtype_name

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of x, x³ and x⁵; see `orthogonalize`


class StackedMuon(Muon):
    """`torch.optim.Muon`, its state and its numbers, with far fewer and larger products.

    A small model has dozens of matrices of two or three shapes. One by one, each costs
    fifteen small products a step; stacked, each shape costs fifteen.
    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers".

    Args:
        products: dtype of those products, noted in the state: a run keeps its own.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        products: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, momentum=momentum)
        self.products = dtype_name(products)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices, gradients, momenta = [], [], []
            self._init_group(group, matrices, gradients, momenta)
            if not matrices:
                continue
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov's
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            products = getattr(torch, group.setdefault("products", self.products))
            for places in same_shapes(matrices):
                stack = torch.stack([lying(ahead[place]) for place in places])
                turned = orthogonalize(stack.to(products))
                for place, update in zip(places, turned, strict=True):
                    rows, columns = matrices[place].shape
                    rate = group["lr"] * math.sqrt(max(1, rows / columns))
                    lying(matrices[place]).add_(update, alpha=-rate)
        return loss


def lying(matrix: Tensor) -> Tensor:
    """The matrix or, if it is taller than wide, its transpose."""
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix


def same_shapes(matrices: Sequence[Tensor]) -> list[list[int]]:
    """The places of the matrices, those of one shape, lying, together."""
    places = defaultdict(list)
    for place, matrix in enumerate(matrices):
        places[lying(matrix).shape].append(place)
    return list(places.values())


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz: (matrices, rows, columns) -> as many, with singular values near 1.

    X <- a X + b (X Xᵀ) X + c (X Xᵀ)² X turns every singular value s into
    a s + b s³ + c s⁵ and leaves the directions alone. These three coefficients send
    whatever lies between 0 and 1 close to 1 in five steps, small values fastest.
    "Close" is within 0.3, so bfloat16's rounding does not matter.
    """
    a, b, c = COEFFICIENTS
    norms = matrices.norm(dim=(1, 2), keepdim=True)
    x = matrices / norms.clamp(min=1e-7)  # no singular value above 1
    for _ in range(steps):
        gram = x @ x.mT  # (matrices, rows, rows)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x
