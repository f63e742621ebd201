"""Optimizers: AdamW for everything, or Muon for the matrices and AdamW for the rest.

Promoted by 04_training.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from shared.training.muon import StackedMuon

BETAS = (0.9, 0.95)  # GPT-3's; the default 0.999 reacts too slowly for short runs


def decay_groups(named: Sequence[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict]:
    """AdamW's two groups: matrices decay towards zero, gains (one axis) do not.

    A gain scales a channel, and zero would switch the channel off.
    """
    matrices = [parameter for _, parameter in named if parameter.dim() >= 2]
    gains = [parameter for _, parameter in named if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> list[Optimizer]:
    """AdamW over the whole model, matrices with decay, gains without.

    Source: Loshchilov and Hutter 2017, "Decoupled Weight Decay Regularization".
    """
    groups = decay_groups(list(model.named_parameters()), weight_decay)
    return remember_rates([AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)])


def build_muon(
    model: nn.Module,
    learning_rate: float,
    muon_learning_rate: float,
    weight_decay: float,
    products: torch.dtype = torch.bfloat16,
) -> list[Optimizer]:
    """Muon for the matrices inside blocks, AdamW for embedding, head and gains.

    Muon takes the momentum of a matrix and evens out its singular values, so that
    rare directions move as far as common ones. A row of the embedding is not a
    matrix in this sense: it is looked up, not multiplied; a router's is one expert's.
    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers".

    Args:
        products: dtype of Muon's own matrix products.
    """
    named = list(model.named_parameters())
    hidden = [
        parameter
        for name, parameter in named
        if name.startswith("blocks.") and parameter.dim() == 2 and "router" not in name
    ]
    chosen = {id(parameter) for parameter in hidden}
    others = [(name, p) for name, p in named if id(p) not in chosen]
    muon = StackedMuon(hidden, muon_learning_rate, weight_decay, products=products)
    adamw = AdamW(decay_groups(others, weight_decay), lr=learning_rate, betas=BETAS, fused=True)
    return remember_rates([muon, adamw])


def remember_rates(optimizers: list[Optimizer]) -> list[Optimizer]:
    """Notes each group's own learning rate, which a schedule then multiplies."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def scale_learning_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Sets every group's learning rate to its own times `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
