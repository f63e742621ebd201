"""The page for everybody: keyboard only, small screens, both colour schemes, screen readers."""

import re
from pathlib import Path

import pytest
from page_driver import PHONE, button, finished, fits, nameless, say, talking
from playwright.sync_api import expect

pytest_plugins = ("web_fixtures",)

CSS = Path(__file__).with_name("page") / "chat.css"


def test_the_whole_page_works_with_the_keyboard_alone(browser, tokenizer):
    with talking(browser, tokenizer, " " + "word " * 100, seconds_a_byte=0.02) as page:
        focused = "document.activeElement.id || document.activeElement.tagName"
        assert page.evaluate(focused) == "message"  # one can type at once
        page.keyboard.type("first line")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("second line")
        expect(page.locator(".turn")).to_have_count(0)
        page.keyboard.press("Enter")
        assert page.locator(".turn.user").inner_text() == "first line\nsecond line"
        expect(page.locator(".turn.assistant")).to_contain_text("word")
        page.keyboard.press("Escape")
        expect(button(page, "Send")).to_be_visible()
        assert 0 < len(finished(page)) < 400
        page.keyboard.type("again")
        order = []
        for _ in range(3):
            page.keyboard.press("Tab")
            order.append(page.evaluate(focused))
        assert order == ["send", "SUMMARY", "clear"]
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")  # opens the settings
        expect(page.get_by_label("Seed")).to_be_visible()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")  # on Send: the focus must not get lost with the button
        expect(button(page, "Stop")).to_be_focused()
        page.keyboard.press("Enter")
        expect(button(page, "Send")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off(scheme, browser, tokenizer):
    with talking(browser, tokenizer, " Fine.", viewport=PHONE, color_scheme=scheme) as page:
        say(page, "How are you?")
        finished(page)
        assert fits(page)
        for name in ("Send", "Clear"):
            box = button(page, name).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
            assert box["y"] + box["height"] <= PHONE["height"]
        page.get_by_text("Settings").click()
        assert fits(page)
        assert page.locator("#log").bounding_box()["height"] > 80  # still room to read
        for low in (
            {"width": 640, "height": 360},
            {"width": 320, "height": 256},
        ):  # turned; at 400 %
            page.set_viewport_size(low)
            assert page.locator("#log").bounding_box()["height"] > 80 and fits(page)
            button(page, "Clear").scroll_into_view_if_needed()
            expect(button(page, "Clear")).to_be_in_viewport()


def test_every_control_has_a_name_and_the_page_its_landmarks(browser, tokenizer):
    with talking(browser, tokenizer, " ok") as page:
        say(page, "hello")
        finished(page)
        page.get_by_text("Settings").click()
        assert nameless(page) == []
        assert page.locator("h1").count() == 1
        assert page.locator("html").get_attribute("lang") == "en"
        for landmark in ("header", "main", "footer"):
            assert page.locator(f"body > {landmark}").count() == 1


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


PAIRS = [
    ("ink", "paper"),
    ("quiet", "paper"),
    ("ink", "user"),
    ("ink", "model"),
    ("quiet", "model"),
    ("bad", "paper"),
    ("accent", "paper"),
    ("on-accent", "accent"),
]


def test_contrast_by_hand():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("pair", PAIRS, ids="-on-".join)
def test_text_can_be_read_in_both_colour_schemes(pair, scheme):
    blocks = re.findall(r":root \{(.*?)\}", CSS.read_text(), re.DOTALL)
    assert len(blocks) == 2
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[scheme]))
    assert contrast(*(colours[name] for name in pair)) >= 4.5
