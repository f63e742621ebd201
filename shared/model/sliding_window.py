"""Sliding-window attention: a query sees the last W keys, so cost grows with T, not T².

Over L layers a position still hears from L (W - 1) positions back: each layer hands
on what the one below it gathered. Source: Beltagy et al. 2020, "Longformer",
section 3.1; Jiang et al. 2023, "Mistral 7B", section 2.
Promoted by 03_attention.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from shared.model.row_blocks import attend_by_rows, rows_are_faster

NARROW_WINDOW = 128  # keys; up to here plain products beat blocks of rows, `attend_in_products`


def attend_in_window(
    queries: Tensor, keys: Tensor, values: Tensor, documents: Tensor | None, window: int
) -> Tensor:
    """Queries (B, H, T, D) over keys and values (B, H, T held, D) -> (B, H, T, D).

    Each query sees its own key and the window - 1 before it. Long inputs go by blocks;
    short ones, and queries that come after a cache, by a mask.
    """
    new, held = queries.shape[2], keys.shape[2]
    whole, fast = new == held, rows_are_faster(queries)
    if whole and fast and documents is None and (window >= held or window > NARROW_WINDOW):
        return attend_by_rows(queries, keys, values, window)
    if whole and held > window:
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

    T is filled up to N blocks, and these take the place of the heads: one product or
    one call of SDPA does all of them, N W 2W scores in place of T².
    """
    shape, positions = queries.shape[:2], queries.shape[2]
    missing = -positions % window
    queries = F.pad(queries, (0, 0, 0, missing)).unflatten(2, (-1, window)).flatten(0, 1)
    keys, values = (_with_block_before(part, missing, window) for part in (keys, values))
    blocks = queries.shape[1]  # queries (B H, N, W, D), keys and values (B H, N, 2 W, D)
    mask = window_mask(window, 2 * window, window, queries.device).repeat(1, blocks, 1, 1)
    mask[:, 0, :, :window] = False  # nothing stands before the first block
    if documents is not None:
        of_queries = F.pad(documents, (0, missing)).unflatten(1, (-1, window))
        of_keys = F.pad(documents, (window, missing)).unfold(1, 2 * window, window)
        mask = mask & same_document(of_queries, of_keys).squeeze(2)  # (B, N, W, 2 W)
        mask = mask.repeat_interleave(shape[1], dim=0)
    if window <= NARROW_WINDOW and rows_are_faster(queries):
        mixed = attend_in_products(queries, keys, values, mask)
    else:
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return mixed.unflatten(0, shape).flatten(2, 3)[:, :, :positions]  # (B, H, T, D)


def attend_in_products(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The attention formula as it stands: (..., W, D) over keys and values (..., 2 W, D).

    It keeps all its weights for the backward pass, which a narrow window can afford.

    Args:
        mask: booleans, (..., W, 2 W) or what is broadcast to it.
    """
    hidden = torch.zeros_like(mask, dtype=queries.dtype).masked_fill_(~mask, -math.inf)
    scores = queries / math.sqrt(queries.shape[-1]) @ keys.mT
    return (scores + hidden).softmax(dim=-1) @ values


def _with_block_before(x: Tensor, missing: int, window: int) -> Tensor:
    """(B, H, T, D) -> (B H, N, 2 W, D): each block behind the one before it."""
    padded = F.pad(x, (0, 0, window, missing)).unflatten(2, (-1, window)).flatten(0, 1)
    return torch.cat((padded[:, :-1], padded[:, 1:]), dim=2)
