"""Other sites' pages and names are refused, but for those that were named."""

import pytest
from served_models import Reciter
from web_app import create_app

from shared.errors import UserError

ASKED = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0}
FRIEND = "https://example.org"
SECURE = ("Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy")


@pytest.fixture(scope="module")
def model() -> Reciter:
    return Reciter("ok")


@pytest.fixture
def closed(model, tokenizer):
    return create_app(model, tokenizer).test_client()


@pytest.fixture
def friendly(model, tokenizer):
    return create_app(model, tokenizer, allow_origin=[FRIEND, "http://b.org:81/"]).test_client()


def ask(client, origin: str | None, **more):
    return client.post("/chat", json=ASKED, headers={"Origin": origin} if origin else {}, **more)


@pytest.mark.parametrize("origin", [None, "http://localhost", "https://LOCALHOST"])
def test_the_own_page_and_programs_may_chat(origin, closed):
    response = ask(closed, origin)
    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    "origin", [FRIEND, "null", "http://localhost:81", "http://localhost.evil.org", "http://[", "x"]
)
def test_other_sites_are_refused_with_403(origin, closed):
    response = ask(closed, origin)
    assert response.status_code == 403
    assert response.get_json()["error"]["field"] == "Origin"
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("origin", [FRIEND, "http://b.org:81"])
def test_named_origins_may_chat_and_read_the_answer_even_of_errors(origin, friendly):
    good = ask(friendly, origin)
    bad = friendly.post("/chat", json={}, headers={"Origin": origin})
    health = friendly.get("/healthz", headers={"Origin": origin})
    assert [good.status_code, bad.status_code, health.status_code] == [200, 422, 200]
    for response in (good, bad, health):
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize("origin", ["http://example.org", "https://example.org.evil", "null"])
def test_nearly_named_origins_are_refused(origin, friendly):
    response = ask(friendly, origin)
    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "Origin" in response.headers["Vary"]


def preflight(client, origin: str, path: str = "/chat"):
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    return client.options(path, headers={"Origin": origin} | asked)


def test_a_browser_that_asks_first_is_told_who_may(friendly, closed):
    told = preflight(friendly, FRIEND)
    assert told.status_code == 200
    assert told.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "POST" in told.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in told.headers["Access-Control-Allow-Headers"]
    for client, origin in ((friendly, "https://evil.org"), (closed, FRIEND)):
        assert "Access-Control-Allow-Origin" not in preflight(client, origin).headers


def test_only_chat_and_health_are_shared(friendly):
    for path in ("/", "/page/chat.js"):
        headers = friendly.get(path, headers={"Origin": FRIEND}).headers
        assert "Access-Control-Allow-Origin" not in headers


OWN = ["localhost", "LOCALHOST:8000", "127.0.0.1:9", "[::1]", "[::1]:8000"]
REBOUND = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "localhost@evil.example",
    "evil.example@localhost",
    "[::1",
    "127.0.0.1.evil.example",
    "a b",
    "",
]
OPEN = {"bound_to": "0.0.0.0"}
PROXY = {"behind_proxy": True}
NAMED = {"allowed_host": ["Box.lan", "fe80::1"]}


@pytest.mark.parametrize(
    ("options", "served", "refused"),
    [
        ({}, OWN, [*REBOUND, "10.0.0.1", "box.lan", "0.0.0.0"]),
        ({"bound_to": "127.0.0.2"}, [*OWN, "127.0.0.2:8000"], [*REBOUND, "10.0.0.1"]),
        ({"bound_to": "::1"}, OWN, [*REBOUND, "10.0.0.1"]),
        (NAMED, [*OWN, "box.LAN:81", "[fe80::1]:81"], [*REBOUND, "10.0.0.1", "x.box.lan"]),
        (OPEN, [*OWN, "10.0.0.1:8000", "[fe80::1]"], [*REBOUND, "box.lan"]),
        (OPEN | NAMED, [*OWN, "10.0.0.1", "box.lan"], REBOUND),
        (PROXY, [*OWN, "box.lan", "x.org"], []),
        (PROXY | NAMED, [*OWN, "box.lan"], [*REBOUND, "10.0.0.1"]),
    ],
)
def test_every_address_answers_only_under_the_servers_own_names(
    options, served, refused, model, tokenizer
):
    client = create_app(model, tokenizer, **options).test_client()

    def statuses(host: str) -> list[int]:
        headers = {"Host": host, "Origin": f"http://{host}"}
        paths = ("/", "/healthz", "/page/chat.js", "/nothing")
        asked = client.post("/chat", json=ASKED, headers=headers)
        return [asked.status_code, *(client.get(p, headers=headers).status_code for p in paths)]

    for host in served:
        assert statuses(host) == [200, 200, 200, 200, 404], host
    for host in refused:
        assert statuses(host) == [403] * 5, host
    if refused:
        told = client.get("/", headers={"Host": "evil.example:8000"}).get_json()["error"]
        assert told["field"] == "Host" and "--allowed-host" in told["message"]


def test_behind_a_proxy_the_name_is_the_one_that_it_passes_on(model, tokenizer):
    client = create_app(model, tokenizer, **PROXY, **NAMED).test_client()
    for name, status in (("box.lan", 200), ("evil.example", 403)):
        headers = {"Host": "127.0.0.1", "X-Forwarded-Host": name}
        assert client.get("/healthz", headers=headers).status_code == status


@pytest.mark.parametrize("host", ["box.lan:80", "http://box.lan", "*", ""])
def test_a_host_that_is_none_is_refused_in_words(host, model, tokenizer):
    with pytest.raises(UserError, match="expected a name without port"):
        create_app(model, tokenizer, allowed_host=[host])


@pytest.mark.parametrize("origin", ["*", "example.org", "https://example.org/chat", "https://"])
def test_an_origin_that_is_none_is_refused_in_words(origin, model, tokenizer):
    with pytest.raises(UserError, match="expected one such as"):
        create_app(model, tokenizer, allow_origin=[origin])


def test_security_headers_are_on_every_kind_of_answer(friendly, model, tokenizer):
    silent = Reciter("")
    silent.text = None  # it fails while it writes
    broken = create_app(silent, tokenizer).test_client()
    answers = {
        200: [friendly.get("/"), ask(friendly, None), preflight(friendly, FRIEND)],
        400: [friendly.post("/chat", data=b"{", content_type="application/json")],
        403: [ask(friendly, "null")],
        404: [friendly.get("/nothing")],
        405: [friendly.get("/chat")],
        415: [friendly.post("/chat", data=b"{}")],
        500: [broken.post("/chat", json=ASKED)],
    }
    streamed = friendly.post("/chat", json=ASKED | {"stream": True})
    assert streamed.mimetype == "text/event-stream"
    for status, responses in {**answers, 200: [*answers[200], streamed]}.items():
        for response in responses:
            assert response.status_code == status
            assert set(SECURE) <= set(response.headers.keys()), status
            if status >= 400:
                assert response.get_json()["error"].keys() == {"field", "message"}
    policy = streamed.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "'unsafe-" not in policy
