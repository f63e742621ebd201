"""To and from the classes of the `transformers` library: the same logits, other names.

What is covered, forwards in float32 to 1e-4:

    RoPE, RMSNorm, SwiGLU (grouped heads, biases in both or in no part)  Llama
    ... with a window                                                   Mistral
    ... with QK-norm, with or without a window                          Qwen3
    ... with experts, with or without a window                          Mixtral
    learned positions, LayerNorm, GELU, biases                          GPT-2

Stretched RoPE goes along: interpolation is their "linear", ntk a larger base. The head may
be tied or not. Dropout and the routers' losses belong to training and do not go along.
Promoted by 03_attention.
"""

from typing import TYPE_CHECKING, Any

import torch

from shared.errors import UserError
from shared.model.config import ModelConfig, MoEConfig, NormConfig, RopeConfig
from shared.model.interop_names import name_table
from shared.model.transformer import Transformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INSTALL = 'the package "transformers" is missing: pip install -e ".[interop]" in this repository'
SIZES = {  # our field -> theirs, in every class
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "n_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "tied_head": "tie_word_embeddings",
}
CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}


def to_transformers(model: Transformer) -> "PreTrainedModel":
    """The `transformers` model that gives the same logits, its weights copies of ours.

    Raises:
        UserError: no class there computes what this one does (the field is named), or
            the library is missing.
    """
    family = family_of(model.config)
    their_class = getattr(_library(), CLASSES[family])
    settings = {name: getattr(model.config, ours) for ours, name in SIZES.items()}
    settings |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # none is special
    settings |= (_gpt2_settings if family == "gpt2" else _llama_settings)(model.config, family)
    with torch.random.fork_rng(devices=[]):  # theirs draws weights first; ours replace them
        built = their_class(their_class.config_class(**settings))
    tensors, experts = model.state_dict(), model.config.moe.n_experts
    rows = name_table(model.config, family)
    built.load_state_dict({row.theirs: row.join(tensors, experts) for row in rows})
    return built.to(next(model.parameters()).device).train(model.training)


def from_transformers(model: "PreTrainedModel") -> Transformer:
    """Our model with the weights, and so the logits, of one of theirs; in float32.

    Raises:
        UserError: the class or one of its settings is not covered.
    """
    family = model.config.model_type
    if family not in CLASSES:
        raise UserError(f"a {family!r} model; the classes read here are {', '.join(CLASSES)}")
    sizes = {ours: getattr(model.config, name) for ours, name in SIZES.items()}
    read = _read_gpt2 if family == "gpt2" else _read_llama
    config = ModelConfig(**sizes, **read(model.config))
    theirs, state = model.state_dict(), {}
    for row in name_table(config, family):
        state |= row.split(theirs[row.theirs])
    built = Transformer(config)
    built.load_state_dict(state)
    return built.float().train(model.training)


def family_of(config: ModelConfig) -> str:
    """The key of `CLASSES` that computes what this config does.

    Raises:
        UserError: none does; names the field that stands in the way.
    """
    gpt2, many = config.positions == "learned", config.moe.n_experts > 1
    normed, window = config.norm.queries_and_keys, config.window
    family = "llama" if window is None else "mistral"
    family = "gpt2" if gpt2 else "mixtral" if many else "qwen3" if normed else family
    checks = [
        ("positions", config.positions, "learned" if gpt2 else "rope"),
        ("norm.kind", config.norm.kind, "layer" if gpt2 else "rms"),
        ("activation", config.activation, "gelu" if gpt2 else "swiglu"),
        ("bias", config.bias, config.bias if family == "llama" else gpt2),
        ("norm.queries_and_keys", normed, family == "qwen3"),
        ("moe.n_experts", config.moe.n_experts, config.moe.n_experts if family == "mixtral" else 1),
        ("window", window, None if gpt2 else window),
        ("n_kv_heads", config.kv_heads, config.n_heads if gpt2 else config.kv_heads),
        ("logit_cap", config.logit_cap, None),
        ("document_start", config.document_start, None),
    ]
    for field, got, expected in checks:
        if got != expected:
            raise UserError(
                f"model.{field} is {got}: the nearest class of transformers, "
                f"{CLASSES[family]}, has {expected} there"
            )
    return family


def _library() -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError(INSTALL) from None
    return transformers


def _gpt2_settings(config: ModelConfig, family: str) -> dict[str, Any]:
    return {
        "n_inner": config.ff_width,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm.eps,
    }


def _llama_settings(config: ModelConfig, family: str) -> dict[str, Any]:
    rope, kind = config.rope, {"rope_type": "default"}
    base = rope.base
    if rope.scaling == "ntk" and config.head_width > 2:  # as in `positions.rope_angles`
        base *= rope.factor ** (config.head_width / (config.head_width - 2))
    elif rope.scaling == "interpolation":
        kind = {"rope_type": "linear", "factor": rope.factor}
    only = {
        "llama": {"attention_bias": config.bias, "mlp_bias": config.bias},
        "mixtral": {
            "num_local_experts": config.moe.n_experts,
            "num_experts_per_tok": config.moe.top_k,
        },
        "qwen3": {"use_sliding_window": config.window is not None, "max_window_layers": 0},
    }
    return {
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.ff_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm.eps,
        "rope_parameters": {"rope_theta": base, **kind},
        **({} if family == "llama" else {"sliding_window": config.window}),
        **only.get(family, {}),
    }


def _demand(theirs: Any, **expected: Any) -> None:
    """Their settings must be these, where they have them; a class without one passes."""
    for name, value in expected.items():
        if (got := getattr(theirs, name, value)) != value:
            raise UserError(f"their {name} is {got}; our class computes with {value} only")


def _read_gpt2(theirs: Any) -> dict[str, Any]:
    _demand(
        theirs,
        activation_function="gelu_new",
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
    )
    return {
        "d_ff": theirs.n_inner,
        "positions": "learned",
        "activation": "gelu",
        "bias": True,
        "norm": NormConfig("layer", theirs.layer_norm_epsilon),
    }


def _read_llama(theirs: Any) -> dict[str, Any]:
    bias, rope = getattr(theirs, "attention_bias", False), theirs.rope_parameters
    if bias or theirs.model_type == "llama":
        _demand(theirs, mlp_bias=bias, model_type="llama")
    head_width = theirs.hidden_size // theirs.num_attention_heads
    _demand(theirs, hidden_act="silu", head_dim=head_width)
    kind, partial = rope["rope_type"], rope.get("partial_rotary_factor", 1.0)
    if kind not in ("default", "linear") or partial != 1:
        raise UserError(
            f"their rope_parameters are {rope}; read are whole heads, default or linear"
        )
    scaling = {"scaling": "interpolation", "factor": rope["factor"]} if kind == "linear" else {}
    kinds = getattr(theirs, "layer_types", None) or [None]
    _demand(theirs, layer_types=[kinds[0]] * len(kinds))
    fields = {
        "n_kv_heads": theirs.num_key_value_heads,
        "d_ff": theirs.intermediate_size,
        "bias": bias,
        "window": getattr(theirs, "sliding_window", None),
        "norm": NormConfig("rms", theirs.rms_norm_eps, theirs.model_type == "qwen3"),
        "rope": RopeConfig(rope["rope_theta"], **scaling),
    }
    if theirs.model_type == "mixtral":
        fields["moe"] = MoEConfig(theirs.num_local_experts, theirs.num_experts_per_tok)
    return fields
