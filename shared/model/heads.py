"""Heads: how channels are split among them, how keys are shared, how results are merged.

Promoted by 03_attention.
"""

from einops import rearrange, repeat
from torch import Tensor


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads D) -> (B, heads, T, D): each head takes its own channels of every position."""
    pattern = "batch positions (heads channels) -> batch heads positions channels"
    return rearrange(x, pattern, heads=heads)


def share_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, K, T, D) -> (B, H, T, D): for K = 2, H = 4 the query heads read heads 0, 0, 1, 1.

    Source: Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models".
    """
    pattern = "batch kv_heads positions channels -> batch (kv_heads group) positions channels"
    return repeat(x, pattern, group=n_heads // x.shape[1])


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H D): the heads' channels side by side again."""
    return rearrange(x, "batch heads positions channels -> batch positions (heads channels)")
