"""Causal attention in plain matrix products, a block of rows at a time.

The CPU's fused kernel does bfloat16 scores slowly. Here the products go to the
processor's bfloat16 units, and a block of queries meets only keys that are not in
its future, which saves nearly half of the work. Like the fused kernel it keeps no
(T, T) map for the backward pass: it computes each block's scores again.
Promoted by 03_attention.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

ROWS = 64  # by measurement: 32 to 128 are alike at T = 256 to 1024


class RowBlockAttention(torch.autograd.Function):
    """Queries, keys, values (B H, T, D) -> (B H, T, D): the heads of all sequences in a row.

    Source: Dao et al. 2022, "FlashAttention", section 3.1 and appendix B, with blocks
    of rows only: a row of scores is short enough to take its softmax at once.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, queries: Tensor, keys: Tensor, values: Tensor, window: int
    ) -> Tensor:
        """Softmax of the scores of each block, times the values it may see."""
        queries = queries / math.sqrt(queries.shape[-1])
        mixed = torch.empty_like(values)
        for rows, seen, weights in _blocks(queries, keys, window):
            mixed[:, rows] = weights @ values[:, seen]
        ctx.save_for_backward(queries, keys, values, mixed)
        ctx.window = window
        return mixed

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Softmax passes back w (g - sum of w g), and that sum is gradient times output."""
        queries, keys, values, mixed = ctx.saved_tensors
        shared = (gradient * mixed).sum(dim=-1, keepdim=True)  # (B H, T, 1)
        of_queries = torch.empty_like(queries)
        of_keys, of_values = torch.zeros_like(keys), torch.zeros_like(values)
        for rows, seen, weights in _blocks(queries, keys, ctx.window):
            incoming = gradient[:, rows]
            of_values[:, seen].baddbmm_(weights.mT, incoming)
            of_scores = (incoming @ values[:, seen].mT).sub_(shared[:, rows]).mul_(weights)
            of_queries[:, rows] = of_scores @ keys[:, seen]
            of_keys[:, seen].baddbmm_(of_scores.mT, queries[:, rows])
        return of_queries.div_(math.sqrt(queries.shape[-1])), of_keys, of_values, None


def _blocks(queries: Tensor, keys: Tensor, window: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Each block's rows, the keys it meets, and its attention weights (B H, rows, keys)."""
    positions = queries.shape[1]
    hidden = torch.full((ROWS, min(positions, ROWS + window - 1)), -math.inf, dtype=queries.dtype)
    for start in range(0, positions, ROWS):
        rows = slice(start, min(start + ROWS, positions))
        seen = slice(max(0, start - window + 1), rows.stop)
        before = start - seen.start  # keys that stand before the block
        scores = queries[:, rows] @ keys[:, seen].mT
        mask = hidden[: rows.stop - start, : rows.stop - seen.start]
        scores += mask.triu(before + 1)
        if window < positions:
            scores += mask.tril(before - window)
        yield rows, seen, scores.softmax(dim=-1)


def attend_by_rows(
    queries: Tensor, keys: Tensor, values: Tensor, window: int | None = None
) -> Tensor:
    """Causal attention over (B, H, T, D), three times -> (B, H, T, D).

    Args:
        window: keys that a query sees, its own included; none: all before it.
    """
    flat = (part.flatten(0, 1) for part in (queries, keys, values))  # (B H, T, D)
    whole = queries.shape[2]
    window = whole if window is None else min(window, whole)
    mixed = RowBlockAttention.apply(*flat, window)
    return mixed.unflatten(0, queries.shape[:2])
