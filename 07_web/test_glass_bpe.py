"""Look inside, on a model whose ids are several bytes long."""

import pytest
import torch
from exported_models import small_bpe
from page_driver import button, choose, finished, opened, say, written
from playwright.sync_api import expect

from shared.chat.session import GrowingReply, fit_turns
from shared.model.packing import read_packed, unpack_model
from shared.text.bpe import BPETokenizer
from shared.text.transcript import Message

pytest_plugins = ("web_fixtures", "site_fixtures")

ASKED = "hello there 🙂"
BYTES = 20


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return small_bpe()


def on_the_page(tokenizer: BPETokenizer, token: int) -> str:
    """A token as the transcript shows it: what is no text alone, by its bytes."""
    data = tokenizer.token_bytes(token)
    plain = data.decode(errors="replace").replace("\n", "⏎")
    return plain if plain.isprintable() and "\ufffd" not in plain else data.hex(" ")


@pytest.mark.slow
@torch.inference_mode()
def test_a_reply_goes_on_from_another_token_as_pytorch_goes_on(browser, addresses, site, tokenizer):
    prompt = fit_turns([Message("user", ASKED)], [], tokenizer, 128)
    model = unpack_model(read_packed(next(site.glob("weights-*.tllm"))))
    with opened(browser, addresses["file"]) as page:
        choose(page, "temperature", "0")
        choose(page, "max_new_bytes", str(BYTES))
        say(page, ASKED)
        finished(page)
        said = written(page)
        button(page, "Look inside").click()
        # The choice of the reply's first id.
        page.evaluate(f"location.hash = 'view=bytes&byte={len(prompt)}'")
        tokens, rows = page.locator(".byte"), page.locator(".choices tbody tr")
        expect(rows).to_have_count(10)
        assert tokens.all_inner_texts()[5] == " there", "a token of six bytes is one place"
        ten = model(torch.tensor([prompt]))[0, -1].topk(10).indices.tolist()
        # One of them that the reply does not begin with, the longest.
        other = max(range(1, 10), key=lambda n: len(tokenizer.token_bytes(ten[n])))
        rows.nth(other).locator("button").click()
        back = button(page, "Back to the reply as it was")
        expect(back).to_be_visible()
        reply = GrowingReply(tokenizer, BYTES)
        reply.add(ten[other])
        while not reply.over:
            reply.add(int(model(torch.tensor([[*prompt, *reply.ids]]))[0, -1].argmax()))
        expect(tokens).to_have_count(len(prompt) + len(reply.ids))
        shown = [text.removeprefix("\\x").replace("\\x", " ") for text in tokens.all_inner_texts()]
        assert shown[1:] == [on_the_page(tokenizer, n) for n in [*prompt, *reply.ids][1:]]
        expect(page.locator(".byte.forked")).to_have_text(tokens.nth(len(prompt)).inner_text())
        assert written(page) == said, "the conversation itself stays"
        back.click()
        expect(back).to_be_hidden()
