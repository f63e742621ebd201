"""Desk: where every address that writes replies hands its requests in, and how they go out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chat_request import BadRequest, ChatRequest, Limits
from flask import Response, request
from talkers import STALL_SECONDS, Talk, Talkers

from shared.chat.continuous_batch import ContinuousBatch, InTurn
from shared.chat.sampling import SamplingSettings
from shared.chat.stacked import stacked
from shared.model.transformer import Transformer
from shared.text.tokenizer_file import Tokenizer

STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # no proxy may hold it


@dataclass(frozen=True)
class Desk:
    """One model, and what all who ask for its replies share."""

    model: Transformer
    tokenizer: Tokenizer
    talkers: Talkers
    limits: Limits
    defaults: SamplingSettings
    """sampling settings where a request names none"""
    side_by_side: bool
    """False where a learner's own functions write, one text at a time"""

    def hand_in(self, asked: ChatRequest) -> tuple[Talk, float]:
        """Waits until the request has a row; returns its replies to come, and seconds in the line.

        Raises:
            BadRequest: 503 if it is to come back.
        """
        talk = Talk(asked, self.tokenizer, self.model.config.context_length, client_gone())
        waited = self.talkers.ask(talk)
        if waited is None:
            raise BadRequest(503, "server", "busy: every row is taken, please try again")
        return talk, waited


def open_desk(
    model: Transformer,
    tokenizer: Tokenizer,
    limits: Limits | None,
    defaults: SamplingSettings | None,
    side_by_side: bool,
) -> Desk:
    """A desk with free rows; None takes what stands in the classes."""
    limits = limits or Limits()
    defaults = limits.shortened(defaults or SamplingSettings())
    rows = (limits.concurrent, STALL_SECONDS)
    batch = ContinuousBatch(stacked(model), *rows) if side_by_side else InTurn(model)
    talkers = Talkers(batch, limits)
    return Desk(model, tokenizer, talkers, limits, defaults, side_by_side)


def json_body() -> bytes:
    """The body of a request that says that it is JSON.

    Raises:
        BadRequest: 415 if it does not say so.
    """
    if not request.is_json:
        raise BadRequest(415, "Content-Type", "expected application/json")
    return request.get_data()


def client_gone() -> Callable[[], bool]:
    """A function that tells whether the client has closed its connection.

    Only waitress can tell; elsewhere the answer is always no, and a reply whose reader
    left ends when the server fails to write to it.
    """
    return request.environ.get("waitress.client_disconnected", lambda: False)


def streamed(events: Iterator[str], talk: Talk) -> Response:
    """Server-sent events as they are written; closed early, they free the rows of the talk."""
    response = Response(events, mimetype="text/event-stream", headers=STREAM_HEADERS)
    response.call_on_close(talk.leave)
    return response
