"""Grades `write_web.py`: each exercise by its contract, and the mistakes that it knows.

Under pytest the function under test is the shipped one; `make learn` and `make check` call the
same tests with the learner's. Whoever is still writing: what stands here tells much.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import web_app
from chat_request import BadRequest, Limits, parse_request
from judging import Answer, Draw, grades

from shared.chat.sampling import SamplingSettings
from shared.chat.session import Piece
from shared.text.transcript import ROLES


@grades("checked")
def test_a_bad_request_is_told_which_field_is_wrong(answer: Answer, draw: Draw):
    user = {"role": "user", "content": draw.text()}
    reply = {"role": "assistant", "content": draw.text()}
    before = [user, reply] * draw.whole(1, 2)
    last = f"messages[{len(before)}]"
    cases = [
        ([*before, user], (200, "")),
        ([*before, {"role": "robot", "content": "hi"}], (422, f"{last}.role")),
        ([*before, {"role": "user", "content": draw.whole(2, 9)}], (422, f"{last}.content")),
        ([*before, draw.text()], (422, last)),
        ([*before, user, reply], (422, f"messages[{len(before) + 1}].role")),
        ([], (422, "messages")),
        (draw.text(), (422, "messages")),
    ]
    for messages, expected in cases:
        answer.gives(expected, json.dumps({"messages": messages}).encode())
    answer.gives((422, "messages"), b"{}")
    for body in (json.dumps(before).encode(), draw.text().encode(), b'{"messages": '):
        answer.gives((400, "body"), body)


@grades("events")
def test_a_reply_travels_as_events_that_end_with_an_empty_line(answer: Answer, draw: Draw):
    texts = [draw.text(2), "", f'two\nlines, "{draw.text(1)}"', draw.text(1)]
    ending = dict(finish_reason=draw.random.choice(["stop", "length"]), prompt_bytes=7)
    ending |= {"reply_bytes": draw.whole(20, 90)}
    pieces = [*map(Piece, texts[:-1]), Piece(texts[-1], **ending)]
    waited = draw.between(1, 2)
    reason = ending.pop("finish_reason")
    usage = ending | {"queue_seconds": round(waited, 3)}
    expected = [{"text": text} for text in texts if text]
    expected.append({"finish_reason": reason, "usage": usage})

    def received(function: Callable) -> list[Any]:
        return [read(event) for event in "".join(function(iter(pieces), waited)).split("\n\n")]

    answer.used(received, [*expected, ""], "what a reader makes of the stream")


def read(event: str) -> Any:
    """An event's value, or its text if it is none."""
    try:
        return json.loads(event.removeprefix("data: ")) if event.startswith("data: ") else event
    except ValueError:
        return event


def shipped_check(body: bytes) -> tuple[int, str]:
    """What the shipped reader says."""
    try:
        parse_request(body, Limits(), SamplingSettings())
    except BadRequest as error:
        return error.status, error.field
    return 200, ""


ADAPTERS = {"checked": shipped_check}


def last_role_first(body: bytes) -> tuple[int, str]:
    """The last role is looked at before anything else."""
    status, field = shipped_check(body)
    if not field.startswith("messages["):
        return status, field
    last = json.loads(body)["messages"][-1]
    named = f"messages[{len(json.loads(body)['messages']) - 1}].role"
    users = isinstance(last, dict) and last.get("role") == "user"
    return 422, field if users else named


def other_events(
    pieces: Iterator[Piece], queue_seconds: float, end: str = "\n\n", empty: bool = False
) -> Iterator[str]:
    """Events with another ending, or empty ones, too."""
    for piece in pieces:
        if piece.text or empty:
            yield f"data: {json.dumps({'text': piece.text})}{end}"
        if piece.finish_reason:
            yield f"data: {json.dumps(web_app.ending(piece, queue_seconds))}{end}"


MISTAKES = {
    "checked": {
        "any role at the end: the last message is the user's": lambda body: (
            (200, "")
            if shipped_check(body)[1].endswith(".role")
            and json.loads(body)["messages"][-1]["role"] in ROLES
            else shipped_check(body)
        ),
        "numbers of messages begin at 0": lambda body: (
            shipped_check(body)[0],
            "".join(str(int(c) + 1) if c.isdigit() else c for c in shipped_check(body)[1]),
        ),
        "JSON that is no object is a bad body, status 400": lambda body: (
            (422, "messages") if body.startswith(b"[") else shipped_check(body)
        ),
        "an empty list is no conversation": lambda body: (
            (200, "") if b'"messages": []' in body else shipped_check(body)
        ),
        "the message itself is at fault where it is no object": last_role_first,
    },
    "events": {
        "one newline: an event ends with an empty line, so two": lambda pieces, seconds: (
            other_events(pieces, seconds, end="\n")
        ),
        "a piece without a text is sent: it says nothing": lambda pieces, seconds: other_events(
            pieces, seconds, empty=True
        ),
        "the last piece's own text is lost": lambda pieces, seconds: web_app.events(
            (replace(p, text="") if p.finish_reason else p for p in pieces), seconds
        ),
        "how it ended is not said": lambda pieces, seconds: (
            event for event in web_app.events(pieces, seconds) if "finish_reason" not in event
        ),
        "the text goes out as it is: a newline in it ends the event; JSON does not": (
            lambda pieces, seconds: (
                event.replace("\\n", "\n") for event in web_app.events(pieces, seconds)
            )
        ),
    },
}
