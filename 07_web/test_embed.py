"""One line on somebody's page puts the chat there, in its own colours, from http:// and file://."""

import pytest
from engine_page import files_served
from page_driver import opened
from playwright.sync_api import expect

pytest_plugins = ("web_fixtures", "site_fixtures")

PAGE = """<!doctype html><html lang="en"><title>Mine</title><link rel="icon" href="data:,"><style>
:root {{ --tiny-llm-paper: #fff8e7; --tiny-llm-ink: rgb(10, 20, 30); --tiny-llm-height: 20rem;
         --tiny-llm-bad: url(nowhere.png); }} p {{ color: red }}</style>
<h1>Mine</h1><main><script src="{script}"></script></main><p>after</p></html>"""
PAPER, INK = "rgb(255, 248, 231)", "rgb(10, 20, 30)"


@pytest.fixture(params=["one host", pytest.param("two hosts", marks=pytest.mark.slow), "file"])
def embedding(request, site):
    """The address of a page that embeds the site's: of the same host, of another, of none."""
    page = site.parent / "mine.html"
    if request.param == "file":
        page.write_text(PAGE.format(script=(site / "embed.js").as_uri()))
        yield page.as_uri()
        return
    with files_served(site.parent) as host:
        page.write_text(PAGE.format(script=f"{host}/site/embed.js"))
        other = host.replace("127.0.0.1", "localhost")
        yield f"{host if request.param == 'one host' else other}/mine.html"


def test_the_chat_stands_where_the_line_stands_in_the_pages_colours(browser, embedding):
    with opened(browser, embedding, viewport={"width": 500, "height": 700}) as page:
        frame = page.frame_locator("main > iframe[title='Chat with a tiny language model']")
        frame.locator("#max_new_bytes").evaluate(
            "(input) => { input.value = 5; input.dispatchEvent(new Event('input')); }"
        )
        box = page.locator("iframe").bounding_box()
        assert box["height"] == 320 and box["width"] <= 500
        assert page.evaluate("document.activeElement.tagName") == "BODY"  # it takes no focus
        frame.get_by_label("Your message").fill("hello")
        frame.get_by_label("Your message").press("Enter")
        expect(frame.locator(".turn.assistant:not(.writing)")).to_have_count(1)
        body = frame.locator("body")
        expect(body).to_have_css("background-color", PAPER)
        expect(body).to_have_css("color", INK)
        bad = "getComputedStyle(document.documentElement).getPropertyValue('--bad')"
        assert body.evaluate(f"() => {bad}").startswith("#")  # no colour, not taken
        assert frame.locator("body").evaluate("(body) => body.scrollWidth <= body.clientWidth")
        expect(page.locator("main + p")).to_have_text("after")
