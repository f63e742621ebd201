"""A reply that somebody still waits for: it ends early when time is up or its reader left."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from shared.chat.kv_cache import KVCache
from shared.chat.sampling import SamplingSettings
from shared.chat.session import Piece, stream_reply
from shared.model.transformer import Transformer
from shared.text.tokenizer import ByteTokenizer
from shared.text.transcript import Message


class Interruptible:
    """The model, until `over()` is true; from then on it says only that its turn ends.

    `over` is asked before every byte. Between two pieces of text would be too late: a model
    that writes nothing but spaces yields no piece, and nobody could stop it.
    """

    def __init__(self, model: Transformer, end_of_text: int, over: Callable[[], bool]) -> None:
        self.model, self.end_of_text, self.over = model, end_of_text, over
        self.config, self.parameters = model.config, model.parameters
        self.cut = False

    def __call__(self, ids: Tensor, cache: KVCache) -> Tensor:
        """Logits (B, T, V) for ids (B, T)."""
        self.cut = self.cut or self.over()
        if not self.cut:
            return self.model(ids, cache)
        logits = torch.full((*ids.shape, self.config.vocab_size), -torch.inf)  # (B, T, V)
        logits[..., self.end_of_text] = 0.0
        return logits


def bounded_reply(
    model: Transformer,
    tokenizer: ByteTokenizer,
    messages: list[Message],
    settings: SamplingSettings,
    over: Callable[[], bool],
) -> Iterator[Piece]:
    """`stream_reply`, cut short with finish_reason "length" once `over()` is true."""
    watched = Interruptible(model, tokenizer.end_of_text, over)
    for piece in stream_reply(watched, tokenizer, messages, settings):
        cut = piece.finish_reason and watched.cut
        yield replace(piece, finish_reason="length") if cut else piece
