"""Conversations that people bring: lists of messages, or transcripts in a text file.

    {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi!"}]}

What is no conversation is refused with its place. Nothing is guessed, nothing left out.
Promoted by 02_tokenizer.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from shared.errors import UserError
from shared.text.transcript import ROLES, Message, parse

MESSAGES = "messages"
SHAREGPT = (
    '. This is ShareGPT\'s form: rename "conversations" to "messages", "from" to "role" '
    '(human to user, gpt to assistant), "value" to "content"'
)


def messages_of(row: object, place: str) -> list[Message]:
    """The conversation in a row's field `messages`; fields beside it say nothing here.

    Args:
        place: where the row stands, such as `chats.jsonl:12`, for the error.

    Raises:
        UserError: no such field, or see `to_messages`.
    """
    if not isinstance(row, dict) or MESSAGES not in row:
        raise UserError(f"{place}: expected a field {MESSAGES!r}, got {_shape(row)}{_hint(row)}")
    return to_messages(row[MESSAGES], place)


def to_messages(turns: object, place: str) -> list[Message]:
    """Checks a list of turns, each with `role` and `content`; other keys are ignored.

    Raises:
        UserError: no list, a turn without these keys, an unknown role, contents that are
            no text, or no turn of the assistant.
    """
    if not isinstance(turns, list):
        raise UserError(f"{place}: expected a list of messages, got {_shape(turns)}")
    messages = [_message(turn, f"{place}, message {n}") for n, turn in enumerate(turns, start=1)]
    return _with_a_reply(messages, place)


def split_transcripts(text: str, place: str) -> Iterator[tuple[int, list[Message]]]:
    """Each conversation of a transcript file, after the number of its first line.

    Conversations are parted by blank lines.

    Raises:
        UserError: one begins with no role or has no turn of the assistant; or a role is
            spelt `User:`, which would go unseen into the turn before it.
    """
    lines = enumerate(text.split("\n"), start=1)
    for has_text, block in groupby(lines, key=lambda line: bool(line[1].strip())):
        if has_text:
            (first, *_), kept = zip(*block, strict=True)
            _refuse_other_letters(first, kept, place)
            yield first, _one_transcript("\n".join(kept), f"{place}:{first}")


def _message(turn: object, place: str) -> Message:
    if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys():
        raise UserError(f"{place}: expected role and content, got {_shape(turn)}{_hint(turn)}")
    role, content = turn["role"], turn["content"]
    if role not in ROLES:
        raise UserError(f"{place}: role {str(role)[:40]!r}; expected one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise UserError(f"{place}: expected text as content, got {_shape(content)}")
    return Message(role, content)


def _refuse_other_letters(first: int, lines: Sequence[str], place: str) -> None:
    for number, line in enumerate(lines, start=first):
        before, colon, _ = line.partition(":")
        role = before.strip().lower()
        if colon and role in ROLES and before != role and not line.startswith(" "):
            raise UserError(f"{place}:{number}: {before!r} is no role; expected {role!r}")


def _one_transcript(block: str, place: str) -> list[Message]:
    try:
        messages = parse(block.strip() + "\n")
    except UserError as error:
        raise UserError(
            f"{place}: {error} (a blank line ends a conversation: turns with blank lines in "
            "them can come as messages:FILE.jsonl)"
        ) from error
    return _with_a_reply(messages, place)


def _with_a_reply(messages: list[Message], place: str) -> list[Message]:
    if all(message.role != "assistant" for message in messages):
        roles = ", ".join(message.role for message in messages) or "no message at all"
        raise UserError(f"{place}: expected a turn of the assistant, got {roles}")
    return messages


def _shape(value: object) -> str:
    """What it is in JSON's words; of an object its keys."""
    if isinstance(value, dict):
        return ", ".join(value) or "an empty object"
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _hint(value: object) -> str:
    return SHAREGPT if isinstance(value, dict) and value.keys() & {"from", "conversations"} else ""
