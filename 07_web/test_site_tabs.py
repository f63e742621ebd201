"""One conversation and what happens around it: other tabs, hidden tabs, the Back button."""

import json
from collections.abc import Iterator

import pytest
from page_driver import button, choose, finished, opened, say, written
from playwright.sync_api import BrowserContext, Page, expect
from served_models import wait_until

pytest_plugins = ("web_fixtures", "site_fixtures")

FOREVER = "1000000"
WENT_ON = "This conversation went on in another tab."

# A visitor without the fast kernels: a long reply does not fill the page so fast.
SLOW = """
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (task, ...more) {
  post.call(this, task.wasm ? { ...task, wasm: null } : task, ...more);
};
"""
HIDE = """
Object.defineProperty(document, "hidden", { get: () => true, configurable: true });
document.dispatchEvent(new Event("visibilitychange"));
delete document.hidden;
"""
KEPT = """
Object.entries(localStorage).find(([name]) => name.startsWith("tiny-llm-conversation"))?.[1]
"""


@pytest.fixture
def context(browser) -> Iterator[BrowserContext]:
    """What the tabs of one visitor share."""
    with browser.new_context() as context:
        context.add_init_script(SLOW)
        yield context


def kept(page: Page) -> list[str]:
    """What the browser has stored, as texts."""
    return [message["content"] for message in json.loads(page.evaluate(KEPT) or "[]")]


@pytest.mark.parametrize("kind", [pytest.param("http", marks=pytest.mark.slow), "file"])
def test_two_tabs_are_one_conversation_and_lose_nothing(context, addresses, kind):
    with opened(context, addresses[kind]) as one, opened(context, addresses[kind]) as other:
        for page in (one, other):
            choose(page, "max_new_bytes", "5")
        say(one, "first")
        finished(one)
        finished(other)  # who is idle follows
        expect(other.locator("#notice")).to_have_text(WENT_ON)
        choose(one, "max_new_bytes", FOREVER)
        say(one, "second, long")
        wait_until(lambda: written(one))
        expect(other.locator(".turn.user")).to_have_text(["first", "second, long"])
        say(other, "third")
        finished(other, 2)
        said = ["first", "second, long", "third"]
        one.evaluate(HIDE)  # what it keeps must not push out what the other tab has kept
        assert [text for text in kept(one) if text in said] == said
        button(one, "Stop").click()
        finished(one, 3)
        for page in (one, other):
            expect(page.locator(".turn.user")).to_have_text(said)
            expect(page.locator(".turn.assistant")).to_have_count(3)
        assert kept(one)[::2] == said
        button(one, "Clear").click()
        expect(other.locator(".turn")).to_have_count(0)
        assert kept(other) == []


def test_clear_in_one_tab_ends_the_reply_in_the_other(context, addresses):
    with opened(context, addresses["http"]) as one, opened(context, addresses["http"]) as other:
        choose(one, "max_new_bytes", FOREVER)
        say(one, "long")
        expect(other.locator(".turn.user")).to_have_count(1)
        button(other, "Clear").click()
        expect(one.locator(".turn")).to_have_count(0)
        expect(button(one, "Send")).to_be_visible()
        assert kept(one) == []


@pytest.mark.slow
@pytest.mark.posix
def test_two_sites_on_one_host_are_two_conversations(context, addresses, site):
    other = site.parent / "other"
    other.symlink_to(site)
    with opened(context, addresses["http"]) as page:
        choose(page, "max_new_bytes", "5")
        say(page, "to the first")
        finished(page)
        page.goto(addresses["http"].replace("/site/", "/other/"))
        expect(page.locator("#facts")).to_contain_text("parameters")
        expect(page.locator(".turn")).to_have_count(0)
        page.goto(addresses["http"])
        expect(page.locator(".turn.user")).to_have_text("to the first")
    other.unlink()


def test_a_tab_that_is_hidden_keeps_the_unfinished_reply_and_goes_on(context, addresses):
    with opened(context, addresses["http"]) as page:
        choose(page, "max_new_bytes", FOREVER)
        say(page, "hello")
        wait_until(lambda: written(page))
        page.evaluate(HIDE)
        before = len(kept(page)[1])
        assert before > 0
        wait_until(lambda: len(written(page)) > before)
        button(page, "Stop").click()
        whole = finished(page)
        assert kept(page) == ["hello", written(page)] and len(whole) > 0
        expect(page.locator("#notice")).to_have_text("")


@pytest.mark.parametrize("kind", [pytest.param("http", marks=pytest.mark.slow), "file"])
def test_leaving_in_the_middle_of_a_reply_and_coming_back_offers_it_again(context, addresses, kind):
    with opened(context, addresses[kind]) as page:
        choose(page, "max_new_bytes", FOREVER)
        say(page, "hello")
        wait_until(lambda: len(written(page)) > 3)
        page.goto("about:blank")
        page.go_back()
        expect(page.locator("#notice")).to_contain_text("The reply was not finished.")
        assert len(written(page)) > 3
        choose(page, "max_new_bytes", "5")
        button(page, "Retry").click()
        expect(page.locator("#notice")).to_have_text("")
        assert len(finished(page)) <= 5
        assert len(kept(page)) == 2


# Chromium tells a page that comes back what was kept meanwhile; others need not, says the standard.
DEAF = "addEventListener('storage', (event) => event.stopImmediatePropagation());"


def left(page: Page) -> None:
    """Marks the page, and goes elsewhere."""
    page.evaluate("window.same = true")
    page.goto("about:blank")


def back(page: Page) -> None:
    """To the page as it was left: no event tells of its loading."""
    page.go_back(wait_until="commit")
    wait_until(lambda: page.evaluate("window.same"))


@pytest.mark.slow
def test_the_back_button_brings_a_page_back_with_what_was_said_meanwhile(remembering, addresses):
    with remembering.new_context() as context:
        context.add_init_script(SLOW + DEAF)
        with opened(context, addresses["http"]) as page:
            choose(page, "max_new_bytes", FOREVER)
            say(page, "first")
            wait_until(lambda: written(page))
            left(page)
            with opened(context, addresses["http"]) as other:
                expect(other.locator("#notice")).to_contain_text("The reply was not finished.")
                choose(other, "max_new_bytes", "5")
                say(other, "second")
                finished(other, 2)
            back(page)
            before = len(written(page))
            wait_until(lambda: len(written(page)) > before)  # its reply goes on
            button(page, "Stop").click()
            expect(page.locator(".turn.user")).to_have_text(["first", "second"])
            finished(page, 2)
            left(page)
            back(page)
            expect(page.locator("#notice")).to_have_text("")  # nothing was said meanwhile
            left(page)
            with opened(context, addresses["http"]) as other:
                choose(other, "max_new_bytes", "5")
                say(other, "third")
                finished(other, 3)
            back(page)
            expect(page.locator(".turn.user")).to_have_text(["first", "second", "third"])
            expect(page.locator("#notice")).to_have_text(WENT_ON)


def test_where_nothing_is_kept_the_back_button_still_brings_the_conversation(
    remembering, addresses
):
    refused = "Object.defineProperty(window, 'localStorage', { get() { throw new Error(); } });"
    with opened(remembering, addresses["http"]) as page:
        page.add_init_script(refused)
        page.reload()
        choose(page, "max_new_bytes", "5")
        say(page, "hello")
        finished(page)
        left(page)
        back(page)
        expect(page.locator(".turn.user")).to_have_text("hello")
