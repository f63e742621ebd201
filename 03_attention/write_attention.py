"""Yours to write: attention, from a row of scores to the whole decoder.

    make learn                 # shows the task at hand, and grades each time you save
    make check STEP=03         # grades all of this step

Write what is missing below each docstring, in place of `raise NotImplementedError`. You
may use what you have written above, and add functions of your own. Sizes: B batch, T positions,
C channels, H query heads, K key/value heads, D channels a head, F feed-forward width,
V vocabulary, L layers; `...` stands for any sizes in front, also none.
"""

import math

import torch
from einops import rearrange, repeat
from torch import Tensor

from shared.model.config import ModelConfig


def softmax(scores: Tensor) -> Tensor:
    """Positive weights that sum to 1 along the last axis, and grow with the scores.

    (..., T) -> (..., T). Scores of 1000 must not overflow. PyTorch's softmax is refused.

    >>> softmax(torch.tensor([0.0, math.log(3)]))
    tensor([0.2500, 0.7500])
    """
    raise NotImplementedError


def score(queries: Tensor, keys: Tensor) -> Tensor:
    """How well each query fits each key: their dot product, divided by the root of D.

    (..., T, D) and (..., T, D) -> (..., T, T), a row for each query.

    >>> queries = torch.tensor([[2.0, 0, 0, 0], [0, 4, 0, 0]])            # T = 2, D = 4
    >>> score(queries, keys=torch.tensor([[1.0, 3, 0, 0], [5, 0, 0, 0]]))
    tensor([[1., 5.],
            [6., 0.]])
    """
    raise NotImplementedError


def hide_future(scores: Tensor) -> Tensor:
    """The scores, with minus infinity wherever a query would look at a later position.

    (..., T, T) -> (..., T, T); row t is the query at position t. Its own position it may see.

    >>> hide_future(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., -inf],
            [3., 4.]])
    """
    raise NotImplementedError


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """One causal head: each position takes a weighted sum of the values up to its own.

    Three of (..., T, D) -> the sums (..., T, D), and the weights that made them (..., T, T).
    PyTorch's scaled_dot_product_attention is refused.

    >>> mixed, weights = attend(torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([[4.0], [8.0]]))
    >>> mixed
    tensor([[4.],
            [6.]])
    >>> weights
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    raise NotImplementedError


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Each head takes its own channels of every position, the first head the first ones.

    (B, T, heads · D) -> (B, heads, T, D).

    >>> split_heads(torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8]]]), heads=2).tolist()
    [[[[1, 2], [5, 6]], [[3, 4], [7, 8]]]]
    """
    raise NotImplementedError


def merge_heads(x: Tensor) -> Tensor:
    """The way back: the heads' channels side by side again.

    (B, H, T, D) -> (B, T, H · D).

    >>> merge_heads(torch.tensor([[[[1, 2], [5, 6]], [[3, 4], [7, 8]]]])).tolist()
    [[[1, 2, 3, 4], [5, 6, 7, 8]]]
    """
    raise NotImplementedError


def share_heads(x: Tensor, n_heads: int) -> Tensor:
    """Each key/value head, repeated for the query heads that read it: neighbours share one.

    (B, K, T, D) -> (B, H, T, D), H = n_heads. Of six query heads 0 and 1 read the first of three.

    >>> share_heads(torch.tensor([[[[7]], [[8]], [[9]]]]), n_heads=6).flatten().tolist()
    [7, 7, 8, 8, 9, 9]
    """
    raise NotImplementedError


def rms_norm(x: Tensor, gain: Tensor, eps: float = 1e-5) -> Tensor:
    """Every vector divided by the root of its mean square, each channel then times its gain.

    (..., C) and a gain (C,) -> (..., C). `eps` is added under the root. PyTorch's rms_norm is
    refused.

    >>> rms_norm(torch.tensor([[1.0, 7.0]]), gain=torch.tensor([1.0, 10.0]), eps=0.0)
    tensor([[ 0.2000, 14.0000]])
    """
    raise NotImplementedError


def rotate(x: Tensor, base: float = 10_000.0) -> Tensor:
    """RoPE: at position t pair i is turned by the angle t · base^(-2i/D), in radians.

    (B, heads, T, D) -> the same shape. Pair i is channel i and channel i + D/2, a point (a, b) in
    the plane; turned by an angle it is (a cos - b sin, b cos + a sin).

    >>> turned = rotate(torch.tensor([1.0, 0.0]).expand(1, 1, 3, 2))     # D = 2: one pair
    >>> turned[0, 0, 2]                                                   # cos 2, sin 2
    tensor([-0.4161,  0.9093])
    """
    raise NotImplementedError


def multi_head(x: Tensor, weights: dict[str, Tensor], n_heads: int) -> tuple[Tensor, Tensor]:
    """Several heads side by side, which share key/value heads.

    x (B, T, C) -> (B, T, C), and the heads' weights (B, H, T, T). `weights` holds the matrices
    "query" (C, C), "key" and "value" (K · D, C), "output" (C, C); the product with one is
    `x @ matrix.T`. Queries and keys are turned by RoPE, values are not. Which K it is follows
    from the matrices' sizes. Some models, such as the quick one, have the gains "query_norm" and
    "key_norm" (D,) among their weights: there every query and key passes `rms_norm` before it is
    turned (QK-norm).

    >>> weights = {name: torch.eye(4) for name in ("query", "key", "value", "output")}
    >>> multi_head(torch.tensor([[[1.0, 2, 3, 4]]]), weights, n_heads=2)[0]
    tensor([[[1., 2., 3., 4.]]])
    """
    raise NotImplementedError


def feed_forward(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """SwiGLU: silu of the gate says how much of `up` goes on to `down`.

    x (B, T, C) -> (B, T, C). `weights` holds "gate" and "up" (F, C) and "down" (C, F).
    silu(z) = z / (1 + e^-z); PyTorch's silu is refused.

    >>> weights = {"gate": torch.eye(1), "up": 10 * torch.eye(1), "down": torch.eye(1)}
    >>> feed_forward(torch.tensor([[[2.0]]]), weights)                    # 1.7616 · 20
    tensor([[[35.2319]]])
    """
    raise NotImplementedError


def block(x: Tensor, weights: dict[str, Tensor], n_heads: int) -> Tensor:
    """Attention, then feed-forward: each reads a normed copy of the stream and adds its answer.

    x (B, T, C) -> (B, T, C). `weights` holds the gains "attention_norm.weight" and
    "feedforward_norm.weight" (C,), and under "attention.query.weight", "attention.key.weight", …,
    "feedforward.gate.weight", … what the two parts above hold, gains of QK-norm included.

    >>> gains = {f"{part}_norm.weight": torch.ones(2) for part in ("attention", "feedforward")}
    >>> heads = {f"attention.{n}.weight": torch.eye(2) for n in ("query", "key", "value", "output")}
    >>> inner = {f"feedforward.{n}.weight": torch.zeros(2, 2) for n in ("gate", "up", "down")}
    >>> block(torch.tensor([[[3.0, 3.0]]]), gains | heads | inner, n_heads=1)   # 3, and 3 normed
    tensor([[[4.0000, 4.0000]]])
    """
    raise NotImplementedError


def decode(ids: Tensor, weights: dict[str, Tensor], n_heads: int, n_layers: int) -> Tensor:
    """The whole decoder: embedding, blocks, a last norm, and the head.

    ids (B, T) -> logits (B, T, V). `weights` holds "embedding.weight" (V, C),
    "final_norm.weight" (C,), "head.weight" (V, C), and those of block 0 under
    "blocks.0.attention_norm.weight" and so on.

    >>> tables = {"embedding.weight": torch.eye(2), "head.weight": torch.eye(2)}
    >>> weights = tables | {"final_norm.weight": torch.ones(2)}
    >>> decode(torch.tensor([[0, 1]]), weights, n_heads=1, n_layers=0)    # [1, 0] normed: √2
    tensor([[[1.4142, 0.0000],
             [0.0000, 1.4142]]])
    """
    raise NotImplementedError


def count_parameters(config: ModelConfig) -> int:
    """How many numbers the plain decoder above learns, without building it.

    The sizes are `config.vocab_size` (V), `d_model` (C), `n_layers` (L), `n_heads` (H), `kv_heads`
    (K) and `ff_width` (F). There are no biases; embedding and head are two matrices.

    >>> count_parameters(ModelConfig(n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, d_ff=192))
    131392
    """
    raise NotImplementedError


def forward_flops(config: ModelConfig, positions: int | None = None) -> float:
    """FLOPs of one token's way forward, the mean over T positions (none: `config.context_length`).

    A multiply and an add are 2: a matrix product takes 2 for each weight of its matrix, and the
    embedding is looked up, not multiplied. In each layer a query takes 2 · C for its scores with
    one key, summed over heads, and 2 · C for that key's value. Position t sees t + 1 keys.
    Norms, softmax and RoPE are not counted.

    >>> config = ModelConfig(vocab_size=10, n_layers=1, d_model=2, n_heads=1, d_ff=3)
    >>> forward_flops(config, positions=3)           # 2 · (16 + 18 + 20), and 8 for each of 2 keys
    124.0
    """
    raise NotImplementedError
