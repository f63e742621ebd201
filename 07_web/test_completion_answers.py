"""Which odds are told with which text, and how long a reply is where an id is more than a byte."""

import pytest
import torch
from completion_answers import ShownOdds, name_of_run
from hypothesis import given, settings
from hypothesis import strategies as st
from web_app import create_app

from shared.chat.continuous_batch import Odds, Text
from shared.chat.sampling import SamplingSettings
from shared.chat.session import GrowingReply
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.bpe_training import train_bpe
from shared.text.tokenizer import ByteTokenizer
from shared.text.transcript import STOPS

BPE = train_bpe(["Hello there, grüß dich 👋  how are you?\n\nuser user: assistant " * 20], 300)
WORDS = [" ", "  ", "grüß", "👋", "\n", "\nuser:", "user", "how are", "you", "Hello there"]


def told_and_shown(tokenizer, said: str, stops: list[str], sent: list[bool]) -> tuple[bytes, str]:
    """The bytes of all ids that are told, each with its text, and that text."""
    reply = GrowingReply(tokenizer, 1000, stops)
    text = Text([1], SamplingSettings(seed=0), likeliest=0)
    odds, told, shown, held = ShownOdds(text, tokenizer), [], "", ""
    for number, token in enumerate([*tokenizer.encode(said).tolist(), tokenizer.end_of_text]):
        text.new.append(token)
        text.odds.append(Odds(-1.0, []))
        held += reply.add(token)
        if sent[number % len(sent)] and not reply.over:
            told += odds.of(held, is_last=False)
            shown, held = shown + held, ""
            assert spelled(told).decode().lstrip(" ") in shown
        if reply.over:
            break
    held += reply.rest()
    told += odds.of(held, is_last=True)
    return spelled(told), shown + held


def spelled(told: list[dict]) -> bytes:
    return b"".join(bytes(each["bytes"]) for each in told)


@settings(max_examples=50, derandomize=True, database=None)
@given(
    st.lists(st.sampled_from(WORDS), max_size=8).map("".join),
    st.lists(st.sampled_from(["you", "are y", "ß👋", "\n\n", "o t"]), max_size=2),
    st.lists(st.booleans(), min_size=1, max_size=5),
)
def test_the_bytes_that_are_told_are_those_of_the_text_up_to_the_first_stop(said, stops, sent):
    text = said.lstrip(" ")
    ends = [at for at in map(text.find, [*STOPS, *stops]) if at >= 0]
    expected = text[: min(ends)] if ends else text.removesuffix("\n")
    told, shown = told_and_shown(ByteTokenizer(), said, stops, sent)
    assert (shown, told) == (expected, expected.encode())
    told, shown = told_and_shown(BPE, said, stops, sent)
    longest = max(map(len, BPE.vocabulary))  # an id may begin before the text, and end behind it
    assert shown == expected and shown.encode() in told
    assert len(told) <= len(shown.encode()) + 2 * longest


def test_where_an_id_is_more_than_a_byte_tokens_are_ids():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=BPE.vocab_size, context_length=64, n_layers=1, d_model=32)
    model = Transformer(config).eval()
    with torch.no_grad():
        model.head.weight[BPE.end_of_text] = 0
        model.head.weight[: BPE.end_of_text] *= 3
    client = create_app(model, BPE).test_client()
    asked = {"messages": [{"role": "user", "content": "grüß dich"}], "max_tokens": 9, "seed": 1}
    answer = client.post("/v1/chat/completions", json=asked).get_json()
    content = answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 9 < len(content.encode())
    assert answer["usage"]["prompt_tokens"] < len("\x1euser: grüß dich\nassistant:".encode())
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [("runs/quick/checkpoints/step-0000500", "quick"), ("out/my-model", "my-model")],
)
def test_the_model_is_named_after_its_run(checkpoint, name, tmp_path):
    assert name_of_run(tmp_path / checkpoint) == name
