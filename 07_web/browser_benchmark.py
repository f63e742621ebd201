"""How many bytes a second does a browser write, beside PyTorch on the same machine?

python 07_web/browser_benchmark.py
python 07_web/browser_benchmark.py --sizes quick small --turns 5
python 07_web/browser_benchmark.py --checkpoint RUN

One thread each. The ways take turns, and the median of a way's turns counts: what else the
machine does for a while is shared by all. Weights are random unless a run is named: what is
written does not matter for the time. Needs the test extras and an installed Chromium or Chrome.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jsonargparse import ArgumentParser
from playwright.sync_api import Page, Route, sync_playwright
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
PROMPT, NEW = 100, 120  # ids read, and written after them
DTYPES = ("float32", "int8")

# What a way does each turn: the time to its first id, and the rate of those after it.
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
TURN = """
async ([name, prompt, count]) => {
  const { BLOCK, read } = await import("./model.js");
  const { generator, nextToken, settingsOf } = await import("./sampling.js");
  const { model, cache } = models[name];
  const [settings, random] = [settingsOf({ seed: 0 }), generator(0)];
  const begun = performance.now();
  let logits;
  cache.length = 0;
  for (let at = 0; at < prompt.length; at += BLOCK) {
    logits = read(model, prompt.slice(at, at + BLOCK), cache);
  }
  let id = nextToken(logits, settings, random);
  const first = performance.now();
  for (let n = 1; n < count; n++) id = nextToken(read(model, [id], cache), settings, random);
  return [(first - begun) / 1000, (count - 1) / ((performance.now() - first) / 1000)];
}
"""

Measured = dict[str, list[tuple[float, float]]]


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
        page = engine_page(browser.new_page(), Path(folder))
        console = Console()
        console.print(f"one thread · {device_label(torch.device('cpu'))} · {browser.version}")
        for name, model in models.items():
            show(console, name, model, measured(page, Path(folder), model, options.turns))
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


def measured(page: Page, folder: Path, model: Transformer, turns: int) -> Measured:
    """Seconds to the first byte, and bytes a second after it, of each way in each turn."""
    ways: dict[str, Callable[[], Any]] = {"PyTorch": partial(in_pytorch, model)}
    prompt = [65 + n % 26 for n in range(PROMPT)]
    for dtype in DTYPES:
        name = f"{dtype}.tllm"
        pack_weights(folder / name, model, {"kind": "bytes", "end_of_text": 30}, dtype)
        if not page.evaluate(LOAD, name):
            raise UserError("this browser has no SIMD: there is nothing to compare")
        ways[f"browser, {dtype}"] = partial(page.evaluate, TURN, [name, prompt, NEW])
    results: Measured = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            result = way()
            if turn:  # the first turn warms up: compilers watch what is used
                results[name].append(tuple(result))
    return results


def in_pytorch(model: Transformer) -> tuple[float, float]:
    """The same work by `stream_ids`."""
    settings = SamplingSettings(max_new_bytes=NEW, seed=0)
    begun = time.perf_counter()
    ids = stream_ids(model, [65 + n % 26 for n in range(PROMPT)], settings)
    next(ids)
    first = time.perf_counter()
    written = sum(1 for _ in ids)
    return first - begun, written / (time.perf_counter() - first)


def show(console: Console, name: str, model: Transformer, results: Measured) -> None:
    """One table for each model."""
    title = f"{name}: {model.count_parameters():,} parameters, {PROMPT} bytes read, {NEW} written"
    console.print(title)
    table = Table("", "bytes/s", "first byte")
    for way, each in results.items():
        first, rate = (median(values) for values in zip(*each, strict=True))
        table.add_row(way, f"{rate:,.0f}", f"{1000 * first:,.0f} ms")
    console.print(table)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
