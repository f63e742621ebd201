"""The page before axe-core, a checker of accessibility: nothing serious, in any state.

axe knows about a hundred rules of the Web Content Accessibility Guidelines: contrast as it is
drawn, names and roles, sizes of what is pressed. What it cannot know: `test_page_access.py`.
"""

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_driver import FACTS, PHONE, choose, finished, opened, say
from playwright.sync_api import Page, expect
from served_models import Reciter, served
from web_app import create_app

from shared.text.exercise import EQUALS

pytest_plugins = ("web_fixtures", "site_fixtures")

WIDE = {"width": 1280, "height": 900}
LOOKS = [("light", PHONE), ("dark", WIDE), ("light", WIDE), ("dark", PHONE)]
BAD = ("serious", "critical")
REPLY = f" 5+9=14{EQUALS}14 and a long-winded rest"


@pytest.fixture(scope="module")
def homes(addresses, tokenizer):
    """Where the page lives: behind a server, on a host of files, in one file."""
    with served(create_app(Reciter(REPLY), tokenizer, facts=FACTS)) as server:
        yield addresses | {"server": f"{server}/"}


def found(page: Page) -> list[str]:
    """What axe finds serious, each with its place."""
    told = Axe().run(page).response
    assert len(told["passes"]) > 10, "axe looked at nothing"
    return [
        f"{rule['id']}: {place['html'][:120]} {place['failureSummary']}"
        for rule in told["violations"]
        if rule["impact"] in BAD
        for place in rule["nodes"]
    ]


@pytest.mark.parametrize(
    "looks", [LOOKS[:2], pytest.param(LOOKS[2:], marks=pytest.mark.slow)], ids=["two", "others"]
)
@pytest.mark.parametrize("home", ["server", pytest.param("http", marks=pytest.mark.slow), "file"])
def test_axe_finds_nothing_serious(browser, homes, home, looks):
    """Empty, and with a conversation, an open working, open settings and an error all at once."""
    with opened(browser, homes[home], allowed="422") as page:
        expect(page.locator("#facts")).to_contain_text("parameters")
        page.set_viewport_size(PHONE)
        assert found(page) == []
        page.get_by_text("Settings").click()
        page.get_by_label("Think").check()
        choose(page, "max_new_bytes", "40")
        say(page, "what is 5+9?")
        finished(page)
        choose(page, "max_new_bytes", "0")
        say(page, "and now?")
        expect(page.locator("#notice")).to_contain_text("max_new_bytes")
        for scheme, size in looks:
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size(size)
            assert found(page) == [], (scheme, size)
