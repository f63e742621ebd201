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

from shared.model.fast_paths import attend_in_products, products_are_faster, rows_are_faster
from shared.model.row_blocks import attend_by_rows


def attend_in_window(
    queries: Tensor, keys: Tensor, values: Tensor, documents: Tensor | None, window: int
) -> Tensor:
    """Queries (B, H, T, D) over keys and values (B, H, T held, D) -> (B, H, T, D).

    Each query sees its own key and the window - 1 before it. Long inputs go by blocks;
    short ones, and queries that come after a cache, by a mask.
    """
    if rows_are_faster(queries, keys, documents, window):
        return attend_by_rows(queries, keys, values, window)
    new, held = queries.shape[2], keys.shape[2]
    if new == held > window:
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

    T is filled up to whole blocks, and these take the place of the heads: one call does
    all of them, with 2 W scores a query in place of T.
    """
    batch, heads, positions, _ = queries.shape
    missing = -positions % window
    queries = _blocks(queries, 0, missing, window)  # (B H, blocks, W, D)
    keys, values = (_with_block_before(part, missing, window) for part in (keys, values))
    mask = _block_mask(queries.shape[1], window, queries.device)
    if documents is not None:
        mask = mask & _same_document_in_blocks(documents, missing, window, heads)
    by_hand = products_are_faster(queries, window)
    attend = attend_in_products if by_hand else F.scaled_dot_product_attention
    mixed = attend(queries, keys, values, mask)
    pattern = "(batch heads) blocks window channels -> batch heads (blocks window) channels"
    return rearrange(mixed, pattern, batch=batch)[:, :, :positions]  # (B, H, T, D)


def _blocks(x: Tensor, before: int, after: int, window: int) -> Tensor:
    """(B, H, T, D), filled up with zeros before and after -> (B H, blocks, W, D)."""
    pattern = "batch heads (blocks window) channels -> (batch heads) blocks window channels"
    return rearrange(F.pad(x, (0, 0, before, after)), pattern, window=window)


def _with_block_before(x: Tensor, missing: int, window: int) -> Tensor:
    """(B, H, T, D) -> (B H, blocks, 2 W, D): each block behind the one before it."""
    blocks = _blocks(x, window, missing, window)  # one more, of zeros, in front
    return torch.cat((blocks[:, :-1], blocks[:, 1:]), dim=2)


def _block_mask(blocks: int, window: int, device: torch.device) -> Tensor:
    """(1, blocks, W, 2 W) booleans: what the queries of each block see of two blocks' keys."""
    mask = window_mask(window, 2 * window, window, device).repeat(1, blocks, 1, 1)
    mask[:, 0, :, :window] = False  # nothing stands before the first block
    return mask


def _same_document_in_blocks(documents: Tensor, missing: int, window: int, heads: int) -> Tensor:
    """Document numbers (B, T) -> booleans (B H, blocks, W, 2 W)."""
    of_queries = F.pad(documents, (0, missing)).unfold(1, window, window)  # (B, blocks, W)
    of_keys = F.pad(documents, (window, missing)).unfold(1, 2 * window, window)
    same = same_document(of_queries, of_keys)  # (B, blocks, 1, W, 2 W)
    return repeat(same, "batch blocks 1 query key -> (batch heads) blocks query key", heads=heads)
