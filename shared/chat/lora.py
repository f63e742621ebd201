"""LoRA: a small change of a large matrix, beside it, and the only thing that trains.

    y = x W'  +  (x A') B' · alpha / r        W (out, in) rests; A (r, in) and B (out, r) learn

The model's own code stays as it is: each linear layer gets an adapter, and a hook that adds
what the adapter says to what the layer says. With B = 0 that is nothing, so training
begins at the very model it was given.
Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
Promoted by 06_chat.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer

ATTENTION = ("query", "key", "value", "output")
FEEDFORWARD = ("gate", "up", "down")
EVERY_LAYER = ATTENTION + FEEDFORWARD
MARK = ".adapter."  # in a parameter's name: blocks.0.attention.query.adapter.A


class Adapter(nn.Module):
    """The change of one linear layer: (..., in) -> (..., out)."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.A = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        self.B = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """What is to be added to the layer's own answer; the inner tensor is (..., r)."""
        return F.linear(F.linear(x, self.A), self.B) * self.scale

    def change(self) -> Tensor:
        """The same as one matrix, (out, in): at most r of its rows are independent."""
        return self.B @ self.A * self.scale


def add_adapters(
    model: Transformer,
    rank: int = 8,
    alpha: float = 16.0,
    generator: torch.Generator | None = None,
    layers: Sequence[str] = EVERY_LAYER,
) -> None:
    """Gives the blocks' linear layers adapters and freezes everything else, in place.

    Embedding, norms, head and routers get none.

    Args:
        rank: r; the change has r · (in + out) numbers where the matrix has in · out.
        alpha: the change is multiplied by alpha / r.
        generator: of A, on the CPU; none: PyTorch's own.
        layers: the last names of those that get one.

    Raises:
        UserError: there are adapters already, or the rank is none.
    """
    if rank < 1:
        raise UserError(f"rank is {rank}; expected at least 1")
    if adapted_layers(model):
        raise UserError("the model has adapters already: merge them before you add others")
    model.requires_grad_(False)
    for name, layer in linear_layers(model).items():
        if name.rpartition(".")[2] in layers:
            attach(layer, rank, alpha)
            start = torch.randn(layer.adapter.A.shape, generator=generator)  # (r, in)
            layer.adapter.A.data.copy_(start / math.sqrt(layer.in_features))


def linear_layers(model: Transformer) -> dict[str, nn.Linear]:
    """The layers that can have an adapter, by their names in the model."""
    named = model.blocks.named_modules(prefix="blocks")
    every = {name: layer for name, layer in named if isinstance(layer, nn.Linear)}
    return {name: layer for name, layer in every.items() if name.endswith(EVERY_LAYER)}


def attach(layer: nn.Linear, rank: int, alpha: float) -> None:
    """Puts an adapter beside one layer; its A is not filled yet."""
    layer.adapter = Adapter(layer, rank, alpha)
    layer.register_forward_hook(_add_change)


def _add_change(layer: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output + layer.adapter(inputs[0])


def adapted_layers(model: Transformer) -> dict[str, nn.Linear]:
    """Those of them that have one."""
    return {
        name: layer for name, layer in linear_layers(model).items() if hasattr(layer, "adapter")
    }


def adapter_state(model: Transformer) -> dict[str, Tensor]:
    """Every A and B, by name: all that was trained."""
    return {name: tensor for name, tensor in model.state_dict().items() if MARK in name}


def base_state(model: Transformer) -> dict[str, Tensor]:
    """Every other tensor: the model as it was."""
    return {name: tensor for name, tensor in model.state_dict().items() if MARK not in name}


@torch.no_grad()
def merged(model: Transformer) -> Transformer:
    """A plain model in which each W is W + B A · alpha / r: nothing beside it, no slower."""
    state = base_state(model)
    for name, layer in adapted_layers(model).items():
        state[f"{name}.weight"] = layer.weight + layer.adapter.change()
    with torch.random.fork_rng(devices=[]):  # a new model draws weights; these replace them
        plain = Transformer(model.config)
    plain.load_state_dict(state)
    parameter = next(model.parameters())
    return plain.to(parameter.device, parameter.dtype).train(model.training)


def count_adapter_weights(
    config: ModelConfig, rank: int, layers: Sequence[str] = EVERY_LAYER
) -> int:
    """r · (in + out), summed over the layers, without building the model."""
    return sum(rank * (width_in + width_out) for width_in, width_out in _shapes(config, layers))


def _shapes(config: ModelConfig, layers: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(in, out) of every linear layer of those names."""
    channels, inner = config.d_model, config.ff_width
    kv_width = config.kv_heads * config.head_width
    attention = {"query": (channels, channels), "key": (channels, kv_width)}
    attention |= {"value": (channels, kv_width), "output": (channels, channels)}
    feedforward = {"up": (channels, inner), "down": (inner, channels)}
    if config.activation == "swiglu":
        feedforward["gate"] = (channels, inner)
    for _ in range(config.n_layers):
        yield from (shape for name, shape in attention.items() if name in layers)
        for _ in range(config.moe.n_experts):
            yield from (shape for name, shape in feedforward.items() if name in layers)
