"""Positions: how the model knows what stands where.

RoPE turns each query and key by an angle set by its position, so that a score
depends only on how far apart two positions stand. Channel i is paired with channel
i + D/2, the two halves of a head, as Llama does. (The paper pairs neighbours; the
two differ only by the order of the channels.) The older ways add a vector to each
embedding: a learned one, or a fixed one of sines and cosines.
Promoted by 03_attention.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from shared.model.config import ModelConfig, RopeConfig

Angles = tuple[Tensor, Tensor]


def rope_angles(positions: int, head_width: int, rope: RopeConfig) -> Angles:
    """Cosines and sines of every position's angles, each (T, D/2), float32.

    Pair i turns by `position * base^(-2i/D)`: the first pair fast, the last hardly.
    For a context `factor` times longer than the trained one, interpolation makes all
    pairs that much slower; ntk leaves the first as it is and slows the last by the
    factor, the others in between.
    Sources: Su et al. 2021, "RoFormer", section 3.2.2; Chen et al. 2023, "Extending
    Context Window of Large Language Models via Positional Interpolation", equation 4;
    Peng et al. 2023, "YaRN", definition 1 (ntk).
    """
    base, slower = rope.base, 1.0
    if rope.scaling == "interpolation":
        slower = rope.factor
    elif rope.scaling == "ntk" and head_width > 2:
        base *= rope.factor ** (head_width / (head_width - 2))
    exponents = torch.arange(0, head_width, 2, dtype=torch.float64) / head_width
    speeds = base**-exponents / slower
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), speeds)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turns each pair of channels of x, (B, heads, T, D), by cosines and sines (T, D/2)."""
    cos, sin = angles
    first, second = x.float().chunk(2, dim=-1)  # (B, heads, T, D/2) each
    halves = first * cos - second * sin, second * cos + first * sin
    # Heads side by side in memory, as they came: attention's output merges without a copy.
    turned = torch.cat([half.transpose(1, 2) for half in halves], dim=-1)  # (B, T, heads, D)
    return turned.transpose(1, 2).to(x.dtype)


def leave_unturned(x: Tensor, angles: Angles) -> Tensor:
    """What stands in `rotate`'s place where positions come in another way."""
    return x


class SinusoidalPositions(nn.Module):
    """Fixed vectors of sines and cosines, from fast to slow.

    Their size is that of an untrained embedding (`size`, root mean square), so that
    neither drowns the other. Source: Vaswani et al. 2017, section 3.5.
    """

    def __init__(self, config: ModelConfig, size: float) -> None:
        super().__init__()
        width = config.d_model + config.d_model % 2
        table = torch.cat(rope_angles(config.context_length, width, RopeConfig()), dim=-1)
        table = table[:, : config.d_model] * size * 2**0.5  # a sine's mean square is 1/2
        self.register_buffer("table", table, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Positions (T,) or (B, T) -> vectors (..., T, C)."""
        return self.table[positions]


def document_positions(ids: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """For ids (B, T): which document each belongs to and its place in it, both (B, T).

    A document begins with the id `start`; what comes before the first one is a
    document too, cut off by the window's edge.
    """
    starts = ids == start
    everywhere = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    latest = torch.where(starts, everywhere, 0).cummax(dim=1).values
    return starts.cumsum(dim=1), everywhere - latest


def angles_at(table: Angles, positions: Tensor) -> Angles:
    """The angles of positions (T,) or (B, T), shaped to turn (B, heads, T, D)."""
    cos, sin = (part[positions] for part in table)  # (T, D/2), or (B, T, D/2)
    if positions.dim() == 1:
        return cos, sin
    pattern = "batch positions pairs -> batch 1 positions pairs"
    return rearrange(cos, pattern), rearrange(sin, pattern)
