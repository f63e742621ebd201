"""The page in a real browser: type, watch the reply stream, stop, reload."""

import re
import time
import urllib.request

import pytest
from page_driver import choose, written
from playwright.sync_api import Page, expect
from served_models import running, start, wait_until

pytest_plugins = ("web_fixtures",)


@pytest.fixture(scope="module")
def address(checkpoint):
    with running(checkpoint) as (_, address):
        yield address


def test_typing_streams_a_reply_that_can_be_stopped_and_survives_a_reload(page: Page):
    expect(page.locator("#facts")).to_contain_text("parameters")
    expect(page.locator("#answered_by")).to_be_hidden()
    choose(page, "max_new_bytes", "1000")
    page.get_by_label("Your message").fill("hello <b>you</b>")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.user")).to_have_text("hello <b>you</b>")
    reply = page.locator(".turn.assistant")
    expect(reply).to_have_text(re.compile(".+"))
    early = len(written(page))
    wait_until(lambda: len(written(page)) > early)
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
        expect(page.locator(".turn.assistant:not(.writing)")).to_have_count(1)
        text = page.locator(".turn.assistant").last.inner_text()
        page.get_by_role("button", name="Clear").click()
        return text

    first = reply()
    assert reply() == first and len(first.encode()) <= 3 * 12


def test_a_taken_port_is_one_clear_line(address, checkpoint):
    second, _ = start(checkpoint, "--port", address.rpartition(":")[2])
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert errors.startswith("error: port ") and "is taken: pick another" in errors
    assert errors.count("\n") == 1


def test_the_server_answers_over_real_http(address):
    with urllib.request.urlopen(f"{address}/healthz", timeout=10) as response:
        assert b'"status":"ok"' in response.read()


def test_no_checkpoint_is_one_clear_line(tmp_path):
    server, _ = start(tmp_path, "--port", "0")
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 2 and errors.startswith("error: no checkpoint in")
