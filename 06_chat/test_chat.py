"""Chat: sampling by hand, cached = uncached, whole turns, commands that forgive."""

import random
from dataclasses import replace

import chat
import pytest
import torch

from shared.chat.generation import stream_ids
from shared.chat.sampling import (
    SamplingSettings,
    keep_top_k,
    keep_top_p,
    next_token,
    penalize_repetition,
)
from shared.chat.session import ChatSession, _Visible, fit_turns, stream_reply
from shared.errors import UserError
from shared.text.bpe_training import train_bpe
from shared.text.transcript import Message, parse, render, render_prompt
from shared.training.sampler import continue_text

GREEDY = SamplingSettings(temperature=0, max_new_bytes=20)
LOGITS = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
NONE = float("-inf")


# --- sampling


def test_top_k_by_hand():
    assert keep_top_k(LOGITS, 2).exp().tolist() == [0.5, 0.25, 0.0, 0.0]
    assert torch.equal(keep_top_k(LOGITS, 0), LOGITS) and torch.equal(keep_top_k(LOGITS, 9), LOGITS)
    assert keep_top_k(torch.zeros(5), 2).isfinite().sum() == 2  # ties too keep exactly k


@pytest.mark.parametrize(
    ("p", "kept"), [(0.4, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.8, 3), (1, 4)]
)
def test_top_p_keeps_the_fewest_that_reach_p(p, kept):
    shuffled = LOGITS[torch.tensor([2, 0, 3, 1])]
    left = keep_top_p(shuffled, p)
    assert left.isfinite().sum() == kept
    assert left.argmax() == 1


def test_temperature_sharpens_and_flattens():
    def share_of_best(temperature: float) -> float:
        generator = torch.Generator().manual_seed(0)
        settings = SamplingSettings(temperature=temperature, top_p=1)
        drawn = [next_token(LOGITS, settings, generator) for _ in range(4000)]
        return drawn.count(0) / 4000

    assert share_of_best(1.0) == pytest.approx(0.5, abs=0.03)
    assert share_of_best(0.5) == pytest.approx(0.25 / 0.34375, abs=0.03)  # shares squared
    assert share_of_best(0) == 1


def test_repetition_penalty_by_hand():
    logits = torch.tensor([2.0, -2.0, 2.0])
    assert penalize_repetition(logits, [0, 1, 1], 2.0).tolist() == [1.0, -4.0, 2.0]
    assert torch.equal(penalize_repetition(logits, [], 2.0), logits)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"max_new_bytes": 0},
        {"repetition_penalty": 0},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        SamplingSettings(**wrong)


# --- the cache


def test_greedy_text_with_the_cache_is_the_text_without(tiny_model):
    prompt = list(b"once upon")
    cached = [*prompt, *stream_ids(tiny_model, prompt, replace(GREEDY, max_new_bytes=23))]
    assert cached == continue_text(tiny_model, prompt, 23)


def test_two_conversations_do_not_mix(tiny_model):
    one, two = list(b"first talk"), list(b"another")
    alone = [list(stream_ids(tiny_model, prompt, GREEDY)) for prompt in (one, two)]
    streams = [stream_ids(tiny_model, prompt, GREEDY) for prompt in (one, two)]
    turns = [[next(stream) for stream in streams] for _ in range(20)]
    assert [list(ids) for ids in zip(*turns, strict=True)] == alone


def test_the_same_seed_draws_the_same_text(tiny_model):
    def drawn(seed: int | None) -> list[int]:
        settings = SamplingSettings(temperature=1, top_p=1, max_new_bytes=20, seed=seed)
        return list(stream_ids(tiny_model, [1], settings))

    assert drawn(3) == drawn(3) != drawn(4)
    assert drawn(None) != drawn(None)


def test_text_goes_on_past_the_context(tiny_model):
    long = replace(GREEDY, max_new_bytes=100)
    assert len(list(stream_ids(tiny_model, [1, 2], long))) == 100
    assert len(list(stream_ids(tiny_model, list(range(200)), GREEDY))) == 20


def test_an_abandoned_stream_stops_computing(tiny_model):
    calls = []
    tiny_model.register_forward_hook(lambda *arguments: calls.append(1))
    stream = stream_ids(tiny_model, [1], GREEDY)
    next(stream)
    next(stream)
    stream.close()
    assert len(calls) == 2  # the prompt, and one of the twenty bytes asked for


@pytest.mark.parametrize("temperature", [1e-320, 1e-40, 1e-5])
def test_a_temperature_next_to_nothing_is_greedy(temperature):
    generator = torch.Generator().manual_seed(0)
    settings = SamplingSettings(temperature=temperature)
    assert next_token(100 * LOGITS, settings, generator) == 0


# --- replies


class Parrot(torch.nn.Module):
    """Says a fixed text whatever it is asked: a model whose replies are known."""

    def __init__(self, model, text: bytes, prompt_length: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config, self.text, self.at = model.config, text, 0
        self.vocab_size = model.config.vocab_size

    def forward(self, ids, cache):
        logits = torch.zeros(1, ids.shape[1], self.vocab_size)
        logits[0, -1, self.text[min(self.at, len(self.text) - 1)]] = 100.0
        self.at += 1
        for layer in cache.layers:
            layer.length += ids.shape[1]
        return logits


@pytest.fixture
def wide_model(tiny_model):
    tiny_model.config = replace(tiny_model.config, context_length=256)
    return tiny_model


def reply_of(model, tokenizer, text: bytes, max_new_bytes=200, messages=None):
    parrot = Parrot(model, text, 0)
    settings = SamplingSettings(temperature=0, max_new_bytes=max_new_bytes)
    messages = messages or [Message("user", "hi")]
    return list(stream_reply(parrot, tokenizer, messages, settings))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b" Hello!\nuser: more", "Hello!"),
        (b" Hello!\n\x1e", "Hello!"),
        (b" Two\nlines.\nassistant: x", "Two\nlines."),
        (b" the user: no mark\n\x1e", "the user: no mark"),
        (b" a\nuse of it\n\x1e", "a\nuse of it"),
        ("  é 👋\nuser:".encode(), "é 👋"),
        (b"\nuser:", ""),
    ],
)
def test_a_reply_ends_at_the_next_turn_or_the_end_of_the_document(
    said, shown, wide_model, tokenizer
):
    pieces = reply_of(wide_model, tokenizer, said)
    assert "".join(piece.text for piece in pieces) == shown
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish_reason == "stop"


def test_a_reply_is_streamed_and_no_character_is_cut(wide_model, tokenizer):
    pieces = reply_of(wide_model, tokenizer, " aé👋\x1e".encode())
    assert [piece.text for piece in pieces] == ["a", "é", "👋", ""]


def test_a_reply_that_is_too_long_ends_with_length(wide_model, tokenizer):
    pieces = reply_of(wide_model, tokenizer, b" " + b"x" * 50, max_new_bytes=10)
    assert "".join(piece.text for piece in pieces) == "x" * 9
    assert pieces[-1].finish_reason == "length"
    assert pieces[-1].reply_bytes == 10
    assert pieces[-1].prompt_bytes == len("\x1euser: hi\nassistant:")


def test_a_half_character_at_the_limit_is_shown_as_replaced(wide_model, tokenizer):
    pieces = reply_of(wide_model, tokenizer, " é".encode(), max_new_bytes=2)
    assert "".join(piece.text for piece in pieces) == "\ufffd"


def test_a_reply_in_longer_tokens_counts_bytes_and_cuts_no_character(wide_model, bpe):
    said = bpe.encode(" grüß 👋 Hello there, grüß").tolist()
    parrot = Parrot(wide_model, said, 0)
    parrot.vocab_size = bpe.vocab_size
    settings = SamplingSettings(temperature=0, max_new_bytes=14)
    pieces = list(stream_reply(parrot, bpe, [Message("user", "hi")], settings))
    text = "".join(piece.text for piece in pieces)
    assert text.startswith("grüß 👋") and "�" not in text
    assert pieces[-1].finish_reason == "length"
    assert 14 <= pieces[-1].reply_bytes < 14 + max(len(t) for t in bpe.vocabulary)
    assert pieces[-1].prompt_bytes == len("user: hi\nassistant:")


def test_held_back_text_is_shown_once_it_cannot_be_a_mark():
    visible = _Visible()
    assert [visible.add(c) for c in "a\nus"] == ["a", "", "", ""]
    assert visible.add("x") == "\nusx"


def test_nothing_to_reply_to_is_refused(wide_model, tokenizer):
    with pytest.raises(UserError, match="messages is empty"):
        next(stream_reply(wide_model, tokenizer, [], GREEDY))


def test_the_oldest_whole_turns_are_dropped_and_the_system_message_stays(tokenizer):
    messages = [Message("system", "Be kind.")]
    for number in range(20):
        messages += [Message("user", f"question {number}"), Message("assistant", "answer")]
    messages.append(Message("user", "last"))
    ids = fit_turns(messages, [], tokenizer, context_length=200)
    text = tokenizer.decode(ids).removeprefix("\x1e").removesuffix("assistant:")
    kept = parse(text)
    assert len(ids) <= 150
    assert kept[0] == messages[0] and kept[-1] == messages[-1]
    assert kept[1:] == messages[-len(kept) + 1 :] and kept[1].role == "user"
    one_more = kept[:1] + messages[-len(kept) - 1 :]
    assert len(render_prompt(one_more)) + 1 > 150  # no more was dropped than had to be


@pytest.fixture(scope="module")
def bpe():
    return train_bpe(["Hello there, grüß dich 👋  how are you?\n\nuser user: assistant " * 20], 300)


def plain_fit(messages, reply, tokenizer, context_length):
    """The same by encoding everything, again and again; all of it, if the last turn is too long."""
    room = context_length - context_length // 4
    system = messages[: messages[0].role == "system"]
    turns = messages[len(system) :]
    while True:
        prompt = tokenizer.encode(render_prompt(system + turns)).tolist()
        ids = [tokenizer.end_of_text, *prompt, *reply]
        if len(ids) <= room or len(turns) <= 1:
            return ids
        turns = turns[1:]
        while len(turns) > 1 and turns[0].role != "user":
            turns = turns[1:]


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_from_the_newest_turn_back_is_the_same_as_encoding_everything(kind, tokenizer, bpe):
    tokenizer, draw = tokenizer if kind == "bytes" else bpe, random.Random(0)
    words = ["Hello", " there", ",", " ", "\n", "\nuser: no", "grüß", " 👋", "!", "  ", "you" * 9]
    cut = 0
    for number in range(300):
        roles = draw.choices(["user", "assistant", "system"], [5, 4, 1], k=draw.randint(1, 9))
        roles[0] = "system" if number % 3 == 0 else roles[0]
        longest = draw.choice([3, 20, 100])
        messages = [
            Message(r, "".join(draw.choices(words, k=draw.randint(0, longest)))) for r in roles
        ]
        reply = draw.choices(range(256), k=draw.choice([0, 0, 5, 60]))
        context = draw.choice([64, 128, 512])
        room = context - context // 4
        ids, plain = (f(messages, reply, tokenizer, context) for f in (fit_turns, plain_fit))
        if len(plain) <= room or messages[0].role != "system":
            assert ids == plain[-room:], messages
            continue
        cut += 1
        lead = [tokenizer.end_of_text, *tokenizer.encode(render(messages[:1])).tolist()]
        assert len(ids) <= room
        if len(lead) <= room // 2:
            assert ids == lead + plain[len(lead) - room :]
        else:  # its beginning stays and ends in a newline, and nothing is between it and the rest
            assert ids[: room // 2 - 1] == lead[: room // 2 - 1] and ids[room // 2 - 1] == lead[-1]
            assert ids[room // 2 :] == plain[len(lead) :][room // 2 - room :]
    assert cut > 20


@pytest.mark.parametrize("context_length", range(1, 9))
def test_the_smallest_contexts_are_never_overfull(context_length, tokenizer):
    for messages in (
        [Message("system", "Be kind."), Message("user", "hi")],
        [Message("user", "hi")],
    ):
        ids = fit_turns(messages, [1] * 9, tokenizer, context_length)
        assert len(ids) == context_length - context_length // 4


def test_the_system_message_stays_however_long_the_reply(tiny_model, tokenizer):
    tiny_model.config = replace(tiny_model.config, context_length=64)
    parrot, heard = Parrot(tiny_model, b" " + b"x" * 300, 0), []
    parrot.register_forward_hook(lambda _, inputs, __: heard.append(bytes(inputs[0][0].tolist())))
    messages = [Message("system", "Be kind."), Message("user", "hi")]
    list(stream_reply(parrot, tokenizer, messages, replace(GREEDY, max_new_bytes=300)))
    read_again = [ids for ids in heard if len(ids) > 1]
    assert len(read_again) > 10
    assert all(ids.startswith(b"\x1esystem: Be kind.\n") for ids in read_again)


class Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer, self.end_of_text, self.given = tokenizer, tokenizer.end_of_text, 0

    def encode(self, text):
        self.given += len(text)
        return self.tokenizer.encode(text)


@pytest.mark.parametrize("turns", [[16_000] * 15, [5] * 99, [240_000]])
def test_the_work_is_bounded_by_the_context_and_not_by_what_is_sent(turns, bpe):
    counting = Counting(bpe)
    messages = [Message("user", "Hello there, how are you? " * size) for size in turns]
    messages.insert(0, Message("system", "Be kind. " * max(turns)))
    assert len(fit_turns(messages, [], counting, context_length=256)) <= 192
    assert counting.given < 100 * 256


def test_nothing_is_read_for_a_reply_that_is_over(wide_model, bpe):
    counting = Counting(bpe)
    pieces = list(stream_reply(wide_model, counting, [Message("user", "hi")], GREEDY, lambda: True))
    assert [(p.text, p.finish_reason, p.reply_bytes) for p in pieces] == [("", "length", 0)]
    assert counting.given == 0


def test_a_reply_goes_on_when_the_window_fills(tiny_model, tokenizer):
    """The context is 32 bytes; the reply alone is longer, and the window is read again."""
    messages = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    said = bytes(range(ord("a"), ord("z"))) * 4
    pieces = reply_of(tiny_model, tokenizer, b" " + said, max_new_bytes=80, messages=messages)
    assert "".join(piece.text for piece in pieces) == said[:79].decode()
    assert pieces[-1].finish_reason == "length" and pieces[-1].reply_bytes == 80


def test_a_session_remembers_and_keeps_what_was_said_when_cut_short(wide_model, tokenizer):
    session = ChatSession(Parrot(wide_model, b" Hello!\x1e", 0), tokenizer, GREEDY)
    session.set_system("Be brief.")
    pieces = session.say("hi")
    assert next(pieces).text == "H" and next(pieces).text == "e"
    pieces.close()
    assert session.messages == [
        Message("system", "Be brief."),
        Message("user", "hi"),
        Message("assistant", "He"),
    ]
    session.reset()
    assert session.messages == [Message("system", "Be brief.")]
    session.set_system("")
    assert session.messages == []


# --- commands


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set", "temperature 0"),
        ("/set top_k 5", "top_k is now 5"),
        ("/set seed none", "seed is now none"),
        ("/help", "/reset"),
        ("/reset", "forgotten"),
    ],
)
def test_commands_answer(line, message, wide_model, tokenizer):
    assert message in chat.command(ChatSession(wide_model, tokenizer, GREEDY), line)


@pytest.mark.parametrize(
    "line",
    [
        "/set heat 3",
        "/set top_k x",
        "/set top_p 7",
        "/dance",
        "/save",
        pytest.param("/save /dev/null/x", marks=pytest.mark.posix),
        "/save ~nosuch/x",
        "/save a\0b",
        "/save .",
        "/save /",
        "/save " + "x" * 300,
    ],
)
def test_wrong_commands_are_refused_in_words(line, wide_model, tokenizer):
    with pytest.raises(UserError):
        chat.command(ChatSession(wide_model, tokenizer, GREEDY), line)
