"""The Flask application: a page, a chat endpoint, a health check.

GET  /         the page
POST /chat     {"messages": [{"role", "content"}, ...], "temperature"?, "top_k"?, "top_p"?,
                "repetition_penalty"?, "max_new_bytes"?, "seed"?, "stream"?}
               -> {"reply", "finish_reason", "usage"}, or with "stream" server-sent events:
               data: {"text": ...} for each piece, then one with finish_reason and usage
GET  /healthz  {"status": "ok", "model": {...}}
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chat_request import BadRequest, Limits, parse_request
from flask import Flask, Response, jsonify, request
from slots import Slots
from werkzeug.exceptions import HTTPException

from shared.chat.sampling import SamplingSettings
from shared.chat.session import Piece, stream_reply
from shared.model.transformer import Transformer
from shared.text.tokenizer import ByteTokenizer

PAGE = Path(__file__).with_name("page")
RETRY_SECONDS = 5

STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # no proxy may hold it
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


def create_app(
    model: Transformer,
    tokenizer: ByteTokenizer,
    *,
    limits: Limits | None = None,
    defaults: SamplingSettings | None = None,
    facts: dict[str, Any] | None = None,
    concurrent: int = 2,
    queue_seconds: float = 30.0,
) -> Flask:
    """Builds the application around one model, which all requests share and none changes.

    Args:
        limits: what one request may ask for.
        defaults: sampling settings where a request names none.
        facts: what the page may tell about the model.
        concurrent: replies written at the same time; the others wait.
        queue_seconds: how long one waits before it is told to come back (503).
    """
    limits, defaults = limits or Limits(), defaults or SamplingSettings()
    app = Flask(__name__, static_folder=str(PAGE), static_url_path="/page")
    # Room for the largest body that passes and not a byte more is read.
    app.config["MAX_CONTENT_LENGTH"] = limits.max_body_bytes
    slots = Slots(concurrent)

    @app.get("/")
    def page() -> Response:
        return app.send_static_file("chat.html")

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(status="ok", model=facts or {})

    @app.post("/chat")
    def chat() -> Response | tuple[Response, int, dict[str, str]]:
        if not request.is_json:
            raise BadRequest(415, "Content-Type", "expected application/json")
        asked = parse_request(request.get_data(), limits, defaults)
        slot = slots.take(queue_seconds)
        if slot is None:
            body = error_body("server", "busy: every slot is taken, please try again")
            return jsonify(body), 503, {"Retry-After": str(RETRY_SECONDS)}
        pieces = slot.guard(stream_reply(model, tokenizer, asked.messages, asked.settings))
        if not asked.stream:
            return whole(pieces)
        response = Response(events(pieces), mimetype="text/event-stream", headers=STREAM_HEADERS)
        response.call_on_close(slot.free)  # a client may leave before the first piece is asked for
        return response

    @app.errorhandler(BadRequest)
    def refuse(error: BadRequest) -> tuple[Response, int]:
        return jsonify(error_body(error.field, error.message)), error.status

    @app.errorhandler(HTTPException)
    def as_json(error: HTTPException) -> tuple[Response, int, list[tuple[str, str]]]:
        kept = [(k, v) for k, v in error.get_headers() if k in ("Allow", "Retry-After")]
        return jsonify(error_body("request", error.name)), error.code or 500, kept

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        return response

    return app


def whole(pieces: Iterator[Piece]) -> Response:
    """The whole reply as one JSON object."""
    text, last = "", None
    for last in pieces:
        text += last.text
    return jsonify(reply=text, **ending(last))


def events(pieces: Iterator[Piece]) -> Iterator[str]:
    """Each piece as one `data:` event; the last one carries finish_reason and usage."""
    for piece in pieces:
        if piece.text:
            yield f"data: {json.dumps({'text': piece.text})}\n\n"
        if piece.finish_reason:
            yield f"data: {json.dumps(ending(piece))}\n\n"


def ending(last: Piece) -> dict[str, Any]:
    """How a reply ended and what it took."""
    usage = {"prompt_bytes": last.prompt_bytes, "reply_bytes": last.reply_bytes}
    return {"finish_reason": last.finish_reason, "usage": usage}


def error_body(field: str, message: str) -> dict[str, Any]:
    """The one form of every error."""
    return {"error": {"field": field, "message": message}}
