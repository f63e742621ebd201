"""Many texts at once: each is what it would be alone, whoever its neighbours are."""

from dataclasses import replace

import pytest
import torch

from shared.chat.batch_generation import Reply, generate_batch, reply_batch
from shared.chat.generation import stream_ids
from shared.chat.row_cache import RowCache
from shared.chat.sampling import SamplingSettings, draw, next_token, next_tokens
from shared.chat.session import stream_reply
from shared.errors import UserError
from shared.model.config import MoEConfig
from shared.model.transformer import Transformer
from shared.text.transcript import Message

GREEDY = SamplingSettings(temperature=0, max_new_bytes=12)
BOLD = SamplingSettings(temperature=1, top_p=0.9, top_k=50, repetition_penalty=1.3, seed=3)
LENGTHS = (1, 7, 40, 28, 2)  # the context is 32: one is too long, one outgrows it, one is alone
PROMPTS = [[(31 * place + length) % 256 for place in range(length)] for length in LENGTHS]


@pytest.fixture
def shapes(tiny_model):
    """Shapes of what goes through the tiny model, (rows, positions) each, as it goes."""
    seen = []
    tiny_model.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    return seen


def test_each_text_is_what_it_is_alone(variant, random_model):
    assert_alone_and_together_are_equal(random_model(**variant))


def test_so_it_is_where_each_position_goes_to_one_expert(random_model):
    assert_alone_and_together_are_equal(random_model(moe=MoEConfig(n_experts=4, top_k=1)))


def assert_alone_and_together_are_equal(model: Transformer) -> None:
    """Three at once, so that others move and wait while some are read again."""
    alone = [list(stream_ids(model, prompt, GREEDY)) for prompt in PROMPTS]
    assert generate_batch(model, PROMPTS, GREEDY, batch_size=3) == alone


@pytest.mark.parametrize("batch_size", [2, 64])
def test_drawn_texts_depend_neither_on_neighbours_nor_on_places(tiny_model, batch_size):
    settings = replace(BOLD, max_new_bytes=20)
    seeds = range(settings.seed, settings.seed + len(PROMPTS))
    pairs = list(zip(PROMPTS, seeds, strict=True))
    alone = [list(stream_ids(tiny_model, ids, replace(settings, seed=seed))) for ids, seed in pairs]
    assert generate_batch(tiny_model, PROMPTS, settings, batch_size=batch_size) == alone


def test_what_stands_right_of_a_row_is_not_seen(tiny_model):
    """Values a thousand times too large there would change every logit."""
    ids = list(range(10))
    logits = []
    for surplus in (0.0, 1000.0):
        cache = RowCache(tiny_model, 2)
        with torch.no_grad():
            cache.join()
            cache.join()
            cache.read({0: ids[:4], 1: ids})
            for layer in cache.layers:
                layer.keys[0, :, 4:] = layer.values[0, :, 4:] = surplus
            logits.append(cache.step([1, 2])[0])
            assert cache.lengths == [5, 11]
    assert torch.equal(*logits)


def test_a_finished_text_leaves_and_the_next_takes_its_place(tiny_model, shapes):
    prompts, ends, done = [[1, 2], [3] * 9, [4, 5], [6] * 5], [2, 3, 1, 8], []
    drawn = [0] * len(prompts)

    def stop(number: int, token: int) -> bool:
        drawn[number] += 1
        return drawn[number] == ends[number]

    texts = generate_batch(tiny_model, prompts, GREEDY, stop, batch_size=2, on_done=done.append)
    assert done == [1, 2, 0, 3]
    assert shapes == [(2, 8), *[(2, 1)] * 3, (1, 1), (2, 1), (1, 1), *[(2, 1)] * 2, *[(1, 1)] * 2]
    alone = [list(stream_ids(tiny_model, prompt, GREEDY)) for prompt in prompts]
    assert texts == [text[:end] for text, end in zip(alone, ends, strict=True)]


def test_only_rows_that_are_read_again_pay_for_it(tiny_model, shapes):
    """The context is 32: the long text outgrows it once, its neighbour never."""
    generate_batch(tiny_model, [[1] * 30, [2] * 3], replace(GREEDY, max_new_bytes=6))
    assert shapes == [(2, 29), *[(2, 1)] * 3, (1, 15), *[(2, 1)] * 3]


@pytest.mark.parametrize("batch_size", [1, 64])
def test_no_prompt_is_no_text_and_one_prompt_is_one(tiny_model, batch_size):
    assert generate_batch(tiny_model, [], GREEDY, batch_size=batch_size) == []
    alone = list(stream_ids(tiny_model, [7], GREEDY))
    assert generate_batch(tiny_model, [[7]], GREEDY, batch_size=batch_size) == [alone]
    assert reply_batch(tiny_model, None, [], GREEDY, batch_size=batch_size) == []


def test_replies_and_their_endings_are_those_of_a_single_stream(tiny_model, tokenizer):
    """The end-of-text id is made likely, so that some end by themselves and some do not."""
    tiny_model.head.weight.data[tokenizer.end_of_text] *= 3
    conversations = [[Message("user", "x" * size)] for size in (1, 40, 3, 17)]
    conversations += [[Message("system", "Be brief."), *conversations[0]]]
    settings, alone = replace(BOLD, max_new_bytes=24), []
    for number, messages in enumerate(conversations):
        own = replace(settings, seed=settings.seed + number)
        pieces = list(stream_reply(tiny_model, tokenizer, messages, own))
        last = pieces[-1]
        text = "".join(piece.text for piece in pieces)
        alone.append(Reply(text, last.finish_reason, last.reply_bytes))
    assert reply_batch(tiny_model, tokenizer, conversations, settings, batch_size=3) == alone
    assert {reply.finish_reason for reply in alone} == {"stop", "length"}


def test_a_conversation_of_nobody_and_a_batch_of_none_are_refused(tiny_model, tokenizer):
    with pytest.raises(UserError, match="conversation 1 is empty"):
        reply_batch(tiny_model, tokenizer, [[Message("user", "hi")], []], GREEDY)
    with pytest.raises(UserError, match="batch_size is 0"):
        generate_batch(tiny_model, [[1]], GREEDY, batch_size=0)


@pytest.mark.parametrize(
    "settings",
    [GREEDY, BOLD, SamplingSettings(repetition_penalty=2), SamplingSettings(top_k=1, top_p=1)],
)
def test_rows_of_logits_are_drawn_from_as_each_alone(settings):
    logits = 3 * torch.randn(6, 20, generator=torch.Generator().manual_seed(0))  # (B, V)
    recents = [[], [1], [2, 2, 3], [], list(range(20)), [5]]
    together = [torch.Generator().manual_seed(seed) for seed in range(6)]
    apart = [torch.Generator().manual_seed(seed) for seed in range(6)]
    rows = list(zip(logits, apart, recents, strict=True))
    for _ in range(5):
        alone = [next_token(row, settings, generator, recent) for row, generator, recent in rows]
        assert next_tokens(logits, settings, together, recents) == alone


def test_an_id_is_drawn_as_often_as_its_share_says():
    """One id has half of the share, ten have the other half, and one has none."""
    shares = torch.tensor([[0.5, 0.0, *[0.05] * 10]])
    generator = torch.Generator().manual_seed(0)
    drawn = [draw(shares, [generator])[0] for _ in range(2000)]
    assert drawn.count(0) / 2000 == pytest.approx(0.5, abs=0.03) and 1 not in drawn


def test_logits_that_are_not_numbers_are_told_and_not_drawn_from():
    with pytest.raises(UserError, match="not numbers"):
        next_token(torch.tensor([0.0, torch.nan]), BOLD, torch.Generator())
