"""The model in a worker: loading told in bytes, replies as they are written, stop, troubles."""

import json

import pytest
from engine_page import engine_page

from shared.chat.sampling import SamplingSettings
from shared.chat.session import stream_reply
from shared.model.packing import pack_weights
from shared.text.transcript import Message

pytest_plugins = ("web_fixtures", "site_fixtures")

BYTES = {"kind": "bytes", "end_of_text": 30}
HELLO = [{"role": "user", "content": "hello"}]

# A worker, what it sends, and ways to wait for it.
START = """
() => {
  window.sent = [];
  window.worker = new Worker("/engine/worker.js", { type: "module" });
  worker.onmessage = ({ data }) => sent.push(data);
  window.until = async (found) => {
    for (;;) {
      const message = sent.find(found);
      if (message) return message;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  window.load = (weights, wasm = "/engine/matvec.wasm") => {
    worker.postMessage({ task: "load", weights, wasm });
    return until(({ ready, trouble }) => ready || trouble);
  };
  window.ended = (wanted) =>
    until(({ number, finish_reason, trouble }) => number === wanted && (finish_reason || trouble));
  window.ask = (number, messages, settings) =>
    worker.postMessage({ task: "ask", number, messages, settings });
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("worker")
    pack_weights(folder / "m.tllm", model, BYTES)
    (folder / "no.tllm").write_bytes(b"<!doctype html>, a page that says 'not found'")
    strange = {"kind": "pretrained", "tokenizer": {}}
    pack_weights(folder / "strange.tllm", model, strange)
    return folder


@pytest.fixture(scope="module")
def served_page(browser, folder):
    with engine_page(browser, folder) as page:
        yield page


@pytest.fixture
def page(served_page):
    """A page with a worker of its own, and nothing kept from before."""
    served_page.evaluate("caches.delete('tiny-llm-weights')")
    served_page.evaluate(START)
    yield served_page
    served_page.evaluate("worker.terminate()")


def test_it_loads_with_progress_and_streams_pythons_greedy_reply(page, folder, model, tokenizer):
    size = (folder / "m.tllm").stat().st_size
    ready = page.evaluate("load('/m.tllm')")["ready"]
    expected = {"parameters": model.count_parameters(), "context_bytes": 128, "simd": True}
    assert ready == expected
    progress = page.evaluate("sent.filter((each) => each.progress).map((each) => each.progress)")
    assert progress[-1] == [size, size]
    page.evaluate(f"ask(1, {json.dumps(HELLO)}, {{ temperature: 0, max_new_bytes: 60 }})")
    end = page.evaluate("ended(1)")
    text = page.evaluate("sent.map((each) => each.text ?? '').join('')")
    settings = SamplingSettings(temperature=0, max_new_bytes=60)
    pieces = list(stream_reply(model, tokenizer, [Message("user", "hello")], settings))
    assert text == "".join(piece.text for piece in pieces)
    assert (end["finish_reason"], end["usage"]["reply_bytes"]) == ("length", 60)


def test_stop_ends_a_reply_and_the_next_one_begins(page):
    page.evaluate("load('/m.tllm')")
    page.evaluate(f"ask(1, {json.dumps(HELLO)}, {{ max_new_bytes: 1_000_000 }})")
    page.evaluate("until(({ text }) => text)")
    page.evaluate("worker.postMessage({ task: 'stop' })")
    assert 0 < page.evaluate("ended(1)")["usage"]["reply_bytes"] < 100_000
    page.evaluate(f"ask(2, {json.dumps(HELLO)}, {{ max_new_bytes: 1_000_000, seed: 1 }})")
    page.evaluate("until(({ number, text }) => number === 2 && text)")
    page.evaluate(f"ask(3, {json.dumps(HELLO)}, {{ max_new_bytes: 20, seed: 2 }})")
    assert page.evaluate("ended(3)")["usage"]["reply_bytes"] == 20
    assert page.evaluate("ended(2)")["finish_reason"] == "length"


def test_the_next_visit_needs_no_download(page):
    page.evaluate("load('/m.tllm')")
    page.evaluate("worker.terminate()")
    page.route("**/*.tllm", lambda route: route.abort())
    page.evaluate(START)
    assert page.evaluate("load('/m.tllm')")["ready"]["context_bytes"] == 128
    page.unroute("**/*.tllm")


def test_a_host_that_compresses_tells_another_size_and_the_model_comes(page):
    assert page.evaluate("load('/packed/m.tllm')")["ready"]["context_bytes"] == 128
    assert page.evaluate("sent.filter(({ progress }) => progress?.[1]).length") == 0


@pytest.mark.posix
def test_the_newest_model_of_a_folder_is_kept_and_other_folders_keep_theirs(page, folder):
    (folder / "other").mkdir()
    for name in ("n.tllm", "other/m.tllm"):
        (folder / name).symlink_to(folder / "m.tllm")
    for name in ("/m.tllm", "/other/m.tllm", "/n.tllm"):
        page.evaluate("(name) => (sent.length = 0, load(name))", name)
    names = page.evaluate(
        """async () => (await (await caches.open("tiny-llm-weights")).keys())
            .map(({ url }) => new URL(url).pathname)"""
    )
    assert set(names) == {"/other/m.tllm", "/n.tllm"}


def test_without_kernels_it_runs_in_plain_javascript(page):
    assert page.evaluate("load('/m.tllm', '/nowhere.wasm')")["ready"]["simd"] is False
    page.evaluate(f"ask(1, {json.dumps(HELLO)}, {{ max_new_bytes: 9 }})")
    assert page.evaluate("ended(1)")["usage"]["reply_bytes"] == 9


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("/cut/m.tllm", "The download of the model broke off: reload the page to try again."),
        ("/cut-chunks/m.tllm", "The download of the model broke off: reload the page to try again"),
        ("/none.tllm", "The model cannot be downloaded: the server answered 404."),
        ("http://127.0.0.1:1/m.tllm", "The model cannot be downloaded: nobody answers. Reload"),
        ("/no.tllm", "This file holds no packed model."),
        ("/strange.tllm", "The page knows bytes and BPE, not this model's tokenizer (pretrained)"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_told_in_one_sentence(page, weights, words):
    assert page.evaluate("(weights) => load(weights)", weights)["trouble"].startswith(words)
    assert page.evaluate("caches.keys()") in ([], ["tiny-llm-weights"])
    kept = "(async () => (await (await caches.open('tiny-llm-weights')).keys()).length)()"
    assert page.evaluate(kept) == 0
    page.evaluate(f"ask(1, {json.dumps(HELLO)}, {{}})")
    assert page.evaluate("ended(1)")["trouble"] == "The model is not loaded."


@pytest.mark.parametrize(
    ("messages", "settings", "words"),
    [
        ([], {}, "There is nothing to reply to."),
        (HELLO, {"temperature": 99}, "temperature is 99; expected 0 to 10."),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_sentence(page, messages, settings, words):
    page.evaluate("load('/m.tllm')")
    page.evaluate("([messages, settings]) => ask(1, messages, settings)", [messages, settings])
    assert page.evaluate("ended(1)")["trouble"] == words
