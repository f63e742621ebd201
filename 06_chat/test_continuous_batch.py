"""Texts that join and leave while others are written: each is what it is alone."""

from dataclasses import replace
from random import Random

import pytest

from shared.chat.continuous_batch import FEW, ContinuousBatch, InTurn, Text
from shared.chat.generation import stream_ids
from shared.chat.row_cache import RowCache
from shared.chat.sampling import SamplingSettings

SETTINGS = [
    SamplingSettings(temperature=0),
    SamplingSettings(temperature=1.2, top_p=1.0, seed=1),
    SamplingSettings(temperature=1.2, top_p=1.0, seed=2),
    SamplingSettings(temperature=0.9, top_k=20, top_p=0.8, seed=3),
    SamplingSettings(temperature=1, repetition_penalty=1.5, seed=4),
]


def some_texts(count: int, most: int = 40) -> list[Text]:
    """Of all lengths and settings; the context is 32, so some outgrow it."""
    random = Random(0)
    return [
        Text(
            [random.randrange(256) for _ in range(random.randint(1, most))],
            replace(random.choice(SETTINGS), max_new_bytes=random.randint(1, 25)),
        )
        for _ in range(count)
    ]


def alone(model, text: Text) -> list[int]:
    """What `stream_ids` writes, from the prompt that the text had."""
    return list(stream_ids(model, text.ids, text.settings))


def write_all(batch: ContinuousBatch | InTurn, texts: list[Text], rows: int, seed: int) -> None:
    """They come a few at a time, wait for a row, and leave when they are done."""
    random, coming = Random(seed), list(texts)
    while coming or batch.texts:
        for _ in range(min(random.randint(0, 3), rows - len(batch.texts), len(coming))):
            batch.join(coming.pop())
        for text in batch.step():
            if len(text.new) == text.settings.max_new_bytes:
                batch.leave(text)


@pytest.mark.parametrize("fields", [{}, {"window": 5}, {"positions": "learned"}])
def test_whoever_comes_and_goes_each_text_is_what_it_is_alone(fields, random_model):
    """What is to be read goes in the smallest pieces; `generate_batch` has it whole."""
    model, texts = random_model(**fields), some_texts(8)
    expected = [alone(model, text) for text in texts]
    write_all(ContinuousBatch(model, 4, stall=0.0), texts, 4, seed=1)
    assert [text.new for text in texts] == expected


def test_texts_in_turn_are_the_same_too(tiny_model):
    texts = some_texts(6)
    expected = [alone(tiny_model, text) for text in texts]
    write_all(InTurn(tiny_model), texts, 3, seed=1)
    assert [text.new for text in texts] == expected


def test_a_text_that_left_before_its_end_leaves_nothing_behind(tiny_model):
    """Its row and its place in the batch go to others."""
    first, second, third, fourth = some_texts(4)
    batch = ContinuousBatch(tiny_model, 3)
    expected = [alone(tiny_model, text) for text in (third, fourth)]
    for text in (first, second, third):
        batch.join(text)
    batch.leave(first)  # before it was read
    batch.step()
    batch.leave(second)
    batch.join(fourth)
    rest = [third, fourth]
    while rest:
        rest = [text for text in batch.step() if len(text.new) < text.settings.max_new_bytes]
    assert [third.new[: len(expected[0])], fourth.new[: len(expected[1])]] == expected
    assert batch.cache.lengths == [len(text.ids) - 1 for text in batch.texts]


@pytest.fixture
def long_model(random_model):
    return random_model(context_length=512)


def test_a_long_prompt_is_read_in_pieces_and_the_others_go_on(long_model):
    """A clock on which each piece takes too long: the shortest are read, and a byte between two."""
    ticks = iter(range(10_000))
    batch = ContinuousBatch(long_model, 2, stall=0.5, clock=lambda: next(ticks))
    talking, long = some_texts(1)[0], Text([7] * 300, SETTINGS[0])
    batch.join(talking)
    batch.step()
    batch.join(long)
    steps = 0
    while not long.new:
        assert talking in batch.step()
        steps += 1
    assert steps == -(-299 // FEW) - 1  # a piece of 32, then pieces of 16
    assert long.new == [*stream_ids(long_model, [7] * 300, replace(SETTINGS[0], max_new_bytes=1))]


def test_pieces_grow_while_they_take_no_time(long_model):
    read = []
    batch = ContinuousBatch(long_model, 1, stall=0.5, clock=lambda: 0.0)
    keep, batch.cache.read = batch.cache.read, lambda texts: (read.append(texts), keep(texts))
    batch.join(Text([7] * 500, SETTINGS[0]))
    while batch.texts[0].new == []:
        batch.step()
    assert [len(texts[0]) for texts in read] == [64, 128, 256, 51]


def test_who_comes_while_a_long_prompt_is_read_need_not_wait_for_its_end(long_model):
    batch = ContinuousBatch(long_model, 2, stall=0.0)  # no piece is short enough
    long, short = Text([7] * 400, SETTINGS[0]), Text([5] * 4, SETTINGS[0])
    batch.join(long)
    batch.step()
    batch.join(short)
    batch.step()
    batch.step()
    assert len(short.new) >= 1 and not long.new


def test_a_row_that_stays_as_it_is_keeps_its_keys(tiny_model):
    """Its neighbour steps; what was computed for it meanwhile is written over."""
    ids = list(range(9))
    cache = RowCache(tiny_model, 2)
    cache.join()
    cache.join()
    cache.read({0: ids[:4]})
    cache.read({1: [3] * 6})
    cache.step([None, 1])
    assert cache.lengths == [4, 7]
    cache.read({0: ids[4:8]})
    logits = cache.step([ids[8], None])[0]
    assert int(logits.argmax()) == alone(tiny_model, Text(ids, SETTINGS[0]))[0]
