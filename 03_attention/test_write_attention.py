"""Grades `write_attention.py`: each exercise against PyTorch, and the mistakes that it knows.

Under pytest the function under test is the shipped one; `make learn` and `make check` call the
same tests with the learner's. Whoever is still writing: what stands here tells much.
"""

import math
from dataclasses import replace

import torch
from attention import attend, block, feed_forward, multi_head, rms_norm, rotate, score, share_heads
from judging import Answer, Draw, grades
from torch import Tensor
from torch.nn import functional as F

from shared.model import counting
from shared.model.causal_attention import CausalAttention
from shared.model.config import ModelConfig, NormConfig
from shared.model.positions import rope_angles
from shared.model.transformer import Block, Transformer

QK_NORM = ("attention.query_norm", "attention.key_norm")
MATRICES = ("query", "key", "value", "output")
ADAPTERS = {"count_parameters": lambda config: counting.count_parameters(config).total}


@grades("softmax")
def test_softmax_gives_shares_of_any_shape_and_does_not_overflow(answer: Answer, draw: Draw):
    for scores in (draw.normal(3, 3), draw.normal(2, 4, draw.whole(5, 9)), draw.normal(2, 2) + 1e3):
        answer.gives(scores.softmax(-1), scores)


@grades("score")
def test_scores_are_dot_products_over_the_root_of_a_heads_width(answer: Answer, draw: Draw):
    positions, channels = draw.whole(5, 7), draw.whole(2, 4)
    queries, keys = draw.normal(2, positions, channels), draw.normal(2, positions, channels)
    expected = torch.einsum("bqd,bkd->bqk", queries, keys) / channels**0.5
    answer.gives(expected[0], queries[0], keys[0])
    answer.gives(expected, queries, keys)


@grades("hide_future")
def test_a_query_sees_itself_and_what_stands_before_it(answer: Answer, draw: Draw):
    scores = draw.normal(2, *[draw.whole(3, 6)] * 2)
    expected = scores.clone()
    for position in range(scores.shape[-1]):
        expected[:, position, position + 1 :] = -math.inf
    answer.gives(expected, scores)


@grades("attend")
def test_one_head_equals_pytorchs(answer: Answer, draw: Draw):
    positions, channels = draw.whole(3, 6), draw.whole(2, 5)
    queries, keys, values = draw.normal(3, 2, positions, channels)
    weights = F.scaled_dot_product_attention(queries, keys, torch.eye(positions), is_causal=True)
    mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    answer.gives((mixed, weights), queries, keys, values)


@grades("split_heads")
def test_a_head_takes_its_own_channels_of_every_position(answer: Answer, draw: Draw):
    heads, channels = draw.whole(2, 3), draw.whole(4, 5)
    x = draw.normal(2, draw.whole(6, 8), heads * channels)
    answer.gives(x.unflatten(-1, (heads, channels)).transpose(1, 2), x, heads)


@grades("merge_heads")
def test_merging_puts_every_channel_back(answer: Answer, draw: Draw):
    x = draw.normal(2, draw.whole(2, 3), draw.whole(4, 5), draw.whole(2, 3))
    answer.gives(x.transpose(1, 2).flatten(2), x)


@grades("share_heads")
def test_neighbouring_query_heads_share(answer: Answer, draw: Draw):
    heads, group = draw.whole(2, 3), draw.whole(2, 3)
    x = draw.normal(2, heads, 4, 5)
    answer.gives(x.repeat_interleave(group, dim=1), x, heads * group)


@grades("rms_norm")
def test_the_norm_equals_pytorchs(answer: Answer, draw: Draw):
    x, eps = 3 * draw.normal(4, 3, 4), draw.between(0.1, 0.3)
    gain = draw.normal(4) + 2
    answer.gives(F.rms_norm(x, (4,), gain, eps), x, gain, eps)


@grades("rotate")
def test_turning_is_a_product_of_complex_numbers(answer: Answer, draw: Draw):
    half, base = draw.whole(2, 4), draw.between(10, 100)
    x = draw.normal(2, 3, draw.whole(3, 6), 2 * half)
    speeds = base ** -(torch.arange(half) / half)
    angles = torch.arange(x.shape[2])[:, None] * speeds  # (T, D/2)
    points = torch.complex(*x.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
    answer.gives(torch.cat((points.real, points.imag), dim=-1), x, base)


@grades("multi_head")
def test_several_heads_equal_the_promoted_ones(answer: Answer, draw: Draw):
    for normed in (False, True):
        config = replace(some_config(draw), norm=NormConfig(queries_and_keys=normed))
        promoted = CausalAttention(config)
        weights = filled(promoted, draw)
        plain = {name.removesuffix(".weight"): weight for name, weight in weights.items()}
        x = draw.normal(2, draw.whole(3, 6), config.d_model)
        angles = rope_angles(x.shape[1], config.head_width, config.rope)
        maps = multi_head(x, plain, config.n_heads)[1]
        answer.gives((promoted(x, angles), maps), x, plain, config.n_heads)


@grades("feed_forward")
def test_swiglu_equals_that_of_pytorchs_silu(answer: Answer, draw: Draw):
    x, inner = draw.normal(2, 3, 4), draw.whole(5, 7)
    gate, up, down = draw.normal(inner, 4), draw.normal(inner, 4), draw.normal(4, inner)
    expected = (F.silu(x @ gate.T) * (x @ up.T)) @ down.T
    answer.gives(expected, x, {"gate": gate, "up": up, "down": down})


@grades("block")
def test_a_block_equals_the_promoted_one(answer: Answer, draw: Draw):
    for normed in (False, True):
        config = replace(some_config(draw), norm=NormConfig(queries_and_keys=normed))
        promoted = Block(config)
        weights = filled(promoted, draw)
        x = draw.normal(2, draw.whole(3, 6), config.d_model)
        angles = rope_angles(x.shape[1], config.head_width, config.rope)
        answer.gives(promoted(x, angles), x, weights, config.n_heads)


@grades("decode")
def test_the_decoder_equals_the_promoted_one(answer: Answer, draw: Draw):
    config = some_config(draw)
    promoted = Transformer(config)
    weights = filled(promoted, draw)
    ids = draw.ids(2, draw.whole(3, 6), below=config.vocab_size)
    answer.gives(promoted(ids), ids, weights, config.n_heads, config.n_layers)


@grades("count_parameters")
def test_the_formula_counts_what_a_model_holds(answer: Answer, draw: Draw):
    config = some_config(draw)
    answer.gives(Transformer(config).count_parameters(), config)


@grades("forward_flops")
def test_flops_are_those_of_every_product_and_every_key_seen(answer: Answer, draw: Draw):
    config, positions = some_config(draw), draw.whole(3, 9)
    linear = [m for m in Transformer(config).modules() if isinstance(m, torch.nn.Linear)]
    products = sum(2 * layer.weight.numel() for layer in linear)
    keys = sum(t + 1 for t in range(positions)) / positions
    expected = products + config.n_layers * 4 * config.d_model * keys
    answer.gives(expected, config, positions)


def some_config(draw: Draw) -> ModelConfig:
    """Small sizes, all different, with shared heads."""
    kv_heads, pairs = draw.whole(2, 3), draw.whole(2, 3)
    width = 2 * kv_heads * 2 * pairs
    inner, layers = width + draw.whole(1, 9), draw.whole(2, 3)
    return ModelConfig(29, 16, layers, width, 2 * kv_heads, kv_heads, inner)


def filled(module: torch.nn.Module, draw: Draw) -> dict[str, Tensor]:
    """Fills a module with large random weights; returns them by name."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(draw.normal(*weight.shape) / weight.shape[-1] ** 0.5)
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def turned_by_neighbours(x: Tensor, base: float = 10_000.0) -> Tensor:
    """RoPE as its paper has it: channel 2i with channel 2i + 1."""
    halves = torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)
    turned = rotate(halves, base)
    return torch.stack(turned.chunk(2, dim=-1), dim=-1).flatten(-2)


def one_head(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The rest of a head after its scores."""
    return scores.softmax(-1) @ values, scores.softmax(-1)


def masked(scores: Tensor, diagonal: int) -> Tensor:
    """Minus infinity from that diagonal on."""
    return scores.masked_fill(torch.ones(scores.shape[-2:]).triu(diagonal).bool(), -math.inf)


def zeroed_afterwards(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The mask in the wrong place: after softmax."""
    weights = score(queries, keys).softmax(-1).tril()
    return weights @ values, weights


def heads_shared(
    x: Tensor,
    weights: dict[str, Tensor],
    n_heads: int,
    share=share_heads,
    turn=rotate,
    values=None,
    normed_last=False,
) -> tuple[Tensor, Tensor]:
    """Attention with another way to share or turn heads."""

    def turned(part: Tensor, gain: Tensor | None) -> Tensor:
        if gain is None:
            return turn(part)
        return rms_norm(turn(part), gain) if normed_last else turn(rms_norm(part, gain))

    width = x.shape[-1] // n_heads
    queries, keys, held = (
        (x @ weights[n].T).unflatten(-1, (-1, width)).transpose(1, 2)
        for n in ("query", "key", "value")
    )
    held = values(held) if values else held
    queries = turned(queries, weights.get("query_norm"))
    keys = turned(keys, weights.get("key_norm"))
    mixed, maps = attend(queries, share(keys, n_heads), share(held, n_heads))
    return mixed.transpose(1, 2).flatten(2) @ weights["output"].T, maps


def over_and_over(x: Tensor, n_heads: int) -> Tensor:
    """Key/value heads 0, 1, 0, 1 for query heads 0 to 3."""
    return x.repeat(1, n_heads // x.shape[1], 1, 1)


def without(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The matrices of one part, by their short names."""
    named = ((k.removeprefix(prefix), w) for k, w in weights.items() if k.startswith(prefix))
    return {name.removesuffix(".weight"): weight for name, weight in named}


def other_block(x: Tensor, weights: dict, n_heads: int, stream=1.0, normed=True, serial=True):
    """A block with one thing done otherwise."""
    norm = [weights[f"{n}_norm.weight"] for n in ("attention", "feedforward")]
    brought = rms_norm if normed else lambda x, gain: x
    mixed = multi_head(brought(x, norm[0]), without(weights, "attention."), n_heads)[0]
    after = stream * x + mixed
    thought = feed_forward(
        brought(after if serial else x, norm[1]), without(weights, "feedforward.")
    )
    return stream * after + thought


def other_decode(ids: Tensor, weights: dict, n_heads: int, n_layers: int, layer=int, last=rms_norm):
    """A decoder with one thing done otherwise."""
    x = weights["embedding.weight"][ids]
    for index in range(n_layers):
        prefix = f"blocks.{layer(index)}."
        inside = {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}
        x = block(x, inside, n_heads)
    return last(x, weights["final_norm.weight"]) @ weights["head.weight"].T


MISTAKES = {
    "softmax": {
        "large scores overflow: take the largest of each row out first": lambda s: (
            s.exp() / s.exp().sum(-1, keepdim=True)
        ),
        "the columns sum to 1, not the rows: the sum goes along the last axis": lambda s: s.softmax(
            -2
        ),
        "all numbers together sum to 1: each row has its own sum": lambda s: (
            s.exp() / s.exp().sum()
        ),
        "the scores themselves are divided by their sum: first make them positive, e^score": (
            lambda s: s / s.sum(-1, keepdim=True)
        ),
    },
    "score": {
        "√ of the wrong size: it is D, the channels of a head, not T, the positions": lambda q, k: (
            q @ k.mT / q.shape[-2] ** 0.5
        ),
        "divided by D, not by its root": lambda q, k: q @ k.mT / q.shape[-1],
        "not divided by the root of D": lambda q, k: q @ k.mT,
        "rows and columns are swapped: a row belongs to a query": lambda q, k: score(k, q),
    },
    "hide_future": {
        "off by one: a position may see itself": lambda s: masked(s, 0),
        "off by one: a position sees the one after it": lambda s: masked(s, 2),
        "the wrong triangle: the past is hidden, the future is seen": lambda s: masked(s.mT, 1).mT,
        "0 does not hide: e^0 = 1 is a share like any other; minus infinity does": lambda s: (
            s.tril()
        ),
    },
    "attend": {
        "no mask: the future is seen": lambda q, k, v: one_head(score(q, k), v),
        "the mask is off by one": lambda q, k, v: one_head(masked(score(q, k), 2), v),
        "the mask comes after softmax, so the rows no longer sum to 1": zeroed_afterwards,
        "the scores are not divided by the root of D": lambda q, k, v: one_head(
            masked(q @ k.mT, 1), v
        ),
        "softmax goes over the wrong axis": lambda q, k, v: (
            masked(score(q, k), 1).softmax(-2) @ v,
            masked(score(q, k), 1).softmax(-2),
        ),
    },
    "split_heads": {
        "the axes are only cut anew, not swapped: a head gets some positions, not some channels": (
            lambda x, heads: x.reshape(len(x), heads, x.shape[1], -1)
        ),
        "a head's channels must be neighbours, here they lie apart: (heads channels)": (
            lambda x, heads: x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)
        ),
        "heads and positions must change places: (B, heads, T, D)": lambda x, heads: x.unflatten(
            -1, (heads, -1)
        ),
    },
    "merge_heads": {
        "the right shape, the wrong numbers: heads and positions must change places first": (
            lambda x: x.reshape(len(x), x.shape[2], -1)
        ),
        "the heads' channels are mixed: those of one head stay neighbours": lambda x: x.permute(
            0, 2, 3, 1
        ).flatten(2),
    },
    "share_heads": {
        "heads 0, 1, 0, 1: neighbouring query heads share, so it is 0, 0, 1, 1": over_and_over,
        "repeated along positions: the second axis is that of heads": lambda x, n_heads: (
            x.repeat_interleave(n_heads // x.shape[1], dim=2)
        ),
    },
    "rms_norm": {
        "divided by the mean square: the root is missing": lambda x, gain, eps: (
            x / (x.square().mean(-1, keepdim=True) + eps) * gain
        ),
        "eps is added after the root: it belongs under it": lambda x, gain, eps: (
            x / (x.square().mean(-1, keepdim=True).sqrt() + eps) * gain
        ),
        "the sum of squares, not their mean": lambda x, gain, eps: (
            x / (x.square().sum(-1, keepdim=True) + eps).sqrt() * gain
        ),
        "the mean is taken out first: that is LayerNorm": lambda x, gain, eps: F.layer_norm(
            x, (x.shape[-1],), gain, None, eps
        ),
        "one size for all vectors together: each has its own mean": lambda x, gain, eps: (
            x / (x.square().mean() + eps).sqrt() * gain
        ),
        "the gain is missing": lambda x, gain, eps: F.rms_norm(x, (x.shape[-1],), None, eps),
    },
    "rotate": {
        "neighbours are paired: channel i belongs to channel i + D/2": turned_by_neighbours,
        "turned the other way: (a cos - b sin, b cos + a sin)": lambda x, base: torch.cat(
            rotate(torch.cat(x.chunk(2, -1)[::-1], -1), base).chunk(2, -1)[::-1], -1
        ),
        "positions begin at 0, here at 1": lambda x, base: rotate(F.pad(x, (0, 0, 1, 0)), base)[
            ..., 1:, :
        ],
        "the exponent is 2i/D, here it is i/D": lambda x, base: rotate(x, base**0.5),
    },
    "multi_head": {
        "heads are shared 0, 1, 0, 1: neighbours share": lambda x, weights, n_heads: heads_shared(
            x, weights, n_heads, share=over_and_over
        ),
        "queries and keys are not turned": lambda x, weights, n_heads: heads_shared(
            x, weights, n_heads, turn=lambda part: part
        ),
        "values are turned, too: only queries and keys are": lambda x, weights, n_heads: (
            heads_shared(x, weights, n_heads, values=rotate)
        ),
        "RoPE pairs neighbours": lambda x, weights, n_heads: heads_shared(
            x, weights, n_heads, turn=turned_by_neighbours
        ),
        "QK-norm is missing: queries and keys pass `rms_norm` where there are gains": (
            lambda x, weights, n_heads: multi_head(
                x, {name: weights[name] for name in MATRICES}, n_heads
            )
        ),
        "QK-norm comes before the turn, not after it": lambda x, weights, n_heads: heads_shared(
            x, weights, n_heads, normed_last=True
        ),
        "the output matrix is missing": lambda x, weights, n_heads: heads_shared(
            x, weights | {"output": torch.eye(x.shape[-1])}, n_heads
        ),
    },
    "feed_forward": {
        "silu is applied to `up`: it belongs to the gate": lambda x, w: feed_forward(
            x, w | {"gate": w["up"], "up": w["gate"]}
        ),
        "sigmoid in place of silu: silu(z) is z · sigmoid(z)": lambda x, w: (
            (torch.sigmoid(x @ w["gate"].T) * (x @ w["up"].T)) @ w["down"].T
        ),
        "gate and up are added: one multiplies the other": lambda x, w: (
            (F.silu(x @ w["gate"].T) + x @ w["up"].T) @ w["down"].T
        ),
    },
    "block": {
        "the stream is overwritten: each part's answer is added to it": lambda x, w, n_heads: (
            other_block(x, w, n_heads, stream=0.0)
        ),
        "each part must read a normed copy": lambda x, w, n_heads: other_block(
            x, w, n_heads, normed=False
        ),
        "the feed-forward reads the stream as it was before attention": lambda x, w, n_heads: (
            other_block(x, w, n_heads, serial=False)
        ),
        "the gains of QK-norm are among attention's weights, too: hand all of them on": (
            lambda x, w, n_heads: block(
                x, {name: w[name] for name in w if not name.startswith(QK_NORM)}, n_heads
            )
        ),
        "the two gains are swapped": lambda x, w, n_heads: block(
            x,
            w
            | {
                "attention_norm.weight": w["feedforward_norm.weight"],
                "feedforward_norm.weight": w["attention_norm.weight"],
            },
            n_heads,
        ),
    },
    "decode": {
        "the last norm is missing": lambda ids, w, n_heads, n_layers: other_decode(
            ids, w, n_heads, n_layers, last=lambda x, gain: x
        ),
        "each layer has its own weights: here all use those of block 0": (
            lambda ids, w, n_heads, n_layers: other_decode(
                ids, w, n_heads, n_layers, layer=lambda index: 0
            )
        ),
        "the last block is left out": lambda ids, w, n_heads, n_layers: other_decode(
            ids, w, n_heads, n_layers - 1
        ),
    },
    "count_parameters": {
        "the head is a matrix of its own: embedding and head count twice": lambda config: (
            counting.count_parameters(config).total - config.vocab_size * config.d_model
        ),
        "the last norm's gain is missing": lambda config: (
            counting.count_parameters(config).total - config.d_model
        ),
        "keys and values have K heads, not H": lambda config: (
            counting.count_parameters(config).total
            + 2 * config.n_layers * config.d_model * (config.d_model - config.d_model // 2)
        ),
    },
    "forward_flops": {
        "a multiply and an add are 2, here they are 1": lambda config, positions: (
            counting.forward_flops(config, positions) / 2
        ),
        "every position sees all T keys: position t sees only t + 1": lambda config, positions: (
            counting.forward_flops(config, 2 * positions - 1)
        ),
        "the embedding is looked up, not multiplied": lambda config, positions: (
            counting.forward_flops(config, positions) + 2 * config.vocab_size * config.d_model
        ),
        "keys are counted in one layer: each has its own": lambda config, positions: (
            counting.forward_flops(config, positions)
            - 2 * (config.n_layers - 1) * config.d_model * (positions + 1)
        ),
    },
}
