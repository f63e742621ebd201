"""The decoder-only transformer: ids in, a score for every possible next id out.

Promoted by 03_attention.
"""

import math
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from shared.model.causal_attention import CausalAttention, LayerCache
from shared.model.config import ModelConfig
from shared.model.feedforward import SwiGLU
from shared.model.norms import RMSNorm
from shared.model.positions import rope_angles

INIT_STD = 0.02  # GPT-2's; with it the first logits are near zero and the loss near ln V


class Cache(Protocol):
    """One conversation's keys and values: how many positions, and a part for each layer."""

    length: int
    layers: Sequence[LayerCache]


class Block(nn.Module):
    """Look back, then think: both add to the residual stream and neither overwrites it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = CausalAttention(config)
        self.feedforward_norm = RMSNorm(config.d_model, config.norm_eps)
        self.feedforward = SwiGLU(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache | None = None
    ) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.attention(self.attention_norm(x), cos, sin, cache)
        return x + self.feedforward(self.feedforward_norm(x))


class Transformer(nn.Module):
    """Embedding, blocks, final norm, and a head of its own (not tied to the embedding)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        cos, sin = rope_angles(config.context_length, config.head_width, config.rope)
        self.register_buffer("cos", cos, persistent=False)  # recomputed, never saved
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        # 2 L branches add to the residual stream: the smaller start of the last
        # matrix of each keeps its size independent of depth (GPT-2, section 2.3).
        branch_std = INIT_STD / math.sqrt(2 * self.config.n_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                ends_branch = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(parameter, std=branch_std if ends_branch else INIT_STD)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Ids (B, T) -> logits (B, T, V); row t scores the id after position t.

        Args:
            ids: int64, values below V.
            cache: earlier positions of these very sequences; it takes in the new ones.

        Raises:
            ValueError: positions, cached ones included, exceed the context length.
        """
        start = 0 if cache is None else cache.length
        end = start + ids.shape[1]
        if end > self.config.context_length:
            raise ValueError(f"{end} positions; the model has {self.config.context_length}")
        cos, sin = self.cos[start:end], self.sin[start:end]  # (T, D/2) each
        x = self.embedding(ids)  # (B, T, C)
        for index, block in enumerate(self.blocks):
            x = block(x, cos, sin, None if cache is None else cache.layers[index])
        return self.head(self.final_norm(x))  # (B, T, V)

    def count_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())
