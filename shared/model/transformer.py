"""The decoder-only transformer: ids in, a score for every possible next id out.

Promoted by 03_attention.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shared.model.causal_attention import CausalAttention, LayerCache
from shared.model.config import ModelConfig
from shared.model.fast_paths import cast_once
from shared.model.feedforward import build_feedforward
from shared.model.moe import MixtureOfExperts
from shared.model.norms import build_norm
from shared.model.positions import (
    Angles,
    SinusoidalPositions,
    angles_at,
    document_positions,
    rope_angles,
)

INIT_STD = 0.02  # GPT-2's; with it the first logits are near zero and the loss near ln V
ENDS_BRANCH = ("output.weight", "down.weight")  # of attention, of a feed-forward or an expert


class Cache(Protocol):
    """Keys and values of conversations side by side: how many positions, a part for each layer."""

    length: int
    """positions read so far, of the longest row"""
    starts: int | Tensor
    """positions before each row's next: a number for all rows, or (B, 1)"""
    layers: Sequence[LayerCache]


class Block(nn.Module):
    """Look back, then think: both add to the residual stream and neither overwrites it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        many = config.moe.n_experts > 1
        self.attention_norm = build_norm(config, config.d_model)
        self.attention = CausalAttention(config)
        self.feedforward_norm = build_norm(config, config.d_model)
        self.feedforward = MixtureOfExperts(config) if many else build_feedforward(config)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(
        self,
        x: Tensor,
        angles: Angles,
        cache: LayerCache | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        normed = cast_once(self.attention_norm(x))
        x = x + self.dropout(self.attention(normed, angles, cache, documents))
        normed = cast_once(self.feedforward_norm(x))
        return x + self.dropout(self.feedforward(normed))


class Transformer(nn.Module):
    """Embedding, blocks, final norm and head.

    Set `recompute` to True and training forgets what happened inside a block and
    computes it again in the backward pass: the same gradients from less memory (activation
    checkpointing; Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = build_position_embedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = build_norm(config, config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_head:
            self.head.weight = self.embedding.weight
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
                std = branch_std if name.endswith(ENDS_BRANCH) else INIT_STD
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Ids (B, T) -> logits (B, T, V); row t scores the id after position t.

        Args:
            ids: int64, values below V.
            cache: earlier positions of these very sequences; it takes in the new ones.
                What is read with a cache is taken as one document.

        Raises:
            ValueError: positions, cached ones included, exceed the context length.
        """
        end = ids.shape[1] + (0 if cache is None else cache.length)
        if end > self.config.context_length:
            raise ValueError(f"{end} positions; the model has {self.config.context_length}")
        documents = None
        positions = torch.arange(ids.shape[1], device=ids.device)  # (T,)
        if cache is not None:
            positions = cache.starts + positions  # (T,) or (B, T)
        if self.config.document_start is not None and cache is None:
            documents, positions = document_positions(ids, self.config.document_start)
        angles = angles_at((self.cos, self.sin), positions)
        x = self.embedding(ids)  # (B, T, C)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
        for index, block in enumerate(self.blocks):
            held = None if cache is None else cache.layers[index]
            if self.recompute and self.training:
                x = checkpoint(block, x, angles, None, documents, use_reentrant=False)
            else:
                x = block(x, angles, held, documents)
        logits = self.head(self.final_norm(x))  # (B, T, V)
        cap = self.config.logit_cap
        return logits if cap is None else cap * (logits / cap).tanh()

    def count_parameters(self) -> int:
        """Number of trained numbers; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


def build_position_embedding(config: ModelConfig) -> nn.Module | None:
    """What is added to the embeddings so that they know their places, if anything is."""
    if config.positions == "learned":
        return nn.Embedding(config.context_length, config.d_model)
    if config.positions == "sinusoidal":
        return SinusoidalPositions(config, INIT_STD)
    return None
