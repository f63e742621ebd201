"""How large a model is: its parameters, its arithmetic, its cache.

Everything is computed from a `ModelConfig`, without building the model. Work is in FLOPs: a
multiply and an add are 2.
Promoted by 03_attention.
"""

from dataclasses import asdict, dataclass, replace

from shared.model.config import ModelConfig


@dataclass(frozen=True)
class Parameters:
    """Trained numbers by part; a tied matrix counts as embedding."""

    embedding: int
    positions: int
    attention: int
    feedforward: int
    """all experts and their routers"""
    norms: int
    head: int
    idle: int
    """of `feedforward`: experts that a token does not go through"""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(asdict(self).values()) - self.idle

    @property
    def active(self) -> int:
        """Those that one token meets."""
        return self.total - self.idle


def count_parameters(config: ModelConfig) -> Parameters:
    """Parameters by part, equal to what `Transformer(config)` holds."""
    channels, layers, experts = config.d_model, config.n_layers, config.moe.n_experts
    kv_width = config.kv_heads * config.head_width
    attention = 2 * channels * channels + 2 * channels * kv_width
    expert = (3 if config.activation == "swiglu" else 2) * channels * config.ff_width
    if config.bias:
        attention += 2 * channels + 2 * kv_width
        expert += channels + config.ff_width * (2 if config.activation == "swiglu" else 1)
    router = channels * experts if experts > 1 else 0
    gains = 2 if config.norm.kind == "layer" and config.bias else 1  # and a bias each
    norm = channels * gains
    of_heads = 2 * config.head_width * gains if config.norm.queries_and_keys else 0
    idle = experts - min(experts, config.moe.top_k)
    return Parameters(
        embedding=config.vocab_size * channels,
        positions=config.context_length * channels if config.positions == "learned" else 0,
        attention=layers * attention,
        feedforward=layers * (experts * expert + router),
        norms=layers * (2 * norm + of_heads) + norm,
        head=0 if config.tied_head else config.vocab_size * channels,
        idle=layers * idle * expert,
    )


def mean_keys(config: ModelConfig, positions: int | None = None) -> float:
    """Keys that a query sees, mean over T positions (none: the context length).

    (T + 1) / 2, since position t sees t + 1; with a window W never more than W.
    """
    whole = config.context_length if positions is None else positions
    near = min(config.reach, whole)
    return (near * (near + 1) / 2 + (whole - near) * near) / whole


def forward_flops(config: ModelConfig, positions: int | None = None) -> float:
    """FLOPs of one token's way forward, mean over T positions (none: the context length).

    2 for each weight of a matrix product, and in each layer 4 C for each key seen: 2 C for
    the score, 2 C for the weighted sum. Norms, softmax and RoPE are left out: they
    grow with C, matrix products with C².
    Sources: Kaplan et al. 2020, "Scaling Laws", section 2.1; Chowdhery et al. 2022, "PaLM",
    appendix B (which counts all T keys; here only those that the mask lets through).
    """
    scores = 4 * config.d_model * config.n_layers * mean_keys(config, positions)
    return 2 * matrix_weights(config) + scores


def training_flops(
    config: ModelConfig, positions: int | None = None, recompute: bool = False
) -> float:
    """FLOPs of training on one token: 3 times the way forward, 6 for each matrix weight.

    The backward pass makes two products for each one forward: the gradient of its input and that
    of its weight. With `recompute` the blocks, not the head, run forward a second time.
    Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models",
    appendix F.
    """
    once = forward_flops(config, positions)
    head = 2 * config.vocab_size * config.d_model
    return 3 * once + (once - head if recompute else 0)


def matrix_weights(config: ModelConfig) -> int:
    """Weights that one token is multiplied with: no embedding (looked up), no idle expert."""
    parts = count_parameters(replace(config, bias=False))
    used = parts.attention + parts.feedforward - parts.idle
    return used + config.vocab_size * config.d_model


def kv_cache_bytes(config: ModelConfig, positions: int = 1, bytes_per_number: int = 4) -> int:
    """Keys and values that one conversation of T positions keeps: 2 L K D each.

    A window keeps the last W - 1: the next query sees no others. Numbers take 4 bytes in
    float32, 2 in bfloat16.
    """
    whole = config.window is None or config.window >= config.context_length
    kept = positions if whole else min(positions, config.window - 1)
    return 2 * config.n_layers * config.kv_heads * config.head_width * kept * bytes_per_number
