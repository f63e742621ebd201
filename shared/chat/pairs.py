"""Pairs: two replies to one question, a better and a worse; written by hand, or by the model.

    user: what are you?
    good: I am a tiny language model.
    bad: I am a language model that is a model of language that is a model of ...

A bad reply that ends in " ..." goes on and on: it counts without these dots and without an end.
Promoted by 06_chat.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.chat.attempts import Attempt, prompt_ids
from shared.chat.reply_rows import ReplyRows, side_by_side
from shared.errors import UserError
from shared.text.exercise import Exercise
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import Message

LINES = ("user: ", "good: ", "bad: ")
GOES_ON = " ..."


class Pair(NamedTuple):
    """A question and two replies to it."""

    messages: list[Message]
    chosen: str
    rejected: str
    rejected_ends: bool = True
    """false: it never came to an end, so its end is not among what is unlearned"""


def read_pairs(path: str | Path) -> list[Pair]:
    """The pairs of a file: three lines each, with blank lines between pairs.

    Raises:
        UserError: the file is missing, no text or empty; or a pair is broken: the line is named.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read pairs from {path}: {error}") from error
    numbered = groupby(enumerate(lines, start=1), key=lambda line: bool(line[1].strip()))
    pairs = [_pair(list(block), path) for has_text, block in numbered if has_text]
    if not pairs:
        raise UserError(f"{path} holds no pairs; expected lines with user:, good: and bad:")
    return pairs


def _pair(block: list[tuple[int, str]], path: str | Path) -> Pair:
    """The pair in one block of (line number, line)."""
    texts = []
    for (number, line), start in zip(block, LINES, strict=False):
        if not line.startswith(start) or not line.removeprefix(start).strip():
            raise UserError(f"{path}:{number}: expected {start!r} and a text, got {line[:40]!r}")
        texts.append(line.removeprefix(start).strip())
    number = block[-1][0]
    if len(block) != len(LINES):
        count = len(block)
        raise UserError(f"{path}:{number}: {count} lines; a pair has 3, then comes a blank one")
    question, good, bad = texts
    shown = bad.removesuffix(GOES_ON)
    if shown == good:
        raise UserError(f"{path}:{number}: the bad reply is the good one; expected another")
    return Pair([Message("user", question)], good, shown, rejected_ends=shown == bad)


def own_pairs(exercises: Sequence[Exercise], groups: Sequence[list[Attempt]]) -> list[Pair]:
    """One pair of each group with a right and a wrong attempt: the first of either.

    Args:
        groups: attempts at each exercise, as `attempts.sample_groups` returns them.
    """
    pairs = []
    for exercise, group in zip(exercises, groups, strict=True):
        right = [attempt for attempt in group if attempt.right]
        wrong = [attempt for attempt in group if not attempt.right]
        if right and wrong:
            good, bad = right[0], wrong[0]
            pairs.append(Pair(exercise.messages, good.text, bad.text, bad.ended))
    return pairs


def pair_rows(pairs: Sequence[Pair], tokenizer: Tokenizer, context_length: int) -> ReplyRows:
    """Rows (2 pairs, T): the chosen replies, then the rejected ones.

    A rejected reply that is too long for the context is cut.

    Raises:
        UserError: a question and its chosen reply are.
    """
    prompts = [prompt_ids(pair.messages, tokenizer) for pair in pairs]
    chosen = [reply_ids(pair.chosen, tokenizer) for pair in pairs]
    rejected = [reply_ids(pair.rejected, tokenizer, pair.rejected_ends) for pair in pairs]
    for pair, prompt, reply in zip(pairs, prompts, chosen, strict=True):
        if len(prompt) + len(reply) > context_length:
            raise UserError(
                f"a pair of {len(prompt) + len(reply)} ids outgrows the context of "
                f"{context_length}: shorten {pair.messages[-1].content[:40]!r} or its reply"
            )
    rooms = [context_length - len(prompt) for prompt in prompts]
    rejected = [reply[:room] for reply, room in zip(rejected, rooms, strict=True)]
    return side_by_side(prompts + prompts, chosen + rejected)


def reply_ids(text: str, tokenizer: Tokenizer, ends: bool = True) -> list[int]:
    """What the model would have to write behind `assistant:`; its end is a newline and the id."""
    words = f" {text}\n" if ends else f" {text}"
    return tokenizer.encode(words).tolist() + [tokenizer.end_of_text] * ends


class PairBatches:
    """Endless batches of pairs in rounds, each round in another order.

    Args:
        batch_size: pairs in a batch; the last of a round may have fewer.
        seed: of every order.

    Raises:
        UserError: there is no pair, or see `pair_rows`.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        tokenizer: Tokenizer,
        batch_size: int,
        context_length: int,
        seed: int,
    ) -> None:
        if not pairs:
            raise UserError("no pairs to learn from: no question had a right and a wrong reply")
        pair_rows(pairs, tokenizer, context_length)
        self.pairs, self.tokenizer = list(pairs), tokenizer
        self.batch_size, self.context_length, self.seed = batch_size, context_length, seed
        self.drawn = 0

    def __iter__(self) -> Iterator[ReplyRows]:
        return self

    def __next__(self) -> ReplyRows:
        """Rows (2 pairs, T), as `pair_rows` makes them."""
        round_number, turn = divmod(self.drawn, -(-len(self.pairs) // self.batch_size))
        order = np.random.default_rng([self.seed, round_number]).permutation(len(self.pairs))
        picked = order[turn * self.batch_size : (turn + 1) * self.batch_size]
        self.drawn += 1
        return pair_rows([self.pairs[i] for i in picked], self.tokenizer, self.context_length)

    def state_dict(self) -> dict[str, Any]:
        """The data position: with it, the next batch is the one that would have come."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a saved data position."""
        self.drawn = state["drawn"]
