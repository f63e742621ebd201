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


def slow_to_read(model, rows: int, seconds: float) -> ContinuousBatch:
    """One on whose clock a piece takes that long and a step half a second."""
    now = [0.0]
    batch = ContinuousBatch(model, rows, stall=0.05, clock=lambda: now[0])

    def taking(work, seconds: float):
        def taken(given):
            now[0] += seconds
            return work(given)

        return taken

    batch.cache.read = taking(batch.cache.read, seconds)
    batch.cache.step = taking(batch.cache.step, 0.5)
    return batch


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
    """What is to be read goes in small pieces; `generate_batch` has it whole."""
    model, texts = random_model(**fields), some_texts(8)
    expected = [alone(model, text) for text in texts]
    write_all(slow_to_read(model, 4, seconds=0.6), texts, 4, seed=1)
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
    """Each piece takes longer than a step: the smallest are read, and a byte between two."""
    batch = slow_to_read(long_model, 2, seconds=0.6)
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


@pytest.mark.parametrize(("seconds", "sizes"), [(0.01, [64, 128, 256, 51]), (0.04, [64] * 7)])
def test_pieces_grow_while_they_take_little_of_the_time_they_may(seconds, sizes, long_model):
    read = []
    batch = slow_to_read(long_model, 1, seconds)
    keep, batch.cache.read = batch.cache.read, lambda texts: (read.append(texts), keep(texts))
    batch.join(Text([7] * 500, SETTINGS[0]))
    while batch.texts[0].new == []:
        batch.step()
    assert [len(texts[0]) for texts in read][: len(sizes)] == sizes


def test_a_piece_may_take_as_long_as_a_step(long_model):
    """Where others want the processor, a step takes long; the smallest pieces would take ages."""
    batch = slow_to_read(long_model, 2, seconds=0.1)
    batch.join(some_texts(1)[0])
    batch.step()
    batch.join(Text([7] * 500, SETTINGS[0]))
    batch.step()
    batch.step()
    assert batch.at_once > 4 * FEW


def test_who_comes_while_a_long_prompt_is_read_need_not_wait_for_its_end(long_model):
    batch = slow_to_read(long_model, 2, seconds=0.6)
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
