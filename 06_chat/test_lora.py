"""LoRA: nothing changes at first, only A and B ever do, and a file fits one model alone."""

import copy
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from shared.chat.adapter_file import base_digest, load_adapter, save_adapter
from shared.chat.generation import prefill
from shared.chat.lora import (
    ATTENTION,
    EVERY_LAYER,
    adapted_layers,
    adapter_state,
    add_adapters,
    attach,
    base_state,
    count_adapter_weights,
    merged,
)
from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.training.optimizer import build_adamw

IDS = torch.arange(3 * 12).view(3, 12) * 7 % 256  # (B, T)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def adapted(tiny_model) -> Transformer:
    """The tiny model with adapters of rank 4 that say something already."""
    add_adapters(tiny_model, rank=4, alpha=8.0, generator=generator())
    for name, tensor in adapter_state(tiny_model).items():
        if name.endswith("B"):
            nn.init.normal_(tensor, std=0.05, generator=generator(len(name)))
    return tiny_model


@pytest.mark.parametrize(
    ("inputs", "expected"), [([1.0, 0.0], [4.0, 10.0]), ([1.0, 2.0], [21.0, 46.0])]
)
def test_a_layer_of_two_by_two_by_hand(inputs, expected):
    """Rank 2, alpha 6. x = (1, 0): W x = (1, 4), A x = (1, 0), B A x = (1, 2), times 6 / 2.

    peft 0.21.2 gives the same numbers for these W, A and B.
    """
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, 1.0], [4.0, 3.0]])
    attach(layer, rank=2, alpha=6.0)
    layer.adapter.A.data = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    layer.adapter.B.data = torch.tensor([[1.0, 0.5], [2.0, 1.0]])
    assert layer(torch.tensor(inputs)).tolist() == expected
    assert layer.adapter.change().tolist() == [[3.0, 7.5], [6.0, 15.0]]


def test_a_fresh_adapter_changes_no_bit(variant, random_model):
    model = random_model(**variant)
    with torch.no_grad():
        before = model(IDS)
        add_adapters(model, generator=generator())
        assert torch.equal(model(IDS), before)


def test_merged_and_beside_agree_in_every_variant(variant, random_model):
    model = random_model(**variant)
    add_adapters(model, rank=2, generator=generator())
    for layer in adapted_layers(model).values():
        nn.init.normal_(layer.adapter.B, std=0.05, generator=generator())
    with torch.no_grad():
        beside, plain = model(IDS), merged(model)
        assert torch.allclose(plain(IDS), beside, atol=1e-5 * beside.abs().max().item())
    assert plain.state_dict().keys() == base_state(model).keys()


def test_adding_and_merging_draw_from_no_generator_but_the_given_one(tiny_model):
    state = torch.get_rng_state()
    add_adapters(tiny_model, generator=generator())
    merged(tiny_model)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_base_keeps_its_names_and_the_adapter_says_where_it_sits(tiny_model):
    names = set(tiny_model.state_dict())
    add_adapters(tiny_model, rank=2)
    assert set(base_state(tiny_model)) == names
    assert "blocks.1.feedforward.down.adapter.B" in adapter_state(tiny_model)
    assert len(adapter_state(tiny_model)) == 2 * 7 * 2  # A and B, 7 layers, 2 blocks


def test_only_a_and_b_train(adapted):
    """One step of the usual optimizer, which is given the whole model and decays its weights."""
    before = copy.deepcopy(adapted.state_dict())
    optimizers = build_adamw(adapted, learning_rate=0.01, weight_decay=0.1)
    adapted(IDS).square().mean().backward()
    assert all((p.grad is not None) == (".adapter." in n) for n, p in adapted.named_parameters())
    for optimizer in optimizers:
        optimizer.step()
    moved = {n for n, t in adapted.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == set(adapter_state(adapted))


def test_while_b_is_zero_only_b_has_a_gradient(tiny_model):
    """That is why A must not be zero as well: then nothing would ever move."""
    add_adapters(tiny_model, generator=generator())
    tiny_model(IDS).square().mean().backward()
    for layer in adapted_layers(tiny_model).values():
        assert layer.adapter.B.grad.abs().max() > 0
        assert not layer.adapter.A.grad.any()


def test_a_starts_with_the_variance_that_keeps_lengths(tiny_model):
    """Entries of variance 1 / in: A x is about as long, an entry, as x."""
    add_adapters(tiny_model, rank=64, generator=generator())
    layer = tiny_model.blocks[0].feedforward.down
    assert layer.adapter.A.std().item() == pytest.approx(1 / math.sqrt(layer.in_features), rel=0.05)


@pytest.mark.parametrize("layers", [EVERY_LAYER, ATTENTION, ("down",)])
def test_the_formula_counts_what_trains(variant, random_model, layers):
    model = random_model(**variant)
    add_adapters(model, rank=3, layers=layers)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == count_adapter_weights(model.config, 3, layers) > 0


def test_the_cache_works_beside_adapters(adapted):
    with torch.no_grad():
        whole = adapted(IDS[:1])[0, -1]
        cache, _ = prefill(adapted, IDS[0, :-1].tolist())
        assert torch.allclose(adapted(IDS[:1, -1:], cache)[0, -1], whole, atol=1e-4)


def test_a_saved_adapter_says_the_same_beside_the_same_model(adapted, random_model, tmp_path):
    save_adapter(adapted, tmp_path / "polite.safetensors")
    other = random_model()
    load_adapter(other, tmp_path / "polite.safetensors")
    with torch.no_grad():
        assert torch.equal(other(IDS), adapted(IDS))
    assert [n for n, p in other.named_parameters() if p.requires_grad] == list(adapter_state(other))
    size = (tmp_path / "polite.safetensors").stat().st_size
    assert 0 < size - 4 * count_adapter_weights(other.config, 4) < 4096  # names, and shapes


def test_an_adapter_of_some_layers_comes_back_on_these(tiny_model, random_model, tmp_path):
    add_adapters(tiny_model, rank=2, layers=("query",), generator=generator())
    save_adapter(tiny_model, tmp_path / "a.safetensors")
    other = random_model()
    load_adapter(other, tmp_path / "a.safetensors")
    assert [*adapted_layers(other)] == ["blocks.0.attention.query", "blocks.1.attention.query"]


def test_the_digest_knows_the_base_and_not_the_adapter(tiny_model):
    bare = base_digest(tiny_model)
    add_adapters(tiny_model)
    assert base_digest(tiny_model) == bare
    tiny_model.head.weight.data[3, 5] += 1e-3
    assert base_digest(tiny_model) != bare


def facts(path) -> dict[str, str]:
    """What a file says beside its tensors."""
    with safe_open(path, "pt") as file:
        return file.metadata()


def rewritten(path, **changes: str) -> None:
    """The same file with other facts."""
    save_file(load_file(path), path, facts(path) | changes)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "no adapter at"),
        (lambda path: path.write_bytes(b"{}"), "is no adapter, or broken"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "is no adapter, or broken"),
        (lambda path: save_file(load_file(path), path), "is no adapter, or broken.*rank"),
        (lambda path: rewritten(path, rank="0"), "is no adapter, or broken.*rank 0"),
        (lambda path: rewritten(path, alpha="much"), "is no adapter, or broken.*much"),
        (lambda path: rewritten(path, alpha="nan"), "is no adapter, or broken.*alpha nan"),
        (lambda path: save_file({}, path, facts(path)), "is no adapter, or broken.*0 tensors"),
        (lambda path: rewritten(path, base="0" * 64), "trained beside another model.*000000"),
        (lambda path: rewritten(path, rank="2"), r"adapter.A is \(4, 32\); expected \(2, 32\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(adapted, random_model, tmp_path, spoil, says):
    path, other = tmp_path / "a.safetensors", random_model()
    save_adapter(adapted, path)
    spoil(path)
    with pytest.raises(UserError, match=says):
        load_adapter(other, path)
    assert not adapted_layers(other)


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("blocks.0.attention.key.adapter.B", torch.zeros(32, 4), r"\(32, 4\); expected \(16, 4\)"),
        ("blocks.0.attention.key.adapter.B", torch.full((16, 4), math.nan), "not numbers"),
        ("embedding.adapter.A", torch.zeros(4, 32), "expected nothing"),
        ("head.adapter.A", torch.zeros(4, 32), "expected nothing"),
        ("blocks.0.attention.key.adapter.A", None, r"nothing; expected \(4, 32\)"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    adapted, random_model, tmp_path, monkeypatch, name, tensor, says
):
    path, other = tmp_path / "a.safetensors", random_model()
    state = adapter_state(adapted) | {name: tensor}
    found = {n: t for n, t in state.items() if t is not None}
    monkeypatch.setattr("shared.chat.adapter_file.adapter_state", lambda model: found)
    save_adapter(adapted, path)
    with pytest.raises(UserError, match=says):
        load_adapter(other, path)
    assert not adapted_layers(other)


def test_what_cannot_be_done_is_told(tiny_model, tmp_path):
    with pytest.raises(UserError, match="rank is 0"):
        add_adapters(tiny_model, rank=0)
    with pytest.raises(UserError, match="has no adapter"):
        save_adapter(tiny_model, tmp_path / "a.safetensors")
    add_adapters(tiny_model)
    save_adapter(tiny_model, tmp_path / "a.safetensors")
    for again in (add_adapters, lambda model: load_adapter(model, tmp_path / "a.safetensors")):
        with pytest.raises(UserError, match="already"):
            again(tiny_model)
