"""Settings of `transformers`' classes: ours as theirs, and theirs as ours.

Promoted by 03_attention.
"""

from typing import Any

from shared.errors import UserError
from shared.model.config import ModelConfig, MoEConfig, NormConfig, RopeConfig

SIZES = {  # our field -> theirs, in every class
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "n_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "tied_head": "tie_word_embeddings",
}


def their_settings(config: ModelConfig, family: str) -> dict[str, Any]:
    """The arguments of their config; `family` is a key of `interop.CLASSES`."""
    settings = {name: getattr(config, ours) for ours, name in SIZES.items()}
    settings |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # none is special
    return settings | (_gpt2_settings if family == "gpt2" else _llama_settings)(config, family)


def our_config(theirs: Any) -> ModelConfig:
    """Our config from one of theirs.

    Raises:
        UserError: one of its settings is not covered.
    """
    sizes = {ours: getattr(theirs, name) for ours, name in SIZES.items()}
    read = _read_gpt2 if theirs.model_type == "gpt2" else _read_llama
    return ModelConfig(**sizes, **read(theirs))


def rope_base(config: ModelConfig) -> float:
    """The base of RoPE that another engine is told: ntk is no more than a larger one."""
    rope = config.rope
    if rope.scaling == "ntk" and config.head_width > 2:  # as in `positions.rope_angles`
        return rope.base * rope.factor ** (config.head_width / (config.head_width - 2))
    return rope.base


def _gpt2_settings(config: ModelConfig, family: str) -> dict[str, Any]:
    return {
        "n_inner": config.ff_width,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm.eps,
    }


def _llama_settings(config: ModelConfig, family: str) -> dict[str, Any]:
    kind = {"rope_type": "default"}
    if config.rope.scaling == "interpolation":
        kind = {"rope_type": "linear", "factor": config.rope.factor}
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
        "rope_parameters": {"rope_theta": rope_base(config), **kind},
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
