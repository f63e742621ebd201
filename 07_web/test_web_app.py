"""The endpoint: right answers, streamed whole, and bad requests refused by field."""

import json
import threading
from dataclasses import asdict

import pytest
import torch
from chat_request import Limits
from served_models import CONFIG, Talker, free_rows, wait_until
from web_app import create_app

from shared.chat.sampling import SamplingSettings
from shared.chat.session import stream_reply
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.transcript import Message

SCRIPTS = [
    *("chat.js", "answers.js", "facts.js", "kept.js", "settings.js", "turns.js"),
    *("engine/choice.js", "engine/answering.js"),
]
STYLES = ("chat.css", "turns.css")
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(ModelConfig(context_length=64, n_layers=1, d_model=32, n_heads=2)).eval()


@pytest.fixture
def app(model, tokenizer):
    return create_app(model, tokenizer, facts={"parameters": model.count_parameters()})


@pytest.fixture
def client(app):
    return app.test_client()


def expected_reply(model, tokenizer, **settings) -> str:
    pieces = stream_reply(model, tokenizer, [Message("user", "hi")], SamplingSettings(**settings))
    return "".join(piece.text for piece in pieces)


def test_a_reply_is_what_shared_chat_says(client, model, tokenizer):
    asked = {"messages": HI, "seed": 7, "max_new_bytes": 20, "temperature": 1.5}
    answer = client.post("/chat", json=asked).get_json()
    assert answer["reply"] == expected_reply(
        model, tokenizer, seed=7, max_new_bytes=20, temperature=1.5
    )
    assert answer["finish_reason"] in ("stop", "length")
    assert answer["usage"]["prompt_bytes"] == len("\x1euser: hi\nassistant:")
    assert 0 < answer["usage"]["reply_bytes"] <= 20


def test_a_streamed_reply_is_the_same_text_in_pieces(client):
    asked = {"messages": HI, "seed": 7, "max_new_bytes": 30}
    whole = client.post("/chat", json=asked).get_json()
    response = client.post("/chat", json=asked | {"stream": True})
    assert response.mimetype == "text/event-stream"
    assert response.headers["X-Accel-Buffering"] == "no"
    blocks = response.get_data(as_text=True).split("\n\n")
    events = [json.loads(block.removeprefix("data: ")) for block in blocks if block]
    assert "".join(event.get("text", "") for event in events) == whole["reply"]
    assert events[-1] == {"finish_reason": whole["finish_reason"], "usage": whole["usage"]}
    assert len(events) > 3


def test_a_stream_is_written_as_it_is_drawn(client):
    asked = {"messages": HI, "seed": 7, "max_new_bytes": 30, "stream": True}
    response = client.post("/chat", json=asked, buffered=False)
    first = next(iter(response.response))
    assert b"text" in first and b"finish_reason" not in first
    response.close()


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages[0].content"),
        ({"messages": [*HI, {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        ({"messages": HI * 101}, "messages"),
        ({"messages": [{"role": "user", "content": "é" * 9000}]}, "messages[0].content"),
        ({"messages": HI, "temperature": -1}, "temperature"),
        ({"messages": HI, "temperature": float("nan")}, "temperature"),
        ({"messages": HI, "temperature": "hot"}, "temperature"),
        ({"messages": HI, "temperature": True}, "temperature"),
        ({"messages": HI, "temperature": None}, "temperature"),
        ({"messages": HI, "temperature": 10**400}, "temperature"),
        ({"messages": HI, "top_p": 0}, "top_p"),
        ({"messages": HI, "top_k": 1.5}, "top_k"),
        ({"messages": HI, "max_new_bytes": 10**9}, "max_new_bytes"),
        ({"messages": HI, "max_new_bytes": 1001}, "max_new_bytes"),
        ({"messages": HI, "seed": 2**70}, "seed"),
        ({"messages": HI, "stream": "yes"}, "stream"),
        ({"messages": HI, "model": "gpt"}, "model"),
    ],
)
def test_a_wrong_field_is_422_and_named(asked, field, client):
    response = client.post("/chat", data=json.dumps(asked), content_type="application/json")
    assert response.status_code == 422, response.get_data(as_text=True)
    assert response.get_json()["error"]["field"] == field


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_400(body, client):
    response = client.post("/chat", data=body, content_type="application/json")
    assert response.status_code == 400
    assert response.get_json()["error"]["field"] == "body"


def test_wrong_method_type_size_and_address(client):
    assert client.get("/chat").status_code == 405
    assert client.post("/chat", data="hi", content_type="text/plain").status_code == 415
    huge = json.dumps({"messages": [{"role": "user", "content": "x" * 300_000}]})
    assert client.post("/chat", data=huge, content_type="application/json").status_code == 413
    assert client.get("/nothing").status_code == 404
    for response in (client.get("/chat"), client.get("/nothing")):
        assert "error" in response.get_json()


def test_half_a_surrogate_pair_is_text_like_any_other(client):
    body = b'{"messages": [{"role": "user", "content": "\\ud800 x"}], "max_new_bytes": 3}'
    assert client.post("/chat", data=body, content_type="application/json").status_code == 200


def test_when_every_row_is_taken_the_next_one_is_told_to_come_back(tokenizer):
    limits = Limits(concurrent=1, queue_seconds=0.05, max_new_bytes=100_000)
    app = create_app(Talker(CONFIG).eval(), tokenizer, limits=limits)
    held = app.test_client().post(
        "/chat", json={"messages": HI, "stream": True, "max_new_bytes": 100_000}, buffered=False
    )
    refused = app.test_client().post("/chat", json={"messages": HI})
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
    held.close()  # the client leaves in the middle of its reply, and its row is free again
    wait_until(lambda: free_rows(app) == 1)
    accepted = app.test_client().post("/chat", json={"messages": HI, "max_new_bytes": 3})
    assert accepted.status_code == 200


def test_refused_requests_take_no_row(model, tokenizer):
    client = create_app(
        model, tokenizer, limits=Limits(concurrent=1, queue_seconds=0.05)
    ).test_client()
    for _ in range(5):
        assert client.post("/chat", json={"messages": []}).status_code == 422
    assert client.post("/chat", json={"messages": HI, "max_new_bytes": 3}).status_code == 200


def test_people_who_chat_at_once_get_their_own_replies(app):
    def ask(seed: int) -> str:
        asked = {"messages": HI, "seed": seed, "max_new_bytes": 40, "temperature": 1.0}
        return app.test_client().post("/chat", json=asked).get_json()["reply"]

    alone = {seed: ask(seed) for seed in range(8)}
    together: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda s=seed: together.update({s: ask(s)})) for seed in alone
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    assert len(set(alone.values())) > 1


def test_the_page_and_its_parts_are_served_with_security_headers(client):
    page = client.get("/")
    assert page.mimetype == "text/html" and b"chat.js" in page.data
    for name in (*SCRIPTS, *STYLES):
        assert client.get(f"/page/{name}").status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["X-Frame-Options"] == "DENY"


def test_the_page_has_no_outside_host_no_inline_script_and_no_html_from_text(client):
    html, *parts = (
        client.get(path).get_data(as_text=True)
        for path in ("/", *(f"/page/{name}" for name in (*SCRIPTS, *STYLES)))
    )
    for text in (html, *parts):
        assert "http://" not in text and "https://" not in text
        assert len(text.splitlines()) < 250
    assert "<script>" not in html and "onclick" not in html and "style=" not in html
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in "".join(parts)


def test_health_tells_about_the_model_its_limits_and_its_defaults(model, tokenizer):
    options = {"facts": {"parameters": 7}, "limits": Limits(max_messages=3, max_new_bytes=200)}
    defaults = SamplingSettings(temperature=0.3, seed=5)
    client = create_app(model, tokenizer, defaults=defaults, **options).test_client()
    assert client.get("/healthz").get_json() == {
        "status": "ok",
        "model": {"parameters": 7},
        "limits": {
            "max_body_bytes": 256_000,
            "max_messages": 3,
            "max_message_bytes": 16_000,
            "max_new_bytes": 200,
            "max_candidates": 8,
        },
        "defaults": asdict(defaults) | {"max_new_bytes": 200},
    }


@pytest.mark.parametrize("said", ["", " ", "\n"])
def test_a_reply_of_nothing_may_stand_in_the_conversation(said, client):
    turns = [*HI, {"role": "assistant", "content": said}, *HI]
    assert client.post("/chat", json={"messages": turns, "max_new_bytes": 3}).status_code == 200


def test_limits_come_as_configuration(model, tokenizer):
    client = create_app(model, tokenizer, limits=Limits(max_messages=1)).test_client()
    assert client.post("/chat", json={"messages": HI * 2}).status_code == 422
