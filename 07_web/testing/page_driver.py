"""What the page tests do in the browser: open the page, say something, wait for the reply."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect
from served_models import Reciter, served
from web_app import create_app

from shared.chat.sampling import SamplingSettings

PHONE = {"width": 360, "height": 640}
BAD = ("serious", "critical")  # of axe-core's findings
expect.set_options(timeout=15_000)  # a busy machine may take longer than five seconds
FACTS = {"parameters": 812_345, "context_bytes": 512, "bits_per_byte": {"python_docs": 2.345}}


@contextmanager
def opened(browser: Browser, address: str, allowed: str = "", **options: Any) -> Iterator[Page]:
    """A fresh page whose console must stay silent, but for errors with `allowed` in them."""
    page = browser.new_page(**options)
    page.set_default_timeout(15_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.goto(address)
    try:
        yield page
    finally:
        page.close()
    assert [fault for fault in faults if not allowed or allowed not in fault] == []


@contextmanager
def talking(
    browser: Browser,
    tokenizer,
    text: str,
    seconds_a_byte: float = 0.0,
    allowed: str = "",
    **options,
) -> Iterator[Page]:
    """A page whose model says `text`."""
    longest = SamplingSettings(max_new_bytes=1000)
    app = create_app(Reciter(text, seconds_a_byte), tokenizer, facts=FACTS, defaults=longest)
    with served(app) as address, opened(browser, address, allowed, **options) as page:
        expect(page.locator("#facts")).to_contain_text("812,345 parameters")
        yield page


def say(page: Page, text: str) -> None:
    """Types a message and sends it."""
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")


def choose(page: Page, name: str, value: str) -> None:
    """Gives a setting a value, whether the settings are open or not."""
    page.locator(f"#{name}").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
    )


def button(page: Page, name: str) -> Locator:
    """The button of that name."""
    return page.get_by_role("button", name=name, exact=True)


def finished(page: Page, count: int = 1) -> str:
    """The last reply's text, once so many replies are whole."""
    expect(page.locator(".turn.assistant:not(.writing)")).to_have_count(count)
    return page.locator(".turn.assistant").last.inner_text()


def written(page: Page) -> str:
    """The last reply so far, whether it is finished or not."""
    # Asked again and again from here: the page's own policy forbids what wait_for_function does.
    return page.evaluate("[...document.querySelectorAll('.assistant')].at(-1)?.textContent ?? ''")


def fits(page: Page) -> bool:
    """Whether nothing is wider than the screen."""
    return page.evaluate(
        """() => [document.documentElement, document.getElementById('log')]
                 .every((part) => part.scrollWidth <= part.clientWidth)"""
    )


def nameless(page: Page) -> list[str]:
    """The controls that a screen reader has no name for."""
    return page.evaluate(
        """() => [...document.querySelectorAll(
                "button, input, textarea, select, summary, a, [tabindex], [role], article")]
            .filter((e) => !(e.getAttribute("aria-label")?.trim()
                || [...(e.labels ?? [])].some((label) => label.textContent.trim())
                || (!e.labels?.length && e.textContent.trim())
                || (e.role === "status")))
            .map((e) => e.outerHTML)"""
    )


def found_by_axe(page: Page) -> list[str]:
    """What axe finds serious, each with its place."""
    told = Axe().run(page).response
    assert len(told["passes"]) > 10, "axe looked at nothing"
    return [
        f"{rule['id']}: {place['html'][:120]} {place['failureSummary']}"
        for rule in told["violations"]
        if rule["impact"] in BAD
        for place in rule["nodes"]
    ]
