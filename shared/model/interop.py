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
from shared.model.config import ModelConfig
from shared.model.interop_names import name_table
from shared.model.interop_settings import our_config, their_settings
from shared.model.transformer import Transformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INSTALL = 'the package "transformers" is missing: pip install -e ".[interop]" in this repository'
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
    their_class = getattr(library(), CLASSES[family])
    settings = their_settings(model.config, family)
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
    config = our_config(model.config)
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


def library() -> Any:
    """The package `transformers`, imported when it is needed: it takes seconds.

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise UserError(INSTALL) from None
    return transformers
