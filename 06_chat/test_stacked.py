"""The stacked model gives the plain model's logits, from any cache that the plain one takes."""

import pytest
import torch

from shared.chat.batch_generation import generate_batch
from shared.chat.generation import prefill, stream_ids
from shared.chat.kv_cache import KVCache
from shared.chat.sampling import SamplingSettings
from shared.chat.stacked import StackedTransformer, quickest_stacked, stacked

pytestmark = pytest.mark.usefixtures("one_thread")
OTHER_PARTS = ("positions", "activation", "moe", "bias")


@torch.no_grad()
def test_a_stacked_model_gives_the_plain_models_logits_or_is_the_plain_model(variant, random_model):
    model = random_model(**variant)
    fast = stacked(model)
    layer_norm = model.config.norm.kind == "layer"
    other = layer_norm or any(name in variant for name in OTHER_PARTS)
    assert isinstance(fast, StackedTransformer) != other
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(64, 256, (2, 32), generator=generator)  # no document starts inside
    uncached = model(ids)
    assert torch.allclose(fast(ids), uncached, atol=1e-4)
    cache = KVCache(model.config, batch_size=2)
    pieces = [fast(piece, cache) for piece in ids.split([10, 1, 1, 15, 5], dim=1)]
    assert torch.allclose(torch.cat(pieces, dim=1), uncached, atol=1e-4)
    with pytest.raises(ValueError, match="33 positions"):
        fast(ids[:, :1], cache)


def test_texts_side_by_side_and_alone_are_the_plain_models(tiny_model):
    how = SamplingSettings(temperature=0, max_new_bytes=10, seed=0)
    prompts = [[1, 2, 3], [4], list(range(20))]
    alone = [list(stream_ids(tiny_model, prompt, how)) for prompt in prompts]
    fast = stacked(tiny_model)
    assert [list(stream_ids(fast, prompt, how)) for prompt in prompts] == alone
    assert generate_batch(fast, prompts, how) == alone


def test_bfloat16_is_near_and_its_cache_stays_in_float32(tiny_model):
    fast = stacked(tiny_model, torch.bfloat16)
    cache, logits = prefill(fast, [1, 2, 3])
    plain = prefill(tiny_model, [1, 2, 3])[1]
    assert cache.layers[0].keys.dtype == logits.dtype == torch.float32
    assert 0 < (logits - plain).norm() / plain.norm() < 0.05


@pytest.mark.parametrize(("seconds", "dtype"), [(8.0, torch.bfloat16), (9.0, torch.float32)])
def test_bfloat16_is_taken_where_it_is_faster_by_a_fifth(tiny_model, seconds, dtype):
    ticks = iter([tick for _ in range(10) for tick in (0.0, 10.0, 0.0, seconds)])
    fast = quickest_stacked(tiny_model, clock=lambda: next(ticks))
    assert fast.head.dtype is dtype
