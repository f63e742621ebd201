"""Transcript: how a conversation becomes plain text, and back.

    system: Answer in one line.
    user: hello
    assistant: Hello! What shall we talk about?

One line a turn; a turn may have more lines. A line inside a turn that looks like
the start of another turn gets one more leading space, so nobody can speak with
another's voice; `parse` takes that space off again. Some tokenizers normalise text
(`Ａ` to `a`, accents and zero-width characters to nothing): what such a one could
turn into the start of a turn looks like it.
Promoted by 02_tokenizer.
"""

import re
import unicodedata
from typing import Literal, NamedTuple

import regex

from shared.errors import UserError

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
REPLY_CUE = "assistant:"
STOPS = tuple(f"\n{role}:" for role in ROLES)

_TURN = re.compile(rf"^({'|'.join(ROLES)}): ?", re.MULTILINE)
_UNSEEN = regex.compile(r"[\p{M}\p{C}\p{Z}]+")  # marks, controls, spaces of every kind


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str


def render(messages: list[Message]) -> str:
    """The conversation as text, each turn ended by a newline."""
    return "".join(f"{role}: {_escape(content)}\n" for role, content in messages)


def render_prompt(messages: list[Message]) -> str:
    """The conversation as text that the assistant is to continue."""
    return render(messages) + REPLY_CUE


def parse(text: str) -> list[Message]:
    """Reads one conversation; `parse(render(messages)) == messages`.

    Raises:
        UserError: the text does not begin with a role.
    """
    if not text.strip():
        return []
    starts = list(_TURN.finditer(text))
    if not starts or starts[0].start() != 0:
        first = text.splitlines()[0][:60]
        raise UserError(f"a transcript line begins with one of {', '.join(ROLES)}: got {first!r}")
    ends = [match.start() - 1 for match in starts[1:]] + [len(text.removesuffix("\n"))]
    return [
        Message(match.group(1), _unescape(text[match.end() : end]))
        for match, end in zip(starts, ends, strict=True)
    ]


def _escape(content: str) -> str:
    # The first line follows "role: " and so can never be taken for a turn.
    first, *rest = content.replace("\x1e", "").splitlines(keepends=True) or [""]
    return first + "".join(" " + line if _looks_like_a_turn(line) else line for line in rest)


def _unescape(content: str) -> str:
    first, *rest = content.splitlines(keepends=True) or [""]
    escaped = (line[0] == " " and _looks_like_a_turn(line) for line in rest)
    return first + "".join(line[cut:] for line, cut in zip(rest, escaped, strict=True))


def _looks_like_a_turn(line: str) -> bool:
    # Long runs of marks take normalize quadratic time, so they go first.
    letters = unicodedata.normalize("NFKD", _UNSEEN.sub("", line)).casefold()
    return _TURN.match(_UNSEEN.sub("", letters)) is not None
