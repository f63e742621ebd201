"""The cache changes nothing, whatever parts the model is made of."""

import pytest
import torch

from shared.chat.generation import prefill
from shared.chat.kv_cache import MOST_GUESSES, KVCache, WindowKV

pytestmark = pytest.mark.usefixtures("one_thread")

# At once, one by one, and a mixture: longer and shorter than the windows.
PIECES = ([32], [1] * 32, [10, 1, 1, 1, 14, 5])


@torch.no_grad()
def test_cached_logits_equal_uncached_ones(variant, random_model):
    model = random_model(**variant)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(64, 256, (2, 32), generator=generator)  # no document starts inside
    uncached = model(ids)
    for pieces in PIECES:
        cache = KVCache(model.config, batch_size=2)
        cached = torch.cat([model(piece, cache) for piece in ids.split(pieces, dim=1)], dim=1)
        assert torch.allclose(cached, uncached, atol=1e-4), pieces
        assert cache.length == 32


def test_a_windows_cache_holds_the_window_and_what_may_be_taken_back(random_model):
    model = random_model(window=4)
    cache, _ = prefill(model, list(range(30)))
    for layer in cache.layers:
        assert isinstance(layer, WindowKV)
        assert layer.keys.shape[2] == layer.values.shape[2] == 3 + MOST_GUESSES
        assert layer.keys.untyped_storage().nbytes() == 4 * layer.keys.numel()  # not a view of all
    assert cache.length == 30
