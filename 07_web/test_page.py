"""The page in a real browser: type, watch the reply stream, stop, reload."""

import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, expect, sync_playwright
from waitress.server import create_server
from web_app import create_app

from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.tokenizer import END_OF_TEXT
from shared.training.checkpoint import save_checkpoint

SERVE = Path(__file__).with_name("serve.py")
# Chromium asks its maker's hosts for updates unless told not to.
FLAGS = ["--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--no-first-run", "--disable-quic", "--disable-gpu", "--no-sandbox"]  # fmt: skip


class Talker(Transformer):
    """An untrained model that never ends its turn and takes its time: it can be stopped."""

    def forward(self, ids, cache=None):
        time.sleep(0.01)
        logits = super().forward(ids, cache)
        logits[..., END_OF_TEXT] = -torch.inf
        return logits


CONFIG = ModelConfig(context_length=128, n_layers=2, d_model=64, n_heads=2)


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    return save_checkpoint(tmp_path_factory.mktemp("run"), 1, model, tokenizer, {}, {})


@pytest.fixture(scope="module")
def talker_address(tokenizer) -> Iterator[str]:
    """The application around a `Talker`, served by waitress from a thread."""
    torch.manual_seed(0)
    app = create_app(
        Talker(CONFIG).eval(), tokenizer, facts={"parameters": 1, "context_bytes": 128}
    )
    server = create_server(app, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(checkpoint: Path, port: int, *more: str) -> subprocess.Popen:
    command = [sys.executable, str(SERVE), "--checkpoint", str(checkpoint), "--device", "cpu"]
    return subprocess.Popen(
        [*command, "--port", str(port), *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def address(checkpoint) -> Iterator[str]:
    port = free_port()
    server = start(checkpoint, port)
    try:
        line = server.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line, server.stderr.read()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture(scope="module")
def browser(browser_path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, talker_address) -> Iterator[Page]:
    """A fresh page whose console must stay silent."""
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.goto(talker_address)
    yield page
    page.close()
    assert faults == []


def test_typing_streams_a_reply_that_can_be_stopped_and_survives_a_reload(page: Page):
    expect(page.locator("#facts")).to_contain_text("parameters")
    page.evaluate("document.getElementById('max_new_bytes').value = 1000")
    page.get_by_label("Your message").fill("hello <b>you</b>")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.user")).to_have_text("hello <b>you</b>")
    reply = page.locator(".turn.assistant")
    expect(reply).to_have_text(re.compile(".+"))
    early = len(reply.inner_text())
    grown = "n => document.querySelector('.turn.assistant').innerText.length > n"
    page.wait_for_function(grown, arg=early)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    stopped = reply.inner_text()
    time.sleep(0.3)
    assert reply.inner_text() == stopped and 0 < len(stopped) < 1000
    page.reload()
    expect(page.locator(".turn.user")).to_have_text("hello <b>you</b>")
    assert page.locator(".turn.assistant").inner_text() == stopped
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".turn")).to_have_count(0)
    page.reload()
    expect(page.locator(".turn")).to_have_count(0)


def test_the_settings_reach_the_model(page: Page):
    page.get_by_text("Settings").click()
    page.get_by_label("Longest reply, bytes").fill("12")
    page.get_by_label("Seed").fill("5")

    def reply() -> str:
        page.get_by_label("Your message").fill("hi")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        page.wait_for_function("document.querySelectorAll('.turn.assistant:not(.writing)').length")
        text = page.locator(".turn.assistant").last.inner_text()
        page.get_by_role("button", name="Clear").click()
        return text

    first = reply()
    assert reply() == first and len(first.encode()) <= 3 * 12


def test_a_taken_port_is_one_clear_line(address, checkpoint):
    second = start(checkpoint, int(address.rpartition(":")[2]))
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert errors.startswith("error: port ") and "is taken: pick another" in errors
    assert errors.count("\n") == 1


def test_the_server_answers_over_real_http(address):
    with urllib.request.urlopen(f"{address}/healthz", timeout=10) as response:
        assert b'"status":"ok"' in response.read()


def test_no_checkpoint_is_one_clear_line(tmp_path):
    server = start(tmp_path, free_port())
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 2 and errors.startswith("error: no checkpoint in")
