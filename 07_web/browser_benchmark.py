"""How many bytes a second does a browser write, beside PyTorch on the same machine?

python 07_web/browser_benchmark.py
python 07_web/browser_benchmark.py --sizes quick small --turns 5
python 07_web/browser_benchmark.py --checkpoint RUN

One thread each, by the processor's time: what else the machine does counts as little as can be. The
ways take turns, and the median of a way's turns counts. "Just loaded" is the first byte of a
visitor's first reply: on a new page each turn, where no loop is compiled yet. Weights are random
unless a run is named; a trained model finds fewer bytes likely, so that top-p has less to sort.
Needs the test extras and an installed Chromium or Chrome.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch
from jsonargparse import ArgumentParser
from playwright.sync_api import Browser, Page, Route, sync_playwright
from rich.console import Console
from rich.table import Table

from shared.chat.generation import stream_ids
from shared.chat.sampling import SamplingSettings
from shared.device import device_label
from shared.errors import UserError, one_line_errors
from shared.model.config import ModelConfig
from shared.model.packing import pack_weights
from shared.model.presets import PRESETS
from shared.model.transformer import Transformer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

ENGINE = Path(__file__).with_name("page") / "engine"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUICK = ModelConfig(context_length=256, n_layers=4, d_model=128, n_heads=4)
SIZES = {"quick": QUICK, "small": PRESETS["small"]}
PROMPT = [65 + n % 26 for n in range(100)]
NEW = 120  # ids written after it
DTYPES = ("float32", "int8")

# Loading, the first id after a prompt, and those after it.
LOAD = """
async (name) => {
  const [{ createArithmetic }, { buildModel, newCache }] =
    [await import("./matvec.js"), await import("./model.js")];
  const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  const wasm = await bytes("matvec.wasm");
  const model = await buildModel(await bytes(name), (room) => createArithmetic(room, wasm));
  (window.models ??= {})[name] = { model, cache: newCache(model) };
  return model.simd;
}
"""
FIRST = """
async ([name, prompt]) => {
  const { BLOCK, read } = await import("./model.js");
  const { generator, nextToken, settingsOf } = await import("./sampling.js");
  const { model, cache } = models[name];
  const [settings, random] = [settingsOf({ seed: 0 }), generator(0)];
  const draw = (logits) => nextToken(logits, settings, random);
  let logits;
  cache.length = 0;
  for (let at = 0; at < prompt.length; at += BLOCK) {
    logits = read(model, prompt.slice(at, at + BLOCK), cache);
  }
  let id = draw(logits);
  window.rest = (count) => {
    for (let n = 0; n < count; n++) id = draw(read(model, [id], cache));
  };
}
"""
REST = "(count) => rest(count)"

Times = tuple[float, float, float | None]  # first byte, bytes a second, first byte just loaded
Measured = dict[str, list[Times]]


def main(arguments: list[str]) -> None:
    """Parses the command line, measures, prints one table."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--sizes", nargs="+", default=["quick"], help="quick, small")
    parser.add_argument("--checkpoint", help="a run or checkpoint folder, in place of sizes")
    parser.add_argument("--turns", type=int, default=5, help="of each way; medians count")
    options = parser.parse_args(arguments)
    if not 1 <= options.turns <= 99 or not set(options.sizes) <= set(SIZES):
        raise UserError(f"--turns is 1 to 99, --sizes some of {', '.join(SIZES)}")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.checkpoint:
        models = {"run": load_model(find_checkpoint(options.checkpoint))[0]}
    else:
        models = {name: Transformer(SIZES[name]).eval() for name in options.sizes}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path(), args=["--no-sandbox", "--disable-gpu"]
        )
        console = Console()
        console.print(f"one thread · {device_label(torch.device('cpu'))} · {browser.version}")
        for name, model in models.items():
            show(console, name, model, measured(browser, Path(folder), model, options.turns))
        browser.close()


def browser_path() -> str:
    """An installed Chromium or Chrome.

    Raises:
        UserError: there is none.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise UserError("no Chromium or Chrome found: install one")
    return found


def engine_page(page: Page, folder: Path) -> Page:
    """An empty page that finds the engine's modules, and the folder's files, beside it."""

    def answer(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if not name:
            return route.fulfill(body="<!doctype html>", content_type="text/html")
        path = ENGINE / name if (ENGINE / name).is_file() else folder / name
        return route.fulfill(path=path)

    page.route("**/*", answer)
    page.goto("http://localhost/")
    return page


def measured(browser: Browser, folder: Path, model: Transformer, turns: int) -> Measured:
    """What each way takes in each turn."""
    ways: dict[str, Callable[[], Times]] = {"PyTorch": partial(in_pytorch, model)}
    for dtype in DTYPES:
        pack_weights(folder / f"{dtype}.tllm", model, {"kind": "bytes", "end_of_text": 30}, dtype)
        page = loaded(browser, folder, f"{dtype}.tllm")
        ways[f"browser, {dtype}"] = partial(in_browser, page, browser, folder, f"{dtype}.tllm")
    results: Measured = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            result = way()
            if turn:  # the first turn warms up: compilers watch what is used
                results[name].append(result)
    return results


def loaded(browser: Browser, folder: Path, name: str) -> Page:
    """A new page with that file's model.

    Raises:
        UserError: the browser has no SIMD.
    """
    page = engine_page(browser.new_page(), folder)
    if not page.evaluate(LOAD, name):
        raise UserError("this browser has no SIMD: there is nothing to compare")
    return page


def in_browser(page: Page, browser: Browser, folder: Path, name: str) -> Times:
    """A reply on a page that has written some, and the first byte on a new page."""
    clock = thread_clock(page)
    begun = clock()
    page.evaluate(FIRST, [name, PROMPT])
    first = clock()
    page.evaluate(REST, NEW - 1)
    rate = (NEW - 1) / (clock() - first)
    fresh = loaded(browser, folder, name)
    clock = thread_clock(fresh)
    loading = clock()
    fresh.evaluate(FIRST, [name, PROMPT])
    just_loaded = clock() - loading
    fresh.close()
    return first - begun, rate, just_loaded


def thread_clock(page: Page) -> Callable[[], float]:
    """The seconds that the processor has worked for a page's scripts."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def seconds() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in metrics if each["name"] == "ThreadTime")

    return seconds


def in_pytorch(model: Transformer) -> Times:
    """The same work by `stream_ids`."""
    settings = SamplingSettings(max_new_bytes=NEW, seed=0)
    begun = time.thread_time()
    ids = stream_ids(model, PROMPT, settings)
    next(ids)
    first = time.thread_time()
    written = sum(1 for _ in ids)
    return first - begun, written / (time.thread_time() - first), None


def show(console: Console, name: str, model: Transformer, results: Measured) -> None:
    """One table for each model."""
    title = (
        f"{name}: {model.count_parameters():,} parameters, {len(PROMPT)} bytes read, {NEW} written"
    )
    console.print(title)
    table = Table("", "bytes/s", "first byte", "just loaded")
    for way, each in results.items():
        firsts, rates, fresh = zip(*each, strict=True)
        just_loaded = "" if None in fresh else milliseconds(fresh)
        table.add_row(way, f"{median(rates):,.0f}", milliseconds(firsts), just_loaded)
    console.print(table)


def milliseconds(seconds: Sequence[float]) -> str:
    """Their median."""
    return f"{1000 * median(seconds):,.0f} ms"


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
