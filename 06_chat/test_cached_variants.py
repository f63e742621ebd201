"""The cache changes nothing, whatever parts the model is made of."""

from dataclasses import replace

import pytest
import torch

from shared.chat.generation import prefill
from shared.chat.kv_cache import KVCache, WindowKV
from shared.model.config import ModelConfig, MoEConfig, NormConfig
from shared.model.transformer import Transformer

SMALL = ModelConfig(context_length=24, n_layers=2, d_model=32, n_heads=4)
VARIANTS = {
    "plain": {},
    "grouped": {"n_kv_heads": 2},
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal"},
    "no positions": {"positions": "none"},
    "qk norm": {"norm": NormConfig(queries_and_keys=True)},
    "multi-query": {"n_kv_heads": 1},
    "window 1": {"window": 1},
    "window 4": {"window": 4, "n_kv_heads": 2},
    "window 23": {"window": 23},
    "window as long as the context": {"window": 24},
    "experts": {"moe": MoEConfig(n_experts=4)},
    "everything": {
        "window": 4,
        "moe": MoEConfig(n_experts=4),
        "logit_cap": 9.0,
        "tied_head": True,
        "bias": True,
        "norm": NormConfig("layer", queries_and_keys=True),
    },
}


def build(fields: dict) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(replace(SMALL, **fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return model


@pytest.mark.parametrize("pieces", [[1] * 24, [24], [10] + [1] * 14, [3, 1, 9, 5, 6]])
@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_cached_logits_equal_uncached_ones(fields, pieces):
    model = build(fields)
    ids = torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(1))
    cache = KVCache(model.config, batch_size=2)
    with torch.no_grad():
        cached = torch.cat([model(piece, cache) for piece in ids.split(pieces, dim=1)], dim=1)
        assert torch.allclose(cached, model(ids), atol=1e-4)
    assert cache.length == 24


def test_a_windows_cache_holds_no_more_than_the_window():
    model = build({"window": 4})
    cache, _ = prefill(model, list(range(20)))
    for layer in cache.layers:
        assert isinstance(layer, WindowKV)
        assert layer.keys.shape[2] == layer.values.shape[2] == 3
        assert layer.keys.untyped_storage().nbytes() == 4 * layer.keys.numel()  # not a view of all
    assert cache.length == 20
