"""Feed-forward: the part of a block where each position thinks for itself.

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
        self.gate = nn.Linear(config.d_model, config.ff_width, bias=config.bias)
        self.up = nn.Linear(config.d_model, config.ff_width, bias=config.bias)
        self.down = nn.Linear(config.ff_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """down(silu(gate(x)) * up(x)); the inner tensors are (B, T, F)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class PlainFeedForward(nn.Module):
    """One projection up, an activation, one back down.

    (B, T, C) -> (B, T, C). The activation is GELU (in the tanh form of GPT-2) or ReLU².
    Sources: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units"; So et al. 2021,
    "Primer", section 4 (ReLU²).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.ff_width, bias=config.bias)
        self.down = nn.Linear(config.ff_width, config.d_model, bias=config.bias)
        named = {"gelu": nn.GELU(approximate="tanh"), "relu2": SquaredReLU()}
        self.activation = named[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        """down(activation(up(x))); the inner tensor is (B, T, F)."""
        return self.down(self.activation(self.up(x)))


class SquaredReLU(nn.Module):
    """max(x, 0)²."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return F.relu(x).square()


def build_feedforward(config: ModelConfig) -> nn.Module:
    """The dense feed-forward that the config names."""
    return SwiGLU(config) if config.activation == "swiglu" else PlainFeedForward(config)
