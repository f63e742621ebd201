"""Model configuration, and the glossary of sizes that every shape comment uses.

    B  batch            sequences side by side
    T  positions        ids in a sequence
    C  channels         width of the residual stream, `d_model`
    H  query heads      `n_heads`
    K  key/value heads  `n_kv_heads`; K = H unless heads share keys and values
    D  channels a head  C / H
    V  vocabulary       256 for bytes
    F  feed-forward     inner width of the SwiGLU
    E  experts          of a mixture-of-experts layer

Promoted by 03_attention.
"""

from dataclasses import dataclass, field

from shared.errors import UserError


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding."""

    base: float = 10_000.0
    """wavelengths run from 2 pi up to nearly 2 pi times this many positions"""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the transformer."""

    vocab_size: int = 256
    """V, number of different ids; a run sets it to its tokenizer's"""
    context_length: int = 256
    """largest T, positions the model can look at"""
    n_layers: int = 4
    """blocks, one after another"""
    d_model: int = 128
    """C, channels of the residual stream"""
    n_heads: int = 4
    """H, query heads; must divide d_model"""
    n_kv_heads: int | None = None
    """K, key/value heads, must divide n_heads; none: as many as n_heads"""
    d_ff: int | None = None
    """F, inner width of the feed-forward; none: 8/3 of d_model, rounded up to 32s"""
    norm_eps: float = 1e-5
    """added under the root in RMSNorm, so that silence is not divided by zero"""
    rope: RopeConfig = field(default_factory=RopeConfig)
    """rotary position embedding"""

    def __post_init__(self) -> None:
        resolved = {"n_kv_heads": self.kv_heads, "d_ff": self.ff_width}
        for name in ("vocab_size", "context_length", "n_layers", "d_model", "n_heads", *resolved):
            value = resolved.get(name, getattr(self, name))
            if value < 1:
                raise UserError(f"model.{name} is {value}; it must be at least 1")
        if self.d_model % self.n_heads:
            raise UserError(
                f"model.d_model {self.d_model} does not divide into n_heads {self.n_heads}: "
                f"take {self.n_heads * max(1, self.d_model // self.n_heads)}, or other heads"
            )
        if self.head_width % 2:
            raise UserError(
                f"a head has d_model / n_heads = {self.head_width} channels; RoPE turns them "
                "in pairs, so the number must be even"
            )
        if self.n_heads % self.kv_heads:
            raise UserError(
                f"model.n_kv_heads {self.kv_heads} does not divide n_heads {self.n_heads}: "
                f"take one of {[k for k in range(1, self.n_heads + 1) if self.n_heads % k == 0]}"
            )

    @property
    def head_width(self) -> int:
        """D, channels a head."""
        return self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """K, resolved."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def ff_width(self) -> int:
        """F, resolved."""
        return -(-8 * self.d_model // (3 * 32)) * 32 if self.d_ff is None else self.d_ff
