"""Causal attention in plain matrix products, a block of rows at a time.

The CPU's fused kernel does bfloat16 scores slowly. Here the products go to the
processor's bfloat16 units, and a block of queries meets only keys that are not in
its future, which saves nearly half of the work. Like the fused kernel it keeps no
(T, T) map for the way back: it computes each block's scores again.
Promoted by 03_attention.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

ROWS = 64  # by measurement: 32 to 128 are alike at T = 256 to 1024


class RowBlockAttention(torch.autograd.Function):
    """Queries, keys, values (N, T, D) -> (N, T, D); N counts heads of all sequences.

    Source: Dao et al. 2022, "FlashAttention", section 3.1 and appendix B, with blocks
    of rows only: a row of scores is short enough to take its softmax at once.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Softmax of the scores of each block, times the values it may see."""
        queries = queries / math.sqrt(queries.shape[-1])
        mixed = torch.empty_like(values)
        for rows, weights in _blocks(queries, keys):
            mixed[:, rows] = weights @ values[:, : rows.stop]
        ctx.save_for_backward(queries, keys, values, mixed)
        return mixed

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Softmax passes back w (g - sum of w g), and that sum is gradient times output."""
        queries, keys, values, mixed = ctx.saved_tensors
        shared = (gradient * mixed).sum(dim=-1, keepdim=True)  # (N, T, 1)
        of_queries = torch.empty_like(queries)
        of_keys, of_values = torch.zeros_like(keys), torch.zeros_like(values)
        for rows, weights in _blocks(queries, keys):
            seen, incoming = slice(rows.stop), gradient[:, rows]
            of_values[:, seen].baddbmm_(weights.mT, incoming)
            of_scores = (incoming @ values[:, seen].mT).sub_(shared[:, rows]).mul_(weights)
            of_queries[:, rows] = of_scores @ keys[:, seen]
            of_keys[:, seen].baddbmm_(of_scores.mT, queries[:, rows])
        return of_queries.div_(math.sqrt(queries.shape[-1])), of_keys, of_values


def _blocks(queries: Tensor, keys: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Each block's rows and its attention weights (N, rows, keys up to the last row)."""
    future = torch.full((ROWS, ROWS), -math.inf, dtype=queries.dtype).triu(1)
    for start in range(0, queries.shape[1], ROWS):
        rows = slice(start, min(start + ROWS, queries.shape[1]))
        size = rows.stop - start
        scores = queries[:, rows] @ keys[:, : rows.stop].mT
        scores[:, :, start:] += future[:size, :size]
        yield rows, scores.softmax(dim=-1)


def attend_by_rows(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention over (B, H, T, D), three times -> (B, H, T, D)."""
    flat = (part.flatten(0, 1) for part in (queries, keys, values))  # (B H, T, D)
    return RowBlockAttention.apply(*flat).unflatten(0, queries.shape[:2])
