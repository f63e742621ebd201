"""Chat session: from messages to a reply, piece by piece.

Promoted by 06_chat.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from shared.chat.generation import Over, never, stream_ids
from shared.chat.sampling import SamplingSettings
from shared.chat.speculation import SILENT, Speculation
from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import REPLY_CUE, STOPS, Message, render, render_prompt

LONG_TOKEN = 8  # characters; over a whole text tokens have about four

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Piece:
    """A part of a reply: some text, and on the last piece how and why it ended."""

    text: str
    finish_reason: FinishReason | None = None
    """stop: the model closed its turn; length: max_new_bytes were reached, or it was over"""
    prompt_bytes: int = 0
    reply_bytes: int = 0
    """bytes drawn, those of the closing mark included"""
    drawn: int = 1
    """replies that this one was chosen from, itself included"""
    agreed: int = 1
    """those of them that give its answer"""


def stream_reply(
    model: Transformer,
    tokenizer: Tokenizer,
    messages: list[Message],
    settings: SamplingSettings,
    over: Over = never,
    speculation: Speculation = SILENT,
) -> Iterator[Piece]:
    """Yields the assistant's next turn as its characters become whole.

    The turn ends where the model begins another one (`user:` at the start of a line) or ends
    the document, or early, once `over()` is true. If conversation and reply outgrow the context,
    the oldest whole turns are dropped and the rest is read again; see `fit_turns`.

    Raises:
        UserError: there is no message to reply to.
    """
    if not messages:
        raise UserError("messages is empty; expected at least one turn of the user's")
    if over():
        yield Piece("", "length")
        return
    prompt = fit_turns(messages, [], tokenizer, model.config.context_length)
    reply = GrowingReply(tokenizer, settings.max_new_bytes)

    def drop_turns(_: list[int]) -> list[int]:
        return fit_turns(messages, reply.ids, tokenizer, model.config.context_length)

    for token in stream_ids(model, prompt, settings, drop_turns, over, speculation):
        text = reply.add(token)
        if text:
            yield Piece(text)
        if reply.over:
            break
    prompt_bytes = len(tokenizer.decode_bytes(prompt))
    yield Piece(reply.rest(), reply.finish_reason, prompt_bytes, reply.size)


def fit_turns(
    messages: list[Message], reply: list[int], tokenizer: Tokenizer, context_length: int
) -> list[int]:
    """Ids of prompt and reply so far, with a quarter of the context left to write in.

    Drops the oldest turns one by one, up to a user's. If the last turn alone is too long, its
    beginning goes, or that of the reply. A first system message always leads; in such a case
    it keeps at most half of the room, its beginning.
    """
    room = context_length - context_length // 4
    longest = LONG_TOKEN * room
    system = [m._replace(content=m.content[:longest]) for m in messages[:1] if m.role == "system"]
    taken = len(reply) + sum(_count(render([m])[:-1], tokenizer) for m in system)
    turns = _recent(messages[len(system) :], taken, room, tokenizer)
    prompt = tokenizer.encode(render_prompt(system + turns)).tolist()
    ids = [tokenizer.end_of_text, *prompt, *reply]
    if not system or len(ids) <= room:
        return ids[-room:]
    lead = [tokenizer.end_of_text, *tokenizer.encode(render(system)).tolist()]
    rest = ids[len(lead) :]
    half = max(1, room // 2)
    if len(lead) > half:
        lead = [*lead[: half - 1], lead[-1]]  # with its newline: a turn begins on a line
    return lead + rest[max(0, len(lead) + len(rest) - room) :]


def _recent(turns: list[Message], taken: int, room: int, tokenizer: Tokenizer) -> list[Message]:
    """The last turns that fit beside `taken` ids, from a user's on; the very last in any case.

    Goes from the newest back and encodes no more than fills the room, however much there is.
    """
    taken += _count(REPLY_CUE, tokenizer)
    seen: list[Message] = []
    kept = 0
    for message in reversed(turns):
        content = _enough(message.content, room, tokenizer)
        seen.append(message._replace(content=content))
        taken += _count(render(seen[-1:])[:-1], tokenizer)
        if kept and taken > room:
            break
        if not kept or message.role == "user" or len(seen) == len(turns):
            kept = len(seen)
    return seen[:kept][::-1]


def _count(line: str, tokenizer: Tokenizer) -> int:
    """Ids of a turn and the newline before it; the first has the end-of-text id there."""
    return len(tokenizer.encode("\n" + line))


def _enough(text: str, room: int, tokenizer: Tokenizer) -> str:
    """The end of a text, if that is too long for the room already; else all of it.

    Twice as many ids as have room: where the cut goes through a word, the word's ids are
    others, but no such id is among the last that stay.
    """
    size = LONG_TOKEN * room
    while size < len(text) and len(tokenizer.encode(text[-size:])) < 2 * room:
        size *= 2
    return text[-size:]


class GrowingReply:
    """A reply that ids are added to: what of it can be shown, and whether it is over.

    It ends before the first of `stops`, as it does where another turn begins.
    """

    def __init__(self, tokenizer: Tokenizer, max_new_bytes: int, stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.max_new_bytes = tokenizer, max_new_bytes
        self.decoder, self.shown = tokenizer.decoder(), _Visible((*STOPS, *stops))
        self.ids: list[int] = []
        self.size = 0
        self.finish_reason: FinishReason = "length"

    def add(self, token: int) -> str:
        """Takes in the next id; returns the characters that can be shown now."""
        if token == self.tokenizer.end_of_text:
            self.finish_reason = "stop"
            return ""
        self.ids.append(token)
        self.size += len(self.tokenizer.token_bytes(token))
        text = self.shown.add(self.decoder.feed(token))
        if self.shown.stopped:
            self.finish_reason = "stop"
        return text

    @property
    def over(self) -> bool:
        """Whether no id is to follow."""
        return self.finish_reason == "stop" or self.size >= self.max_new_bytes

    def rest(self) -> str:
        """The last of its text: what was held back, and a half character as a whole sign."""
        return self.shown.add(self.decoder.flush()) + self.shown.rest()


class _Visible:
    """Holds text back while it might be the beginning of the next turn's mark, or another stop."""

    def __init__(self, stops: Sequence[str] = STOPS) -> None:
        self.stops = stops
        self.held, self.started, self.stopped = "", False, False

    def add(self, text: str) -> str:
        """Takes new text; returns what can safely be shown now."""
        if self.stopped:
            return ""
        self.held += text
        if not self.started:  # the space after "assistant:" is the transcript's, not the reply's
            self.held = self.held.lstrip(" ")
            self.started = bool(self.held)
        ends = [at for at in map(self.held.find, self.stops) if at >= 0]
        if ends:
            shown, self.held, self.stopped = self.held[: min(ends)], "", True
            return shown
        keep = max(
            (n for stop in self.stops for n in range(1, len(stop)) if self.held.endswith(stop[:n])),
            default=0,
        )
        shown, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return shown

    def rest(self) -> str:
        """What was held back and turned out to be text; the turn's own newline is not."""
        return self.held.removesuffix("\n")


@dataclass
class ChatSession:
    """One conversation: it remembers its turns and keeps nothing outside itself."""

    model: Transformer
    tokenizer: Tokenizer
    settings: SamplingSettings = field(default_factory=SamplingSettings)
    messages: list[Message] = field(default_factory=list)
    speculation: Speculation = SILENT
    """guesses what comes next, and learns from what was said"""

    def say(self, text: str) -> Iterator[Piece]:
        """Adds a user's turn and yields the reply; what was yielded is kept even if cut short."""
        self.messages.append(Message("user", text))
        said = ""
        given = (self.model, self.tokenizer, self.messages, self.settings)
        try:
            for piece in stream_reply(*given, speculation=self.speculation):
                said += piece.text
                yield piece
        finally:
            self.messages.append(Message("assistant", said))

    def set_system(self, text: str) -> None:
        """Sets the system message, or takes it away if `text` is empty."""
        turns = [message for message in self.messages if message.role != "system"]
        self.messages = ([Message("system", text)] if text else []) + turns

    def reset(self) -> None:
        """Forgets every turn but the system message."""
        self.messages = [message for message in self.messages if message.role == "system"]

    def change(self, **changes: object) -> None:
        """Changes sampling settings by name.

        Raises:
            UserError: a value out of range.
        """
        self.settings = replace(self.settings, **changes)
