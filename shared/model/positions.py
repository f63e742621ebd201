"""RoPE: a query and a key turn by an angle set by their position.

The score of two turned vectors depends only on how far apart they stand. Channel
i is paired with channel i + D/2, the two halves of a head, as Llama does. (The
paper pairs neighbours; the two differ only by the order of the channels.)
Promoted by 03_attention.
"""

import torch
from torch import Tensor

from shared.model.config import RopeConfig


def rope_angles(positions: int, head_width: int, rope: RopeConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position's angles, each (T, D/2), float32.

    Pair i turns by `position * base^(-2i/D)`: the first pair fast, the last hardly.
    Source: Su et al. 2021, "RoFormer", section 3.2.2.
    """
    exponents = torch.arange(0, head_width, 2, dtype=torch.float64) / head_width
    speeds = rope.base**-exponents
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), speeds)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair of channels of x, (B, heads, T, D), by the angles (T, D/2)."""
    first, second = x.chunk(2, dim=-1)  # (B, heads, T, D/2) each
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat(turned, dim=-1).to(x.dtype)  # (B, heads, T, D)
