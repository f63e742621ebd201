"""Sizes by formula: parameters equal the built model, FLOPs PyTorch's counter, memory a step's."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from memory_formula import training_memory
from sizes import measure_step, scaled
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from shared.model.config import ModelConfig, MoEConfig, NormConfig
from shared.model.counting import (
    count_parameters,
    forward_flops,
    kv_cache_bytes,
    mean_keys,
    training_flops,
)
from shared.model.presets import PRESETS
from shared.model.transformer import Transformer

SMALL = ModelConfig(context_length=128, n_layers=3, d_model=64, n_heads=4)
VARIANTS = {
    "plain": {},
    "grouped": {"n_kv_heads": 2},
    "GPT-2": {
        "norm": NormConfig(kind="layer"),
        "bias": True,
        "activation": "gelu",
        "positions": "learned",
        "tied_head": True,
    },
    "biases, swiglu": {"bias": True},
    "qk norm": {"norm": NormConfig(queries_and_keys=True), "n_kv_heads": 2},
    "qk norm, layer": {"norm": NormConfig(kind="layer", queries_and_keys=True)},
    "relu2": {"activation": "relu2"},
    "window": {"window": 32},
    "window as wide as the context": {"window": 128},
    "documents": {"document_start": 3},
    "documents in a window": {"document_start": 3, "window": 16},
    "dropout": {"dropout": 0.1},
    "experts": {"moe": MoEConfig(n_experts=4, top_k=2)},
    "experts with biases": {"moe": MoEConfig(n_experts=4, top_k=2), "bias": True},
    "capped": {"logit_cap": 15.0},
    "large vocabulary": {"vocab_size": 2048, "tied_head": True},
}
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


pytestmark = pytest.mark.usefixtures("one_thread")


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


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_parameters_by_part_equal_the_built_models(fields):
    config = replace(SMALL, **fields)
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
    "name", ["plain", "grouped", "GPT-2", "biases, swiglu", "relu2", "experts"]
)
def test_flops_equal_pytorchs_counter(name):
    """It counts attention's whole square, of which the mask lets through (T + 1) / 2 a row."""
    config = replace(SMALL, **VARIANTS[name])
    torch.manual_seed(0)
    model, batch, positions = Transformer(config), 2, 128
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = model(torch.randint(config.vocab_size, (batch, positions)))
    forward = counter.get_total_flops()
    masked = 4 * config.d_model * config.n_layers * (positions - mean_keys(config))
    assert forward / (batch * positions) == forward_flops(config) + masked
    assert logits.shape == (batch, positions, config.vocab_size)
    assert training_flops(config) == 3 * forward_flops(config)
    head = 2 * config.vocab_size * config.d_model
    assert training_flops(config, recompute=True) == 4 * forward_flops(config) - head


@pytest.mark.parametrize(
    ("name", "recompute", "autocast"),
    [("nano", False, False), ("nano", True, False), ("nano", False, True), ("tiny", True, True)],
)
def test_memory_of_presets_is_what_a_step_holds(name, recompute, autocast):
    said = training_memory(PRESETS[name], 2, autocast=autocast, recompute=recompute).total
    held = measure_step(PRESETS[name], 2, autocast=autocast, recompute=recompute)
    assert said == pytest.approx(held, rel=0.1)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_memory_of_variants_is_what_a_step_holds(fields, autocast):
    config = replace(SMALL, **fields)
    said = training_memory(config, 4, autocast=autocast, optimizer="adamw").total
    assert said == pytest.approx(measure_step(config, 4, autocast, "adamw"), rel=0.02)


def test_the_cache_of_a_window_stops_growing():
    assert kv_cache_bytes(SMALL) == 2 * 3 * 64 * 4
    assert kv_cache_bytes(replace(SMALL, n_kv_heads=1), 100, 2) == 2 * 3 * 16 * 100 * 2
    windowed = replace(SMALL, window=32)
    assert kv_cache_bytes(windowed, 100) == kv_cache_bytes(SMALL, 31)


def test_the_table_names_every_preset_and_the_script_measures():
    script = Path(__file__).with_name("sizes.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in PRESETS:
        assert sum(line.split()[:1] == [name] for line in done.stdout.splitlines()) == 4
    assert [scaled(number) for number in (0, 12, 1_070_464, 675_840_000)] == [
        "0",
        "12",
        "1.07M",
        "676M",
    ]
