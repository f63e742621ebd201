"""Draws `figures/page.png`: the chat page in a real browser, after a short talk.

    python 07_web/screenshot.py
    python 07_web/screenshot.py --site site/chat.html    # `figures/site.png`: the same as one file

Needs the test extras and an installed Chromium or Chrome.
"""

import argparse
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from playwright.sync_api import expect, sync_playwright
from serve import facts_of
from waitress.server import create_server
from web_app import create_app

from shared.chat.sampling import SamplingSettings
from shared.errors import UserError, one_line_errors
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
FIGURES = Path(__file__).with_name("figures")
TALL, WIDE = {"width": 760, "height": 720}, {"width": 1000, "height": 720}
SYSTEM = "Show your working."
TALK = ("hello", "how many r's are in strawberry?", "what is 385+279?", "what are you?")


def main(arguments: list[str]) -> None:
    """Serves the model, talks to it in the page, saves what a person would see."""
    browser_path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser_path is None:
        raise UserError("no Chromium or Chrome found: install one to draw the page")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default=str(QUICK_RUN), help="a finished run's folder")
    parser.add_argument("--site", metavar="FILE", help="draw the chat.html of static_site.py")
    options = parser.parse_args(arguments)
    if options.site:
        figure, address = FIGURES / "site.png", Path(options.site).resolve().as_uri()
        talk(address, browser_path, figure, viewport=WIDE)
    else:
        figure = FIGURES / "page.png"
        talk(served(options.run), browser_path, figure, viewport=TALL, device_scale_factor=1.5)
    print(f"drawn: {figure}")


def served(run: str) -> str:
    """The address at which the model is served, as long as this script runs."""
    checkpoint = find_checkpoint(run)
    model, tokenizer = load_model(checkpoint)
    settings = SamplingSettings(temperature=0.3, seed=1)
    app = create_app(model, tokenizer, defaults=settings, facts=facts_of(model, checkpoint))
    server = create_server(app, host="127.0.0.1", port=0)
    threading.Thread(target=server.run, daemon=True).start()
    return f"http://127.0.0.1:{server.effective_port}"


def talk(address: str, browser_path: str, figure: Path, **look: Any) -> None:
    """Types each line of `TALK`, waits for its reply, then takes the picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(**look)
        page.goto(address)
        page.get_by_text("Settings").click()
        page.get_by_label("Seed").fill("1")
        page.locator("#temperature").fill("0.3")
        page.get_by_label("System message").fill(SYSTEM)
        page.get_by_text("Settings").click()
        for number, line in enumerate(TALK, start=1):
            page.get_by_label("Your message").fill(line)
            page.keyboard.press("Enter")
            expect(page.locator(".turn.assistant:not(.writing)")).to_have_count(number)
        figure.parent.mkdir(exist_ok=True)
        page.screenshot(path=figure)
        browser.close()


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
