"""Reading beyond the trained context: the same weights, and angles that fit the longer text."""

import math
from dataclasses import replace
from types import SimpleNamespace

import longer_texts
import pytest
import torch

from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.training.loss import bits_per_byte, cross_entropy


@pytest.mark.parametrize("positions", ["rope", "sinusoidal", "none"])
def test_a_stretched_model_reads_what_fits_the_old_context_as_before(positions, tiny_config):
    model = Transformer(replace(tiny_config, positions=positions)).eval()
    longer = longer_texts.stretch(model, 4, "none")
    ids = torch.arange(tiny_config.context_length).unsqueeze(0)
    assert torch.allclose(longer(ids), model(ids), atol=1e-5)
    assert longer(ids.repeat(1, 4)).shape == (1, 4 * tiny_config.context_length, 256)


def test_interpolation_gives_every_second_position_a_trained_angle(tiny_model):
    longer = longer_texts.stretch(tiny_model, 2, "interpolation")
    assert torch.allclose(longer.cos[::2], tiny_model.cos)
    assert not torch.allclose(longer_texts.stretch(tiny_model, 2, "ntk").cos[::2], tiny_model.cos)


def test_each_length_is_measured_in_windows_of_that_length(tiny_model):
    tiny_model.head.weight.data.mul_(20)  # else every loss is about ln 256
    length = tiny_model.config.context_length
    ids = torch.randint(0, 256, (4 * length + 1,), generator=torch.Generator().manual_seed(0))
    corpus = SimpleNamespace(validation=ids.numpy(), bytes_per_token=2.0)
    bits = longer_texts.bits_at_lengths(tiny_model, corpus, "none")
    with torch.no_grad():
        whole = longer_texts.stretch(tiny_model, 4, "none")(ids[None, :-1])
        pieces = tiny_model(ids[:-1].view(4, length))
    in_pieces = cross_entropy(pieces, ids[1:].view(4, length)).item()
    in_one = cross_entropy(whole, ids[None, 1:]).item()
    assert bits[0] == pytest.approx(bits_per_byte(in_pieces, 2.0), rel=1e-5)
    assert bits[2] == pytest.approx(bits_per_byte(in_one, 2.0), rel=1e-5)


def test_a_learned_table_has_no_row_for_a_later_position(tiny_config):
    model = Transformer(replace(tiny_config, positions="learned")).eval()
    corpus = SimpleNamespace(validation=torch.zeros(65).byte().numpy(), bytes_per_token=1.0)
    at_once, *later = longer_texts.bits_at_lengths(model, corpus, "none")
    assert at_once > 0 and all(map(math.isnan, later))


def test_without_a_run_one_line_says_what_to_name():
    with pytest.raises(UserError, match="name one run or more"):
        longer_texts.main([])
