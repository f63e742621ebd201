"""Model configuration, and the glossary of sizes that every shape comment uses.

    B  batch            sequences side by side
    T  positions        ids in a sequence
    C  channels         width of the residual stream, `d_model`
    H  query heads      `n_heads`
    K  key/value heads  `n_kv_heads`; K = H unless heads share keys and values
    D  channels a head  C / H
    V  vocabulary       256 for bytes
    F  feed-forward     inner width of the feed-forward, or of each expert
    E  experts          of a mixture-of-experts layer
    W  window           keys that a query sees, its own included
    L  layers           `n_layers`

The defaults are the plain model of the whiteboard: RoPE, RMSNorm, SwiGLU, all
heads with their own keys, everything seen.
Promoted by 03_attention.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import UserError


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding."""

    base: float = 10_000.0
    """wavelengths run from 2 pi up to nearly 2 pi times this many positions"""
    scaling: Literal["none", "interpolation", "ntk"] = "none"
    """how a model trained on short contexts is made to read longer ones"""
    factor: float = 1.0
    """how many times longer"""

    def __post_init__(self) -> None:
        if self.base <= 1:
            raise UserError(f"model.rope.base is {self.base}; it must be above 1")
        if self.factor < 1:
            raise UserError(f"model.rope.factor is {self.factor}; it must be at least 1")
        if self.factor != 1 and self.scaling == "none":
            raise UserError(
                f"model.rope.factor is {self.factor} but rope.scaling is none: "
                "set scaling to interpolation or ntk"
            )


@dataclass(frozen=True)
class NormConfig:
    """Normalisation before each branch, and of queries and keys."""

    kind: Literal["rms", "layer"] = "rms"
    """rms divides by the root mean square; layer takes the mean out first"""
    eps: float = 1e-5
    """added under the root, so that silence is not divided by zero"""
    queries_and_keys: bool = False
    """QK-norm: brings each head's queries and keys to one length before they meet"""

    def __post_init__(self) -> None:
        if not self.eps >= 0:
            raise UserError(f"model.norm.eps is {self.eps}; it must be at least 0")


@dataclass(frozen=True)
class MoEConfig:
    """Mixture of experts in place of the feed-forward."""

    n_experts: int = 1
    """E, feed-forwards to choose from; 1: a plain feed-forward"""
    top_k: int = 2
    """experts that each position goes through"""
    balance_weight: float = 0.01
    """weight in the loss of the term that spreads positions evenly over experts"""
    z_weight: float = 0.001
    """weight in the loss of the term that keeps router logits small"""

    def __post_init__(self) -> None:
        if self.n_experts < 1:
            raise UserError(f"model.moe.n_experts is {self.n_experts}; it must be at least 1")
        if self.n_experts > 1 and not 1 <= self.top_k <= self.n_experts:
            raise UserError(
                f"model.moe.top_k is {self.top_k}; expected 1 to n_experts {self.n_experts}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and parts of the transformer."""

    vocab_size: int = 256
    """V, number of different ids; a run sets it to its tokenizer's"""
    context_length: int = 256
    """largest T, positions the model can look at"""
    n_layers: int = 4
    """L, blocks, one after another"""
    d_model: int = 128
    """C, channels of the residual stream"""
    n_heads: int = 4
    """H, query heads; must divide d_model"""
    n_kv_heads: int | None = None
    """K, key/value heads, must divide n_heads; none: as many as n_heads; 1: multi-query"""
    d_ff: int | None = None
    """F; none: 4 times d_model, with swiglu 8/3 of it rounded up to 32s"""
    positions: Literal["rope", "learned", "sinusoidal", "none"] = "rope"
    """how the model knows the order: turned queries and keys, a vector added to x, or not at all"""
    activation: Literal["swiglu", "gelu", "relu2"] = "swiglu"
    """the nonlinearity inside the feed-forward"""
    window: int | None = None
    """W, keys that a query sees, its own included; none: all before it"""
    bias: bool = False
    """a constant added by every linear layer of a block, and by layer norms"""
    dropout: float = 0.0
    """share of each branch's output that is blanked in training"""
    tied_head: bool = False
    """the head uses the embedding's matrix"""
    logit_cap: float | None = None
    """logits are squeezed by a tanh to stay between minus and plus this"""
    document_start: int | None = None
    """positions and attention begin anew at this id; none: a window is one stream"""
    norm: NormConfig = field(default_factory=NormConfig)
    """normalisation"""
    rope: RopeConfig = field(default_factory=RopeConfig)
    """rotary position embedding"""
    moe: MoEConfig = field(default_factory=MoEConfig)
    """mixture of experts"""

    def __post_init__(self) -> None:
        resolved = {"n_kv_heads": self.kv_heads, "d_ff": self.ff_width, "window": self.reach}
        whole = ("vocab_size", "context_length", "n_layers", "d_model", "n_heads", *resolved)
        for name in whole:
            value = resolved.get(name, getattr(self, name))
            if value < 1:
                raise UserError(f"model.{name} is {value}; it must be at least 1")
        if self.d_model % self.n_heads:
            raise UserError(
                f"model.d_model {self.d_model} does not divide into n_heads {self.n_heads}: "
                f"take {self.n_heads * max(1, self.d_model // self.n_heads)}, or other heads"
            )
        if self.positions == "rope" and self.head_width % 2:
            raise UserError(
                f"a head has d_model / n_heads = {self.head_width} channels; RoPE turns them "
                "in pairs, so the number must be even"
            )
        if self.n_heads % self.kv_heads:
            raise UserError(
                f"model.n_kv_heads {self.kv_heads} does not divide n_heads {self.n_heads}: "
                f"take one of {[k for k in range(1, self.n_heads + 1) if self.n_heads % k == 0]}"
            )
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout is {self.dropout}; expected 0 to below 1")
        if self.logit_cap is not None and not self.logit_cap > 0:
            raise UserError(f"model.logit_cap is {self.logit_cap}; it must be above 0, or none")

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
        if self.d_ff is not None:
            return self.d_ff
        return -(-8 * self.d_model // 96) * 32 if self.activation == "swiglu" else 4 * self.d_model

    @property
    def reach(self) -> int:
        """Keys that a query can see in one layer, its own included."""
        whole = self.context_length
        return whole if self.window is None else min(self.window, whole)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ModelConfig":
        """The config that `dataclasses.asdict` took apart; what is missing gets its default."""
        fields = dict(fields)
        if (eps := fields.pop("norm_eps", None)) is not None:  # as version 0.1.0 called it
            fields["norm"] = {"eps": eps}
        families = {"norm": NormConfig, "rope": RopeConfig, "moe": MoEConfig}
        nested = {name: family(**fields.get(name, {})) for name, family in families.items()}
        return cls(**{**fields, **nested})
