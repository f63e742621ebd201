"""The served page's model in the visitor's browser, where the server gives its weights."""

import json
from contextlib import contextmanager

import given_weights
import pytest
import serve
from page_driver import FACTS, button, choose, finished, opened, say
from playwright.sync_api import expect
from served_models import Reciter, served
from web_app import create_app
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from shared.chat.sampling import SamplingSettings
from shared.chat.session import stream_reply
from shared.errors import UserError
from shared.model.config import ModelConfig, MoEConfig
from shared.model.packing import read_packed, unpack_model
from shared.model.transformer import Transformer
from shared.text.transcript import Message

pytest_plugins = ("web_fixtures",)

BYTES = {"kind": "bytes", "end_of_text": 30}
SERVERS = "The server says this."


@pytest.fixture(scope="module")
def weights(random_model):
    return given_weights.packed_for_browsers(random_model(context_length=128), BYTES)


@pytest.fixture
def said_here(tmp_path, weights, tokenizer):
    """What the model of these weights says to hello."""
    (tmp_path / "m.tllm").write_bytes(weights)
    model = unpack_model(read_packed(tmp_path / "m.tllm"))
    settings = SamplingSettings(temperature=0, max_new_bytes=30)
    pieces = stream_reply(model, tokenizer, [Message("user", "hello")], settings)
    return "".join(piece.text for piece in pieces)


@contextmanager
def chatting(browser, tokenizer, weights, allowed="", prefix=""):
    """A page whose server says `SERVERS`, and what it was asked."""
    defaults = SamplingSettings(temperature=0, max_new_bytes=30)
    app = create_app(
        Reciter(f" {SERVERS}"), tokenizer, facts=FACTS, weights=weights, defaults=defaults
    )
    if prefix:
        app.wsgi_app = DispatcherMiddleware(NotFound(), {prefix: app.wsgi_app})
    with served(app) as address, opened(browser, f"{address}{prefix}/", allowed) as page:
        expect(page.locator("#facts")).to_contain_text("812,345 parameters")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
        page.get_by_text("Settings").click()
        yield page, asked


def here(page):
    return page.get_by_label("Answer in this browser")


@pytest.mark.parametrize("prefix", ["", pytest.param("/llm", marks=pytest.mark.slow)])
def test_the_browser_answers_and_the_server_is_not_asked(
    browser, tokenizer, weights, said_here, prefix
):
    with chatting(browser, tokenizer, weights, prefix=prefix) as (page, asked):
        choose(page, "candidates", "4")
        here(page).check()
        expect(page.locator("#candidates")).to_be_disabled()
        say(page, "hello")
        assert finished(page) == said_here.strip("\n") != SERVERS
        assert not any(line.startswith("POST") for line in asked)
        expect(page.locator("#model")).to_have_count(0)  # it says if the policy forbids the kernels
        here(page).uncheck()
        say(page, "hello")
        assert finished(page, 2) == SERVERS


def test_without_weights_the_page_offers_nothing(browser, tokenizer):
    with chatting(browser, tokenizer, None) as (page, _):
        expect(here(page)).to_be_hidden()
        say(page, "hello")
        assert finished(page) == SERVERS


def test_where_the_model_does_not_come_the_server_answers_and_the_page_says_so(
    browser, tokenizer, weights
):
    with chatting(browser, tokenizer, weights[:-1], allowed="Failed to load") as (page, _):
        here(page).check()
        told = "The model's file is damaged or was cut short: load it anew."
        expect(page.get_by_role("banner")).to_contain_text(f"{told} The server answers instead.")
        expect(here(page)).not_to_be_checked()
        say(page, "hello")
        assert finished(page) == SERVERS
        page.route("**/weights.tllm*", lambda route: route.fulfill(status=503))
        here(page).check()
        say(page, "and you?")  # while it loads
        assert finished(page, 2) == SERVERS
        expect(page.get_by_role("banner")).to_contain_text("answered 503. The server answers")


def test_stop_does_not_wait_for_the_download(browser, tokenizer, weights):
    with chatting(browser, tokenizer, weights, allowed="net::ERR") as (page, asked):
        page.route("**/weights.tllm*", lambda route: None)  # nothing comes, nothing ends
        here(page).check()
        say(page, "hello")
        button(page, "Stop").click()
        expect(button(page, "Send")).to_be_visible()
        expect(page.locator(".turn.user")).to_have_text("hello")
        assert not any(line.startswith("POST") for line in asked)


def test_the_weights_are_given_once_and_then_only_if_they_changed(weights, tokenizer):
    client = create_app(Reciter(" x"), tokenizer, weights=weights).test_client()
    offer = client.get("/healthz").get_json()["in_browser"]
    assert offer["bytes"] == len(weights)
    first = client.get(f"/{offer['weights']}")
    assert first.data == weights and first.headers["Cache-Control"] == "no-cache"
    again = client.get("/weights.tllm", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304 and again.data == b""
    assert client.get(f"/{offer['wasm']}").status_code == 200


def test_a_server_that_gives_no_weights_says_so_in_one_line(tokenizer):
    client = create_app(Reciter(" x"), tokenizer).test_client()
    assert "in_browser" not in client.get("/healthz").get_json()
    refused = client.get("/weights.tllm")
    assert refused.status_code == 404
    assert refused.get_json()["error"]["message"].startswith("this server gives none")


def test_what_no_browser_runs_is_not_offered(random_model, monkeypatch):
    experts = ModelConfig(d_model=8, n_heads=1, n_layers=1, moe=MoEConfig(n_experts=2))
    assert given_weights.packed_for_browsers(Transformer(experts), BYTES) is None
    assert given_weights.packed_for_browsers(random_model(), {"kind": "pretrained"}) is None
    monkeypatch.setattr(given_weights, "LARGEST", 10)
    assert given_weights.packed_for_browsers(random_model(), BYTES) is None
    with pytest.raises(UserError, match="knows bytes and BPE, not a pretrained tokenizer"):
        given_weights.refuse_what_no_browser_runs(0, {"kind": "pretrained"})


@pytest.mark.parametrize(("more", "given"), [([], True), (["--no-weights"], False)])
def test_the_command_line_gives_weights_unless_told_not_to(checkpoint, monkeypatch, more, given):
    apps = []
    monkeypatch.setattr(serve, "build_server", lambda app, *_: apps.append(app) or (None, {}))
    monkeypatch.setattr(serve, "serve_until_told", lambda *_: None)
    serve.main(["--checkpoint", str(checkpoint), "--device", "cpu", *more])
    told = json.loads(apps[0].test_client().get("/healthz").data)
    assert ("in_browser" in told) == given
