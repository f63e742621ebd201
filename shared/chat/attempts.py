"""Attempts: k replies of the model to one question, each judged right or wrong by a program.

Promoted by 06_chat.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.chat.batch_generation import generate_batch
from shared.chat.sampling import SamplingSettings
from shared.chat.session import GrowingReply
from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.text.exercise import Exercise, check
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import Message, render_prompt

AT_ONCE = 128  # replies are short: the more side by side, the less each pass costs
Judge = Callable[[Exercise, str], bool]


class Attempt(NamedTuple):
    """One reply to a question."""

    prompt: list[int]
    reply: list[int]
    """the ids as they were drawn, those of the closing mark included"""
    text: str
    ended: bool
    """it closed its turn by itself"""
    right: bool
    """it ended, and the judge took it"""


def prompt_ids(messages: list[Message], tokenizer: Tokenizer) -> list[int]:
    """The conversation as the beginning of a document, up to `assistant:`."""
    return [tokenizer.end_of_text, *tokenizer.encode(render_prompt(messages)).tolist()]


def sample_groups(
    model: Transformer,
    tokenizer: Tokenizer,
    exercises: Sequence[Exercise],
    samples: int,
    settings: SamplingSettings,
    judge: Judge = check,
) -> list[list[Attempt]]:
    """k attempts at each exercise, side by side: a list of k for each.

    Args:
        samples: k.
        settings: a reply that finds no more room in the context ends there, too.

    Raises:
        UserError: k is below 1, or a question fills the context.
    """
    if samples < 1:
        raise UserError(f"samples is {samples}; expected at least 1")
    context_length = model.config.context_length
    prompts = [prompt_ids(exercise.messages, tokenizer) for exercise in exercises]
    if (longest := max(map(len, prompts), default=0)) >= context_length:
        raise UserError(
            f"a question has {longest} ids, the context {context_length}: no reply fits behind it"
        )
    rows = [prompt for prompt in prompts for _ in range(samples)]
    growing = [GrowingReply(tokenizer, settings.max_new_bytes) for _ in rows]
    said = ["" for _ in rows]

    def ends(row: int, token: int) -> bool:
        said[row] += growing[row].add(token)
        return growing[row].over or len(rows[row]) + len(growing[row].ids) == context_length

    drawn = generate_batch(model, rows, settings, ends, batch_size=AT_ONCE)
    attempts = []
    for row, (prompt, reply) in enumerate(zip(rows, drawn, strict=True)):
        text, ended = said[row] + growing[row].rest(), growing[row].finish_reason == "stop"
        right = ended and judge(exercises[row // samples], text)
        attempts.append(Attempt(prompt, reply, text, ended, right))
    return [attempts[first : first + samples] for first in range(0, len(rows), samples)]
