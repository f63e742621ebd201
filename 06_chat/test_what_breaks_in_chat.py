"""Each change of `what_breaks_in_chat.py` does what it says, and no more."""

import pytest
import torch
from what_breaks_in_chat import (
    FromZero,
    nats,
    nats_in_one_cache,
    nats_when_full,
    read_byte_by_byte,
    sees_the_first_key,
    share_left_empty,
)

from shared.chat.kv_cache import KVCache
from shared.chat.sampling import SamplingSettings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


def random_texts(length: int) -> torch.Tensor:
    return torch.randint(256, (2, length), generator=torch.Generator().manual_seed(0))


def test_a_cache_whose_angles_go_on_is_as_good_as_reading_again_if_there_is_one_layer(random_model):
    losses = nats_when_full(random_model(n_layers=1), random_texts(48))
    anew, _, moved, going_on = losses.values()
    assert going_on == pytest.approx(anew, abs=1e-4)
    assert moved != pytest.approx(anew, abs=1e-2)


def test_above_the_first_layer_what_was_dropped_still_has_a_say(random_model):
    anew, _, _, going_on = nats_when_full(random_model(), random_texts(48)).values()
    assert going_on != pytest.approx(anew, abs=1e-3)


def test_one_query_then_sees_the_first_key_alone_and_a_square_is_as_it_was(tiny_model):
    texts = random_texts(8)
    broken = sees_the_first_key(tiny_model)
    torch.testing.assert_close(broken(texts), tiny_model(texts), atol=1e-4, rtol=1e-4)
    queries, keys, values, _ = torch.randn(4, 1, 2, 5, 3)
    seen = broken.blocks[0].attention.attend(queries[:, :, -1:], keys, values, None)
    torch.testing.assert_close(seen, values[:, :, :1])


def test_from_zero_every_byte_is_turned_like_the_first(tiny_model):
    texts = random_texts(6)
    cache = FromZero(tiny_model.config, batch_size=2)
    turned = read_byte_by_byte(tiny_model, texts, cache)
    tiny_model.cos.copy_(tiny_model.cos[:1].expand_as(tiny_model.cos))
    tiny_model.sin.copy_(tiny_model.sin[:1].expand_as(tiny_model.sin))
    torch.testing.assert_close(turned, tiny_model(texts), atol=1e-4, rtol=1e-4)


def test_two_texts_in_one_cache_are_guessed_otherwise_than_each_in_its_own(tiny_model):
    texts = random_texts(16)
    own = read_byte_by_byte(tiny_model, texts, KVCache(tiny_model.config, batch_size=2))
    assert nats(own, texts) == pytest.approx(nats(tiny_model(texts), texts), abs=1e-4)
    assert nats_in_one_cache(tiny_model, texts) != pytest.approx(nats(own, texts), abs=1e-2)


def test_nothing_is_left_where_the_likeliest_byte_alone_crosses():
    logits = torch.tensor([[0.9, 0.1], [0.96, 0.04]]).log()
    assert share_left_empty(logits, SamplingSettings(temperature=1, top_p=0.95)) == 0.5
