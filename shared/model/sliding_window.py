"""Sliding-window attention: a query sees the last W keys, so cost grows with T, not T².

Over L layers a position still hears from L (W - 1) positions back: each layer hands
on what the one below it gathered. Source: Beltagy et al. 2020, "Longformer",
section 3.1; Jiang et al. 2023, "Mistral 7B", section 2.
Promoted by 03_attention.
"""

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from shared.model.row_blocks import attend_by_rows, rows_are_faster


def attend_in_window(
    queries: Tensor, keys: Tensor, values: Tensor, documents: Tensor | None, window: int
) -> Tensor:
    """Queries (B, H, T, D) over keys and values (B, H, T held, D) -> (B, H, T, D).

    Each query sees its own key and the window - 1 before it. Long inputs go by blocks;
    short ones, and queries that come after a cache, by a mask.
    """
    new, held = queries.shape[2], keys.shape[2]
    if rows_are_faster(queries) and new == held and documents is None:
        return attend_by_rows(queries, keys, values, window)
    if new == held and held > window:
        return _attend_by_blocks(queries, keys, values, documents, window)
    mask = window_mask(new, held, window, queries.device)
    if documents is not None:
        mask = mask & same_document(documents, documents)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


def window_mask(queries: int, keys: int, window: int, device: torch.device) -> Tensor:
    """(queries, keys) booleans; the last query stands at the last key and sees `window` keys."""
    allowed = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return allowed.tril(keys - queries).triu(keys - queries - window + 1)


def same_document(of_queries: Tensor, of_keys: Tensor) -> Tensor:
    """Document numbers (..., T) and (..., T') -> booleans (..., 1, T, T'), one for all heads."""
    return (of_queries.unsqueeze(-1) == of_keys.unsqueeze(-2)).unsqueeze(-3)


def _attend_by_blocks(
    queries: Tensor, keys: Tensor, values: Tensor, documents: Tensor | None, window: int
) -> Tensor:
    """Blocks of W queries, each with the 2 W keys of its own block and the one before.

    T is filled up to N blocks. All blocks are rows of one batch, so one call of SDPA
    does them all: N W 2W scores in place of T².
    """
    batch, positions = queries.shape[0], queries.shape[2]
    blocks = -(-positions // window)
    missing = blocks * window - positions
    queries = _blocked(F.pad(queries, (0, 0, 0, missing)), window)  # (B N, H, W, D)
    keys, values = (_with_block_before(part, missing, window) for part in (keys, values))
    mask = window_mask(window, 2 * window, window, queries.device)  # (W, 2 W)
    mask = repeat(mask, "queries keys -> blocks 1 queries keys", blocks=blocks).clone()
    mask[0, :, :, :window] = False  # nothing stands before the first block
    mask = repeat(mask, "blocks 1 queries keys -> (batch blocks) 1 queries keys", batch=batch)
    if documents is not None:
        of_queries = F.pad(documents, (0, missing)).unflatten(1, (blocks, window)).flatten(0, 1)
        of_keys = F.pad(documents, (window, missing)).unfold(1, 2 * window, window).flatten(0, 1)
        mask = mask & same_document(of_queries, of_keys)
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    joined = rearrange(
        mixed, "(batch blocks) heads window channels -> batch heads (blocks window) channels",
        batch=batch,
    )  # fmt: skip
    return joined[:, :, :positions]  # (B, H, T, D)


def _blocked(x: Tensor, window: int) -> Tensor:
    pattern = "batch heads (blocks window) channels -> (batch blocks) heads window channels"
    return rearrange(x, pattern, window=window)


def _with_block_before(x: Tensor, missing: int, window: int) -> Tensor:
    """(B, H, T, D) -> (B N, H, 2 W, D): each block behind the one before it."""
    padded = F.pad(x, (0, 0, window, missing)).unflatten(2, (-1, window))  # (B, H, 1 + N, W, D)
    pairs = torch.cat((padded[:, :, :-1], padded[:, :, 1:]), dim=3)  # (B, H, N, 2 W, D)
    return rearrange(
        pairs, "batch heads blocks keys channels -> (batch blocks) heads keys channels"
    )
