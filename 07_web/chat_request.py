"""What may be asked of `/chat`, and how a bad request is refused."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from shared.chat.candidates import MOST, PICKS
from shared.chat.sampling import SamplingSettings
from shared.errors import UserError
from shared.text.drills import with_working
from shared.text.tokenizer import to_bytes
from shared.text.transcript import ROLES, Message

SERVERS_OWN = "server"  # the rule that the server was started with, which may be a function
PICK_NAMES = (SERVERS_OWN, *PICKS)


@dataclass(frozen=True)
class Limits:
    """Bounds on what one request may ask for, and on how many are served at once."""

    max_body_bytes: int = 256_000
    """larger requests are refused with 413"""
    max_messages: int = 100
    """turns in one request"""
    max_message_bytes: int = 16_000
    """bytes of UTF-8 in one turn"""
    max_new_bytes: int = 1000
    """longest reply that may be asked for"""
    max_candidates: int = 8
    """replies that may be drawn side by side, to give one of them; 1 turns that off"""
    concurrent: int = 32
    """replies written at the same time, candidates counted one by one"""
    queue_length: int = 32
    """replies that wait until one of those ends; who comes then is told to come back (503)"""
    queue_seconds: float = 30.0
    """longest wait in that line before a 503"""
    reply_seconds: float = 120.0
    """a reply that takes longer ends there; its finish_reason is `length`"""
    connections: int = 500
    """open at the same time, half of the files that a system usually lets a process open"""
    idle_seconds: int = 20
    """a connection is closed when nothing has come for so long and no request of it is served"""

    def of_one_request(self) -> dict[str, int]:
        """What a page must know to send nothing that is refused: the `max_` fields by name."""
        return {k: v for k, v in asdict(self).items() if k.startswith("max_")}

    def shortened(self, settings: SamplingSettings) -> SamplingSettings:
        """The settings with no longer reply than may be asked for."""
        longest = min(settings.max_new_bytes, self.max_new_bytes)
        return replace(settings, max_new_bytes=longest)

    def __post_init__(self) -> None:
        for item in fields(self):
            low = 0 if item.name in ("queue_length", "queue_seconds", "reply_seconds") else 1
            value = getattr(self, item.name)
            if not low <= value < math.inf:
                raise UserError(f"limits.{item.name} is {value}; expected at least {low}")
        if self.max_candidates > MOST:
            count = self.max_candidates
            raise UserError(f"limits.max_candidates is {count}; expected 1 to {MOST}")


@dataclass(frozen=True)
class ChatRequest:
    """A request that passed every check."""

    messages: list[Message]
    """with a line that asks for the working, if that was wanted"""
    settings: SamplingSettings
    stream: bool
    candidates: int
    pick: str | None
    """one of `PICK_NAMES`; None: all are sent"""
    stops: tuple[str, ...] = ()
    """a reply ends before the first of them, too"""
    max_ids: int | None = None
    """longest reply where ids are counted and not bytes"""
    likeliest: int | None = None
    """as in `Text`"""


class BadRequest(Exception):
    """A request that cannot be served: an HTTP status, the field at fault, and why."""

    def __init__(self, status: int, field: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.message = message


def parse_request(body: bytes, limits: Limits, defaults: SamplingSettings) -> ChatRequest:
    """Reads the JSON body of a `POST /chat`.

    Raises:
        BadRequest: 400 if it is not a JSON object, 422 if a field is not as it should be.
    """
    return checked_request(json_object(body), limits, defaults)


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body holds.

    Raises:
        BadRequest: 400 if it holds none.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(400, "body", f"not JSON: {str(error)[:100]}") from error
    if not isinstance(asked, dict):
        raise BadRequest(400, "body", f"expected a JSON object, got {type(asked).__name__}")
    return asked


def checked_request(
    asked: dict[str, Any], limits: Limits, defaults: SamplingSettings
) -> ChatRequest:
    """What the fields of a `POST /chat` ask for.

    Raises:
        BadRequest: 422 if one is not as it should be.
    """
    names = {item.name for item in fields(SamplingSettings)}
    others = ["messages", "stream", "think", "candidates", "pick"]
    unknown = sorted(asked.keys() - names - set(others))
    if unknown:
        known = ", ".join([*others, *sorted(names)])
        raise BadRequest(422, unknown[0][:50], f"unknown field; the known ones are {known}")
    stream, think = _flag(asked, "stream"), _flag(asked, "think")
    messages = _messages(asked.get("messages"), limits)
    return ChatRequest(
        with_working(messages) if think else messages,
        _settings(asked, names, limits, defaults),
        stream,
        _candidates(asked, limits),
        _pick(asked),
    )


def _flag(asked: Mapping[str, Any], name: str) -> bool:
    value = asked.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(422, name, "expected true or false")
    return value


def _candidates(asked: Mapping[str, Any], limits: Limits) -> int:
    count = asked.get("candidates", 1)
    if isinstance(count, bool) or not isinstance(count, int):
        kind = type(count).__name__
        raise BadRequest(422, "candidates", f"expected a whole number, got {kind}")
    if not 1 <= count <= limits.max_candidates:
        raise BadRequest(422, "candidates", f"expected 1 to {limits.max_candidates}")
    return count


def _pick(asked: Mapping[str, Any]) -> str:
    """A name and nothing else: what it stands for was loaded when the server started."""
    name = asked.get("pick", SERVERS_OWN)
    if name not in PICK_NAMES:
        raise BadRequest(422, "pick", f"expected one of {', '.join(PICK_NAMES)}")
    return name


def _messages(given: Any, limits: Limits) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise BadRequest(422, "messages", "expected a list of at least one message")
    if len(given) > limits.max_messages:
        raise BadRequest(422, "messages", f"at most {limits.max_messages} messages")
    messages = [_message(item, f"messages[{at}]", limits) for at, item in enumerate(given)]
    if messages[-1].role != "user":
        raise BadRequest(422, f"messages[{len(given) - 1}].role", "the last message is the user's")
    return messages


def _message(item: Any, place: str, limits: Limits) -> Message:
    if not isinstance(item, dict):
        raise BadRequest(422, place, "expected an object with role and content")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise BadRequest(422, f"{place}.role", f"expected one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise BadRequest(422, f"{place}.content", "expected a text")
    if not content.strip() and role != "assistant":  # a model may have had nothing to say
        raise BadRequest(422, f"{place}.content", "expected a text that is not empty")
    if len(to_bytes(content)) > limits.max_message_bytes:
        raise BadRequest(422, f"{place}.content", f"at most {limits.max_message_bytes} bytes")
    return Message(role, content)


def _settings(
    asked: Mapping[str, Any], names: set[str], limits: Limits, defaults: SamplingSettings
) -> SamplingSettings:
    settings = defaults
    for name in sorted(asked.keys() & names):
        value = asked[name]
        whole = name in ("top_k", "max_new_bytes", "seed")
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            if not (name == "seed" and value is None):
                kind = "a whole number" if whole else "a number"
                raise BadRequest(422, name, f"expected {kind}, got {type(value).__name__}")
        try:
            settings = replace(settings, **{name: value})
        except UserError as error:
            raise BadRequest(422, name, str(error)[:200]) from error
    if settings.max_new_bytes > limits.max_new_bytes:
        raise BadRequest(422, "max_new_bytes", f"at most {limits.max_new_bytes}")
    return settings
