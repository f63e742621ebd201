"""Reply rows: texts side by side, each with a mark at the ids of the reply that counts.

    ids       ␞ u s e r : ... assistant :   H i ! ⏎ ␞ · ·      · fills up
    replies   0 0 0 0 0 0 ...         0 0 1 1 1 1 1 1 0 0

Promoted by 06_chat.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shared.model.transformer import Transformer
from shared.training.loss import token_losses


class ReplyRows(NamedTuple):
    """B texts, filled up on the right: there the filling is everybody's future."""

    ids: Tensor
    """(B, T), int64"""
    replies: Tensor
    """(B, T), booleans"""

    def part(self, rows: slice) -> "ReplyRows":
        """Some of the rows, no wider than the longest of them."""
        ids, marks = self.ids[rows], self.replies[rows]
        width = 1 + int(marks.any(dim=0).nonzero().max())
        return ReplyRows(ids[:, :width], marks[:, :width])


def side_by_side(prompts: Sequence[list[int]], replies: Sequence[list[int]]) -> ReplyRows:
    """Rows of prompt and reply, (B, T) with T the longest."""
    lengths = [len(p) + len(r) for p, r in zip(prompts, replies, strict=True)]
    ids = torch.zeros(len(lengths), max(lengths, default=0), dtype=torch.long)
    marks = torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        ids[row, : lengths[row]] = torch.tensor(prompt + reply)
        marks[row, len(prompt) : lengths[row]] = True
    return ReplyRows(ids, marks)


def reply_log_probabilities(model: Transformer, ids: Tensor, replies: Tensor) -> Tensor:
    """log p of each whole reply after what stands before it, in nats: the sum over its ids.

    Nothing stands before the first id of a row, so it has no probability: a mark there
    does not count.

    Args:
        ids: (B, T), int64; T at most the context and one more.
        replies: (B, T), booleans.

    Returns:
        (B,), float32; 0 for a row without a mark.
    """
    ids, replies = (part.to(next(model.parameters()).device) for part in (ids, replies))
    losses = token_losses(model(ids[:, :-1]), ids[:, 1:])  # (B, T - 1)
    return -(losses * replies[:, 1:]).sum(dim=-1)  # (B,)
