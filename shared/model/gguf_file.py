"""GGUF: the one file that llama.cpp reads, and all that is built on it.

It holds settings, the tokenizer and the tensors. Two kinds of model go there: `llama`, whose
experts are Mixtral's, and `qwen3`, which norms queries and keys before it turns them, as ours does.

`llama` pairs neighbours where ours pairs the halves of a head (`positions.rotate`), so the rows of
its query and key matrices go in another order: channel 2i is our i, channel 2i + 1 our i + D/2.
A score is a sum over channels, so their order is nobody's business as long as queries and keys
have the same. `qwen3` pairs halves there, too, and nothing moves.
Promoted by 03_attention.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.interop import family_of
from shared.model.interop_settings import rope_base
from shared.model.transformer import Transformer
from shared.text.engine_tokenizer import EngineTokens

TYPES = ("f32", "f16", "q8_0")
INSTALL = 'the package "gguf" is missing: pip install -e ".[export]" in this repository'
Q8_ROW = 32  # numbers that share one scale
NAMES = {  # ours in a block -> theirs
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "feedforward_norm": "ffn_norm",
    "feedforward.gate": "ffn_gate",
    "feedforward.up": "ffn_up",
    "feedforward.down": "ffn_down",
    "feedforward.router": "ffn_gate_inp",
}
OUTSIDE = {"embedding": "token_embd", "final_norm": "output_norm", "head": "output"}


def write_gguf(
    path: Path,
    model: Transformer,
    tokens: EngineTokens,
    ends: list[int],
    chat_template: str,
    kind: str = "f32",
) -> list[str]:
    """Writes the file, and returns the names of matrices that `kind` does not fit: they are f16.

    Args:
        ends: ids that end a reply; the first begins a text and ends one.
        kind: of the matrices, one of `TYPES`; what has one axis, and routers, stay in float32.

    Raises:
        UserError: llama.cpp computes no such model, a weight is no finite number or too large
            for `kind`, or the library is missing.
    """
    library, architecture = _library(), architecture_of(model.config)
    writer = library.GGUFWriter(path, architecture)
    writer.add_name(path.stem)
    _add_sizes(writer, model.config, library)
    mostly = "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"
    writer.add_file_type(library.LlamaFileType[mostly])
    _add_tokenizer(writer, tokens, ends, library)
    writer.add_chat_template(chat_template)
    too_narrow = []
    for name, tensor in their_tensors(model, architecture):
        fits = kind if tensor.dim() > 1 and "ffn_gate_inp" not in name else "f32"
        if fits == "q8_0" and tensor.shape[-1] % Q8_ROW:
            too_narrow.append(name)
            fits = "f16"
        number = getattr(library.GGMLQuantizationType, fits.upper())
        values = library.quants.quantize(_checked(name, tensor, fits), number)
        writer.add_tensor(name, values, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return too_narrow


def architecture_of(config: ModelConfig) -> str:
    """What llama.cpp calls the model: llama or qwen3.

    Raises:
        UserError: it computes none like it; names the field that stands in the way.
    """
    checks = [
        ("positions", config.positions, "rope"),
        ("norm.kind", config.norm.kind, "rms"),
        ("activation", config.activation, "swiglu"),
        ("bias", config.bias, False),
        ("window", config.window, None),
    ]
    for field, got, expected in checks:
        if got != expected:
            raise UserError(f"model.{field} is {got}: llama.cpp's llama has {expected} there")
    return "qwen3" if family_of(config) == "qwen3" else "llama"


def neighbours_first(rows: Tensor, heads: int) -> Tensor:
    """Rows of a query or key matrix, (heads D, C), so that turned pairs are neighbours."""
    pattern = "(heads two pairs) channels -> (heads pairs two) channels"
    return rearrange(rows, pattern, heads=heads, two=2)


def their_tensors(model: Transformer, architecture: str) -> Iterator[tuple[str, Tensor]]:
    """Each tensor under its name there, float32; experts are stacked, (E, rows, columns)."""
    config, ours = model.config, {k: v.float().cpu() for k, v in model.state_dict().items()}
    for part, name in OUTSIDE.items():
        if part != "head" or not config.tied_head:  # a tied head is left out
            yield f"{name}.weight", ours[f"{part}.weight"]
    for index in range(config.n_layers):
        for part, name in NAMES.items():
            tensor = ours.get(f"blocks.{index}.{part}.weight")
            if tensor is None:
                continue
            if architecture == "llama" and name in ("attn_q", "attn_k"):
                heads = config.n_heads if name == "attn_q" else config.kv_heads
                tensor = neighbours_first(tensor, heads)
            yield f"blk.{index}.{name}.weight", tensor
        if config.moe.n_experts > 1:
            for part in ("gate", "up", "down"):
                experts = f"blocks.{index}.feedforward.experts."
                stack = [ours[f"{experts}{e}.{part}.weight"] for e in range(config.moe.n_experts)]
                yield f"blk.{index}.ffn_{part}_exps.weight", torch.stack(stack)


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise UserError(INSTALL) from None
    return gguf


def _add_sizes(writer: Any, config: ModelConfig, library: Any) -> None:
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.ff_width)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.norm.eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(rope_base(config))
    if config.rope.scaling == "interpolation":
        writer.add_rope_scaling_type(library.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope.factor)
    if config.moe.n_experts > 1:
        writer.add_expert_count(config.moe.n_experts)
        writer.add_expert_used_count(config.moe.top_k)


def _add_tokenizer(writer: Any, tokens: EngineTokens, ends: list[int], library: Any) -> None:
    control, normal = library.TokenType.CONTROL, library.TokenType.NORMAL
    end = next(iter(tokens.special))
    # llama.cpp wants a list of merges, and the library leaves an empty one out. This one joins
    # nothing: no piece of a text is called like a special token.
    merges = tokens.merges or [(end, end)]
    writer.add_tokenizer_model("gpt2")  # byte-level BPE; of that, GPT-2's cut into words
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokens.names))
    writer.add_token_types([control if n in tokens.special else normal for n in tokens.names])
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_bos_token_id(ends[0])
    writer.add_eos_token_id(ends[0])
    writer.add_add_bos_token(True)
    if len(ends) > 1:
        writer.add_eot_token_id(ends[1])


def _checked(name: str, tensor: Tensor, kind: str) -> np.ndarray:
    if not tensor.isfinite().all():
        raise UserError(f"{name} holds numbers that are not finite: this model diverged")
    if kind == "f16" and tensor.abs().max() > torch.finfo(torch.float16).max:
        raise UserError(f"{name} holds numbers too large for f16: take f32 or q8_0")
    return tensor.contiguous().numpy()
