"""SwiGLU: the part of a block where each position thinks for itself.

Promoted by 03_attention.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from shared.model.config import ModelConfig


class SwiGLU(nn.Module):
    """Two projections up, one gating the other, and one back down.

    (B, T, C) -> (B, T, C). Source: Shazeer 2020, "GLU Variants Improve Transformer",
    equation 6.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.ff_width, bias=False)
        self.up = nn.Linear(config.d_model, config.ff_width, bias=False)
        self.down = nn.Linear(config.ff_width, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """down(silu(gate(x)) * up(x)); the inner tensors are (B, T, F)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))
