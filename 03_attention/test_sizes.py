"""Sizes by formula: parameters equal the built model, FLOPs PyTorch's counter, memory a step's."""

import sys
from dataclasses import replace

import pytest
import sizes
import torch
from memory_formula import training_memory
from sizes import measure_step, scaled
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conftest import VARIANTS
from shared.errors import UserError
from shared.model.config import ModelConfig, MoEConfig
from shared.model.counting import (
    count_parameters,
    forward_flops,
    kv_cache_bytes,
    mean_keys,
    training_flops,
)
from shared.model.presets import PRESETS
from shared.model.transformer import Transformer

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ModelConfig(context_length=128, n_layers=3, d_model=64, n_heads=4)
# Name -> (parameters, what the name promises)
NAMED = {
    "nano": (1_070_464, 1e6),
    "tiny": (4_147_968, 4e6),
    "small": (10_818_432, 10.7e6),
    "base": (25_567_744, 25e6),
    "50m": (51_061_248, 50e6),
    "124m": (123_587_328, 124e6),
    "500m": (497_885_440, 500e6),
    "1b": (1_076_168_704, 1e9),
    "3b": (2_973_281_280, 3e9),
}


def on_meta(config: ModelConfig) -> Transformer:
    with torch.device("meta"):
        return Transformer(config)


def by_part(model: Transformer) -> dict[str, int]:
    """Parameters of a built model, sorted by their names."""
    parts = dict.fromkeys(
        ("embedding", "positions", "attention", "feedforward", "norms", "head"), 0
    )
    for name, parameter in model.named_parameters():
        first = name.split(".")[0]
        part = {"embedding": "embedding", "position_embedding": "positions", "head": "head"}.get(
            first, "norms" if "norm" in name else "feedforward"
        )
        if ".attention." in name and "norm" not in name:
            part = "attention"
        parts[part] += parameter.numel()
    return parts


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_size_of_their_name(name):
    exact, promised = NAMED[name]
    assert on_meta(PRESETS[name]).count_parameters() == exact
    assert exact == pytest.approx(promised, rel=0.08)


def test_a_presets_parameters_by_hand():
    """124m: C = 768, F = 2048, L = 12, V = 50,304, a head that is the embedding."""
    block = 4 * 768 * 768 + 3 * 768 * 2048 + 2 * 768
    assert count_parameters(PRESETS["124m"]).total == 50_304 * 768 + 12 * block + 768
    block = 2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192 + 2 * 2048  # 1b: K D = 8 * 64
    assert count_parameters(PRESETS["1b"]).total == 50_304 * 2048 + 16 * block + 2048


def test_parameters_by_part_equal_the_built_models(variant, tiny_config):
    config = replace(tiny_config, **variant)
    counted = count_parameters(config)
    for part, number in by_part(on_meta(config)).items():
        assert getattr(counted, part) == number, part
    assert counted.total == on_meta(config).count_parameters()


def test_experts_that_stand_idle_are_not_active():
    config = replace(SMALL, moe=MoEConfig(n_experts=4, top_k=1))
    router, norms = 3 * 4 * 64, 0
    assert count_parameters(config).active == count_parameters(SMALL).total + router + norms
    assert count_parameters(SMALL).active == count_parameters(SMALL).total


def test_mean_keys_by_hand():
    assert mean_keys(SMALL, 4) == (1 + 2 + 3 + 4) / 4
    assert mean_keys(replace(SMALL, window=2), 4) == (1 + 2 + 2 + 2) / 4
    assert mean_keys(SMALL) == 64.5


@pytest.mark.parametrize(
    "variant", ["grouped heads", "squared relu", "experts with biases", "GPT-2"], indirect=True
)
def test_flops_equal_pytorchs_counter(variant, random_model):
    """It counts attention's whole square, of which the mask lets through (T + 1) / 2 a row."""
    model, batch, positions = random_model(**variant), 2, 32
    config = model.config
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = model(torch.randint(config.vocab_size, (batch, positions)))
    forward = counter.get_total_flops()
    masked = 4 * config.d_model * config.n_layers * (positions - mean_keys(config))
    assert forward / (batch * positions) == forward_flops(config) + masked
    assert logits.shape == (batch, positions, config.vocab_size)
    assert training_flops(config) == 3 * forward_flops(config)
    head = 2 * config.vocab_size * config.d_model
    assert training_flops(config, recompute=True) == 4 * forward_flops(config) - head


HALVED = (  # each module that holds something else in bfloat16 than in float32
    *("grouped heads", "sinusoidal", "normed queries and keys", "layer norms everywhere"),
    *("squared relu", "window", "documents in a window", "experts with biases", "GPT-2"),
)


@pytest.mark.parametrize(
    ("autocast", "variant"),
    [*((False, name) for name in VARIANTS), *((True, name) for name in HALVED)],
    indirect=["variant"],
)
def test_memory_of_variants_is_what_a_step_holds(variant, autocast, tiny_config):
    """One vector of C numbers a layer, forgotten, would be 1.4 to 2.3 % of it."""
    config = replace(tiny_config, **variant)
    said = training_memory(config, 8, autocast=autocast, optimizer="adamw").total
    # One key head is shared without a copy, and the last block of a window is filled up.
    exact = config.kv_heads > 1 and config.context_length % config.reach == 0
    near = 0.01 if exact else 0.05
    assert said == pytest.approx(measure_step(config, 8, autocast, "adamw"), rel=near)


@pytest.mark.parametrize(
    ("autocast", "recompute"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_memory_with_recomputing_and_muon_is_what_a_step_holds(autocast, recompute, tiny_config):
    """128 positions, so that attention by rows takes two blocks."""
    config = replace(tiny_config, context_length=128)
    said = training_memory(config, 2, autocast=autocast, recompute=recompute).total
    held = measure_step(config, 2, autocast=autocast, recompute=recompute)
    assert said == pytest.approx(held, rel=0.015)


def test_the_cache_of_a_window_stops_growing():
    assert kv_cache_bytes(SMALL) == 2 * 3 * 64 * 4
    assert kv_cache_bytes(replace(SMALL, n_kv_heads=1), 100, 2) == 2 * 3 * 16 * 100 * 2
    windowed = replace(SMALL, window=32)
    assert kv_cache_bytes(windowed, 100) == kv_cache_bytes(SMALL, 31)


def test_the_table_names_every_preset(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sizes.py"])
    sizes.main()
    first_words = [line.split()[:1] for line in capsys.readouterr().out.splitlines()]
    for name in PRESETS:
        assert first_words.count([name]) == 4


def test_what_is_measured_stands_beside_what_the_formula_says(tiny_config, monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "nano", tiny_config)
    monkeypatch.setattr(sys, "argv", "sizes.py --preset nano --measure --micro-batch 2".split())
    sizes.main()
    float32, bfloat16 = capsys.readouterr().out.splitlines()
    assert "float32: held " in float32 and "bfloat16 autocast: held " in bfloat16
    with pytest.raises(UserError, match="3b has 2,973,281,280 parameters; --measure takes"):
        sizes.print_measured("3b", 2, "adamw", False)


def test_numbers_are_shown_with_three_digits_and_a_unit():
    shown = [scaled(number) for number in (0, 12, 1_070_464, 675_840_000)]
    assert shown == ["0", "12", "1.07M", "676M"]
