"""Errors that never reach the application, in the form that all others have.

What is no HTTP at all, or announces a body of gigabytes, waitress refuses by itself, in plain
text. Programs that ask are spared a second form of error, and browsers get the same headers.
"""

import json
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask
from web_app import SECURITY_HEADERS, error_body

FIELDS = {413: "body", 431: "headers"}


class JsonErrorTask(ErrorTask):
    """Answers a request that waitress refused."""

    def execute(self) -> None:
        """Writes the answer; the connection is closed after it."""
        error = self.request.error
        field = FIELDS.get(error.code, "request")
        body = json.dumps(error_body(field, f"{error.reason}: {error.body}")).encode()
        self.status = f"{error.code} {error.reason}"
        headers = {"Content-Type": "application/json", **SECURITY_HEADERS}
        self.response_headers.extend(headers.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class JsonErrorChannel(HTTPChannel):
    """A connection whose errors are JSON."""

    error_task_class = JsonErrorTask


def answer_in_json(channels: dict[int, Any]) -> None:
    """Makes all listening sockets in waitress's table answer errors that way."""
    for listening in list(channels.values()):
        if hasattr(listening, "channel_class"):
            listening.channel_class = JsonErrorChannel
