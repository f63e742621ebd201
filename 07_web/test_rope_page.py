"""The page of clock hands, 03_attention/rope.html: opened from a file, by mouse and by keys."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect

from shared.model.config import RopeConfig
from shared.model.positions import rope_angles, rotate

pytest_plugins = ("web_fixtures",)

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "03_attention" / "rope.html"
ENGINES = ROOT / "07_web" / "page" / "engine" / "positions.js"
FUNCTION = r"(?:^// [^\n]*\n)*^export function {name}\(.*?^}}\n"


@pytest.fixture(scope="module")
def page(browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 360, "height": 740})
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(PAGE.as_uri())
    yield page
    assert not troubles
    page.close()


def move(page: Page, name: str, to: int) -> None:
    page.get_by_label(name).fill(str(to))


def test_it_turns_as_the_engine_does():
    """Modules cannot be imported from a file, so their text stands in the page."""
    for name in ("ropeAngles", "rotate"):
        pattern = FUNCTION.format(name=name)
        function = re.search(pattern, ENGINES.read_text(), re.MULTILINE | re.DOTALL)[0]
        assert function.replace("export ", "") in PAGE.read_text(), f"copy {name} into rope.html"


def test_both_positions_together_turn_every_hand_and_leave_the_score(page):
    move(page, "query's position", 12)
    move(page, "key's position", 7)
    score, hands = page.locator("#score"), page.locator("#clocks line").first
    before, stood = score.inner_text(), hands.get_attribute("x2")
    assert before.startswith("distance 5, score ")
    both = page.get_by_label("both together")
    both.focus()
    for _ in range(20):
        both.press("ArrowRight")
    expect(page.get_by_label("query's position")).to_have_value("32")
    expect(page.get_by_label("key's position")).to_have_value("27")
    expect(score).to_have_text(before)
    assert hands.get_attribute("x2") != stood
    move(page, "key's position", 26)
    expect(score).not_to_have_text(before)


def test_the_score_is_pytorchs(page):
    angles = rope_angles(100, 8, RopeConfig(base=500))
    halves = torch.tensor([1.0] * 4 + [0.0] * 4).expand(1, 1, 100, 8)
    turned = rotate(halves, angles)[0, 0]
    for query, key in ((12, 9), (99, 0), (40, 40)):
        move(page, "query's position", query)
        move(page, "key's position", key)
        expected = f"{(turned[query] @ turned[key]).item():.2f}".replace("-", "−")
        expect(page.locator("#score")).to_have_text(f"distance {query - key}, score {expected}")


def test_a_key_never_stands_behind_its_query(page):
    move(page, "query's position", 30)
    move(page, "key's position", 50)
    expect(page.get_by_label("query's position")).to_have_value("50")
    move(page, "query's position", 4)
    expect(page.get_by_label("key's position")).to_have_value("4")
    expect(page.locator("#score")).to_contain_text("distance 0, ")


def test_a_key_can_be_made_to_be_looked_at_three_positions_back(page):
    page.get_by_label("Query and key").select_option("three")
    move(page, "key's position", 20)
    move(page, "query's position", 23)
    expect(page.locator("#score")).to_have_text("distance 3, score 4.00")
    page.get_by_label("Query and key").select_option("alike")


def test_it_fits_a_phone_and_has_its_numbers_as_a_table(page):
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.get_by_text("The numbers").click()
    expect(page.get_by_role("table").get_by_role("row")).to_have_count(5)
