"""What other programs get from `/v1/...`: replies, streams, models and errors in their form.

Source: https://platform.openai.com/docs/api-reference/chat (the objects of Chat Completions).
"""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chat_request import BadRequest
from completions import CompletionRequest, parse_completion, refuse_other_models
from desk import Desk, json_body, streamed
from flask import Flask, Response, jsonify, request
from talkers import Part, Talk

from shared.chat.batch_generation import Reply
from shared.chat.continuous_batch import Odds, Text
from shared.text.tokenizer_file import Tokenizer

DONE = "data: [DONE]\n\n"
LEAST = -9999.0  # stands for all that is less likely: JSON has no minus infinity
NEVER_BEGUN = Reply("", "length")


class Answer:
    """All replies to one request, on the way to the program that asked."""

    def __init__(
        self, asked: CompletionRequest, talk: Talk, tokenizer: Tokenizer, model: str
    ) -> None:
        self.asked, self.talk = asked, talk
        self.head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        told = asked.chat.likeliest is not None
        self.odds = [ShownOdds(text, tokenizer) if told else None for text in talk.replies]

    def whole(self) -> dict[str, Any]:
        """All replies as one object."""
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": reply.text, "refusal": None},
                "logprobs": self._logprobs(number, reply.text, is_last=True),
                "finish_reason": reply.finish_reason,
            }
            for number, reply in enumerate(self._all(self.talk.read()))
        ]
        usage = {"usage": self._usage()}
        return self.head | {"object": "chat.completion", "choices": choices} | usage

    def chunks(self) -> Iterator[str]:
        """The replies as they are written, as server-sent events; parts of several take turns."""
        for number in range(len(self.talk.replies)):
            yield self._chunk(number, {"role": "assistant", "content": ""})
        while isinstance(item := self.talk.read(), Part):
            yield self._piece(item.number, item.text)
        for number, reply in enumerate(self._all(item)):
            if reply.text:
                yield self._piece(number, reply.text, is_last=True)
            yield self._chunk(number, {}, reply.finish_reason)
        if self.asked.tells_usage:
            yield self._event([], self._usage())
        yield DONE

    def _all(self, replies: list[Reply]) -> list[Reply]:
        """One for each choice; those that got no row before the time was over are empty."""
        return replies + [NEVER_BEGUN] * (len(self.talk.replies) - len(replies))

    def _piece(self, number: int, text: str, is_last: bool = False) -> str:
        logprobs = self._logprobs(number, text, is_last)
        return self._chunk(number, {"content": text}, logprobs=logprobs)

    def _chunk(
        self,
        number: int,
        delta: dict[str, str],
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> str:
        choice = {"index": number, "delta": delta, "logprobs": logprobs}
        return self._event([choice | {"finish_reason": finish_reason}])

    def _event(self, choices: list[Any], usage: dict[str, int] | None = None) -> str:
        chunk = self.head | {"object": "chat.completion.chunk", "choices": choices}
        told = {"usage": usage} if self.asked.tells_usage else {}
        return f"data: {json.dumps(chunk | told)}\n\n"

    def _logprobs(self, number: int, text: str, is_last: bool) -> dict[str, Any] | None:
        odds = self.odds[number]
        return odds and {"content": odds.of(text, is_last), "refusal": None}

    def _usage(self) -> dict[str, int]:
        """Ids read and drawn, those of closing marks and stops among them."""
        read, drawn = self.talk.prompt_ids, sum(len(text.new) for text in self.talk.replies)
        return {"prompt_tokens": read, "completion_tokens": drawn, "total_tokens": read + drawn}


class ShownOdds:
    """The odds of one reply's ids, each told with the text that it is a part of.

    An id whose text is never shown is not told: the space before the reply, a stop, the turn's end.
    So the bytes of all that is told are those of the reply.
    """

    def __init__(self, text: Text, tokenizer: Tokenizer) -> None:
        self.text, self.tokenizer, self.decoder = text, tokenizer, tokenizer.decoder()
        self.begun = False
        self.read = 0  # characters that are whole
        self.shown_to = 0  # the first character that is not shown, spaces before the reply counted
        self.waiting: list[tuple[int, int, int]] = []  # number of an id, first character, end
        self.seen = 0  # ids

    def of(self, shown: str, is_last: bool) -> list[dict[str, Any]]:
        """Those that belong to the text that is shown next."""
        for token in self.text.new[self.seen :]:
            self._read(token)
        self.shown_to += len(shown)
        # The last text may end in the midst of an id, where a stop begins there.
        ready = [
            number
            for number, first, end in self.waiting
            if (first if is_last else end - 1) < self.shown_to
        ]
        del self.waiting[: len(ready)]
        return [self._entry(self.text.new[n], self.text.odds[n]) for n in ready]

    def _read(self, token: int) -> None:
        whole = self.decoder.feed(token)
        first, end = self.read, self.read + max(1, len(whole))  # a part of one is of that one
        self.read += len(whole)
        if not self.begun:
            self.begun = bool(whole.lstrip(" "))
            self.shown_to += len(whole) - len(whole.lstrip(" "))
        if end > self.shown_to:
            self.waiting.append((self.seen, first, end))
        self.seen += 1

    def _entry(self, token: int, odds: Odds) -> dict[str, Any]:
        likeliest = [self._told(*each) for each in odds.likeliest]
        return self._told(token, odds.log_probability) | {"top_logprobs": likeliest}

    def _told(self, token: int, log_probability: float) -> dict[str, Any]:
        spelled = self.tokenizer.token_bytes(token)
        named = {"token": name_of(spelled), "bytes": list(spelled)}
        return named | {"logprob": max(log_probability, LEAST)}


def name_of(spelled: bytes) -> str:
    """An id's text; where it is a part of a character, its bytes by number."""
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


def name_of_run(checkpoint: Path) -> str:
    """The run's folder; the checkpoint's own where it stands alone, as a published one does."""
    inside = checkpoint.parent.name == "checkpoints"
    return (checkpoint.parents[1] if inside else checkpoint).resolve().name


def answer_programs(app: Flask, desk: Desk, name: str) -> None:
    """Adds /v1/chat/completions and /v1/models, and gives all errors below /v1/ their form.

    Args:
        name: of the one model there is.
    """
    # When it was made nobody knows here, and the field has to be there.
    model = {"id": name, "object": "model", "created": 0, "owned_by": "you"}

    @app.post("/v1/chat/completions")
    def completions() -> Response:
        asked = parse_completion(json_body(), name, desk.limits, desk.defaults)
        if asked.chat.likeliest is not None and not desk.side_by_side:
            raise BadRequest(422, "logprobs", "not told where a learner's own functions write")
        talk, _ = desk.hand_in(asked.chat)
        answer = Answer(asked, talk, desk.tokenizer, name)
        return streamed(answer.chunks(), talk) if asked.chat.stream else jsonify(answer.whole())

    @app.get("/v1/models")
    def models() -> Response:
        return jsonify(object="list", data=[model])

    @app.get("/v1/models/<path:asked>")
    def one_model(asked: str) -> Response:
        refuse_other_models(asked, name)
        return jsonify(model)

    @app.after_request
    def in_their_form(response: Response) -> Response:
        if request.path.startswith("/v1/") and response.status_code >= 400:
            error = response.get_json()["error"]
            body = error_of(response.status_code, error["field"], error["message"])
            response.set_data(json.dumps(body))
            response.status_code = 400 if response.status_code == 422 else response.status_code
        return response


def error_of(status: int, field: str, message: str) -> dict[str, Any]:
    """An error in their form; the message alone says it all, since many programs show no more."""
    of_a_field = status == 422 or field == "model"
    named = f"{field}: {message}" if of_a_field and not message.startswith(field) else message
    return {
        "error": {
            "message": named,
            "type": "server_error" if status >= 500 else "invalid_request_error",
            "param": field if of_a_field else None,
            "code": "model_not_found" if field == "model" and status == 404 else None,
        }
    }
