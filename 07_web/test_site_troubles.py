"""What goes wrong at a visitor's: one sentence on the page each, and nothing said is lost."""

import pytest
from page_driver import PHONE, button, choose, finished, fits, nameless, opened, say
from playwright.sync_api import expect

pytest_plugins = ("web_fixtures", "site_fixtures")

NO_STORAGE = """
Object.defineProperty(window, "localStorage", { get() { throw new Error("refused"); } });
"""


@pytest.mark.parametrize(
    ("comes", "words"),
    [
        ({"status": 404}, "The model cannot be downloaded: the server answered 404."),
        ("cut", "The download of the model broke off: reload the page to try again."),
        pytest.param(
            "abort",
            "The model cannot be downloaded: nobody answers. Reload the page to try again.",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"body": b"<!doctype html>"}, "This file holds no packed model.", marks=pytest.mark.slow
        ),
    ],
    ids=["not there", "breaks off", "nobody", "something else"],
)
def test_a_model_that_does_not_come_is_told_and_asked_for_again(
    browser, addresses, site, comes, words
):
    def answer(route):
        if comes == "abort":
            route.abort()
        elif comes == "cut":
            route.continue_(url=route.request.url.replace("/site/", "/cut/site/"))
        else:
            route.fulfill(**comes)

    with browser.new_context() as context:
        context.route("**/*.tllm", answer)
        with opened(context, addresses["http"], allowed="Failed to load") as page:
            expect(page.get_by_role("banner")).to_contain_text(words)
            choose(page, "max_new_bytes", "5")
            say(page, "hi")
            expect(page.locator("#notice")).to_contain_text(words)
            expect(page.locator(".turn.user")).to_have_text("hi")
            context.unroute("**/*.tllm")
            button(page, "Retry").click()
            assert finished(page)
            expect(page.locator(".turn.user")).to_have_text("hi")


def test_without_fast_arithmetic_it_says_that_replies_come_slowly(browser, addresses):
    with opened(browser, addresses["http"], allowed="404") as page:
        page.route("**/matvec.wasm", lambda route: route.fulfill(status=404))
        page.reload()
        expect(page.get_by_role("banner")).to_contain_text("replies come slowly")
        choose(page, "max_new_bytes", "5")
        say(page, "hi")
        assert finished(page)


def test_without_workers_it_says_so_and_keeps_what_was_typed(browser, addresses):
    with opened(browser, addresses["file"]) as page:
        page.add_init_script("delete window.Worker; window.Worker = undefined;")
        page.reload()
        expect(page.get_by_role("banner")).to_contain_text("This browser cannot run the model")
        say(page, "hi")
        expect(page.locator("#notice")).to_contain_text("This browser cannot run the model")
        expect(page.locator(".turn.user")).to_have_text("hi")


@pytest.mark.parametrize("kind", [pytest.param("http", marks=pytest.mark.slow), "file"])
def test_a_browser_that_keeps_nothing_says_so_once_and_chats(browser, addresses, kind):
    with opened(browser, addresses[kind]) as page:
        page.add_init_script(NO_STORAGE)
        page.reload()
        expect(page.locator("#unkept")).to_have_text("")
        choose(page, "max_new_bytes", "5")
        say(page, "hi")
        finished(page)
        expect(page.locator("#unkept")).to_contain_text("This browser keeps nothing")


WORKERS = """
window.workers = [];
window.Worker = class extends Worker {
  constructor(...given) { super(...given); workers.push(this); }
};
"""


def test_a_worker_that_dies_in_the_middle_of_a_reply_is_told_and_replaced(browser, addresses):
    with opened(browser, addresses["http"]) as page:
        page.add_init_script(WORKERS)
        page.reload()
        choose(page, "max_new_bytes", "1000000")
        say(page, "hi")
        expect(page.locator(".turn.assistant")).not_to_be_empty()
        page.evaluate("workers[0].dispatchEvent(new ErrorEvent('error'))")
        expect(page.locator("#notice")).to_contain_text("This browser cannot run the model")
        expect(page.locator(".turn.user")).to_have_text("hi")
        choose(page, "max_new_bytes", "5")
        page.get_by_role("button", name="Retry").click()
        assert finished(page) and page.evaluate("workers.length") == 2


@pytest.mark.parametrize("kind", ["http", "file"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_site_fits_a_phone_and_every_control_has_a_name(browser, addresses, kind, scheme):
    with opened(browser, addresses[kind], viewport=PHONE, color_scheme=scheme) as page:
        choose(page, "max_new_bytes", "50")
        say(page, "hello")
        finished(page)
        assert fits(page)
        page.get_by_text("Settings").click()
        assert fits(page) and nameless(page) == []
        assert page.locator("#log").bounding_box()["height"] > 80  # still room to read
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
