"""Mixture of experts: many feed-forwards, of which each position goes through a few.

The model knows more than it computes with: E experts' worth of weights, top_k
experts' worth of work. A router, one matrix, scores the experts at each position.
Promoted by 03_attention.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from shared.model.config import ModelConfig
from shared.model.feedforward import build_feedforward


@dataclass(frozen=True)
class Routing:
    """Where one pass sent its B T positions."""

    logits: Tensor
    """(B T, E), float32, the router's scores"""
    chosen: Tensor
    """(B T, top_k), the experts taken, best first"""


class MixtureOfExperts(nn.Module):
    """Each position goes through its top_k experts; their outputs are averaged by weight.

    (B, T, C) -> (B, T, C). The weights are a softmax over the chosen experts' logits.
    No position is ever dropped: an expert takes as many as are sent to it. In training
    the last pass's routing is kept in `routing`, for the router's own losses.
    Sources: Shazeer et al. 2017, "Outrageously Large Neural Networks"; Jiang et al. 2024,
    "Mixtral of Experts", section 2.1.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.settings = config.moe
        self.top_k = config.moe.top_k
        self.router = nn.Linear(config.d_model, config.moe.n_experts, bias=False)
        experts = (build_feedforward(config) for _ in range(config.moe.n_experts))
        self.experts = nn.ModuleList(experts)
        self.routing: Routing | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Sorts positions by expert, runs each expert once on its group, and puts them back."""
        flat = rearrange(x, "batch positions channels -> (batch positions) channels")
        routing = self.route(flat)
        if self.training:
            self.routing = routing
        shares = routing.logits.gather(-1, routing.chosen).softmax(dim=-1)  # (B T, top_k)
        taken = routing.chosen.flatten()  # (B T top_k,)
        order = taken.argsort(stable=True)  # by expert
        sizes = taken.bincount(minlength=len(self.experts)).tolist()
        origin = order // self.top_k  # the position that each place in the order came from
        groups = flat[origin].split(sizes)
        answers = [expert(group) for expert, group in zip(self.experts, groups, strict=True)]
        weights = shares.flatten()[order].unsqueeze(-1)  # (B T top_k, 1)
        weighed = torch.cat(answers) * weights  # (B T top_k, C)
        mixed = torch.zeros_like(flat, dtype=weighed.dtype).index_add(0, origin, weighed)
        return mixed.view_as(x)  # (B, T, C)

    def route(self, flat: Tensor) -> Routing:
        """The router's logits and choices for vectors (B T, C), in float32 under any autocast."""
        with torch.autocast(flat.device.type, enabled=False):
            logits = F.linear(flat.float(), self.router.weight.float())
        return Routing(logits, logits.topk(self.top_k, dim=-1).indices)


def router_losses(routing: Routing) -> tuple[Tensor, Tensor]:
    """The load-balance loss and the z-loss of one layer, two scalars.

    Balance is E times the sum over experts of (share of the choices) x (mean
    probability): 1 when all experts are used alike, E when one takes everything. The
    choices pass no gradient, the probabilities do. The z-loss is the mean square of
    logsumexp, which keeps logits from growing without end.
    Sources: Fedus et al. 2021, "Switch Transformers", equations 4 to 6; Zoph et al. 2022,
    "ST-MoE", equation 5.
    """
    experts = routing.logits.shape[-1]
    probabilities = routing.logits.softmax(dim=-1).mean(dim=0)  # (E,)
    counts = routing.chosen.flatten().bincount(minlength=experts)
    balance = experts * (counts / counts.sum() * probabilities).sum()
    z = routing.logits.logsumexp(dim=-1).square().mean()
    return balance, z


def auxiliary_loss(model: nn.Module) -> Tensor | float:
    """The weighted router losses of the last training pass, mean over layers; 0 without experts."""
    layers = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    total = 0.0
    for layer in layers:
        balance, z = router_losses(layer.routing)
        weights = layer.settings
        total = total + (weights.balance_weight * balance + weights.z_weight * z) / len(layers)
    return total
