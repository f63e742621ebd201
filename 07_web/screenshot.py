"""Draws `figures/page.png`: the chat page in a real browser, after a short talk.

    python 07_web/screenshot.py
    python 07_web/screenshot.py --site site    # `figures/site.png`: a site's box in somebody's page
    python 07_web/screenshot.py --inside site  # `figures/inside.png`: where a head looks

Needs the test extras and an installed Chromium or Chrome.
"""

import argparse
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model_facts import facts_of
from playwright.sync_api import expect, sync_playwright
from waitress.server import create_server
from web_app import create_app

from shared.chat.sampling import SamplingSettings
from shared.errors import UserError, one_line_errors
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
FIGURES = Path(__file__).with_name("figures")
TALL, WIDE = {"width": 760, "height": 720}, {"width": 1000, "height": 768}
BROAD = {"width": 1180, "height": 800}
SYSTEM = "Show your working."
TALK = ("hello", "how many r's are in strawberry?", "what is 385+279?", "what are you?")
BYTE = 104  # it has written 8, and copies the letter
INSIDE = f"#view=attention&layer=4&head=3&byte={BYTE}"
TALK_THERE = ("hello", "what are you?", "how does attention work?")
SOMEBODYS = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Mine</title><style>
  :root {{ --tiny-llm-paper: #fffdf5; --tiny-llm-ink: #22301f; --tiny-llm-quiet: #4d5a48;
          --tiny-llm-line: #d5dcc9; --tiny-llm-user: #dcebd3; --tiny-llm-model: #ffffff;
          --tiny-llm-accent: #2f6b3a; --tiny-llm-on-accent: #ffffff; --tiny-llm-bad: #a3241b;
          --tiny-llm-height: 43rem }}
  body {{ margin: 0; background: #f1f5ea; color: #22301f; font: 18px/1.6 Georgia, serif }}
  main {{ display: grid; grid-template-columns: 20rem 1fr; gap: 2.5rem; padding: 2.5rem }}
  h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem }} p {{ margin: 0 0 1rem }}
</style><main><article><h1>A model of my own</h1>
<p>I trained it on my laptop: under a million numbers that guess the next byte.</p>
<p>It runs here, in your browser. There is no server behind this page, and nothing that you type
leaves it.</p><p>Go on, say hello.</p></article>
<section><script src="{script}"></script></section></main></html>"""


def main(arguments: list[str]) -> None:
    """Serves the model, talks to it in the page, saves what a person would see."""
    browser_path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser_path is None:
        raise UserError("no Chromium or Chrome found: install one to draw the page")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default=str(QUICK_RUN), help="a finished run's folder")
    parser.add_argument("--site", metavar="FOLDER", help="draw what static_site.py has made")
    parser.add_argument("--inside", metavar="FOLDER", help="draw a view of what is inside it")
    options = parser.parse_args(arguments)
    look: dict[str, Any] = {"device_scale_factor": 1.5}
    if options.inside:
        figure = FIGURES / "inside.png"
        page = (Path(options.inside) / "chat.html").resolve().as_uri()
        talk(page + INSIDE, browser_path, figure, TALK[1:2], **look, viewport=BROAD)
    elif options.site:
        figure = FIGURES / "site.png"
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "mine.html"
            script = (Path(options.site).resolve() / "embed.js").as_uri()
            page.write_text(SOMEBODYS.format(script=script), encoding="utf-8")
            talk(page.as_uri(), browser_path, figure, TALK_THERE, **look, viewport=WIDE)
    else:
        figure = FIGURES / "page.png"
        talk(served(options.run), browser_path, figure, TALK, **look, viewport=TALL)
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


def talk(address: str, browser: str, figure: Path, lines: Sequence[str], **look: Any) -> None:
    """Types each line, in the page or in the frame in it, waits for replies, takes the picture."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = running.new_page(**look)
        page.goto(address)
        chat = page.frames[-1]
        chat.get_by_text("Settings").click()
        chat.get_by_label("Seed").fill("1")
        chat.locator("#temperature").fill("0" if address.endswith(INSIDE) else "0.3")
        chat.get_by_label("System message").fill(SYSTEM)
        chat.get_by_text("Settings").click()
        for number, line in enumerate(lines, start=1):
            chat.get_by_label("Your message").fill(line)
            chat.get_by_label("Your message").press("Enter")
            expect(chat.locator(".turn.assistant:not(.writing)")).to_have_count(number)
        if address.endswith(INSIDE):
            expect(page.get_by_text(f"byte {BYTE}, ")).to_be_visible(timeout=60_000)
            page.wait_for_timeout(3000)  # the maps of all heads are drawn one after another
        figure.parent.mkdir(exist_ok=True)
        page.screenshot(path=figure)
        running.close()


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
