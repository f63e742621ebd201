"""Generation in batches: many texts at once, each the same as if it were alone.

Promoted by 06_chat.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from shared.chat.continuous_batch import ContinuousBatch, Text
from shared.chat.generation import Over, keep_recent_half, never
from shared.chat.sampling import SamplingSettings
from shared.chat.session import FinishReason, GrowingReply, fit_turns
from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import Message

StopRow = Callable[[int, int], bool]
ShortenRow = Callable[[int, list[int]], list[int]]
OnDone = Callable[[int], None]


class Reply(NamedTuple):
    """A whole reply, as the pieces of `stream_reply` together."""

    text: str
    finish_reason: FinishReason
    reply_bytes: int = 0
    """bytes drawn, those of the closing mark included"""


def never_stop(row: int, token: int) -> bool:
    """No id ends a text."""
    return False


def keep_half_of_row(row: int, ids: list[int]) -> list[int]:
    """Forgets the older half of a text, whichever it is."""
    return keep_recent_half(ids)


def tell_nobody(row: int) -> None:
    """Nobody waits for single texts."""


def generate_batch(
    model: Transformer,
    prompts: Sequence[list[int]],
    settings: SamplingSettings,
    stop: StopRow = never_stop,
    shorten: ShortenRow = keep_half_of_row,
    batch_size: int = 64,
    on_done: OnDone = tell_nobody,
    over: Over = never,
) -> list[list[int]]:
    """New ids for each prompt, up to `settings.max_new_bytes`: those of `stream_ids` for it alone.

    Prompt i draws from the seed `settings.seed` + i: its neighbours change nothing but rounding.

    Args:
        prompts: at least one id each; the numbers below count them from 0.
        stop: asked with a prompt's number and an id drawn for it; true: that was its last.
        shorten: as in `stream_ids`, with the prompt's number before the ids.
        batch_size: texts side by side; long ones go first, so that equals stand together.
        on_done: told the number of each prompt that is done, as soon as it is.
        over: asked before each pass through the model; once it is true all stay as they are.

    Raises:
        UserError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; expected at least 1")
    texts = [Text(list(ids), settings, partial(shorten, n), n) for n, ids in enumerate(prompts)]
    waiting = sorted(texts, key=lambda text: len(text.ids))
    batch = ContinuousBatch(model, min(batch_size, len(texts)))
    while (waiting or batch.texts) and not over():
        while waiting and len(batch.texts) < batch_size:
            batch.join(waiting.pop())
        for text in batch.step():
            if stop(text.number, text.new[-1]) or len(text.new) == settings.max_new_bytes:
                batch.leave(text)
                on_done(text.number)
    return [text.new for text in texts]


def reply_batch(
    model: Transformer,
    tokenizer: Tokenizer,
    conversations: Sequence[list[Message]],
    settings: SamplingSettings,
    batch_size: int = 64,
    on_done: OnDone = tell_nobody,
    over: Over = never,
) -> list[Reply]:
    """The assistant's next turn in each conversation: the text and ending of `stream_reply`.

    Raises:
        UserError: a conversation has no message.
    """
    if not all(conversations):
        empty = list(map(bool, conversations)).index(False)
        raise UserError(f"conversation {empty} is empty; expected at least one turn of the user's")
    context_length = model.config.context_length
    replies = [GrowingReply(tokenizer, settings.max_new_bytes) for _ in conversations]
    said = ["" for _ in conversations]

    def ends(number: int, token: int) -> bool:
        said[number] += replies[number].add(token)
        return replies[number].over

    def drop_turns(number: int, _: list[int]) -> list[int]:
        reply = replies[number].ids
        return fit_turns(conversations[number], reply, tokenizer, context_length)

    prompts = [fit_turns(messages, [], tokenizer, context_length) for messages in conversations]
    generate_batch(model, prompts, settings, ends, drop_turns, batch_size, on_done, over)
    return [
        Reply(text + reply.rest(), reply.finish_reason, reply.size)
        for text, reply in zip(said, replies, strict=True)
    ]
