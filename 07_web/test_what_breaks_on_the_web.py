"""The parts of `what_breaks_on_the_web.py`: a proxy that buffers, a leaver, silent connections."""

import socket
import threading
from http.server import ThreadingHTTPServer

import pytest
import torch
from served_models import CONFIG, Reciter, served
from web_app import create_app
from what_breaks_on_the_web import BufferingProxy, Endless, ask, is_closed

from shared.text.tokenizer import END_OF_TEXT


def test_the_proxy_passes_on_every_byte_and_none_before_the_last(tokenizer, monkeypatch):
    with served(create_app(Reciter("hello"), tokenizer)) as address:
        monkeypatch.setattr(BufferingProxy, "behind", address)
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), BufferingProxy)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        with ask(f"http://127.0.0.1:{proxy.server_port}", stream=True) as response:
            length = int(response.headers["Content-Length"])
            assert len(response.read()) == length > 0
        proxy.shutdown()
        proxy.server_close()


def test_a_model_without_end_never_ends_its_turn():
    torch.manual_seed(0)
    logits = Endless(CONFIG)(torch.zeros(1, 3, dtype=torch.long))
    assert torch.isneginf(logits[..., END_OF_TEXT]).all()


@pytest.mark.parametrize("leave", [True, False])
def test_a_connection_is_closed_when_the_other_side_has_left(leave):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if leave:
            theirs.close()
        assert is_closed(ours) == leave
