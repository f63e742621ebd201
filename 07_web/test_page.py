"""The page in a real browser: type, watch the reply stream, stop, reload."""

import re
import time

from page_driver import choose, written
from playwright.sync_api import Page, expect
from served_models import SERVE, wait_until

pytest_plugins = ("web_fixtures",)


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


def test_a_taken_port_is_one_clear_line(talker_address, checkpoint, as_script):
    port = talker_address.rpartition(":")[2]
    taken = ("--checkpoint", str(checkpoint), "--device", "cpu", "--port", port)
    code, told = as_script(SERVE, *taken)
    assert code == 2
    assert told.startswith("error: port ") and "is taken: pick another" in told
    assert told.count("\n") == 1


def test_no_checkpoint_is_one_clear_line(tmp_path, as_script):
    code, told = as_script(SERVE, "--checkpoint", str(tmp_path), "--port", "0")
    assert code == 2 and told.startswith("error: no checkpoint in") and told.count("\n") == 1
