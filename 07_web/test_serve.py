"""The server as a process: it stops in good order, and the command line reaches the application."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import load_test
import pytest
import serve
from served_models import post, running, streamed

from shared.errors import UserError

HERE = Path(__file__).parent
pytest_plugins = ("web_fixtures",)
HI = [{"role": "user", "content": "hi"}]


def long_stream(address: str, size: int = 1500):
    """A reply that takes seconds; it has begun when this returns."""
    asked = {"messages": HI, "temperature": 0, "max_new_bytes": size, "stream": True}
    response = post(address, asked)
    return response, response.readline()


@pytest.mark.posix
def test_sigterm_finishes_the_reply_in_flight_takes_no_new_one_and_exits_0(endless):
    with running(endless, "--limits.max_new_bytes", "4000") as (process, address):
        response, first = long_stream(address)
        process.send_signal(signal.SIGTERM)
        refused = None
        while refused is None:  # the signal is on its way: asked until it has arrived
            try:
                post(address, {"messages": HI, "max_new_bytes": 1}).read()
            except urllib.error.HTTPError as error:
                refused = error
        assert refused.code == 503 and "Retry-After" in refused.headers
        text, last = streamed(first + response.read())
        assert last["finish_reason"] == "length"
        assert last["usage"]["reply_bytes"] == 1500 and text
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


@pytest.mark.slow
@pytest.mark.posix
def test_a_reply_longer_than_the_grace_is_ended_and_the_exit_is_0(endless):
    more = ["--limits.max_new_bytes", "900000", "--grace-seconds", "0.1"]
    with running(endless, *more) as (process, address):
        response, first = long_stream(address, 900_000)
        process.send_signal(signal.SIGTERM)
        _, last = streamed(first + response.read())
        assert last["finish_reason"] == "length"
        assert 0 < last["usage"]["reply_bytes"] < 900_000
        assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def told(checkpoint) -> Iterator[tuple[subprocess.Popen, str]]:
    """A server that was told much on its command line, and its address."""
    origins = "--allow-origin https://a.org --allow-origin https://b.org"
    more = f"--limits.max_messages 1 {origins} --behind-proxy --allowed-host c.org"
    with running(checkpoint, *more.split()) as server:
        yield server


def test_limits_and_origins_come_from_the_command_line(told):
    _, address = told
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address, {"messages": HI * 2})
    assert json.load(refused.value)["error"]["message"] == "at most 1 messages"
    asked = {"messages": HI, "max_new_bytes": 1}
    for origin in ("https://a.org", "https://b.org"):
        answer = post(address, asked, Origin=origin)
        assert answer.headers["Access-Control-Allow-Origin"] == origin
    proxied = {"Origin": "https://c.org", "X_Forwarded_Host": "c.org"}
    assert post(address, asked, **proxied).status == 200
    for other in ({"Origin": "https://c.org"}, {"X_Forwarded_Host": "d.org"}):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            post(address, asked, **other)


@pytest.mark.posix
def test_ctrl_c_ends_a_server_without_work_with_0(told):
    process, address = told
    with urllib.request.urlopen(f"{address}/healthz", timeout=10) as response:
        assert b'"status":"ok"' in response.read()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--limits.concurrent", "0"),
        ("--limits.queue_length", "-1"),
        ("--limits.max_candidates", "0"),
        ("--limits.max_candidates", "65"),
        ("--pick", "votes"),
        ("--pick", "no_such_module:f"),
        ("--allow-origin", "*"),
        ("--allowed-host", "a.org:80"),
    ],
)
def test_a_limit_that_makes_no_sense_is_a_mistake_of_the_users(
    option, value, checkpoint, monkeypatch
):
    monkeypatch.setattr(serve, "serve_until_told", lambda *_: None)  # what is taken must not hang
    with pytest.raises(UserError):
        serve.main(["--checkpoint", str(checkpoint), "--device", "cpu", option, value])


def test_on_own_functions_one_reply_is_drawn_at_a_time(checkpoint, tmp_path, monkeypatch):
    """A learner's decoder takes no texts side by side."""
    (tmp_path / "__main__.py").write_text("def swap_in():\n    return ['decode']\n")
    apps = []
    monkeypatch.setattr(serve, "COURSE", tmp_path)
    monkeypatch.setattr(serve, "build_server", lambda app, *_: apps.append(app) or (None, {}))
    monkeypatch.setattr(serve, "serve_until_told", lambda *_: None)
    serve.main(["--checkpoint", str(checkpoint), "--device", "cpu", "--mine"])
    assert apps[0].test_client().get("/healthz").get_json()["limits"]["max_candidates"] == 1


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_number_that_is_no_port_is_refused(port):
    with pytest.raises(UserError, match=f"port is {port}; expected 0 to 65535"):
        serve.build_server(lambda *_: [], serve.Limits(), "127.0.0.1", port)


def run_load_test(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(HERE / "load_test.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_load_test_counts_every_request_once_and_draws_its_table(checkpoint, tmp_path):
    figure = tmp_path / "clients.png"
    options = f"--clients 1 4 --requests 3 --max_new_bytes 20 --figure {figure}"
    done = run_load_test("--checkpoint", str(checkpoint), *options.split())
    assert done.returncode == 0, done.stderr
    _, *rows = (line.replace(",", "").split() for line in done.stdout.splitlines())
    assert [row[:4] for row in rows] == [["1", "3", "0", "0"], ["4", "12", "0", "0"]]
    for *_, rate, per_cpu_second, median, _, p95, _ in rows:
        assert float(rate) > 0 and float(per_cpu_second) > 0
        assert 0 < float(median) <= float(p95)
    assert figure.stat().st_size > 1000


HEAVY = ("datasets", "matplotlib", "pandas", "transformers", "tokenizers", "rich", "torch._dynamo")


def test_a_server_imports_nothing_that_a_chat_does_not_need(checkpoint):
    """Each would keep the first page waiting."""
    told = f"import sys; sys.path.insert(0, {str(HERE)!r}); import serve; " + (
        "serve.serve_until_told = lambda *_: print(*sys.modules); "
        f"serve.main(['--checkpoint', {str(checkpoint)!r}, '--device', 'cpu', '--port', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "talkers" in loaded, done.stderr
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org",
        "http://10.0.0.1:80",
        "http://127.0.0.1@example.org",
        "https://[::1",
        "http://127.0.0.1:99999",
    ],
)
def test_the_load_test_refuses_targets_that_are_not_this_machine(address):
    with pytest.raises(UserError, match="is no address on this machine"):
        load_test.main(["--address", address])
    assert load_test.loopback("http://127.0.0.1:8000/") == "http://127.0.0.1:8000"
    assert load_test.loopback("http://[::1]:8000") == "http://[::1]:8000"
