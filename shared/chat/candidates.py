"""Candidates: several replies to one conversation, and which of them to give.

    vote         the answer on which most of them agree (self-consistency)
    likelihood   the reply that the model itself finds likeliest, an id on average
    a function   best of k: the one that a program gives the highest score

More bytes are spent on one answer: that is all that "thinking longer" is.
Sources: Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning"; Cobbe et al.
2021, "Training Verifiers to Solve Math Word Problems" (best of k).
Promoted by 06_chat.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor

from shared.chat.batch_generation import Reply, reply_batch
from shared.chat.generation import Over, never
from shared.chat.pairs import reply_ids
from shared.chat.reply_rows import ReplyRows, reply_log_probabilities, side_by_side
from shared.chat.row_cache import READ_AT_ONCE
from shared.chat.sampling import SamplingSettings
from shared.chat.session import Piece, fit_turns
from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.text.exercise import EQUALS
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import Message

MOST = 64


class Candidate(NamedTuple):
    """One reply of several."""

    reply: Reply
    log_probability: float
    """nats an id, mean over the reply"""

    @property
    def answer(self) -> str:
        """What stands behind the working; all of it where there is none."""
        return self.reply.text.rpartition(EQUALS)[2].strip()


Pick = Callable[[Sequence[Message], Sequence[Candidate]], int]
"""conversation, candidates -> the number of the one to give"""


class Choice(NamedTuple):
    """How a reply is chosen: so many are drawn, and one is picked."""

    count: int
    pick: Pick


def stream_chosen(
    model: Transformer,
    tokenizer: Tokenizer,
    messages: list[Message],
    settings: SamplingSettings,
    choice: Choice,
    over: Over = never,
) -> Iterator[Piece]:
    """Yields the chosen reply, as one piece: which it is shows when all are drawn.

    Like `stream_reply`, it does nothing before it is asked for that piece, and once `over()`
    is true no id follows: what the candidates hold by then is chosen from.

    Raises:
        UserError: there is no message to reply to, or the count is out of range.
    """
    drawn = draw_candidates(model, tokenizer, messages, choice.count, settings, over)
    prompt = fit_turns(messages, [], tokenizer, model.config.context_length)
    yield chosen(messages, drawn, choice.pick, len(tokenizer.decode_bytes(prompt)))


def chosen(messages: list[Message], drawn: list[Candidate], pick: Pick, prompt_bytes: int) -> Piece:
    """The picked one as a whole reply, with how many there were and how many give its answer."""
    best = drawn[pick(messages, drawn)]
    agreed = sum(each.answer == best.answer for each in drawn)
    text, finish_reason, reply_bytes = best.reply
    return Piece(text, finish_reason, prompt_bytes, reply_bytes, len(drawn), agreed)


def draw_candidates(
    model: Transformer,
    tokenizer: Tokenizer,
    messages: list[Message],
    count: int,
    settings: SamplingSettings,
    over: Over = never,
) -> list[Candidate]:
    """So many replies to one conversation, drawn side by side, each from a seed of its own.

    Once `over()` is true they stay as they are.

    Raises:
        UserError: the count is out of range.
    """
    if not 1 <= count <= MOST:
        raise UserError(f"candidates is {count}; expected 1 to {MOST}")
    replies = reply_batch(model, tokenizer, [messages] * count, settings, over=over)
    return weighed(model, tokenizer, messages, replies)


def weighed(
    model: Transformer, tokenizer: Tokenizer, messages: list[Message], replies: Sequence[Reply]
) -> list[Candidate]:
    """Replies to one conversation, each with how likely the model finds it."""
    room = model.config.context_length + 1
    prompt = fit_turns(messages, [], tokenizer, model.config.context_length)
    said = [reply_ids(r.text, tokenizer, r.finish_reason == "stop") for r in replies]
    kept = [prompt[-max(1, room - len(ids)) :] for ids in said]
    rows = side_by_side(kept, [ids[: room - 1] for ids in said])
    sums = _log_probabilities(model, rows)  # (k,)
    means = (sums / rows.replies.sum(dim=1).to(sums.device)).tolist()
    return [Candidate(reply, mean) for reply, mean in zip(replies, means, strict=True)]


@torch.inference_mode()
def _log_probabilities(model: Transformer, rows: ReplyRows) -> Tensor:
    """log p of each reply, (k,); as many at once as are faster so: each position has V logits."""
    at_once = max(1, READ_AT_ONCE // rows.ids.shape[1])
    parts = [rows.part(slice(at, at + at_once)) for at in range(0, len(rows.ids), at_once)]
    return torch.cat([reply_log_probabilities(model, *part) for part in parts])


def by_vote(messages: Sequence[Message], candidates: Sequence[Candidate]) -> int:
    """The likeliest of those that give the commonest answer; a tie goes to the likelier side.

    A reply that did not end has no vote, unless none ended.
    """
    ended = [n for n, c in enumerate(candidates) if c.reply.finish_reason == "stop"]
    voters = ended or range(len(candidates))
    votes = Counter(candidates[n].answer for n in voters)
    return max(voters, key=lambda n: (votes[candidates[n].answer], candidates[n].log_probability))


def by_likelihood(messages: Sequence[Message], candidates: Sequence[Candidate]) -> int:
    """The likeliest; means over the ids, since a sum would prefer short replies."""
    return max(range(len(candidates)), key=lambda n: candidates[n].log_probability)


def by_score(score: Callable[[list[Message], str], float]) -> Pick:
    """The first of those with the highest score: a number, or True and False."""

    def pick(messages: Sequence[Message], candidates: Sequence[Candidate]) -> int:
        scores = [float(score(list(messages), each.reply.text)) for each in candidates]
        return scores.index(max(scores))

    return pick


PICKS: dict[str, Pick] = {"vote": by_vote, "likelihood": by_likelihood}


def pick_named(name: str) -> Pick:
    """The rule called `name`: vote, likelihood, or MODULE:FUNCTION of yours.

    Such a function takes messages and a reply, and returns its score. It is your program: name
    one on the command line only, never on a visitor's behalf.

    Raises:
        UserError: there is none.
    """
    if name in PICKS:
        return PICKS[name]
    module, colon, function = name.partition(":")
    try:
        if not (module and colon and function):
            raise UserError(f"no pick {name!r}: expected vote, likelihood or MODULE:FUNCTION")
        return by_score(getattr(import_module(module), function))
    except (ImportError, AttributeError) as error:
        raise UserError(f"cannot pick by {name}: {error}") from error
