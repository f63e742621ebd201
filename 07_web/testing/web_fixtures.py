"""Fixtures of the web tests: a saved model, a served application, a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from page_driver import opened
from playwright.sync_api import Browser, Page, sync_playwright
from served_models import CONFIG, Talker, served
from web_app import create_app

from shared.model.transformer import Transformer
from shared.text.tokenizer import END_OF_TEXT
from shared.training.checkpoint import save_checkpoint

# Chromium asks its maker's hosts for updates unless told not to.
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--disable-gpu",
    "--no-sandbox",
]


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory) -> Path:
    """An untrained model, saved."""
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    return save_checkpoint(tmp_path_factory.mktemp("run"), 1, model, tokenizer, {}, {})


@pytest.fixture(scope="module")
def endless(tokenizer, tmp_path_factory) -> Path:
    """A saved model that repeats one byte and never ends its turn."""
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("blocks"):
                parameter.zero_()
    last = save_checkpoint(tmp_path_factory.mktemp("run"), 1, model, tokenizer, {}, {})
    ids = torch.tensor([[END_OF_TEXT, *b"user: hi\nassistant:"]])
    assert int(model.eval()(ids)[0, -1].argmax()) != END_OF_TEXT
    return last


@pytest.fixture(scope="module")
def talker_address(tokenizer) -> Iterator[str]:
    """The application around a `Talker`."""
    torch.manual_seed(0)
    facts = {"parameters": 1, "context_bytes": 128}
    with served(create_app(Talker(CONFIG).eval(), tokenizer, facts=facts)) as address:
        yield address


@pytest.fixture(scope="session")
def browser(browser_path) -> Iterator[Browser]:
    """A real Chromium without a window: its start costs more than most pages do."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def remembering(browser, whole_browser_path) -> Iterator[Browser]:
    """One that keeps a page which is left as it is, for the Back button; playwright's does not."""
    without = ["--disable-back-forward-cache"]
    kind = browser.browser_type
    path = whole_browser_path
    keeps = kind.launch(executable_path=path, args=FLAGS, ignore_default_args=without)
    yield keeps
    keeps.close()


@pytest.fixture
def page(browser, talker_address) -> Iterator[Page]:
    """The page of a `Talker`."""
    with opened(browser, talker_address) as page:
        yield page
