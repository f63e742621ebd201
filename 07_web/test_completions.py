"""The door for other programs, through the client that most of them have."""

import json
import re
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
import web_app
from chat_request import Limits
from completions import IGNORED, READ_HERE, REFUSED, REFUSED_IN_MESSAGES, TAKEN
from served_models import CONFIG, Reciter, free_rows, served, wait_until
from talkers import Talkers
from web_app import create_app

from shared.chat import continuous_batch
from shared.model.transformer import Transformer
from shared.text.tokenizer import END_OF_TEXT
from shared.text.transcript import Message, render_prompt

HI = [{"role": "user", "content": "hi"}]
SAID = "größe 👋, one or two or three"


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(CONFIG).eval()


@pytest.fixture(scope="module")
def app(model, tokenizer):
    return create_app(model, tokenizer, name="mine")


def client_of(address: str, **options) -> Any:
    """Their client. It is imported where it is used: that takes longer than most tests."""
    import openai

    return openai.OpenAI(base_url=f"{address}/v1", api_key="any", **{"max_retries": 0} | options)


@pytest.fixture(scope="module")
def client(app):
    with served(app) as address:
        yield client_of(address)


@pytest.fixture(scope="module")
def reciting(tokenizer):
    with served(create_app(Reciter(SAID), tokenizer, name="mine")) as address:
        yield client_of(address)


def ask(client: Any, **more):
    return client.chat.completions.create(**{"model": "mine", "messages": HI} | more)


def read(stream) -> tuple[dict[int, list[str]], dict[int, str], dict[int, list]]:
    """By number: the texts of a stream's deltas, how each reply ended, and its odds."""
    deltas, ends, odds = defaultdict(list), {}, defaultdict(list)
    for chunk in stream:
        for choice in chunk.choices:
            assert choice.index not in ends
            deltas[choice.index].append(choice.delta.content or "")
            odds[choice.index] += choice.logprobs.content if choice.logprobs else []
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    return deltas, ends, odds


def test_every_field_that_the_client_can_send_is_taken_ignored_or_refused():
    from openai.types.chat import completion_create_params

    streaming = completion_create_params.CompletionCreateParamsStreaming.__annotations__
    base = completion_create_params.CompletionCreateParamsBase.__annotations__
    places = [*TAKEN, *READ_HERE, *IGNORED, *REFUSED]
    assert len(places) == len(set(places))
    assert {*base, *streaming} <= set(places)


def test_the_page_lists_every_field_in_its_place():
    page = Path(__file__).with_name("other_programs.md").read_text(encoding="utf-8")
    for heading, fields in {
        "Taken": [*TAKEN, *READ_HERE],
        "Ignored": IGNORED,
        "Refused": [*REFUSED, *(f"messages[].{name}" for name in REFUSED_IN_MESSAGES)],
    }.items():
        section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
        assert sorted(named) == sorted(fields), heading


def test_a_reply_is_that_of_chat_with_the_same_seed(client, app):
    asked = {"temperature": 1.5, "top_p": 0.9, "seed": 7}
    expected = app.test_client().post(
        "/chat", json=asked | {"messages": HI, "max_new_bytes": 30, "top_k": 50}
    )
    told = expected.get_json()
    answer = ask(client, max_tokens=30, extra_body={"top_k": 50}, **asked)
    assert answer.object == "chat.completion" and answer.model == "mine"
    assert answer.choices[0].message.content == told["reply"]
    assert answer.choices[0].finish_reason == told["finish_reason"]
    assert answer.usage.prompt_tokens == told["usage"]["prompt_bytes"]
    assert answer.usage.completion_tokens <= 30
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_several_replies_stream_side_by_side_as_they_come_whole(client):
    asked = {"n": 3, "seed": 5, "temperature": 1.5, "max_completion_tokens": 12}
    whole = ask(client, **asked)
    alone = [ask(client, **asked | {"n": 1, "seed": seed}) for seed in (5, 6, 7)]
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, **asked))
    deltas, ends, _ = read(chunks)
    texts = [choice.message.content for choice in whole.choices]
    assert [each.choices[0].message.content for each in alone] == texts
    assert ["".join(deltas[n]) for n in range(3)] == texts and len(set(texts)) == 3
    assert [ends[n] for n in range(3)] == [choice.finish_reason for choice in whole.choices]
    # The first text of each goes out at once, not behind those of its neighbours.
    assert all(len([text for text in deltas[n] if text]) > 1 for n in range(3))
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    assert len({chunk.id for chunk in chunks}) == 1


def test_deltas_carry_whole_characters_and_the_bytes_of_each(reciting):
    deltas, ends, odds = read(ask(reciting, stream=True, logprobs=True))
    assert "".join(deltas[0]) == SAID and "\ufffd" not in "".join(deltas[0])
    assert bytes(byte for each in odds[0] for byte in each.bytes) == SAID.encode()
    assert [each.token for each in odds[0]][1:4] == ["r", "bytes:\\xc3", "bytes:\\xb6"]
    assert ends == {0: "stop"}


@pytest.mark.parametrize("stop", ["two", "👋", ["zzz", " or", "two"], "g", "ree", ["e th", "thr"]])
@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_ends_a_reply_and_is_never_shown(stop, stream, reciting):
    stops = [stop] if isinstance(stop, str) else stop
    expected = SAID[: min(SAID.find(each) for each in stops if each in SAID)]
    answer = ask(reciting, stop=stop, stream=stream, logprobs=True)
    if stream:
        deltas, ends, odds = read(answer)
        text, end, told = "".join(deltas[0]), ends[0], odds[0]
    else:
        only = answer.choices[0]
        text, end, told = only.message.content, only.finish_reason, only.logprobs.content
    assert (text, end) == (expected, "stop")
    assert bytes(byte for each in told for byte in each.bytes) == expected.encode()


def test_a_reply_that_only_begins_a_stop_is_shown_whole(reciting):
    for stream in (True, False):
        answer = ask(reciting, stop="three more", stream=stream)
        text = "".join(read(answer)[0][0]) if stream else answer.choices[0].message.content
        assert text == SAID


def test_log_probabilities_are_the_models_own_before_temperature_and_cuts(client, model):
    # Seed 3 draws a space first, which is not shown and so not told.
    asked = {"logprobs": True, "top_logprobs": 3, "max_tokens": 12, "seed": 5}
    asked |= {"temperature": 1.9, "top_p": 0.8, "extra_body": {"repetition_penalty": 1.3}}
    whole = ask(client, **asked).choices[0]
    content, told = whole.message.content, whole.logprobs.content
    _, _, odds = read(ask(client, stream=True, **asked))
    assert odds[0] == told and len(told) > 5
    said = bytes(byte for each in told for byte in each.bytes)
    assert said.decode(errors="replace") == content
    prompt = [END_OF_TEXT, *render_prompt([Message("user", "hi")]).encode()]
    logs = model(torch.tensor([[*prompt, *said]]))[0, len(prompt) - 1 : -1].log_softmax(-1)
    for row, byte, each in zip(logs, said, told, strict=True):
        assert each.logprob == pytest.approx(row[byte].item(), abs=1e-4)
        best = row.topk(3)
        assert [b for top in each.top_logprobs for b in top.bytes] == best.indices.tolist()
        assert [top.logprob for top in each.top_logprobs] == pytest.approx(
            best.values.tolist(), abs=1e-4
        )


def test_log_probabilities_are_computed_for_those_who_ask(client, monkeypatch):
    asked, plain = [], continuous_batch.tell_odds

    def counting(*given):
        asked.append(given)
        plain(*given)

    monkeypatch.setattr(continuous_batch, "tell_odds", counting)
    assert ask(client, max_tokens=3).choices[0].logprobs is None
    assert not asked
    ask(client, max_tokens=3, logprobs=True)
    assert len(asked) <= 3 and asked


def test_what_a_client_says_about_earlier_turns_is_taken(reciting, monkeypatch):
    seen = []
    plain = Talkers.ask
    monkeypatch.setattr(Talkers, "ask", lambda self, talk: seen.append(talk) or plain(self, talk))
    parts = [{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}]
    earlier = ask(reciting, max_tokens=5).choices[0].message
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts},
        earlier,
        {"role": "user", "content": "on", "name": None},
    ]
    ask(reciting, messages=turns, max_tokens=5, stop=None, logprobs=None)
    read_ids = bytes(next(iter(seen[-1].replies)).ids).decode(errors="replace")
    expected = "\x1esystem: Be brief.\nuser: two\nparts\nassistant: größ"
    assert read_ids.startswith(expected[:-1])


PASSES = {
    **{name: neutral for name, (neutral, _) in REFUSED.items()},
    **{"user": "me", "metadata": {"a": "b"}, "n": 1, "seed": None, "stop": []},
    **{"prediction": {"type": "content", "content": "hi"}, "service_tier": "auto"},
}


def test_fields_that_ask_for_nothing_are_harmless(client):
    answer = ask(client, max_tokens=2, extra_body=PASSES)
    assert len(answer.choices) == 1


BAD = {
    "tools": ([{"type": "function", "function": {"name": "f"}}], "tools"),
    "response_format": ({"type": "json_object"}, "response_format"),
    "logit_bias": ({"65": 5}, "logit_bias"),
    "frequency_penalty": (0.5, "frequency_penalty"),
    "store": (True, "store"),
    "n": (9, "n"),
    "max_tokens": (1001, "max_tokens"),
    "max_completion_tokens": (0, "max_completion_tokens"),
    "temperature": ("hot", "temperature"),
    "stop": (["a"] * 5, "stop"),
    "logprobs": ("yes", "logprobs"),
    "top_logprobs": (5, "top_logprobs"),
    "stream_options": ({"include_usage": True}, "stream_options"),
    "candidates": (2, "candidates"),
    "messages": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        "messages[0].content[0]",
    ),
}
BAD_TURNS = [
    ({"role": "tool", "content": "x", "tool_call_id": "1"}, "messages[0].role"),
    ({"role": "user", "content": "x", "name": "Ann"}, "messages[0].name"),
    ({"role": "assistant", "content": "x", "tool_calls": [{}]}, "messages[0].tool_calls"),
    ({"role": "user", "content": ""}, "messages[0].content"),
    ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0]"),
    ("hi", "messages[0]"),
]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        *(({name: value}, field) for name, (value, field) in BAD.items()),
        *(({"messages": [turn, *HI]}, field) for turn, field in BAD_TURNS),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"stop": "x" * 65}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream": True, "stream_options": {"include_cost": True}}, "stream_options.include_cost"),
    ],
)
def test_what_is_not_served_is_refused_by_name_in_one_line(asked, field, client):
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, extra_body=asked)
    assert refused.value.param == field
    error = refused.value.body
    assert field in error["message"] and "\n" not in error["message"]
    assert error["type"] == "invalid_request_error" and error.keys() == {
        *("message", "type", "param", "code")
    }


ODD = [True, -1, 0.5, 10**400, float("nan"), "x", "\ud800", [], [1], [[]], {}, {"x": [None]}]


@pytest.mark.parametrize("name", [*TAKEN, *READ_HERE, *IGNORED, *REFUSED, "new", "messages[0]"])
def test_no_odd_value_breaks_anything(name, app):
    client, asked = app.test_client(), {"messages": HI, "max_tokens": 1, "stream": False}
    for odd in ODD:
        sent = asked | {"messages": [odd]} if name == "messages[0]" else asked | {name: odd}
        body = json.dumps(sent)
        told = client.post("/v1/chat/completions", data=body, content_type="application/json")
        assert told.status_code in (200, 400, 404), (name, odd)
        assert "error" in told.get_json() if told.status_code > 200 else True


def test_models_are_listed_and_others_are_not_found(client):
    import openai

    assert [model.id for model in client.models.list()] == ["mine"]
    assert client.models.retrieve("mine").object == "model"
    assert ask(client, extra_body={"model": None}, max_tokens=1).model == "mine"
    for call in (lambda: ask(client, model="gpt"), lambda: client.models.retrieve("gpt")):
        with pytest.raises(openai.NotFoundError) as refused:
            call()
        assert refused.value.code == "model_not_found" and refused.value.param == "model"


@pytest.mark.parametrize(
    ("kind", "status", "path", "more"),
    [
        ("PermissionDeniedError", 403, "/chat/completions", {"Host": "evil.example"}),
        ("PermissionDeniedError", 403, "/chat/completions", {"Origin": "https://b.org"}),
        ("NotFoundError", 404, "/embeddings", {}),
        ("APIStatusError", 405, "/models", {}),
        ("APIStatusError", 415, "/chat/completions", {"Content-Type": "text/plain"}),
    ],
)
def test_other_errors_are_those_that_the_client_knows(kind, status, path, more, client):
    import openai

    with pytest.raises(getattr(openai, kind)) as refused:
        client.post(path, body={"messages": HI}, cast_to=object, options={"headers": more})
    assert refused.value.status_code == status
    assert refused.value.body["message"] and refused.value.body["param"] is None


def test_a_client_that_is_told_to_come_back_does_and_is_served(monkeypatch, tokenizer):
    import openai

    monkeypatch.setattr(web_app, "RETRY_SECONDS", 0.05)
    limits = Limits(concurrent=1, queue_length=0)
    app = create_app(Reciter("x" * 900, 0.03), tokenizer, limits=limits, name="mine")
    refused, plain = [], Talkers.ask

    def counted(self, talk):
        if (waited := plain(self, talk)) is None:
            refused.append(talk)
        return waited

    monkeypatch.setattr(Talkers, "ask", counted)
    with served(app, limits) as address:
        held = ask(client_of(address), stream=True, max_tokens=900)
        wait_until(lambda: free_rows(app) == 0)
        with pytest.raises(openai.InternalServerError) as busy:
            ask(client_of(address))
        assert busy.value.status_code == 503 and busy.value.response.headers["Retry-After"]
        assert busy.value.type == "server_error"
        got = []
        patient = client_of(address, max_retries=100)
        asking = threading.Thread(target=lambda: got.append(ask(patient, max_tokens=3)))
        asking.start()
        wait_until(lambda: len(refused) > 2)
        held.close()  # a reader that leaves in the midst of a stream frees its row
        asking.join(timeout=20)
    assert got[0].choices[0].message.content == "xxx"


def test_a_learners_own_functions_answer_without_log_probabilities(model, tokenizer):
    app = create_app(model, tokenizer, side_by_side=False)
    asked = {"messages": HI, "max_tokens": 5, "seed": 1}
    client = app.test_client()
    assert client.post("/v1/chat/completions", json=asked).status_code == 200
    refused = client.post("/v1/chat/completions", json=asked | {"logprobs": True})
    assert refused.status_code == 400 and refused.get_json()["error"]["param"] == "logprobs"


def test_a_page_of_a_named_site_may_ask_with_the_headers_that_clients_send(model, tokenizer):
    friend = "https://example.org"
    client = create_app(model, tokenizer, allow_origin=[friend]).test_client()
    told = client.options(
        "/v1/chat/completions",
        headers={
            "Origin": friend,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
        },
    ).headers
    assert told["Access-Control-Allow-Origin"] == friend
    assert told["Access-Control-Allow-Headers"] == "*, Authorization, Content-Type"
