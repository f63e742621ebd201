"""The table of names: which of `transformers`' tensors holds which of ours.

Promoted by 03_attention.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.model.config import ModelConfig


@dataclass(frozen=True)
class Row:
    """One of their tensors, and ours that it is made of, stacked along the first axis."""

    theirs: str
    ours: tuple[str, ...]
    layout: str = "same"
    """same; transposed (GPT-2 keeps matrices as input x output); experts (a first axis E)"""

    def join(self, tensors: dict[str, Tensor], experts: int) -> Tensor:
        """Their tensor from ours."""
        joined = torch.cat([tensors[name] for name in self.ours])
        if self.layout == "experts":
            return joined.unflatten(0, (experts, -1))
        return joined.T.contiguous() if self.layout == "transposed" else joined

    def split(self, tensor: Tensor) -> dict[str, Tensor]:
        """Our tensors from theirs."""
        if self.layout == "experts":
            tensor = tensor.flatten(0, 1)
        elif self.layout == "transposed":
            tensor = tensor.T
        parts = tensor.chunk(len(self.ours))
        return {name: part.contiguous() for name, part in zip(self.ours, parts, strict=True)}


def name_table(config: ModelConfig, family: str) -> Iterator[Row]:
    """One row for each tensor of their class; `family` is a key of `interop.CLASSES`."""
    gpt2 = family == "gpt2"
    yield Row(
        "transformer.wte.weight" if gpt2 else "model.embed_tokens.weight", ("embedding.weight",)
    )
    for index in range(config.n_layers):
        block = f"blocks.{index}."
        if gpt2:
            yield from _gpt2_block(block, f"transformer.h.{index}.")
        else:
            yield from _llama_block(config, block, f"model.layers.{index}.")
    if gpt2:
        yield Row("transformer.wpe.weight", ("position_embedding.weight",))
        yield Row("transformer.ln_f.bias", ("final_norm.bias",))
    yield Row("transformer.ln_f.weight" if gpt2 else "model.norm.weight", ("final_norm.weight",))
    yield Row("lm_head.weight", ("head.weight",))


def _llama_block(config: ModelConfig, ours: str, theirs: str) -> Iterator[Row]:
    kinds = ("weight", "bias") if config.bias else ("weight",)
    matrices = {
        f"attention.{part}": f"self_attn.{part[0]}_proj"
        for part in ("query", "key", "value", "output")
    }
    if config.moe.n_experts == 1:
        matrices |= {f"feedforward.{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
    for our_part, their_part in matrices.items():
        for kind in kinds:
            yield Row(f"{theirs}{their_part}.{kind}", (f"{ours}{our_part}.{kind}",))
    norms = {"attention_norm": "input_layernorm", "feedforward_norm": "post_attention_layernorm"}
    if config.norm.queries_and_keys:
        norms |= {
            "attention.query_norm": "self_attn.q_norm",
            "attention.key_norm": "self_attn.k_norm",
        }
    for our_part, their_part in norms.items():
        yield Row(f"{theirs}{their_part}.weight", (f"{ours}{our_part}.weight",))
    if config.moe.n_experts > 1:
        experts = [f"{ours}feedforward.experts.{e}." for e in range(config.moe.n_experts)]
        up = tuple(f"{expert}{part}.weight" for expert in experts for part in ("gate", "up"))
        down = tuple(f"{expert}down.weight" for expert in experts)
        yield Row(f"{theirs}mlp.gate.weight", (f"{ours}feedforward.router.weight",))
        yield Row(f"{theirs}mlp.experts.gate_up_proj", up, "experts")
        yield Row(f"{theirs}mlp.experts.down_proj", down, "experts")


def _gpt2_block(ours: str, theirs: str) -> Iterator[Row]:
    attention = tuple(f"{ours}attention.{part}." for part in ("query", "key", "value"))
    matrices = {
        "attn.c_attn.": attention,
        "attn.c_proj.": (f"{ours}attention.output.",),
        "mlp.c_fc.": (f"{ours}feedforward.up.",),
        "mlp.c_proj.": (f"{ours}feedforward.down.",),
    }
    for their_part, parts in matrices.items():
        weights = tuple(f"{part}weight" for part in parts)
        yield Row(f"{theirs}{their_part}weight", weights, "transposed")
        yield Row(f"{theirs}{their_part}bias", tuple(f"{part}bias" for part in parts))
    for our_part, their_part in {"attention_norm": "ln_1", "feedforward_norm": "ln_2"}.items():
        for kind in ("weight", "bias"):
            yield Row(f"{theirs}{their_part}.{kind}", (f"{ours}{our_part}.{kind}",))
