"""Yours to write: what `/chat` takes, and how a reply travels.

    make learn                 # shows the task at hand, and grades each time you save
    make check STEP=07         # grades all of this step

Write what is missing below each docstring, in place of `raise NotImplementedError`. You
may add functions of your own.
"""

import json
from collections.abc import Iterator

from shared.chat.session import Piece
from shared.text.transcript import ROLES


def checked(body: bytes) -> tuple[int, str]:
    """The contract of `/chat`: the status of a request, and the field at fault ("" if none is).

    In this order: what is no JSON, or no JSON object, is (400, "body"). "messages" must be a list
    of at least one: else (422, "messages"). Each message must be an object: else
    (422, "messages[0]") for the first. Its "role" must be one of ROLES: "messages[0].role"; its
    "content" a text: "messages[0].content". The last role must be "user". All else is (200, "").

    >>> checked(b'{"messages": [{"role": "user", "content": "hi"}]}'), checked(b"hello")
    ((200, ''), (400, 'body'))
    >>> checked(b'{"messages": [{"role": "user", "content": 5}]}')
    (422, 'messages[0].content')
    """
    raise NotImplementedError


def events(pieces: Iterator[Piece], queue_seconds: float) -> Iterator[str]:
    """A reply as server-sent events: each piece as soon as it is there, and how it ended.

    An event is `data: `, JSON, and an empty line. A piece with a text gives {"text": …}. A piece
    with a `finish_reason` is the last one: after its text, if it has any, comes
    {"finish_reason": …, "usage": {"prompt_bytes": …, "reply_bytes": …, "queue_seconds": …}}, the
    seconds rounded to 3 digits.

    >>> pieces = [Piece("Hi"), Piece("", "stop", prompt_bytes=9, reply_bytes=2)]
    >>> first, last = events(iter(pieces), queue_seconds=0.5)
    >>> first
    'data: {"text": "Hi"}\\n\\n'
    >>> json.loads(last.removeprefix("data: "))["usage"]
    {'prompt_bytes': 9, 'reply_bytes': 2, 'queue_seconds': 0.5}
    """
    raise NotImplementedError
