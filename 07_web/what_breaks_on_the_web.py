"""What breaks on the web: one setting is another, and who waits for how long is measured.

    python 07_web/what_breaks_on_the_web.py

Four minutes, nearly all of it waiting: for waitress to close connections that say nothing. The
model is untrained and as large as the quick one. Everything stays on this machine.
"""

import json
import logging
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch
from urllib.parse import urlsplit

import torch
import web_app
from chat_request import Limits
from flask import Flask
from serve import build_server
from torch import Tensor
from until_told import address_of
from werkzeug.serving import make_server

from shared.device import seed_everything
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.tokenizer import END_OF_TEXT, ByteTokenizer

QUICK = ModelConfig(context_length=256, n_layers=4, d_model=128, n_heads=2)
ASKED = {"messages": [{"role": "user", "content": "hello"}], "seed": 0}
SILENT = 100  # connections that say nothing: as many as waitress's own limit
WAITRESS = Limits(connections=100, idle_seconds=120)  # its own settings
PATIENCE = 30  # seconds after which the closed ones are counted; ours are closed after 20
LONGEST_ASKED = 1_000_000  # bytes, the sampler's own limit


class Endless(Transformer):
    """Untrained, and never at the end of its turn."""

    def forward(self, ids: Tensor, cache: object = None) -> Tensor:
        """Ids (B, T) -> logits (B, T, V)."""
        logits = super().forward(ids, cache)
        logits[..., END_OF_TEXT] = -torch.inf
        return logits


class BufferingProxy(BaseHTTPRequestHandler):
    """Passes a request on, and the answer back once it is whole."""

    behind = ""

    def do_POST(self) -> None:
        """One request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with post(self.behind, body) as response:
            whole = response.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def post(address: str, body: bytes) -> HTTPResponse:
    """The response of `/chat`, to be read piece by piece."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/chat", body, headers)
    return urllib.request.urlopen(request, timeout=300)


def ask(address: str, **more: object) -> HTTPResponse:
    """The same, for `hello`."""
    return post(address, json.dumps(ASKED | more).encode())


def serve(app: Flask, limits: Limits) -> str:
    """Starts waitress as `serve.py` does, for as long as this process lives; its address."""
    server, _ = build_server(app, limits, "127.0.0.1", 0)
    threading.Thread(target=server.run, daemon=True).start()
    return address_of(server)


def first_and_last_byte(address: str, new_bytes: int) -> tuple[float, float]:
    """Seconds from asking for a stream to its first and to its last byte."""
    start = time.monotonic()
    with ask(address, stream=True, max_new_bytes=new_bytes) as response:
        response.read(1)
        first = time.monotonic() - start
        response.read()
    return first, time.monotonic() - start


def tell_proxy(address: str, new_bytes: int = 400) -> float:
    """With and without a proxy that buffers; returns bytes a second."""
    BufferingProxy.behind = address
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), BufferingProxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    buffered = f"http://127.0.0.1:{proxy.server_port}"
    print(f"a reply of {new_bytes} bytes: seconds to the first and to the last byte")
    for name, place in (("directly", address), ("through a proxy that buffers", buffered)):
        first, last = first_and_last_byte(place, new_bytes)
        print(f"  {name:30}{first:6.2f}{last:6.2f}")
        speed = new_bytes / last
    return speed


def tell_longest(speed: float, limits: Limits) -> None:
    """How long one request can hold a row."""
    longest = limits.max_new_bytes
    print(f"at {speed:.0f} bytes a second a row is held for")
    print(f"  {longest:>9,} bytes, the most that is written  {longest / speed:8.0f} s")
    print(f"  {LONGEST_ASKED:>9,} bytes, with no limit of ours   {LONGEST_ASKED / speed:8.0f} s")


def wait_behind_a_leaver(app: Flask) -> float:
    """Seconds in the queue, behind somebody who asked for 1,000 bytes and has closed the page."""
    address = serve(app, Limits(concurrent=1))
    url = urlsplit(address)
    body = json.dumps(ASKED | {"max_new_bytes": 1000}).encode()
    head = f"POST /chat HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((url.hostname, url.port)) as leaver:
        leaver.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.5)  # its reply has begun
    with ask(address, max_new_bytes=1) as response:
        return json.loads(response.read())["usage"]["queue_seconds"]


def tell_leavers(make_app: Callable[..., Flask]) -> None:
    """With the question whether the reader is still there, and without."""
    print("seconds that the next one waits, behind somebody who has left")
    print(f"  asked before each byte        {wait_behind_a_leaver(make_app()):6.2f}")
    with patch.object(web_app, "client_gone", lambda: lambda: False):
        waited = wait_behind_a_leaver(make_app())
    print(f"  free after the last byte only {waited:6.2f}")


def answered_after(address: str) -> float:
    """Seconds until `/healthz` answers."""
    start = time.monotonic()
    with urllib.request.urlopen(f"{address}/healthz", timeout=300) as response:
        response.read()
    return time.monotonic() - start


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection on which nothing was said."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def tell_silent(name: str, address: str) -> None:
    """What connections that say nothing do to others, and what became of them after a while."""
    url = urlsplit(address)
    threads = threading.active_count()
    with ExitStack() as held:
        places = [(url.hostname, url.port)] * SILENT
        silent = [held.enter_context(socket.create_connection(place)) for place in places]
        time.sleep(1)
        more = threading.active_count() - threads
        waited = answered_after(address)
        time.sleep(max(0.0, PATIENCE - waited))
        closed = sum(is_closed(each) for each in silent)
    print(f"  {name:24}{waited:8.2f} s{more:14}{closed:12}", flush=True)


def main() -> None:
    """Measures one thing after the other."""
    torch.set_num_threads(1)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    seed_everything(0)
    model = Endless(QUICK).eval()

    def make_app(limits: Limits | None = None) -> Flask:
        limits = limits or Limits(concurrent=1)
        return web_app.create_app(model, ByteTokenizer(), limits=limits)

    limits = Limits()
    app = make_app(limits)
    ours = serve(app, limits)
    tell_longest(tell_proxy(ours), limits)
    tell_leavers(make_app)
    flasks_own = make_server("127.0.0.1", 0, app, threaded=True)  # what `app.run()` starts
    threading.Thread(target=flasks_own.serve_forever, daemon=True).start()
    print(f"{SILENT} connections that say nothing; another one is")
    print(f"  {'':24}{'answered in':>10}{'more threads':>14}{'closed':>12}")
    tell_silent("ours", ours)
    tell_silent("waitress's own limits", serve(make_app(WAITRESS), WAITRESS))
    tell_silent("app.run()", f"http://127.0.0.1:{flasks_own.server_port}")


if __name__ == "__main__":
    main()
