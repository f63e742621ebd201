"""The stacked model: the same weights in fewer operations, for writing one id after another.

With one position in hand, a small model's time goes into starting operations. So matrices that
read the same vector become one (query, key and value; gate and up), the norms' gains go into the
columns that they would scale, queries and keys are normed and turned together, and the plain
names of the parts (03) are left out. The logits are the plain model's, but for rounding.
Promoted by 06_chat.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.device import synchronize, work_clock
from shared.model.causal_attention import LayerCache
from shared.model.config import ModelConfig
from shared.model.heads import share_heads
from shared.model.positions import Angles
from shared.model.transformer import Block, Cache, Transformer

LARGEST = 64_000_000  # parameters: in larger ones the products alone take the time
ALIKE = (  # any value of these will do
    *("vocab_size", "context_length", "n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff"),
    *("tied_head", "logit_cap", "window", "dropout", "document_start", "norm", "rope"),
)
WORTH = 1.2  # how many times faster bfloat16 must be, as it rounds


def stacked(model: Transformer, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The stacked model of a plain one, or the model itself if it has other parts or is large.

    The model itself, too, where another forward pass has taken the place of ours: a learner's, or
    that of a subclass.

    Args:
        dtype: of the matrices. What flows between them and the cache stay in float32.
    """
    config = model.config
    plain = config == ModelConfig(**{name: getattr(config, name) for name in ALIKE})
    single = all(parameter.dtype is torch.float32 for parameter in model.parameters())
    small = model.count_parameters() <= LARGEST
    ours = type(model).forward.__module__ == Transformer.__module__  # nobody's own forward pass
    if not (ours and plain and single and small and config.norm.kind == "rms"):
        return model
    return StackedTransformer(model, dtype).eval()


@torch.inference_mode()
def quickest_stacked(
    model: Transformer, rounds: int = 10, clock: Callable[[], float] | None = None
) -> nn.Module:
    """The stacked model in float32, or in bfloat16 if passes for one id show that it wins here.

    Only measuring can tell: a processor without units for bfloat16 may take longer.
    """
    ways = [stacked(model, dtype) for dtype in (torch.float32, torch.bfloat16)]
    device = next(model.parameters()).device
    clock = clock or work_clock(device)
    one_id = torch.zeros(1, 1, dtype=torch.long, device=device)
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for way, timed in zip(ways, seconds, strict=True):
            way(one_id)  # what the other way left in the caches is gone
            synchronize(device)
            begun = clock()
            way(one_id)
            synchronize(device)
            timed.append(clock() - begun)
    single, half = map(min, seconds)
    return ways[half * WORTH < single]


class StackedTransformer(nn.Module):
    """`Transformer`'s forward pass, without gradients; the embedding is the model's own.

    It takes any cache that the plain model takes. What it reads is one document.
    """

    def __init__(self, model: Transformer, dtype: torch.dtype) -> None:
        super().__init__()
        config = self.config = model.config
        self.embedding = model.embedding
        # Each half of a head has the same angles; the sine is subtracted in the first.
        self.cos = torch.cat((model.cos, model.cos), dim=-1).unsqueeze(1)  # (T, 1, D)
        self.sin = torch.cat((-model.sin, model.sin), dim=-1).unsqueeze(1)  # (T, 1, D)
        self.blocks = [StackedBlock(block, config, dtype) for block in model.blocks]
        self.head = laid(stack(model.final_norm, model.head), dtype)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Ids (B, T) -> logits (B, T, V); see `Transformer.forward`.

        Raises:
            ValueError: positions, cached ones included, exceed the context length.
        """
        end = ids.shape[1] + (0 if cache is None else cache.length)
        if end > self.config.context_length:
            raise ValueError(f"{end} positions; the model has {self.config.context_length}")
        positions = torch.arange(ids.shape[1], device=ids.device)  # (T,)
        if cache is not None:
            positions = cache.starts + positions  # (T,) or (B, T)
        angles = self.cos[positions], self.sin[positions]  # (..., T, 1, D)
        x = F.embedding(ids, self.embedding.weight)  # (B, T, C)
        for index, block in enumerate(self.blocks):
            x = block.add(x, angles, None if cache is None else cache.layers[index])
        logits = product(normed(x, self.config), self.head)  # (B, T, V)
        cap = self.config.logit_cap
        return logits if cap is None else cap * (logits / cap).tanh()


class StackedBlock:
    """One block's matrices: what reads the same vector stands in one matrix."""

    def __init__(self, block: Block, config: ModelConfig, dtype: torch.dtype) -> None:
        self.config = config
        attention, feedforward = block.attention, block.feedforward
        readers = attention.query, attention.key, attention.value
        self.readers = laid(stack(block.attention_norm, *readers), dtype)
        self.output = laid(attention.output.weight, dtype)
        both = feedforward.gate, feedforward.up
        self.gate_up = laid(stack(block.feedforward_norm, *both), dtype)
        self.down = laid(feedforward.down.weight, dtype)
        self.attend = attention.attend
        self.gains = None
        if config.norm.queries_and_keys:
            of_queries = attention.query_norm.weight.expand(config.n_heads, -1)
            of_keys = attention.key_norm.weight.expand(config.kv_heads, -1)
            self.gains = torch.cat((of_queries, of_keys)).detach()  # (H + K, D)

    def add(self, x: Tensor, angles: Angles, cache: LayerCache | None) -> Tensor:
        """(B, T, C) -> (B, T, C): look back, then think."""
        config, (cos, sin) = self.config, angles
        heads = product(normed(x, config), self.readers)
        heads = heads.unflatten(-1, (-1, config.head_width))  # (B, T, H + 2 K, D)
        turning, values = heads.split((config.n_heads + config.kv_heads, config.kv_heads), dim=2)
        if self.gains is not None:
            turning = normed(turning, config) * self.gains
        swapped = turning.roll(config.head_width // 2, dims=-1)
        turned = torch.addcmul(turning * cos, swapped, sin).transpose(1, 2)  # (B, H + K, T, D)
        queries, keys = turned.split((config.n_heads, config.kv_heads), dim=1)
        values, mask = values.transpose(1, 2), None  # (B, K, T, D)
        if cache is not None:
            keys, values, mask = cache.extend(keys, values)  # (B, K, T held, D)
        if config.kv_heads < config.n_heads:
            keys, values = (share_heads(part, config.n_heads) for part in (keys, values))
        if mask is None:
            mixed = self.attend(queries, keys, values, None)  # (B, H, T, D)
        else:
            mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        x = x + product(mixed.transpose(1, 2).flatten(2), self.output)
        gate, up = product(normed(x, config), self.gate_up).chunk(2, dim=-1)  # (B, T, F) each
        return x + product(F.silu(gate) * up, self.down)


def stack(norm: nn.Module, *layers: nn.Linear) -> Tensor:
    """The layers' weights one below the other, (sum of outputs, C), with the norm's gain."""
    return torch.cat([layer.weight for layer in layers]) * norm.weight


def laid(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A layer's weight (out, in) as `product` wants it: a copy, (in, out) in float32.

    For few rows that is faster: with `small`'s matrices, on one AVX2 core, 3.6 ms in place of 4.5
    for one row, 4.8 of 7.3 for two, 9.1 of 10.3 for nine. In bfloat16 it is slower.
    """
    weight = weight.detach().to(dtype)
    return weight.t().contiguous() if dtype is torch.float32 else weight


def normed(x: Tensor, config: ModelConfig) -> Tensor:
    """Any shape, kept: root mean square 1 over the last axis. The gain is elsewhere."""
    return x * x.square().mean(dim=-1, keepdim=True).add_(config.norm.eps).rsqrt_()


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """(..., in) and a matrix that was `laid` -> (..., out), both in float32."""
    if matrix.dtype is torch.float32:
        return x @ matrix
    return F.linear(x.to(matrix.dtype), matrix).float()
