"""Does the page keep up while a reply streams, with Look inside closed and open on each view?

python 07_web/frame_times.py
python 07_web/frame_times.py --checkpoint RUN --rate 1000 --seconds 5

A scripted reply comes in events of 20 ms each; a visitor's own model, as large as the quick one
unless a run is named, looks inside. Between two frames (requestAnimationFrame) the page's own
thread has 16.7 ms. What it worked in them is counted by the processor's time, as Chromium's trace
tells it, so that other programs count little; the gaps between frames are by the clock. "longest"
is the longest single piece of work, "a second" all of it in a second.
Needs the test extras and an installed Chromium or Chrome.
"""

import json
import sys
from bisect import bisect_right
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

import torch
from browser_benchmark import QUICK, browser_path
from flask.testing import FlaskClient
from given_weights import packed_for_browsers
from jsonargparse import ArgumentParser
from playwright.sync_api import Browser, Page, Route, sync_playwright
from rich.console import Console
from rich.table import Table
from web_app import create_app

from shared.errors import UserError, one_line_errors
from shared.model.transformer import Transformer
from shared.text.tokenizer import END_OF_TEXT, ByteTokenizer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

VIEWS = ("closed", "bytes", "attention", "head", "lens", "whatif", "memory")
EVENT_SECONDS = 0.02
TEXT = "Each byte asks a question, called a query. Earlier bytes offer keys.\n"

# In place of the server: a reply of so many bytes a second, for so long.
SCRIPTED = """
([rate, seconds, each, text]) => {
  const before = window.fetch;
  const event = (told) => new TextEncoder().encode(`data: ${JSON.stringify(told)}\\n\\n`);
  const usage = { prompt_bytes: 1, reply_bytes: 1, queue_seconds: 0 };
  function reply() {
    let sent = 0;
    const begun = performance.now();
    return new ReadableStream({
      async pull(stream) {
        await new Promise((go) => setTimeout(go, 1000 * each));
        const due = Math.min(seconds, (performance.now() - begun) / 1000) * rate;
        let piece = "";
        for (; sent < Math.floor(due); sent++) piece += text[sent % text.length];
        stream.enqueue(event({ text: piece }));
        if (sent < rate * seconds) return;
        stream.enqueue(event({ finish_reason: "stop", usage }));
        stream.close();
      },
    });
  }
  window.fetch = async (path, ...more) =>
    path === "chat" ? new Response(reply()) : before(path, ...more);
}
"""
TICKS = "() => { const tick = () => requestAnimationFrame(tick); tick(); }"
TRACED = ["toplevel", "devtools.timeline"]
Traced = list[dict[str, Any]]


def main(arguments: list[str]) -> None:
    """Parses the command line, streams a reply for each view, prints one table."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", help="a run or checkpoint folder")
    parser.add_argument("--rate", type=int, default=1000, help="bytes a second")
    parser.add_argument("--seconds", type=float, default=5.0, help="that each reply lasts")
    parser.add_argument("--views", nargs="+", default=VIEWS, help=", ".join(VIEWS))
    options = parser.parse_args(arguments)
    if not 0 < options.rate <= 100_000 or not 0.1 <= options.seconds <= 60:
        raise UserError("--rate is 1 to 100,000, --seconds 0.1 to 60")
    if unknown := set(options.views) - set(VIEWS):
        raise UserError(f"no view {min(unknown)!r}; there are {', '.join(VIEWS)}")
    client = page_server(options.checkpoint)
    table = Table("view", "gap, ms", "p95", "worked, ms", "p95", "longest", "a second")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path(), args=["--no-sandbox", "--disable-gpu"]
        )
        for view in options.views:
            traced = streamed(browser, client, view, options.rate, options.seconds)
            table.add_row(view, *told(*frames(traced)))
        Console().print(f"{options.rate:,} bytes/s for {options.seconds:g} s · {browser.version}")
        browser.close()
    Console().print(table)


def page_server(checkpoint: str | None) -> FlaskClient:
    """What answers for the page, its parts and the model that looks inside."""
    torch.manual_seed(0)
    model = load_model(find_checkpoint(checkpoint))[0] if checkpoint else Transformer(QUICK).eval()
    weights = packed_for_browsers(model, {"kind": "bytes", "end_of_text": END_OF_TEXT})
    facts = {"parameters": 1, "context_bytes": model.config.context_length}
    return create_app(model, ByteTokenizer(), facts=facts, weights=weights).test_client()


def streamed(browser: Browser, client: FlaskClient, view: str, rate: int, seconds: float) -> Traced:
    """What Chromium traced on a page that was asked twice, and looked inside meanwhile.

    The first reply warms it up: compilers watch what is used.
    """
    page = browser.new_page()

    def answer(route: Route) -> None:
        given = client.get(route.request.url.partition("localhost")[2])
        route.fulfill(status=given.status_code, headers=dict(given.headers), body=given.data)

    page.route("**/*", answer)
    given = json.dumps([rate, seconds, EVENT_SECONDS, TEXT])
    page.add_init_script(f"({SCRIPTED})({given})")
    page.goto("http://localhost/" + ("" if view == "closed" else f"#view={view}"))
    page.evaluate(TICKS)
    say_and_wait(page, 1)
    browser.start_tracing(page=page, categories=TRACED)
    say_and_wait(page, 2)
    traced = json.loads(browser.stop_tracing())["traceEvents"]
    page.close()
    return traced


def say_and_wait(page: Page, replies: int) -> None:
    """Says something; returns when the reply is whole."""
    page.get_by_label("Your message").fill("hello")
    page.keyboard.press("Enter")
    page.locator(".turn.assistant:not(.writing)").nth(replies - 1).wait_for(timeout=120_000)


def frames(traced: Traced) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds by the clock between two frames; worked between them; and in each task."""
    ticks = [event for event in traced if event["name"] == "FireAnimationFrame"]
    thread = (ticks[0]["pid"], ticks[0]["tid"])
    mine = [event for event in traced if (event["pid"], event["tid"]) == thread]
    begins = sorted(event["ts"] for event in ticks if event in mine)
    tasks = [event for event in mine if event["name"].endswith("RunTask")]
    worked = [0.0] * (len(begins) + 1)
    for task in tasks:
        worked[bisect_right(begins, task["ts"])] += task.get("tdur", 0) / 1000
    gaps = [(after - before) / 1000 for before, after in pairwise(begins)]
    return gaps, worked[1:-1], [task.get("tdur", 0) / 1000 for task in tasks]


def told(gaps: list[float], worked: list[float], tasks: list[float]) -> list[str]:
    """A line of the table."""
    told = []
    for times in (gaps, worked):
        told += [f"{median(times):.1f}", f"{quantiles(times, n=20)[-1]:.1f}"]
    return [*told, f"{max(tasks):.1f}", f"{1000 * sum(worked) / sum(gaps):.0f}"]


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
