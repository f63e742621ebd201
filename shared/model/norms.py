"""Norms: every position's vector is brought to the same size.

Promoted by 03_attention.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.model.config import ModelConfig
from shared.model.fast_paths import rms_norm_by_hand, trains_on_cpu


class RMSNorm(nn.Module):
    """Divides by the root of the mean square, then scales each channel.

    (..., C) -> (..., C). Source: Zhang and Sennrich 2019, "Root Mean Square Layer
    Normalization", equation 4.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x / sqrt(mean(x^2) + eps) * weight, over the last axis."""
        if trains_on_cpu(x):
            return rms_norm_by_hand(x, self.weight, self.eps)
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class LayerNorm(nn.Module):
    """Takes the mean out, divides by the standard deviation, then scales each channel.

    (..., C) -> (..., C). Source: Ba et al. 2016, "Layer Normalization", equation 3.
    """

    def __init__(self, channels: int, eps: float = 1e-5, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean) / sqrt(variance + eps) * weight + bias, over the last axis."""
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)


def build_norm(config: ModelConfig, channels: int) -> nn.Module:
    """The norm that the config names."""
    if config.norm.kind == "layer":
        return LayerNorm(channels, config.norm.eps, config.bias)
    return RMSNorm(channels, config.norm.eps)
