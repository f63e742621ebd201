"""The panel around the views: its three homes, its address, a growing reply, what it costs."""

from contextlib import contextmanager

import given_weights
import pytest
from page_driver import FACTS, button, choose, finished, opened, say, written
from playwright.sync_api import Page, expect
from served_models import Reciter, served, wait_until
from web_app import create_app

pytest_plugins = ("web_fixtures", "site_fixtures")

BYTES = {"kind": "bytes", "end_of_text": 30}
LINK = "#accent=%23aa0000&view=attention&layer=2&head=3&byte=20"


@contextmanager
def at_home(
    browser, addresses, model, tokenizer, kind, weights=True, hash="", says=None
):
    """The page of a server, of a host of files, or in one file; short replies."""
    if kind == "server":
        given = given_weights.packed_for_browsers(model, BYTES) if weights else None
        says = says or Reciter(" The server's.")
        app = create_app(says, tokenizer, facts=FACTS, weights=given)
        with served(app) as address, opened(browser, f"{address}/{hash}") as page:
            expect(page.locator("#facts")).to_contain_text("812,345 parameters")
            yield page
    else:
        with opened(browser, f"{addresses[kind]}{hash}") as page:
            choose(page, "max_new_bytes", "20")
            yield page


def tab(page: Page, name: str):
    return page.get_by_role("tab", name=name)


@pytest.mark.parametrize("kind", ["server", "http", "file"])
def test_a_link_opens_its_view_wherever_the_page_lives(browser, addresses, model, tokenizer, kind):
    with at_home(browser, addresses, model, tokenizer, kind, hash=LINK) as page:
        expect(tab(page, "Attention")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#glass")).to_contain_text("Nothing has been said yet.")
        say(page, "hello")
        finished(page)
        expect(page.locator(".heads button")).to_have_count(8)
        expect(page.locator(".told").first).to_contain_text("Layer 2, head 3: byte 20,")
        if kind == "server":
            expect(page.locator(".bytes")).to_contain_text("assistant: The server's.")
        tab(page, "Bytes").click()
        expect(page.locator(".choices tbody tr")).to_have_count(10)
        assert "view=bytes" in page.url and "byte=20" in page.url and "accent=" in page.url
        page.reload()
        expect(tab(page, "Bytes")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("slider", name="Byte of")).to_have_attribute("aria-valuenow", "20")


def test_where_the_weights_are_not_given_there_is_no_button(browser, addresses, model, tokenizer):
    with at_home(browser, addresses, model, tokenizer, "server", weights=False, hash=LINK) as page:
        expect(button(page, "Look inside")).to_have_count(0)
        expect(page.locator("#glass")).to_have_count(0)


def test_a_growing_reply_is_followed_and_a_closed_panel_has_no_worker(
    browser, addresses, model, tokenizer
):
    slow = Reciter(" " + "word " * 100, seconds_a_byte=0.05)
    with at_home(browser, addresses, model, tokenizer, "server", says=slow) as page:
        say(page, "hi")
        wait_until(lambda: written(page))
        assert page.workers == []
        button(page, "Look inside").click()
        strip = page.get_by_role("slider", name="Byte of")
        expect(strip).to_be_visible()
        counts = set()
        wait_until(lambda: counts.add(page.locator(".byte").count()) or len(counts) > 3)
        assert len(page.workers) == 1
        button(page, "Stop").click()
        finished(page)
        strip.focus()
        page.keyboard.press("Escape")
        expect(page.locator("#glass")).to_be_hidden()
        expect(button(page, "Look inside")).to_be_focused()
        wait_until(lambda: page.workers == [])
        assert "view=" not in page.url


def test_a_new_question_is_looked_at_from_its_end_and_clearing_leaves_nothing(browser, addresses):
    with opened(browser, addresses["file"]) as page:
        choose(page, "max_new_bytes", "10")
        say(page, "hello")
        finished(page)
        button(page, "Look inside").click()
        page.locator(".byte").nth(3).click()
        expect(page.get_by_role("slider", name="Byte of")).to_have_attribute("aria-valuenow", "3")
        say(page, "and you?")
        finished(page, 2)
        expect(page.locator(".bytes")).to_contain_text("and you?")
        expect(page.locator(".byte").last).to_have_class("byte reply chosen")
        assert "byte=" not in page.url
        button(page, "Clear").click()
        expect(page.locator("#glass")).to_contain_text("Nothing has been said yet.")
        expect(page.locator(".strip")).to_be_hidden()


def test_tabs_are_walked_with_arrow_keys(browser, addresses):
    with opened(browser, f"{addresses['file']}#view=bytes") as page:
        tab(page, "Bytes").focus()
        for key, name in (("ArrowRight", "Attention"), ("ArrowLeft", "Bytes")):
            page.keyboard.press(key)
            expect(tab(page, name)).to_be_focused()
            expect(tab(page, name)).to_have_attribute("aria-selected", "true")


def test_a_worker_that_cannot_start_is_one_sentence(browser, addresses):
    with opened(browser, addresses["http"]) as page:
        choose(page, "max_new_bytes", "5")
        say(page, "hi")
        finished(page)
        page.evaluate("() => { Worker = class { constructor() { throw new Error(); } }; }")
        button(page, "Look inside").click()
        expect(page.locator("#glass [role=status]").first).to_have_text(
            "This browser cannot look inside: it is too old, or forbids workers."
        )
