"""Each change of `what_breaks.py` does what it says, and with none the model is the shipped one."""

import math

import pytest
import torch
from torch import Tensor, nn
from what_breaks import (
    CHANGES,
    RATE,
    SIZES,
    Change,
    attend,
    attend_with,
    losses_afterwards,
    remove_residuals,
    share_in_turn,
    train,
    writing_loss,
)

from shared.device import seed_everything
from shared.model.config import ModelConfig
from shared.model.heads import share_heads
from shared.model.norms import RMSNorm
from shared.model.transformer import Transformer

IDS = torch.arange(600) * 7 % 256


def tiny(**fields) -> Transformer:
    seed_everything(0)
    sizes = {"context_length": 8, "n_layers": 1, "d_model": 16, "n_heads": 4, "n_kv_heads": 2}
    return Transformer(ModelConfig(**sizes | fields)).eval()


def loud(**fields) -> Transformer:
    """A tiny model whose matrices are so large that each part of it matters."""
    model = tiny(**fields)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def named(name: str) -> Change:
    return next(change for change in CHANGES if change.name == name)


def parts() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(3, 1, 2, 6, 4, generator=torch.Generator().manual_seed(0)).unbind()


def test_with_every_switch_right_the_model_gives_the_shipped_models_logits():
    model = tiny(n_layers=2)
    ids = IDS[:8].unsqueeze(0)
    shipped = model(ids)
    attend_with(model)
    torch.testing.assert_close(model(ids), shipped, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "later"), [("nothing", 0), ("mask off by one", 1), ("no mask", 7)]
)
def test_a_mask_shows_as_many_later_bytes_as_it_says(name, later):
    model = tiny(**named(name).sizes)
    named(name).breaks(model)
    ids = IDS[:8].repeat(8, 1)
    ids[torch.arange(8), torch.arange(8)] = 200  # row r: byte r is another
    others, plain = model(ids), model(IDS[:8].unsqueeze(0))
    first_changed = [(row != plain[0]).any(dim=-1).nonzero()[0].item() for row in others]
    assert first_changed == [max(0, changed - later) for changed in range(8)]


def test_without_the_root_scores_are_as_if_queries_were_longer():
    queries, keys, values = parts()
    longer = attend(queries * math.sqrt(4), keys, values)
    torch.testing.assert_close(attend(queries, keys, values, divided=False), longer)


def test_the_largest_score_left_in_overflows_only_where_scores_are_large():
    queries, keys, values = parts()
    small = attend(queries, keys, values, lowered=False)
    torch.testing.assert_close(small, attend(queries, keys, values))
    assert attend(100 * queries, keys, values, lowered=False).isnan().any()
    assert attend(100 * queries, keys, values).isfinite().all()


@pytest.mark.parametrize("silent", ["attention.output", "feedforward.down"])
def test_without_residuals_one_silent_branch_erases_the_stream(silent):
    model, ids = tiny(), IDS[:8].unsqueeze(0)
    nn.init.zeros_(model.blocks[0].get_submodule(silent).weight)
    assert model(ids).any()
    remove_residuals(model)
    assert not model(ids).any()


def test_a_model_is_changed_before_it_is_trained(one_thread):
    without_norms, _ = train(named("no norm"), IDS, seed=0, steps=1)
    assert not any(isinstance(part, RMSNorm) for part in without_norms.modules())
    without_positions, _ = train(named("no positions"), IDS, seed=0, steps=1)
    assert without_positions.config.positions == "none"


def test_without_positions_one_layer_does_not_notice_two_bytes_changing_places():
    ids = IDS[:8].unsqueeze(0)
    swapped = ids[:, [1, 0, *range(2, 8)]]
    for name, same in (("nothing", False), ("no positions", True)):
        model = loud(**named(name).sizes)
        last, last_swapped = model(ids)[0, -1], model(swapped)[0, -1]
        assert torch.allclose(last, last_swapped, atol=1e-4) == same


@pytest.mark.parametrize(("name", "times"), [("nothing", 1), ("rate × 10", 10), ("rate ÷ 10", 0.1)])
def test_the_first_step_moves_a_weight_by_the_changes_rate(name, times, one_thread):
    seed_everything(0)
    before = Transformer(ModelConfig(**SIZES)).blocks[0].attention_norm.weight
    after = train(named(name), IDS, seed=0, steps=1)[0].blocks[0].attention_norm.weight
    warmed = times * RATE * 0.02  # the first step's share of a warmup of a twentieth
    torch.testing.assert_close((after - before).abs().max().item(), warmed, rtol=1e-3, atol=1e-7)


def test_heads_in_the_wrong_order_have_the_right_shapes_and_the_wrong_numbers():
    heads = torch.arange(2.0).reshape(1, 2, 1, 1)
    assert share_in_turn(heads, 4).flatten().tolist() == [0, 1, 0, 1]
    assert share_heads(heads, 4).flatten().tolist() == [0, 0, 1, 1]


def test_a_trained_model_changed_afterwards_has_another_loss_each_time():
    model = loud()
    whole = writing_loss(model, IDS)
    in_turn, undivided, _, taken, left = losses_afterwards(model, IDS).values()
    assert len({whole, in_turn, undivided, taken}) == 4
    assert math.isfinite(taken)
    assert math.isnan(left)


def test_the_writing_loss_asks_only_for_the_byte_after_each_window():
    model = tiny()
    windows = IDS[:18].unfold(0, 9, 1)  # (10, T + 1)
    logits = model(windows[:, :-1])
    by_hand = nn.functional.cross_entropy(logits[:, -1], windows[:, -1]).item()
    assert writing_loss(model, IDS[:18], windows=10) == pytest.approx(by_hand)
