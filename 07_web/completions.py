"""What other programs ask of `/v1/chat/completions`, put into the words of `/chat`.

Many programs know one form of asking, that of OpenAI's Chat Completions:
https://platform.openai.com/docs/api-reference/chat/create. Each of its fields is taken, ignored
where it changes no reply, or refused by name: who asks for a tool should not get a reply that
never saw it. What /chat limits and checks is checked where it checks it, in `chat_request`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chat_request import BadRequest, ChatRequest, Limits, checked_request, json_object

from shared.chat.sampling import SamplingSettings

MOST_STOPS, LONGEST_STOP = 4, 64  # each of them is looked for after each byte
MOST_LIKELIEST = 20

TAKEN = {  # our names of their fields
    "stream": "stream",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "n": "candidates",
    "max_tokens": "max_new_bytes",
    "max_completion_tokens": "max_new_bytes",
    # Not theirs: what `/chat` takes besides.
    "top_k": "top_k",
    "repetition_penalty": "repetition_penalty",
    "think": "think",
}
READ_HERE = ("model", "messages", "stop", "logprobs", "top_logprobs", "stream_options")
IGNORED = (
    *("user", "safety_identifier", "metadata"),  # who asks, and the asker's own notes
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),  # only how fast
    *("prediction", "service_tier", "parallel_tool_calls"),
)
REFUSED = {  # with the value that asks for nothing and passes, and why others do not
    "tools": ([], "there are no tools here"),
    "tool_choice": ("none", "there are no tools here"),
    "functions": ([], "there are no functions here"),
    "function_call": ("none", "there are no functions here"),
    "web_search_options": ({}, "the model sees nothing but the messages"),
    "response_format": ({"type": "text"}, "a reply is plain text, in no promised form"),
    "modalities": (["text"], "a reply is text alone"),
    "audio": ({}, "a reply is text alone"),
    "logit_bias": ({}, "no id can be made likelier"),
    "frequency_penalty": (0, "repetition_penalty is the one penalty here"),
    "presence_penalty": (0, "repetition_penalty is the one penalty here"),
    "reasoning_effort": ("none", 'send "think": true, which asks for the working'),
    "verbosity": ("medium", "say in a system message how long a reply you want"),
    "moderation": ({}, "nothing is moderated here"),
    "store": (False, "this server keeps nothing"),
}
REFUSED_IN_MESSAGES = {
    "name": "a turn has its role alone; put the name into the content",
    "tool_calls": "there are no tools here",
    "tool_call_id": "there are no tools here",
    "function_call": "there are no functions here",
    "audio": "a turn is text alone",
}
SYSTEM_TOO = "developer"


@dataclass(frozen=True)
class CompletionRequest:
    """A request of another program that passed every check."""

    chat: ChatRequest
    """all its candidates are sent"""
    tells_usage: bool
    """whether a stream ends with the count of its ids"""


def parse_completion(
    body: bytes, model: str, limits: Limits, defaults: SamplingSettings
) -> CompletionRequest:
    """Reads the JSON body of a `POST /v1/chat/completions`; null is the same as left out.

    Args:
        model: the name of the one that is served.

    Raises:
        BadRequest: 400 if it is no JSON object, 404 if it asks for another model, 422 if a field is
            not as it should be or is not served here; with the field's name as it was sent.
    """
    asked = {name: value for name, value in json_object(body).items() if value is not None}
    refuse_what_is_not_served(asked)
    refuse_other_models(asked.get("model", model), model)
    stops, likeliest, tells_usage = _stops(asked), _likeliest(asked), _tells_usage(asked)
    ours = {TAKEN[name]: value for name, value in asked.items() if name in TAKEN}
    ours["messages"] = _turns(asked.get("messages"))
    try:
        chat = checked_request(ours, limits, defaults)
    except BadRequest as error:
        raise _renamed(error, asked) from error
    if "max_new_bytes" in ours:
        settings = replace(chat.settings, max_new_bytes=limits.max_new_bytes)
        chat = replace(chat, settings=settings, max_ids=ours["max_new_bytes"])
    chat = replace(chat, pick=None, stops=stops, likeliest=likeliest)
    return CompletionRequest(chat, tells_usage)


def refuse_other_models(asked: Any, model: str) -> None:
    """404 for every model but the one that is served."""
    if asked != model:
        raise BadRequest(404, "model", f"no {str(asked)[:50]!r} here; there is {model!r}")


def refuse_what_is_not_served(asked: Mapping[str, Any]) -> None:
    """Refuses fields that would change the reply elsewhere and cannot here; unknown ones, too."""
    for name, value in asked.items():
        if name in REFUSED:
            passes, why = REFUSED[name]
            if value != passes:
                raise BadRequest(422, name, f"not served: {why}")
        elif name not in (*TAKEN, *READ_HERE, *IGNORED):
            raise BadRequest(422, name[:50], "unknown field: see 07_web/other_programs.md")
    if "max_tokens" in asked and "max_completion_tokens" in asked:
        raise BadRequest(422, "max_tokens", "means the same as max_completion_tokens: send one")


def _renamed(error: BadRequest, asked: Mapping[str, Any]) -> BadRequest:
    """A refusal in our words, in those of who asked."""
    sent = next((name for name in TAKEN if name in asked and TAKEN[name] == error.field), None)
    if sent is None:
        return error
    return BadRequest(error.status, sent, error.message.replace(error.field, sent))


def _turns(given: Any) -> Any:
    """The messages, their texts whole and with roles that we have; what is none stays as it is."""
    if not isinstance(given, list):
        return given
    return [_turn(turn, f"messages[{at}]") for at, turn in enumerate(given)]


def _turn(turn: Any, place: str) -> Any:
    if not isinstance(turn, dict):
        return turn
    role, content = turn.get("role"), turn.get("content")
    if role in ("tool", "function"):
        raise BadRequest(422, f"{place}.role", "not served: there are no tools here")
    for name, why in REFUSED_IN_MESSAGES.items():
        if turn.get(name):
            raise BadRequest(422, f"{place}.{name}", f"not served: {why}")
    if isinstance(content, list):
        content = "\n".join(_text(part, f"{place}.content[{n}]") for n, part in enumerate(content))
    return {"role": "system" if role == SYSTEM_TOO else role, "content": content}


def _text(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text" or not isinstance(part.get("text"), str):
        told = f"{kind[:30]} is not served: " if isinstance(kind, str) and kind != "text" else ""
        raise BadRequest(422, place, told + 'expected {"type": "text", "text": ...}')
    return part["text"]


def _stops(asked: Mapping[str, Any]) -> tuple[str, ...]:
    given = asked.get("stop", [])
    stops = [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or len(stops) > MOST_STOPS:
        raise BadRequest(422, "stop", f"expected a text, or a list of at most {MOST_STOPS}")
    if not all(isinstance(each, str) and 0 < len(each) <= LONGEST_STOP for each in stops):
        raise BadRequest(422, "stop", f"expected texts of 1 to {LONGEST_STOP} characters")
    return tuple(stops)


def _likeliest(asked: Mapping[str, Any]) -> int | None:
    wanted, count = asked.get("logprobs", False), asked.get("top_logprobs", 0)
    _expect(isinstance(wanted, bool), "logprobs", "expected true or false")
    whole = isinstance(count, int) and not isinstance(count, bool)
    fits = whole and 0 <= count <= MOST_LIKELIEST
    _expect(fits, "top_logprobs", f"expected a whole number, 0 to {MOST_LIKELIEST}")
    _expect(wanted or not count, "top_logprobs", 'only with "logprobs": true')
    return count if wanted else None


def _tells_usage(asked: Mapping[str, Any]) -> bool:
    options = asked.get("stream_options", {})
    _expect(isinstance(options, dict), "stream_options", "expected an object")
    _expect(not options or asked.get("stream"), "stream_options", 'only with "stream": true')
    for name in options:
        known = name in ("include_usage", "include_obfuscation")  # the second is ignored
        _expect(known, f"stream_options.{name[:50]}", "unknown field")
    tells = options.get("include_usage") or False
    _expect(isinstance(tells, bool), "stream_options.include_usage", "expected true or false")
    return tells


def _expect(true: Any, field: str, message: str) -> None:
    if not true:
        raise BadRequest(422, field, message)
