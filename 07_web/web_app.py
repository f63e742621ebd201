"""The Flask application: a page, a chat endpoint, a health check.

GET  /         the page
POST /chat     {"messages": [{"role", "content"}, ...], "temperature"?, "top_k"?, "top_p"?,
                "repetition_penalty"?, "max_new_bytes"?, "seed"?, "stream"?,
                "think"?, "candidates"?, "pick"?: "server" | "vote" | "likelihood"}
               -> {"reply", "finish_reason", "usage"}, or with "stream" server-sent events:
               data: {"text": ...} for each piece, then one with finish_reason and usage
GET  /healthz  {"status": "ok", "model": {...}, "limits": {"max_new_bytes", ...},
                "defaults": {"temperature", ...}}; a learner's own functions that take part in
               replies stand in model.answered_by, and where the weights are given to browsers
               in_browser says how
POST /v1/chat/completions, GET /v1/models   the same for other programs; see completions.py
GET  /weights.tllm   see given_weights.py;  /snapshots.json   see given_snapshots.py

finish_reason  stop: the model closed its turn. length: it was cut, at max_new_bytes, after
               the seconds one reply may take, or because the server ends.
usage          prompt_bytes, reply_bytes, queue_seconds (waited in line before the first byte);
               where several were drawn and one was sent, which then comes as one piece, also
               candidates (how many) and agreed (those of them that gave its answer)
errors         {"error": {"field", "message"}} with status 400, 403, 404, 405, 413, 415, 422;
               503 with Retry-After when the line is full
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chat_request import SERVERS_OWN, BadRequest, ChatRequest, Limits, parse_request
from completion_answers import answer_programs
from desk import Desk, json_body, open_desk, streamed
from flask import Flask, Response, jsonify
from given_snapshots import give_snapshots
from given_weights import give_weights
from same_origin import guard_origins
from server_names import guard_names
from talkers import Talk
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from shared.chat.candidates import PICKS, Pick, by_vote, chosen, weighed
from shared.chat.sampling import SamplingSettings
from shared.chat.session import Piece
from shared.model.transformer import Transformer
from shared.text.tokenizer import ByteTokenizer

PAGE = Path(__file__).with_name("page")
RETRY_SECONDS = 5

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; "
    "img-src 'self' data:; frame-ancestors 'none'",
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
    pick: Pick = by_vote,
    name: str = "tiny-llm",
    side_by_side: bool = True,
    facts: dict[str, Any] | None = None,
    weights: bytes | None = None,
    snapshots: Path | None = None,
    allow_origin: Sequence[str] = (),
    bound_to: str = "127.0.0.1",
    allowed_host: Sequence[str] = (),
    behind_proxy: bool = False,
) -> Flask:
    """Builds the application around one model, which all requests share and none changes.

    Args:
        limits: of one request, and of all at once: the server closes `app.extensions["talkers"]`.
        defaults: sampling settings where a request names none.
        pick: which of several candidates is sent where a request names no rule.
        name: by which other programs ask for the model.
        side_by_side: False where a learner's own functions write, one text at a time.
        facts: what the page may tell about the model.
        weights, snapshots: of a model for browsers, and of its run's past; None refuses.
        allow_origin: other sites whose pages may chat, such as https://example.org.
        bound_to, allowed_host: under which names it may be asked; see `guard_names`.
        behind_proxy: believe X-Forwarded-* headers; without a proxy anybody could write them.
    """
    desk = open_desk(model, tokenizer, limits, defaults, side_by_side)
    app = bare_app(desk.limits, behind_proxy)
    app.extensions["talkers"] = desk.talkers
    offer = give_snapshots(app, snapshots, give_weights(app, weights))
    answer_people(app, desk, pick, {"model": facts or {}, **offer})
    answer_programs(app, desk, name)
    guard_names(app, bound_to, allowed_host, behind_proxy)
    guard_origins(app, allow_origin)
    return app


def answer_people(app: Flask, desk: Desk, pick: Pick, told: dict[str, Any]) -> None:
    """Adds the page, and the addresses that it asks; `told` is about the model."""
    picks = {**PICKS, SERVERS_OWN: pick}

    @app.get("/")
    def page() -> Response:
        return app.send_static_file("chat.html")

    @app.get("/healthz")
    def health() -> Response:
        asked = {"limits": desk.limits.of_one_request(), "defaults": asdict(desk.defaults)}
        return jsonify(status="ok", **asked, **told)

    @app.post("/chat")
    def chat() -> Response:
        asked = parse_request(json_body(), desk.limits, desk.defaults)
        talk, waited = desk.hand_in(asked)
        pieces = talk.pieces() if asked.candidates == 1 else the_chosen(asked, talk)
        return streamed(events(pieces, waited), talk) if asked.stream else whole(pieces, waited)

    def the_chosen(asked: ChatRequest, talk: Talk) -> Iterator[Piece]:
        drawn = weighed(desk.model, desk.tokenizer, asked.messages, talk.read())
        yield chosen(asked.messages, drawn, picks[asked.pick], talk.prompt_bytes)


def bare_app(limits: Limits, behind_proxy: bool) -> Flask:
    """An application with the page's parts and answers to errors; no other address yet."""
    app = Flask(__name__, static_folder=str(PAGE), static_url_path="/page")
    # Room for the largest body that passes and not a byte more is read.
    app.config["MAX_CONTENT_LENGTH"] = limits.max_body_bytes
    if behind_proxy:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)
    answer_errors(app, limits)
    return app


def answer_errors(app: Flask, limits: Limits) -> None:
    """Gives every error the same form, and every answer the security headers."""
    causes = {
        404: ("path", "there is nothing here"),
        405: ("method", "this address does not take that method"),
        413: ("body", f"at most {limits.max_body_bytes} bytes"),
    }

    @app.errorhandler(BadRequest)
    def refuse(error: BadRequest) -> tuple[Response, int, dict[str, str]]:
        again = {"Retry-After": str(RETRY_SECONDS)} if error.status == 503 else {}
        return jsonify(error_body(error.field, error.message)), error.status, again

    @app.errorhandler(HTTPException)
    def as_json(error: HTTPException) -> tuple[Response, int, list[tuple[str, str]]]:
        kept = [(k, v) for k, v in error.get_headers() if k == "Allow"]
        field, message = causes.get(error.code, ("request", error.name))
        return jsonify(error_body(field, message)), error.code or 500, kept

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        return response


def whole(pieces: Iterator[Piece], queue_seconds: float) -> Response:
    """The whole reply as one JSON object."""
    text = ""
    last = None
    for last in pieces:
        text += last.text
    return jsonify(reply=text, **ending(last, queue_seconds))


def events(pieces: Iterator[Piece], queue_seconds: float) -> Iterator[str]:
    """Each piece as one `data:` event; the last one carries finish_reason and usage."""
    for piece in pieces:
        if piece.text:
            yield f"data: {json.dumps({'text': piece.text})}\n\n"
        if piece.finish_reason:
            yield f"data: {json.dumps(ending(piece, queue_seconds))}\n\n"


def ending(last: Piece, queue_seconds: float) -> dict[str, Any]:
    """How a reply ended and what it took."""
    usage = {
        "prompt_bytes": last.prompt_bytes,
        "reply_bytes": last.reply_bytes,
        "queue_seconds": round(queue_seconds, 3),
    }
    votes = {"candidates": last.drawn, "agreed": last.agreed} if last.drawn > 1 else {}
    return {"finish_reason": last.finish_reason, "usage": usage | votes}


def error_body(field: str, message: str) -> dict[str, Any]:
    """The one form of every error."""
    return {"error": {"field": field, "message": message}}
