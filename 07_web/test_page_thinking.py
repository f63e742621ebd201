"""Thinking longer in the page: a small control, a folded working, and how many say so."""

import json

import pytest
from chat_request import Limits
from page_driver import FACTS, PHONE, button, choose, finished, fits, opened, say, talking
from playwright.sync_api import Locator, Page, expect
from served_models import Reciter, served
from web_app import create_app

from shared.text.exercise import EQUALS

pytest_plugins = ("web_fixtures",)

WORKING, ANSWER = "5+9=14 8+7+1=16 3+2+1=6", "664"
REPLY = WORKING + EQUALS + ANSWER
FOLDED = f"Working\n{ANSWER}"  # what can be read while the working is closed


def think(page: Page) -> None:
    """Opens the settings and asks for the working."""
    page.get_by_text("Settings").click()
    page.get_by_label("Think").check()


def bodies_of(page: Page) -> list[dict]:
    """What the page posts from now on."""
    bodies: list[dict] = []
    page.on("request", lambda request: bodies.append(json.loads(request.post_data or "{}")))
    return bodies


def last_turn(page: Page) -> Locator:
    return page.locator(".turn.assistant").last


def test_the_working_is_folded_away_and_a_key_opens_it(browser, tokenizer):
    with talking(browser, tokenizer, f" {REPLY}", viewport=PHONE) as page:
        think(page)
        say(page, "what is 385+279?")
        assert finished(page) == FOLDED
        fold = last_turn(page).locator("summary")
        for _ in range(2):  # now, and again after a reload
            fold.focus()
            page.keyboard.press("Enter")
            assert finished(page) == f"Working\n{WORKING}\n{ANSWER}"
            assert fits(page)
            page.keyboard.press("Space")
            assert finished(page) == FOLDED
            page.reload()
            assert finished(page) == FOLDED
        expect(last_turn(page)).to_have_attribute("aria-label", "Model")


def test_the_model_gets_its_own_reply_back_whole_and_nothing_else(browser, tokenizer):
    with talking(browser, tokenizer, f" {REPLY}") as page:
        think(page)
        bodies = bodies_of(page)
        for count in (1, 2):
            say(page, "what is 385+279?")
            finished(page, count)
        assert bodies[0].keys() == {"messages", "stream", "think"} and bodies[0]["think"] is True
        assert bodies[1]["messages"][1] == {"role": "assistant", "content": REPLY}
        page.get_by_label("Think").uncheck()
        say(page, "what is 385+279?")
        assert finished(page, 3) == REPLY  # not asked for: " = " may stand in any text
        assert bodies[2].keys() == {"messages", "stream"}


@pytest.mark.parametrize("text", ["664", WORKING + EQUALS])
def test_a_reply_without_a_working_or_an_answer_is_shown_as_it_is(text, browser, tokenizer):
    with talking(browser, tokenizer, f" {text}") as page:
        think(page)
        say(page, "hello")
        assert finished(page) == text


def test_html_in_a_working_or_an_answer_is_text(browser, tokenizer):
    evil = "<img src=x onerror=\"document.title='run'\">"
    with talking(browser, tokenizer, f" {evil}{EQUALS}{evil}") as page:
        think(page)
        say(page, "hello")
        assert finished(page) == f"Working\n{evil}"
        assert page.locator("#log img").count() == 0


def test_several_replies_are_asked_for_and_how_many_agree_is_told(browser, tokenizer):
    with talking(browser, tokenizer, f" {REPLY}") as page:
        think(page)
        page.get_by_label("Replies to choose from").fill("3")
        bodies = bodies_of(page)
        say(page, "what is 385+279?")
        told = f"{FOLDED}\n3 of 3 say so"
        assert finished(page) == told
        assert bodies[0]["candidates"] == 3
        page.reload()
        assert finished(page) == told


def test_the_control_offers_what_the_server_allows_and_too_many_is_told(browser, tokenizer):
    for most in (1, 5):
        app = create_app(Reciter(" ok"), tokenizer, facts=FACTS, limits=Limits(max_candidates=most))
        with served(app) as address, opened(browser, address, allowed="422") as page:
            expect(page.locator("#facts")).to_contain_text("812,345 parameters")
            page.get_by_text("Settings").click()
            expect(page.get_by_label("Think")).to_be_visible()
            number = page.get_by_label("Replies to choose from")
            expect(number).to_be_visible(visible=most > 1)
            expect(number).to_have_attribute("max", str(most))
            if most > 1:
                choose(page, "candidates", "6")
                say(page, "hello")
                expect(page.locator("#notice")).to_have_text("candidates: expected 1 to 5")
                assert page.get_by_label("Your message").input_value() == "hello"


def test_what_no_server_offers_is_not_shown(browser, tokenizer):
    with talking(browser, tokenizer, " ok", allowed="404") as page:
        page.route("**/healthz", lambda route: route.fulfill(status=404))
        page.reload()
        page.get_by_text("Settings").click()
        expect(page.get_by_label("Seed")).to_be_visible()
        for name in ("Think", "Replies to choose from"):
            expect(page.get_by_label(name)).to_be_hidden()
        say(page, "hello")
        assert finished(page) == "ok"
        expect(button(page, "Send")).to_be_visible()
