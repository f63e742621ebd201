"""Thinking longer over HTTP: what is drawn, which is sent, who may say so, and when it ends."""

import sys

import pytest
import torch
from chat_request import PICK_NAMES, Limits
from served_models import CONFIG, Talker, free_rows, post, running, streamed
from web_app import create_app

from shared.chat.candidates import PICKS, by_score, draw_candidates, pick_named
from shared.chat.sampling import SamplingSettings
from shared.chat.session import stream_reply
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.drills import SHOW_WORKING
from shared.text.transcript import Message
from shared.training.checkpoint import load_model

pytest_plugins = ("web_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")
HELLO = [Message("user", "hi")]
# With this seed one of four ends by itself, another is the likeliest, a third has the largest sum.
BOLD = SamplingSettings(temperature=1.5, top_p=1.0, max_new_bytes=12, seed=24)
ASKED = {"messages": [{"role": "user", "content": "hi"}], "temperature": 1.5, "top_p": 1.0}
ASKED |= {"max_new_bytes": 12, "seed": 24}
FOUR = ASKED | {"candidates": 4}


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(ModelConfig(context_length=128, n_layers=1, d_model=32, n_heads=2)).eval()


@pytest.fixture
def client(model, tokenizer):
    return create_app(model, tokenizer).test_client()


def answered(client, asked: dict) -> dict:
    response = client.post("/chat", json=asked)
    assert response.status_code == 200, response.get_json()
    return response.get_json()


def test_one_candidate_is_the_reply_that_comes_without_asking_for_any(client):
    plain = answered(client, ASKED)
    assert answered(client, ASKED | {"candidates": 1, "pick": "likelihood"}) == plain
    assert plain["usage"].keys() == {"prompt_bytes", "reply_bytes", "queue_seconds"}


def test_of_several_the_one_is_sent_that_the_named_rule_picks(client, model, tokenizer):
    drawn = draw_candidates(model, tokenizer, HELLO, 4, BOLD)
    sent = set()
    for name, pick in PICKS.items():
        best = drawn[pick(HELLO, drawn)].reply
        answer = answered(client, FOUR | {"pick": name})
        assert (answer["reply"], answer["finish_reason"]) == best[:2]
        usage = {"reply_bytes": best.reply_bytes, "prompt_bytes": len("\x1euser: hi\nassistant:")}
        usage |= {"queue_seconds": 0.0, "candidates": 4, "agreed": 1}
        assert answer["usage"] == usage
        sent.add(answer["reply"])
    assert len(sent) == len(PICKS)


def test_candidates_that_all_say_the_same_agree_and_are_measured_as_one_alone(client):
    cold = ASKED | {"temperature": 0}
    alone, several = answered(client, cold), answered(client, cold | {"candidates": 3})
    assert several["usage"] == alone["usage"] | {"candidates": 3, "agreed": 3}
    assert several["reply"] == alone["reply"]


def test_a_stream_sends_the_chosen_one_whole_in_the_events_of_any_reply(client):
    whole = answered(client, FOUR)
    response = client.post("/chat", json=FOUR | {"stream": True})
    text, last = streamed(response.data)
    assert response.data.count(b"data: ") == 2
    assert text == whole.pop("reply")
    assert last == whole


@pytest.mark.parametrize(("system", "line"), [(None, ""), ("Be brief.", "Be brief. ")])
def test_thinking_is_a_line_in_the_system_message(system, line, client, model, tokenizer):
    before = [] if system is None else [{"role": "system", "content": system}]
    messages = before + ASKED["messages"]
    asked = [Message("system", line + SHOW_WORKING), *HELLO]
    pieces = stream_reply(model, tokenizer, asked, BOLD)
    answer = answered(client, ASKED | {"messages": messages, "think": True})
    assert answer["reply"] == "".join(piece.text for piece in pieces)
    again = [{"role": "system", "content": line + SHOW_WORKING}, *ASKED["messages"]]
    for think in (True, False):  # it is not asked twice
        assert answered(client, ASKED | {"messages": again, "think": think}) == answer
    assert answered(client, ASKED | {"messages": messages}) != answer


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"think": "yes"}, "expected true or false"),
        ({"think": 1}, "expected true or false"),
        ({"think": None}, "expected true or false"),
        ({"candidates": 0}, "expected 1 to 8"),
        ({"candidates": 9}, "expected 1 to 8"),
        ({"candidates": 10**400}, "expected 1 to 8"),
        ({"candidates": True}, "expected a whole number, got bool"),
        ({"candidates": 2.0}, "expected a whole number, got float"),
        ({"candidates": None}, "expected a whole number, got NoneType"),
        ({"pick": "best"}, "expected one of server, vote, likelihood"),
        ({"pick": ["vote"]}, "expected one of server, vote, likelihood"),
        ({"pick": None}, "expected one of server, vote, likelihood"),
        ({"pick": "json:dumps"}, "expected one of server, vote, likelihood"),
    ],
)
def test_a_wrong_wish_is_refused_by_field(asked, message, client):
    response = client.post("/chat", json=ASKED | asked)
    assert response.status_code == 422
    assert response.get_json()["error"] == {"field": next(iter(asked)), "message": message}


def test_how_many_is_the_servers_to_limit(model, tokenizer):
    client = create_app(model, tokenizer, limits=Limits(max_candidates=2)).test_client()
    assert answered(client, ASKED | {"candidates": 2})["usage"]["candidates"] == 2
    refused = client.post("/chat", json=ASKED | {"candidates": 3})
    assert refused.get_json()["error"]["message"] == "expected 1 to 2"


def test_a_visitor_can_name_no_function_and_load_no_module(client, tmp_path, monkeypatch):
    (tmp_path / "visited.py").write_text("def score(messages, reply):\n    return 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert client.post("/chat", json=FOUR | {"pick": "visited:score"}).status_code == 422
    assert "visited" not in sys.modules
    pick_named("visited:score")  # a command line may name the very same
    assert "visited" in sys.modules
    assert all(":" not in name for name in PICK_NAMES)


def test_the_servers_function_picks_where_nobody_names_a_rule(model, tokenizer):
    def score(messages, reply):
        return sum(reply.encode()) if messages == HELLO else 0

    client = create_app(model, tokenizer, pick=by_score(score)).test_client()
    drawn = draw_candidates(model, tokenizer, HELLO, 4, BOLD)
    best = max((each.reply.text for each in drawn), key=lambda text: score(HELLO, text))
    for asked in (FOUR, FOUR | {"pick": "server"}):
        assert answered(client, asked)["reply"] == best
    assert best not in {answered(client, FOUR | {"pick": name})["reply"] for name in PICKS}


@pytest.mark.parametrize("stream", [True, False])
def test_a_function_that_fails_is_an_error_and_frees_the_row(stream, model, tokenizer):
    def fails(messages, reply):
        raise ZeroDivisionError

    app = create_app(model, tokenizer, pick=by_score(fails), limits=Limits(concurrent=1))
    client = app.test_client()
    if stream:
        with pytest.raises(ZeroDivisionError):  # the server under it closes the connection
            client.post("/chat", json=FOUR | {"stream": True})
    else:
        assert client.post("/chat", json=FOUR).status_code == 500
    assert free_rows(app) == 1


def test_time_that_is_up_ends_all_candidates_where_they_are(tokenizer):
    torch.manual_seed(0)
    limits = Limits(reply_seconds=0.3, max_new_bytes=10_000)
    app = create_app(Talker(CONFIG).eval(), tokenizer, limits=limits)
    asked = {"messages": ASKED["messages"], "max_new_bytes": 10_000, "candidates": 3}
    answer = answered(app.test_client(), asked)
    assert answer["finish_reason"] == "length"
    assert 0 < answer["usage"]["reply_bytes"] < 1000 and answer["reply"]
    assert answer["usage"]["candidates"] == 3


@pytest.mark.slow
def test_a_server_takes_its_function_from_the_command_line(
    checkpoint, tokenizer, tmp_path, monkeypatch
):
    source = "def score(messages, reply):\n    return sum(reply.encode())\n"
    (tmp_path / "my_checks.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    drawn = draw_candidates(load_model(checkpoint)[0], tokenizer, HELLO, 4, BOLD)
    expected = max((each.reply.text for each in drawn), key=lambda text: sum(text.encode()))
    with running(checkpoint, "--pick", "my_checks:score") as (_, address):
        text, _ = streamed(post(address, FOUR | {"stream": True}).read())
    assert text == expected
