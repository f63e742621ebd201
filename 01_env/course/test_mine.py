"""A learner's functions take the place of ours, in every forward pass, and give the same."""

import attention
import overfit
import pytest
import torch
from mine import compare, using

from shared.chat import sampling
from shared.chat.generation import stream_ids
from shared.chat.sampling import SamplingSettings
from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.training import loss, schedule

pytestmark = pytest.mark.usefixtures("one_thread")
GREEDY = SamplingSettings(0.0, max_new_bytes=12)


def test_generation_by_the_plain_decoder_is_the_same_text(tiny_model):
    ours = list(stream_ids(tiny_model, [1, 2, 3], GREEDY))
    with using({"decode": attention.decode}) as calls:
        assert list(stream_ids(tiny_model, [1, 2, 3], GREEDY)) == ours
    assert calls == {"decode": 12}
    assert list(stream_ids(tiny_model, [1, 2, 3], GREEDY)) == ours
    assert calls == {"decode": 12}


def test_a_rule_for_one_row_of_logits_serves_for_many(tiny_model):
    settings = SamplingSettings(1.0, top_p=0.5, max_new_bytes=12, seed=3)
    ours = list(stream_ids(tiny_model, [1, 2, 3], settings))

    def for_one_row(logits: torch.Tensor, p: float) -> torch.Tensor:
        assert logits.dim() == 1
        return shipped(logits, p)

    shipped = sampling.keep_top_p
    with using({"keep_top_p": for_one_row}) as calls:
        assert list(stream_ids(tiny_model, [1, 2, 3], settings)) == ours
        both = sampling.keep_top_p(torch.tensor([[2.0, 1.0], [0.0, 9.0]]), 0.5)
    assert both.isinf().tolist() == [[False, True], [True, False]]
    assert calls == {"keep_top_p": 14}


def test_training_on_own_functions_reaches_the_goal_with_the_same_losses(monkeypatch, capsys):
    monkeypatch.setattr(overfit, "GOAL", 0.3)
    _, ours = overfit.overfit("to be or not", max_steps=60)
    own = {"decode": attention.decode, "cross_entropy": loss.cross_entropy}
    with using(own | {"warmup_cosine": schedule.warmup_cosine}) as calls:
        monkeypatch.setattr(overfit, "cross_entropy", loss.cross_entropy)
        _, theirs = overfit.overfit("to be or not", max_steps=60)
    assert theirs[-1] < 0.3
    assert theirs == pytest.approx(ours, rel=1e-2)
    assert calls["decode"] == calls["cross_entropy"] == len(theirs)


def test_another_decoder_and_a_relative_of_the_model_are_refused():
    with pytest.raises(UserError, match="other logits than ours"):
        compare(lambda *given: 2 * attention.decode(*given))
    relative = Transformer(ModelConfig(n_layers=1, d_model=8, n_heads=1, positions="learned"))
    with using({"decode": attention.decode}), pytest.raises(UserError, match="other parts"):
        relative(torch.zeros(1, 2, dtype=torch.long))
