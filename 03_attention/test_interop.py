"""Our class and those of `transformers` give the same logits for the same weights."""

import sys
from collections.abc import Callable

import pytest
import torch

from shared.errors import UserError
from shared.model.config import MoEConfig, NormConfig, RopeConfig
from shared.model.interop import family_of, from_transformers, to_transformers
from shared.model.transformer import Transformer

SIZES = {"vocab_size": 97, "n_kv_heads": None, "d_ff": 48}
QK_NORM = NormConfig(queries_and_keys=True, eps=1e-6)
GPT2 = {
    "positions": "learned",
    "norm": NormConfig(kind="layer"),
    "activation": "gelu",
    "bias": True,
}
EXPERTS = {"moe": MoEConfig(n_experts=4, top_k=2)}
COMBINATIONS = {
    "Llama": ("llama", {}),
    "Llama, grouped heads": ("llama", {"n_kv_heads": 2}),
    "Llama, one key head, tied": ("llama", {"n_kv_heads": 1, "tied_head": True}),
    "Llama, biases": ("llama", {"bias": True}),
    "Llama, other base and eps": (
        "llama",
        {"rope": RopeConfig(base=500.0), "norm": NormConfig(eps=0.1)},
    ),
    "Llama, interpolation": ("llama", {"rope": RopeConfig(scaling="interpolation", factor=2.5)}),
    "Llama, ntk": ("llama", {"rope": RopeConfig(scaling="ntk", factor=2.5)}),
    "Mistral": ("mistral", {"window": 5, "n_kv_heads": 2}),
    "Qwen3": ("qwen3", {"norm": QK_NORM, "n_kv_heads": 2}),
    "Qwen3, window": ("qwen3", {"norm": QK_NORM, "window": 5}),
    "Mixtral": ("mixtral", {**EXPERTS, "n_kv_heads": 2}),
    "Mixtral, window": ("mixtral", {**EXPERTS, "window": 5}),
    "GPT-2": ("gpt2", {**GPT2, "tied_head": True}),
    "GPT-2, own head": ("gpt2", GPT2),
}
IDS = torch.randint(97, (2, 24), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def build(random_model) -> Callable[..., Transformer]:
    """Builds models of small sizes that differ from each other, with random weights."""
    return lambda **fields: random_model(**SIZES | fields)


@pytest.mark.parametrize(("family", "fields"), COMBINATIONS.values(), ids=COMBINATIONS)
@torch.no_grad()
def test_the_same_weights_give_the_same_logits(family, fields, build):
    model = build(**fields)
    theirs = to_transformers(model)
    assert theirs.config.model_type == family
    logits = model(IDS)
    assert logits.std() > 0.3
    assert torch.allclose(theirs(IDS).logits, logits, atol=1e-4)


@pytest.mark.parametrize(("family", "fields"), COMBINATIONS.values(), ids=COMBINATIONS)
@torch.no_grad()
def test_there_and_back_is_the_same_model(family, fields, build):
    model = build(**fields)
    again = from_transformers(to_transformers(model))
    assert family_of(again.config) == family
    assert again.config.tied_head == model.config.tied_head
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert torch.allclose(again(IDS), model(IDS), atol=1e-5)


def test_copies_share_no_memory_and_draw_from_nobodys_dice(build):
    model = build()
    state = torch.get_rng_state()
    theirs = to_transformers(model)
    assert torch.equal(torch.get_rng_state(), state)
    before = model(IDS)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.zero_()
    assert torch.equal(model(IDS), before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions": "none"}, "model.positions is none: .* LlamaForCausalLM, has rope"),
        ({"activation": "relu2"}, "model.activation is relu2: .* has swiglu"),
        ({"norm": NormConfig(kind="layer")}, "model.norm.kind is layer: .* has rms"),
        ({"logit_cap": 15.0}, "model.logit_cap is 15.0: .* has None"),
        ({"document_start": 3}, "model.document_start is 3"),
        ({"window": 5, "bias": True}, "model.bias is True: .* MistralForCausalLM, has False"),
        ({"norm": QK_NORM, **EXPERTS}, "model.norm.queries_and_keys is True: .* Mixtral"),
        ({**GPT2, "window": 5}, "model.window is 5: .* GPT2LMHeadModel, has None"),
        ({**GPT2, "n_kv_heads": 2}, "model.n_kv_heads is 2: .* GPT2LMHeadModel, has 4"),
        ({**GPT2, "bias": False}, "model.bias is False: .* has True"),
        ({**GPT2, **EXPERTS}, "model.moe.n_experts is 4: .* has 1"),
    ],
)
def test_what_no_class_computes_is_refused_by_the_fields_name(fields, message, build):
    with pytest.raises(UserError, match=message):
        to_transformers(build(**fields))


@pytest.mark.parametrize(
    ("fields", "changed", "message"),
    [
        ({}, {"hidden_act": "gelu"}, "their hidden_act is gelu; our class computes with silu"),
        ({}, {"head_dim": 16}, "their head_dim is 16; our class computes with 8"),
        ({}, {"mlp_bias": True}, "their mlp_bias is True"),
        ({}, {"rope_parameters": {"rope_type": "yarn"}}, "read are whole heads, default or"),
        ({"norm": QK_NORM}, {"attention_bias": True}, "their model_type is qwen3"),
        (
            {"norm": QK_NORM},
            {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types",
        ),
        (GPT2, {"activation_function": "relu"}, "their activation_function is relu"),
        ({}, {"model_type": "bert"}, "a 'bert' model; the classes read here are llama"),
    ],
)
def test_what_our_class_does_not_compute_is_refused_by_their_settings_name(
    fields, changed, message, build
):
    theirs = to_transformers(build(**fields))
    for name, value in changed.items():
        object.__setattr__(theirs.config, name, value)
    with pytest.raises(UserError, match=message):
        from_transformers(theirs)


def test_without_the_library_one_line_says_what_to_install(monkeypatch, build):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[interop\]"'):
        to_transformers(build())
