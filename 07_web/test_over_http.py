"""The endpoint over real connections: who leaves, who waits, who is told to come back."""

import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import torch
from chat_request import Limits
from flask import url_for
from served_models import CONFIG, Reciter, Talker, free_rows, post, served, streamed, wait_until
from web_app import create_app

from shared.model.config import ModelConfig
from shared.model.transformer import Transformer

HI = [{"role": "user", "content": "hi"}]
MINUTE = {"messages": HI, "max_new_bytes": 5000}  # at ten milliseconds a byte, and more
ONE = Limits(concurrent=1, queue_length=2, max_new_bytes=10_000)


@pytest.fixture(scope="module")
def talker() -> Talker:
    torch.manual_seed(0)
    return Talker(CONFIG).eval()


def send(address: str, asked: dict) -> socket.socket:
    """Sends a chat request over a connection of its own, which the caller closes."""
    host, port = address.removeprefix("http://").split(":")
    body = json.dumps(asked).encode()
    head = (
        f"POST /chat HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize(("stream", "count"), [(True, 1), (False, 1), (True, 3)])
def test_a_client_that_leaves_frees_its_row_long_before_its_reply_would_end(
    stream, count, talker, tokenizer
):
    app = create_app(talker, tokenizer, limits=ONE)
    with served(app, ONE) as address:
        connection = send(address, MINUTE | {"stream": stream, "candidates": count})
        if stream and count == 1:  # of several nothing is sent before one is chosen
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
        wait_until(lambda: free_rows(app) == 0)
        connection.close()
        wait_until(lambda: free_rows(app) == 1)


def test_a_client_that_leaves_a_model_which_writes_only_spaces_frees_its_row(tokenizer):
    app = create_app(Reciter("", 0.01, at_end=ord(" ")), tokenizer, limits=ONE)
    with served(app, ONE) as address:
        connection = send(address, MINUTE | {"stream": True, "temperature": 0})
        wait_until(lambda: free_rows(app) == 0)
        connection.close()
        wait_until(lambda: free_rows(app) == 1)


def test_a_full_line_is_refused_at_once_and_page_and_health_stay_reachable(talker, tokenizer):
    app = create_app(talker, tokenizer, limits=ONE)
    waiting = app.extensions["talkers"]._line
    with served(app, ONE) as address:
        open_ones = [send(address, MINUTE | {"stream": True}) for _ in range(3)]
        wait_until(lambda: len(waiting) == 2)
        for _ in range(30):  # far more than there are threads
            with pytest.raises(urllib.error.HTTPError) as refused:
                post(address, MINUTE)
            assert refused.value.code == 503
            assert int(refused.value.headers["Retry-After"]) > 0
            assert json.load(refused.value)["error"]["field"] == "server"
        for path in ("/", "/healthz", "/page/chat.js"):
            with urllib.request.urlopen(address + path, timeout=10) as response:
                assert response.status == 200
        open_ones[1].close()  # one who waits leaves, and its place in the line is free again
        wait_until(lambda: len(waiting) == 1)
        for connection in open_ones:
            connection.close()
        wait_until(lambda: free_rows(app) == 1 and not waiting)


@pytest.mark.parametrize(
    ("silent", "limits"), [(150, Limits()), (30, Limits(connections=20, idle_seconds=1))]
)
def test_connections_that_say_nothing_keep_nobody_out(silent, limits, talker, tokenizer):
    with served(create_app(talker, tokenizer), limits) as address, ExitStack() as opened:
        host, port = address.removeprefix("http://").split(":")
        for number in range(silent):
            one = opened.enter_context(socket.create_connection((host, int(port)), timeout=10))
            one.sendall(b"POST /chat HTTP/1.1\r\n" * (number % 2))  # half a request, or nothing
        with urllib.request.urlopen(f"{address}/healthz", timeout=15) as response:
            assert response.status == 200


def test_the_time_in_the_line_is_told(talker, tokenizer):
    app = create_app(talker, tokenizer, limits=ONE)
    asked = {"messages": HI, "max_new_bytes": 30, "stream": True}
    with served(app, ONE) as address:
        first = post(address, asked)
        second = post(address, asked)  # headers come with the first byte, after the first reply
        waits = [streamed(each.read())[1]["usage"]["queue_seconds"] for each in (first, second)]
    assert waits[0] == 0 and waits[1] > 0.1
    assert waits[1] == round(waits[1], 3)


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_that_takes_too_long_ends_with_length(stream, talker, tokenizer):
    limits = Limits(reply_seconds=0.3, max_new_bytes=10_000)
    app = create_app(talker, tokenizer, limits=limits)
    response = app.test_client().post("/chat", json=MINUTE | {"stream": stream})
    if stream:
        text, last = streamed(response.data)
    else:
        last = response.get_json()
        text = last["reply"]
    assert last["finish_reason"] == "length"
    assert 0 < last["usage"]["reply_bytes"] < 1000 and text
    assert last["usage"]["prompt_bytes"] == len("\x1euser: hi\nassistant:")


def test_32_clients_at_once_get_exactly_what_each_gets_alone(tokenizer):
    torch.manual_seed(0)
    model = Transformer(ModelConfig(context_length=96, n_layers=1, d_model=32, n_heads=2)).eval()
    limits = Limits(concurrent=24)  # most side by side, the others in the line
    app = create_app(model, tokenizer, limits=limits)

    def asked(number: int) -> dict:
        messages = [{"role": "user", "content": f"I am number {number}"}]
        return {"messages": messages, "seed": number, "temperature": 1.5, "max_new_bytes": 24}

    with served(app, limits) as address:

        def ask(number: int) -> str:
            if number % 2:
                return streamed(post(address, asked(number) | {"stream": True}).read())[0]
            return json.load(post(address, asked(number)))["reply"]

        alone = [ask(number) for number in range(32)]
        ready = threading.Barrier(32)

        def ask_with_the_others(number: int) -> str:
            ready.wait()
            return ask(number)

        with ThreadPoolExecutor(32) as pool:
            together = list(pool.map(ask_with_the_others, range(32)))
    assert together == alone
    assert len(set(alone)) == 32


def test_forwarded_headers_are_believed_only_behind_a_proxy(talker, tokenizer):
    forwarded = {
        "Origin": "https://site.example",
        "X_Forwarded_Host": "site.example",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Prefix": "/llm",
    }
    for behind_proxy in (True, False):
        app = create_app(talker, tokenizer, behind_proxy=behind_proxy)
        app.add_url_rule("/where", view_func=lambda: url_for("page", _external=True))
        with served(app, behind_proxy=behind_proxy) as address:
            where = urllib.request.Request(f"{address}/where")
            for name, value in forwarded.items():
                where.add_header(name.replace("_", "-"), value)
            with urllib.request.urlopen(where, timeout=10) as response:
                told = response.read().decode()
            asked = {"messages": HI, "max_new_bytes": 2}
            if behind_proxy:
                assert told == "https://site.example/llm/"
                assert post(address, asked, **forwarded).status == 200
            else:
                assert told == f"{address}/"
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    post(address, asked, **forwarded)


JSON_TYPE = b"Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        (b"POST /chat HTTP/1.1\r\nContent-Length: 10000000000\r\n\r\n{", 413, "body"),
        (b"POST /chat HTTP/1.1\r\n" + JSON_TYPE + b"Content-Length: 300000\r\n\r\n{", 413, "body"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", 431, "headers"),
        (b"POST /chat HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400, "request"),
        (b"\x16\x03\x01\r\n\r\n", 400, "request"),
        (b"POST /chat HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", 501, "request"),
    ],
)
def test_what_is_no_good_http_is_refused_in_the_same_form(sent, status, field, talker, tokenizer):
    with served(create_app(talker, tokenizer)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(sent)
            if status == 413 and b"300000" in sent:  # small enough to be received whole
                connection.sendall(b"x" * 299_999)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == status
            assert json.loads(response.read())["error"]["field"] == field
            assert response.headers["X-Content-Type-Options"] == "nosniff"
