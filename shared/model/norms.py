"""RMSNorm: every position's vector is brought to the same length.

Promoted by 03_attention.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)
