"""Causal self-attention: every position looks back and takes what it needs.

Promoted by 03_attention.
"""

from functools import partial
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from shared.model.config import ModelConfig
from shared.model.fast_paths import rows_are_faster
from shared.model.heads import merge_heads, share_heads, split_heads
from shared.model.norms import build_norm
from shared.model.positions import Angles, leave_unturned, rotate
from shared.model.row_blocks import attend_by_rows
from shared.model.sliding_window import attend_in_window, same_document


class LayerCache(Protocol):
    """Keys and values that one layer has seen so far in one conversation."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Appends (B, K, T new, D) twice; returns all that is held, (B, K, T held, D) twice.

        The third is a mask, (B, 1, 1, T held), where each row is as long as its own text and
        T new is 1: see `attend_in_rows`. None: the newest key of every row is the last.
        """


class CausalAttention(nn.Module):
    """Multi-head attention with a causal mask.

    With fewer key/value heads than query heads (grouped-query attention), query
    heads 0, 1, ... share key/value heads in runs: 0,0,1,1 for H = 4, K = 2.
    Sources: Vaswani et al. 2017, section 3.2; Ainslie et al. 2023, "GQA"; Henry et al.
    2020, "Query-Key Normalization".
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.kv_heads = config.n_heads, config.kv_heads
        width, kv_width = config.d_model, config.kv_heads * config.head_width
        self.query = nn.Linear(width, width, bias=config.bias)
        self.key = nn.Linear(width, kv_width, bias=config.bias)
        self.value = nn.Linear(width, kv_width, bias=config.bias)
        self.output = nn.Linear(width, width, bias=config.bias)
        normed = config.norm.queries_and_keys
        build = partial(build_norm, config, config.head_width) if normed else nn.Identity
        self.query_norm, self.key_norm = build(), build()
        self.turn = rotate if config.positions == "rope" else leave_unturned
        self.attend = (
            attend_to_all
            if config.window is None
            else partial(attend_in_window, window=config.window)
        )

    def forward(
        self,
        x: Tensor,
        angles: Angles,
        cache: LayerCache | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); earlier positions come from the cache.

        Args:
            angles: cosines and sines of these positions, see `positions.angles_at`.
            documents: (B, T), a position sees only those with its own number.
        """
        queries = split_heads(self.query(x), self.n_heads)  # (B, H, T, D)
        keys = split_heads(self.key(x), self.kv_heads)  # (B, K, T, D)
        values = split_heads(self.value(x), self.kv_heads)  # (B, K, T, D)
        queries = self.turn(self.query_norm(queries), angles)
        keys = self.turn(self.key_norm(keys), angles)
        mask = None
        if cache is not None:
            keys, values, mask = cache.extend(keys, values)  # (B, K, T held, D)
        if mask is None:
            keys, values = (share_heads(part, self.n_heads) for part in (keys, values))
            mixed = self.attend(queries, keys, values, documents)  # (B, H, T, D)
        else:
            mixed = attend_in_rows(queries, keys, values, mask)  # (B, H, 1, D)
        return self.output(merge_heads(mixed))


def attend_to_all(
    queries: Tensor, keys: Tensor, values: Tensor, documents: Tensor | None = None
) -> Tensor:
    """Queries (B, H, T, D) over keys and values (B, H, T held, D), causal -> (B, H, T, D)."""
    if rows_are_faster(queries, keys, documents):
        return attend_by_rows(queries, keys, values)
    new, held = queries.shape[2], keys.shape[2]
    mask = causal_mask(new, held, queries.device)
    if documents is not None:
        mask = torch.ones(new, held, dtype=torch.bool, device=queries.device).tril()
        mask = mask & same_document(documents, documents)  # (B, 1, T, T)
    square = mask is None and new == held
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=square)


def attend_in_rows(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """One query a row, (B, H, 1, D), over keys and values (B, K, T held, D) -> (B, H, 1, D).

    As the formula stands, and heads that share keys side by side, so that no key is copied: for 32
    single queries the fused kernel takes twice as long (one core with AVX2, float32).

    Args:
        mask: (B, 1, 1, T held), added to the scores: minus infinity hides a key.
    """
    apart = "batch (kv_heads group) 1 channels -> batch kv_heads group channels"
    grouped = rearrange(queries * queries.shape[-1] ** -0.5, apart, kv_heads=keys.shape[1])
    weights = (grouped @ keys.mT + mask).softmax(dim=-1)  # (B, K, group, T held)
    together = "batch kv_heads group channels -> batch (kv_heads group) 1 channels"
    return rearrange(weights @ values, together)


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
