"""A thousand bad requests: every one is refused in words, none breaks or fattens the server."""

import gc
import json
import math
import tracemalloc
from typing import Any

import pytest
import torch
from chat_request import Limits
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from web_app import create_app

from shared.model.config import ModelConfig
from shared.model.transformer import Transformer

VALID = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
    "temperature": 0.7,
    "top_k": 5,
    "top_p": 0.9,
    "repetition_penalty": 1.1,
    "max_new_bytes": 3,
    "seed": 1,
    "stream": False,
    "think": True,
    "candidates": 2,
    "pick": "vote",
}
LIMITS = Limits(
    max_body_bytes=4000, max_messages=5, max_message_bytes=200, max_new_bytes=3, max_candidates=2
)
MEMORY_MAY_GROW = 500_000  # bytes in 900 requests; a leak of each one's body would be more

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**400, 2**63, -1, math.nan, -math.inf, 1e-320, "user", "\ud800", "\x00"])
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,  # 25 would take twice as long to draw; what is nested deeply is `deep`
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A valid request with one or two things wrong."""
    asked = json.loads(json.dumps(VALID))
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from([*VALID, "role", "content", "turn", "new"]))
        messages = asked.get("messages")
        turn = messages[-1] if isinstance(messages, list) and messages else {}
        if place in ("role", "content") and isinstance(turn, dict):
            turn[place] = draw(anything)
        elif place == "turn" and isinstance(messages, list):
            messages.append(draw(anything))
        elif place == "new":
            asked[draw(st.text(max_size=60))] = draw(anything)
        else:
            asked[place] = draw(anything)
    return asked


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid request with some of its bytes cut out and others put in."""
    body = json.dumps(VALID).encode()
    start, length = draw(st.integers(0, len(body))), draw(st.integers(0, 30))
    return body[:start] + draw(st.binary(max_size=8)) + body[start + length :]


deep = st.builds(
    lambda depth, a, b: a * depth + b"1" + b * depth,
    st.integers(1, 1900),
    st.sampled_from([b"[", b'{"a":', b'{"messages":[']),
    st.just(b"]"),
)
bodies = st.one_of(
    mutated().map(lambda asked: json.dumps(asked).encode()),
    anything.map(lambda value: json.dumps(value).encode()),
    damaged(),
    st.binary(max_size=200),
    deep,
    st.integers(4001, 20_000).map(lambda size: b"x" * size),
)
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)
odd_headers = st.dictionaries(
    st.sampled_from(
        [
            "Origin",
            "Host",
            "Content-Type",
            "Content-Encoding",
            "Accept",
            "Cookie",
            "Range",
            "X-Forwarded-Host",
            "X-Forwarded-Prefix",
            "X-Forwarded-Proto",
        ]
    ),
    header_text | st.sampled_from(["null", "http://[", "-5", "gzip", "text/plain", "a" * 5000]),
    min_size=1,
)
odd_methods = st.sampled_from(["GET", "PUT", "DELETE", "TRACE", "OPTIONS", "BREW"])
odd_paths = st.sampled_from(["/chat/", "//chat", "/page/../web_app.py", "/page/%2e%2e/a", "/%00"])


@st.composite
def odd_requests(draw: st.DrawFn) -> dict[str, Any]:
    """A POST to /chat with an odd body; now and then one more thing is odd."""
    request = {"method": "POST", "path": "/chat", "headers": {"Content-Type": "application/json"}}
    kind = draw(st.sampled_from(["plain"] * 12 + ["headers", "method", "path"]))
    if kind == "headers":
        request["headers"] |= draw(odd_headers)
    elif kind != "plain":
        request[kind] = draw(odd_methods if kind == "method" else odd_paths)
    return request | {"data": draw(bodies)}


def requests_to_try(count: int) -> list[dict[str, Any]]:
    """As many requests, all of them odd and most of them bad; the same ones each time."""
    tried: list[dict[str, Any]] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],  # none fails here, so there is nothing to make smaller
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(odd_requests())
    def collect(request: dict[str, Any]) -> None:
        tried.append(request)

    collect()
    return tried


def test_a_thousand_bad_requests_are_refused_by_field_and_leave_nothing_behind(tokenizer):
    torch.manual_seed(0)
    model = Transformer(ModelConfig(context_length=64, n_layers=1, d_model=16, n_heads=2)).eval()
    client = create_app(model, tokenizer, limits=LIMITS, behind_proxy=True).test_client()
    tried = requests_to_try(1200)
    refused, sizes = 0, []
    tracemalloc.start()
    try:
        for number, request in enumerate(tried):
            response = client.open(**request)
            assert response.status_code < 500, request
            if response.status_code >= 400:
                refused += 1
                error = response.get_json()["error"]
                assert isinstance(error["field"], str) and error["message"], request
            if number in (100, len(tried) - 1):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert refused >= 1000, f"only {refused} of {len(tried)} were bad"
    assert sizes[1] - sizes[0] < MEMORY_MAY_GROW


@pytest.mark.parametrize("temperature", [1e-320, 1e-39, 1e-10, 0.0009])
def test_the_smallest_temperatures_take_the_likeliest_byte(temperature, tokenizer):
    torch.manual_seed(0)
    model = Transformer(ModelConfig(context_length=64, n_layers=1, d_model=16, n_heads=2)).eval()
    client = create_app(model, tokenizer).test_client()
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_new_bytes": 20}
    cold, coldest = (
        client.post("/chat", json=asked | {"temperature": t}).get_json()["reply"]
        for t in (temperature, 0)
    )
    assert cold == coldest and cold


def test_the_servers_own_defaults_never_pass_its_limits(tokenizer):
    torch.manual_seed(0)
    model = Transformer(ModelConfig(context_length=64, n_layers=1, d_model=16, n_heads=2)).eval()
    client = create_app(model, tokenizer, limits=Limits(max_new_bytes=5)).test_client()
    answer = client.post("/chat", json={"messages": [{"role": "user", "content": "hi"}]})
    assert answer.status_code == 200
    assert answer.get_json()["usage"]["reply_bytes"] <= 5
