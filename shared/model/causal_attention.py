"""Causal self-attention: every position looks back and takes what it needs.

Promoted by 03_attention.
"""

from typing import Protocol

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from shared.model.config import ModelConfig
from shared.model.positions import rotate


class LayerCache(Protocol):
    """Keys and values that one layer has seen so far in one conversation."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends (B, K, T new, D) twice; returns all of both, (B, K, T so far, D)."""


class CausalAttention(nn.Module):
    """Multi-head attention with a causal mask and rotary positions.

    With fewer key/value heads than query heads (grouped-query attention), query
    heads 0, 1, ... share key/value heads in runs: 0,0,1,1 for H = 4, K = 2.
    Sources: Vaswani et al. 2017, section 3.2; Ainslie et al. 2023, "GQA".
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.kv_heads = config.n_heads, config.kv_heads
        kv_width = config.kv_heads * config.head_width
        self.query = nn.Linear(config.d_model, config.d_model, bias=False)
        self.key = nn.Linear(config.d_model, kv_width, bias=False)
        self.value = nn.Linear(config.d_model, kv_width, bias=False)
        self.output = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache | None = None
    ) -> Tensor:
        """(B, T, C) and angles (T, D/2) -> (B, T, C); earlier positions come from the cache."""
        queries = rotate(split_heads(self.query(x), self.n_heads), cos, sin)  # (B, H, T, D)
        keys = rotate(split_heads(self.key(x), self.kv_heads), cos, sin)  # (B, K, T, D)
        values = split_heads(self.value(x), self.kv_heads)  # (B, K, T, D)
        if cache is not None:
            keys, values = cache.extend(keys, values)  # (B, K, T so far, D)
        mixed = F.scaled_dot_product_attention(
            queries,
            share_heads(keys, self.n_heads),
            share_heads(values, self.n_heads),
            attn_mask=causal_mask(queries.shape[2], keys.shape[2], x.device),
            is_causal=queries.shape[2] == keys.shape[2],
        )
        merged = rearrange(
            mixed, "batch heads positions channels -> batch positions (heads channels)"
        )
        return self.output(merged)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads * D) -> (B, heads, T, D)."""
    pattern = "batch positions (heads channels) -> batch heads positions channels"
    return rearrange(x, pattern, heads=heads)


def share_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, K, T, D) -> (B, H, T, D), each key/value head repeated for its run of query heads."""
    pattern = "batch kv_heads positions channels -> batch (kv_heads group) positions channels"
    return repeat(x, pattern, group=n_heads // x.shape[1])


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor | None:
    """(queries, keys) booleans, True where a query may look; None where SDPA needs no mask.

    The last query stands at the last key, so the triangle touches the lower right
    corner. SDPA's own `is_causal` touches the upper left one: right only for a
    square, and with one query and a long cache it would show the first key alone.
    """
    if queries in (1, keys):
        return None
    allowed = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return allowed.tril(diagonal=keys - queries)
