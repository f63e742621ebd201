"""Configs for cards that no test has: their steps are alike, and they fit by the formula."""

import full_run
import pytest
import torch
from memory_formula import training_memory
from sizes import measure_step
from torch._subclasses.fake_tensor import FakeTensorMode

from shared.model import causal_attention
from shared.model.config import ModelConfig
from shared.training.run_config import RunConfig

CARDS = {"gpu": 24, "gpu-16gb": 16, "gpu-long": 16}  # GB


def config_of(name: str) -> RunConfig:
    return full_run.config_of(full_run.CONFIGS / f"{name}.yaml", [])


@pytest.mark.parametrize("name", CARDS)
def test_a_step_reads_as_many_bytes_on_every_card_and_leaves_half_of_it_free(name):
    config = config_of(name)
    model, train = config.model, config.train
    assert train.batch_size * train.accumulation * model.context_length == 65_536
    assert training_memory(model, train.batch_size, autocast=True).total < CARDS[name] * 1e9 / 2


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", CARDS)
def test_the_formula_is_within_a_tenth_of_the_tensors_of_a_step_as_a_card_makes_it(
    name, recompute, monkeypatch
):
    """Tensors of the true shapes, without numbers; attention in one piece; two of 12 layers."""
    monkeypatch.setattr(causal_attention, "rows_are_faster", lambda *_: False)
    config = config_of(name)
    model = ModelConfig(
        context_length=config.model.context_length, n_layers=2, d_model=768, n_heads=12
    )
    windows = min(config.train.batch_size, 8192 // model.context_length)
    with FakeTensorMode(), torch.random.fork_rng():
        held = measure_step(model, windows, autocast=True, recompute=recompute)
    said = training_memory(model, windows, autocast=True, recompute=recompute).total
    assert said == pytest.approx(held, rel=0.1)
