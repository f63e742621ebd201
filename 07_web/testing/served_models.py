"""What the web tests share: models whose replies are known, and ways to serve and ask them."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from chat_request import Limits
from flask import Flask
from serve import build_server
from waitress import wasyncore

from shared.chat.adapter_file import save_adapter
from shared.chat.lora import adapted_layers, add_adapters
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.tokenizer import END_OF_TEXT

SERVE = Path(__file__).resolve().parents[1] / "serve.py"
CONFIG = ModelConfig(context_length=128, n_layers=2, d_model=64, n_heads=2)


class Talker(Transformer):
    """An untrained model that never ends its turn and takes its time: it can be stopped."""

    def forward(self, ids, cache=None):
        time.sleep(0.01)
        logits = super().forward(ids, cache)
        logits[..., END_OF_TEXT] = -torch.inf
        return logits


class Reciter(Transformer):
    """Says a fixed text, whatever it is asked, as many times as it is asked."""

    def __init__(self, text: str, seconds_a_byte: float = 0.0, at_end: int = END_OF_TEXT) -> None:
        super().__init__(ModelConfig(context_length=4096, n_layers=1, d_model=8, n_heads=1))
        self.text, self.seconds_a_byte, self.at_end = text.encode(), seconds_a_byte, at_end

    def forward(self, ids, cache=None):
        logits = torch.zeros(*ids.shape, 256)
        if cache is None:  # it is asked how likely a reply is, and likes each as well
            return logits
        time.sleep(self.seconds_a_byte)
        # The ids stand in the place of keys: so they are kept where the conversation is.
        written = ids[:, None, :, None].expand(-1, 1, -1, 8).float()  # (B, 1, T, 8)
        held, _, mask = cache.layers[0].extend(written, written)
        for row, keys in enumerate(held[:, 0, :, 0].long()):
            known = keys if mask is None else keys[mask[row, 0, 0] == 0]
            said = len(bytes(known.tolist()).rpartition(b"assistant:")[2])
            logits[row, -1, self.text[said] if said < len(self.text) else self.at_end] = 1000.0
        return logits


def adapter_beside(model: Transformer, path: Path) -> Path:
    """A file of adapters that change what the model says."""
    generator = torch.Generator().manual_seed(1)
    add_adapters(model, rank=3, alpha=6.0, generator=generator)
    for layer in adapted_layers(model).values():
        torch.nn.init.normal_(layer.adapter.B, std=0.2, generator=generator)
    save_adapter(model, path)
    return path


def free_rows(app: Flask) -> int:
    """How many replies could begin now."""
    return app.extensions["talkers"].free


def wait_until(true: Callable[[], Any], seconds: float = 20) -> None:
    """Waits until `true()` is; fails after a time that only something stuck needs."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def end_loop(server: Any, channels: dict[int, Any]) -> None:
    """Ends waitress's loop: it closes its sockets itself, and all but its alarm bell.

    A socket closed from outside would fail under its hands, and a bell closed while it
    is being rung would fail under ours.
    """

    def close_sockets() -> None:
        for channel in list(channels.values()):
            if channel is server:
                wasyncore.dispatcher.close(server)  # its own close takes the bell along
            elif channel is not server.trigger:
                channel.close()

    server.trigger.pull_trigger(close_sockets)
    wait_until(lambda: all(channel is server.trigger for channel in list(channels.values())))
    channels.clear()
    server.trigger.pull_trigger()  # awake, it finds nothing left to serve


@contextmanager
def served(app: Flask, limits: Limits | None = None, **options: Any) -> Iterator[str]:
    """The address of `app`, served by waitress from a thread as `serve.py` does it."""
    server, channels = build_server(app, limits or Limits(), "127.0.0.1", 0, **options)
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        app.extensions["talkers"].hurry = True
        server.task_dispatcher.shutdown(timeout=5)
        end_loop(server, channels)
        serving.join(timeout=5)
        server.trigger.close()


def post(address: str, asked: dict[str, Any], **headers: str) -> Any:
    """Sends a chat request; the response may be read piece by piece."""
    request = urllib.request.Request(
        f"{address}/chat", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    return urllib.request.urlopen(request, timeout=60)


def streamed(body: bytes) -> tuple[str, dict[str, Any]]:
    """The text of a whole event stream, and its last event."""
    events = [json.loads(block[6:]) for block in body.decode().split("\n\n") if block]
    return "".join(event.get("text", "") for event in events), events[-1]


def start(checkpoint: Path, *more: str) -> tuple[subprocess.Popen, str]:
    """Runs `serve.py`; returns the process and the first line it prints."""
    command = [sys.executable, str(SERVE), "--checkpoint", str(checkpoint), "--device", "cpu"]
    process = subprocess.Popen(
        [*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline()


def address_in(line: str) -> str:
    """The address in what `serve.py` prints."""
    return next(word for word in line.split() if word.startswith("http://"))


@contextmanager
def running(
    checkpoint: Path, *more: str, port: str = "0"
) -> Iterator[tuple[subprocess.Popen, str]]:
    """A `serve.py` process and its address; the process does not outlive the block."""
    process, line = start(checkpoint, "--port", port, *more)
    try:
        assert "http://" in line, process.communicate()
        yield process, address_in(line)
    finally:
        process.kill()
        process.communicate()
