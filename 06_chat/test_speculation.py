"""Speculation leaves no trace: the same text, the same draws, the same cache; only fewer passes."""

import io
import re

import chat
import generate
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import VARIANTS
from shared.chat import speculation as of_speculation
from shared.chat.generation import prefill, stream_ids
from shared.chat.kv_cache import MOST_GUESSES
from shared.chat.sampling import SamplingSettings
from shared.chat.session import stream_reply
from shared.chat.speculation import SILENT, Speculation, price_of_a_guess, public_text
from shared.text.bpe_training import train_bpe
from shared.text.corpora import Document
from shared.text.primer import read_primer
from shared.text.splits import TRAIN, VALIDATION
from shared.text.transcript import Message
from shared.training.checkpoint import save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
FREE = 0.0  # a price at which every guess is worth making


class Foretold(Speculation):
    """Knows the text to come, and errs at some places: drafts kept whole, in part, not at all."""

    def __init__(self, text: list[int], wrong: set[int] = frozenset()) -> None:
        super().__init__(FREE)
        self.text = [(t + 1) % 256 if n in wrong else t for n, t in enumerate(text)]
        self.at = 0

    def follow(self, ids):
        self.at += 1

    def guess(self, ids, most):
        return self.text[self.at : self.at + min(most, 5)]


def written(model, prompt, how, speculation=SILENT):
    return list(stream_ids(model, prompt, how, speculation=speculation))


SETTINGS = st.builds(
    SamplingSettings,
    temperature=st.sampled_from([0, 0.3, 0.7, 1.5]),
    top_k=st.sampled_from([0, 1, 5]),
    top_p=st.sampled_from([0.5, 0.95, 1]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.5]),
    max_new_bytes=st.integers(1, 60),
    seed=st.integers(0, 1000),
)


@settings(max_examples=14, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(VARIANTS)),
    how=SETTINGS,
    wrong=st.sets(st.integers(0, 60)),
    prompt=st.binary(min_size=1, max_size=50),
)
@example("window", SamplingSettings(max_new_bytes=60, seed=0), {4, 5, 30}, b"a")
@example("GPT-2", SamplingSettings(max_new_bytes=60, seed=0), {4, 5, 30}, b"a")
def test_the_text_is_the_same_with_and_without_whatever_is_guessed(
    random_model, name, how, wrong, prompt
):
    """The context is 32: a text of 60 bytes is shortened and read again several times."""
    model = random_model(**VARIANTS[name])
    plain = written(model, list(prompt), how)
    assert written(model, list(prompt), how, Foretold(plain, wrong)) == plain
    assert written(model, list(prompt), how, Speculation(FREE, [*prompt, *plain])) == plain


def count_passes(model, run):
    passes = []
    hook = model.register_forward_hook(lambda _, inputs, __: passes.append(inputs[0].shape[1]))
    run()
    hook.remove()
    return passes


def test_what_is_guessed_right_saves_passes_and_a_wrong_guess_ends_one(tiny_model):
    how = SamplingSettings(temperature=0.7, max_new_bytes=12, seed=1)
    plain = written(tiny_model, [1, 2], how)
    # The prompt and five guesses, which give ids 0 to 5. Of the next five the one at place 9 is
    # wrong: 6 to 8 are kept and 9 is drawn in its place. Then 10, and 11 ends it.
    passes = count_passes(
        tiny_model, lambda: written(tiny_model, [1, 2], how, Foretold(plain, {9}))
    )
    assert passes == [2 + 5, 1 + 5, 1 + 1]
    assert count_passes(tiny_model, lambda: written(tiny_model, [1, 2], how)) == [2] + [1] * 11


def test_randomness_is_consumed_as_without(tiny_model, monkeypatch):
    generators = []
    fresh = SamplingSettings.generator
    monkeypatch.setattr(
        SamplingSettings, "generator", lambda self: generators.append(fresh(self)) or generators[-1]
    )
    how = SamplingSettings(max_new_bytes=20, seed=5)
    plain = written(tiny_model, [1], how)
    written(tiny_model, [1], how, Foretold(plain, {3, 4, 11}))
    after = [generator.get_state() for generator in generators]
    assert torch.equal(*after)


@torch.no_grad()
def test_what_was_taken_back_left_nothing_in_the_cache(variant, random_model):
    model = random_model(**variant)
    clean, _ = prefill(model, list(range(64, 76)))
    cache, _ = prefill(model, list(range(64, 74)))
    for count in (1, 4, 7, MOST_GUESSES):
        model(torch.randint(64, 256, (1, count)), cache)
        cache.forget(count)
    model(torch.tensor([[74, 75, 200, 201]]), cache)
    cache.forget(2)
    assert cache.length == clean.length == 12
    following = torch.tensor([[80, 81, 82]])
    assert torch.allclose(model(following, cache), model(following, clean), atol=1e-5)


def test_a_reply_in_longer_tokens_with_stops_is_the_same(random_model):
    bpe = train_bpe(["Hello there, how are you?\n\nuser user: assistant " * 20], 300)
    model = random_model(vocab_size=bpe.vocab_size, context_length=64)
    for seed in range(3):
        how = SamplingSettings(temperature=2.0, max_new_bytes=60, seed=seed)
        asked = [Message("user", "how are you?")]
        plain = list(stream_reply(model, bpe, asked, how))
        known = bpe.encode("".join(piece.text for piece in plain)).tolist()
        found = Speculation(FREE, known)
        assert list(stream_reply(model, bpe, asked, how, speculation=found)) == plain


def test_an_abandoned_stream_and_one_that_is_over_draw_nothing_more(tiny_model):
    how = SamplingSettings(temperature=0, max_new_bytes=20)
    plain = written(tiny_model, [1], how)
    stream = stream_ids(tiny_model, [1], how, speculation=Foretold(plain))
    assert [next(stream), next(stream)] == plain[:2]
    stream.close()
    asked = iter([False] * 4)
    over = stream_ids(
        tiny_model, [1], how, over=lambda: next(asked, True), speculation=Foretold(plain)
    )
    assert list(over) == plain[:4]


# --- what is guessed


def test_guesses_are_what_followed_the_longest_context_last_time():
    talk = list(b"the cat sat. the cat ran. the c")
    known = Speculation(FREE, talk)
    assert bytes(known.guess(talk, 6)) == b"at ran"
    assert known.guess(list(b"zebra"), 6) == []
    assert known.guess(talk, 0) == []
    assert len(known.guess(talk, 99)) == MOST_GUESSES
    assert bytes(known.guess(list(b"mat s"), 3)) == b"at."  # three bytes are enough


def test_one_guess_more_is_made_while_it_adds_more_than_it_costs():
    """Chance 0.5 each, price 0.2. Gain 1, 1.5, 1.75; cost 1, 1.2, 1.4; the rate 1, 1.25, 1.25.

    The second guess: 0.25 / 0.2 = 1.25 = the rate so far: no gain, so it is not made.
    """
    talk = list(b"abcdefghijklmnopqrstuvwxyz")
    speculation = Speculation(0.2, talk)
    assert len(speculation.guess(list(b"abc"), 9)) == 1
    speculation.price = 0.19
    assert len(speculation.guess(list(b"abc"), 9)) == 2
    speculation.price = 0.5
    assert speculation.guess(list(b"abc"), 9) == []


def test_the_chance_of_a_context_is_the_share_that_was_right():
    speculation = Speculation(1.0, list(b"abcdabcd"))
    text = list(b"abc")
    for token in b"dabc" * 60:
        text.append(token)
        speculation.follow(text)
    assert speculation.chances[8] > 0.95
    for token in torch.randint(256, (600,), generator=torch.Generator().manual_seed(0)).tolist():
        text += [*b"abc", token]
        speculation.follow(text)
    assert speculation.chances[3] < 0.05
    assert speculation.guess(list(b"abc"), 9) == []


@pytest.mark.parametrize(("letters", "price"), [(8, 0.2), (256, 0.05)])
def test_where_nobody_can_foresee_the_text_guesses_cost_less_than_3_percent(letters, price):
    """Cost in passes, by the price: each guess adds to it, one that is right saves a pass."""
    draws = torch.Generator().manual_seed(0)
    to_come = torch.randint(letters, (4000,), generator=draws).tolist()
    text, cost = list(b"0123456789" * 9), 0.0
    guessing = Speculation(price, text)
    while to_come:
        guesses = guessing.guess(text, 16)
        cost += 1 + price * len(guesses)
        for guess in [*guesses, None]:
            text.append(to_come.pop(0))
            guessing.follow(text)
            if text[-1] != guess or not to_come:
                break
    assert cost < 1.03 * 4000


def test_a_price_is_the_share_of_a_pass_that_a_position_adds(tiny_model):
    ticks = iter([n for late in range(10) for n in (0.0, 10.0 + late, 0.0, 18.0 + 9 * late)])
    assert price_of_a_guess(tiny_model, clock=lambda: next(ticks)) == pytest.approx(0.1)
    ticks = iter([n for _ in range(10) for n in (0.0, 10.0, 0.0, 9.0)])
    assert price_of_a_guess(tiny_model, clock=lambda: next(ticks)) == 0


@pytest.mark.parametrize("script", [generate, chat])
def test_scripts_write_the_same_with_speculation_and_with_it_turned_off(
    script, random_model, tokenizer, tmp_path, monkeypatch, capsys
):
    folder = save_checkpoint(tmp_path, 1, random_model(context_length=64), tokenizer, {}, {})
    begun, guessing = [], Speculation(FREE, list(range(256)))
    monkeypatch.setattr(script, "begin_speculation", lambda *_: begun.append(1) or guessing)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\nhello\n"))
    told = []
    for choice in ("on", "off"):
        options = f"--checkpoint {folder} --device cpu --seed 1 --speculate {choice}"
        script.main([*options.split(), "--max_new_bytes", "40"])
        monkeypatch.setattr("sys.stdin", io.StringIO("hello\nhello\n"))
        told.append(re.sub(r"[\d,]+ bytes/s", "", capsys.readouterr().out))
    assert told[0] == told[1]
    assert begun == [1]


def test_what_is_known_at_first_comes_with_the_code_and_holds_nothing_held_out(
    tokenizer, monkeypatch
):
    documents = [
        Document("drills/0", b"user: secret\n", VALIDATION),
        Document("drills/1", b"user: open\n", TRAIN),
    ]
    monkeypatch.setattr(of_speculation, "read_drills", lambda: iter(documents))
    known = tokenizer.decode(public_text(tokenizer))
    assert "open" in known and "secret" not in known
    assert next(read_primer()).data.decode() in known
