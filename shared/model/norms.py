"""Norms: every position's vector is brought to the same size.

Promoted by 03_attention.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from shared.model.config import ModelConfig


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
        if torch.is_grad_enabled() and x.device.type == "cpu":
            return _RootMeanSquare.apply(x, self.weight, self.eps)
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class _RootMeanSquare(torch.autograd.Function):
    """The CPU has no kernel for this; made of small ones, the backward pass takes twice as long.

    With n = x / r, r the root, y = n w and the gradient g of y: w gets the sum of g n,
    and x gets (g w - n mean(g w n)) / r, since r grows with x.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square()
        inverse = (square / x.shape[-1] + eps).rsqrt()
        normed = wide * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return (normed * weight).to(x.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, inverse, weight = ctx.saved_tensors
        product = gradient * normed
        mean = (product @ weight).unsqueeze(-1) / -normed.shape[-1]
        of_x = (gradient * weight).addcmul_(normed, mean).mul_(inverse)
        return of_x.to(gradient.dtype), product.flatten(0, -2).sum(dim=0), None


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


def cast_once(x: Tensor) -> Tensor:
    """x in autocast's dtype, if autocast is on.

    Left to itself, each linear layer that reads x would cast it anew, and each would
    pass back a gradient to cast and add.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))
