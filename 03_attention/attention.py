"""Attention on a whiteboard: one head, several heads, then the whole decoder.

    python 03_attention/attention.py
    python 03_attention/attention.py --run RUN --text "the cat"   # a trained one: inside_a_run.py

Every step stands here in full, on plain tensors, and prints its shape. Only how heads
are split and merged comes from the package, where it is just as plain. `shared/model/` holds
the rest faster; a test proves that the two agree. Sizes: B batch, T positions, C channels, H heads,
K key/value heads, D channels a head, F feed-forward width, V vocabulary.
"""

import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from shared.model.heads import merge_heads, share_heads, split_heads

SENTENCE = "the cat sat on the mat"
FIGURE = Path(__file__).with_name("figures") / "attention_map.png"


def score(queries: Tensor, keys: Tensor) -> Tensor:
    """Each query meets each key: (..., T, D) twice -> (..., T, T), a row for each query."""
    return queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])


def hide_future(scores: Tensor) -> Tensor:
    """(..., T, T) -> the same, with minus infinity wherever a query would look ahead."""
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(future, -math.inf)


def softmax(scores: Tensor) -> Tensor:
    """(..., T) -> (..., T): positive weights that sum to 1 along the last axis."""
    exponents = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return exponents / exponents.sum(dim=-1, keepdim=True)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Causal attention: each position takes a weighted sum of the values up to its own.

    Queries, keys and values are (..., T, D); returns the sums, (..., T, D), and the
    weights they were made with, (..., T, T). Source: Vaswani et al. 2017, section 3.2.1.
    """
    weights = softmax(hide_future(score(queries, keys)))  # (..., T, T)
    return weights @ values, weights


def rms_norm(x: Tensor, gain: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., C) -> (..., C): every vector brought to a root mean square of 1, then scaled."""
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt() * gain


def rotate(x: Tensor, base: float = 10_000.0) -> Tensor:
    """RoPE on (B, heads, T, D): pairs (i, i + D/2) turn by position x base^(-2i/D)."""
    positions, channels = x.shape[-2:]
    speeds = base ** -(torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), speeds)
    cos, sin = angles.cos().to(x), angles.sin().to(x)  # (T, D/2)
    first, second = x[..., : channels // 2], x[..., channels // 2 :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def multi_head(x: Tensor, weights: dict[str, Tensor], n_heads: int) -> tuple[Tensor, Tensor]:
    """Several heads side by side on x (B, T, C); returns (B, T, C) and the maps (B, H, T, T).

    `weights` holds query (C, C), key and value (K D, C), output (C, C); with QK-norm also the
    gains query_norm and key_norm (D,).
    """
    kv_heads = n_heads * len(weights["key"]) // len(weights["query"])
    queries = split_heads(x @ weights["query"].T, n_heads)  # (B, H, T, D)
    keys = split_heads(x @ weights["key"].T, kv_heads)  # (B, K, T, D)
    values = split_heads(x @ weights["value"].T, kv_heads)  # (B, K, T, D)
    if "query_norm" in weights:
        queries = rms_norm(queries, weights["query_norm"])
        keys = rms_norm(keys, weights["key_norm"])
    queries, keys = rotate(queries), rotate(keys)
    keys, values = (share_heads(each, n_heads) for each in (keys, values))  # (B, H, T, D)
    mixed, maps = attend(queries, keys, values)
    return merge_heads(mixed) @ weights["output"].T, maps


def feed_forward(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """SwiGLU on (B, T, C): `weights` holds gate and up (F, C), down (C, F)."""
    gate = x @ weights["gate"].T  # (B, T, F)
    opened = gate * torch.sigmoid(gate) * (x @ weights["up"].T)
    return opened @ weights["down"].T  # (B, T, C)


def block(x: Tensor, weights: dict[str, Tensor], n_heads: int) -> Tensor:
    """Look back, then think, each on a normed copy and added: (B, T, C) -> (B, T, C).

    `weights` is named as in the promoted `Block.state_dict()`.
    """
    normed = rms_norm(x, weights["attention_norm.weight"])
    x = x + multi_head(normed, part(weights, "attention."), n_heads)[0]
    normed = rms_norm(x, weights["feedforward_norm.weight"])
    return x + feed_forward(normed, part(weights, "feedforward."))


def decode(ids: Tensor, weights: dict[str, Tensor], n_heads: int, n_layers: int) -> Tensor:
    """The whole decoder: ids (B, T) -> logits (B, T, V).

    `weights` is named as in the promoted `Transformer.state_dict()`.
    """
    x = weights["embedding.weight"][ids]  # (B, T, C)
    for layer in range(n_layers):
        prefix = f"blocks.{layer}."
        inside = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        x = block(x, inside, n_heads)
    x = rms_norm(x, weights["final_norm.weight"])
    return x @ weights["head.weight"].T  # (B, T, V)


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix`, named without it and without `.weight`."""
    return {
        name.removeprefix(prefix).removesuffix(".weight"): weight
        for name, weight in weights.items()
        if name.startswith(prefix)
    }


def random_weights(
    n_layers: int, channels: int, kv_width: int, inner: int, seed: int = 0
) -> dict[str, Tensor]:
    """Untrained weights for `decode`: matrices of size 1/sqrt(inputs), embeddings of size 1."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embedding": (256, channels), "head": (256, channels)}
    for layer in range(n_layers):
        a, f = f"blocks.{layer}.attention.", f"blocks.{layer}.feedforward."
        shapes |= {a + "query": (channels, channels), a + "key": (kv_width, channels)}
        shapes |= {a + "value": (kv_width, channels), a + "output": (channels, channels)}
        shapes |= {f + "gate": (inner, channels), f + "up": (inner, channels)}
        shapes |= {f + "down": (channels, inner)}
    weights = {
        f"{name}.weight": torch.randn(shape, generator=generator)
        / (1 if name == "embedding" else math.sqrt(shape[1]))
        for name, shape in shapes.items()
    }
    norms = [f"blocks.{i}.{n}_norm" for i in range(n_layers) for n in ("attention", "feedforward")]
    return weights | {f"{name}.weight": torch.ones(channels) for name in [*norms, "final_norm"]}


def draw_map(weights: Tensor, text: str, path: Path) -> None:
    """Draws one head's weights (T, T): row = the position that looks, column = looked at."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 5.4), layout="constrained")
    image = axes.imshow(weights.numpy(), cmap="viridis", vmin=0)
    letters = [letter if letter != " " else "␣" for letter in text]
    axes.set_xticks(range(len(text)), letters)
    axes.set_yticks(range(len(text)), letters)
    axes.set(xlabel="key: the byte looked at", ylabel="query: the byte that looks")
    axes.set_title("One untrained head: no weight above the diagonal")
    figure.colorbar(image, label="attention weight")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def tell_one_head(ids: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """One head, step by step; returns its weights, (T, T)."""
    print("ONE HEAD, step by step")
    x = weights["embedding.weight"][ids]
    head = part(weights, "blocks.0.attention.")
    channels = 16
    queries, keys, values = (x @ head[name][:channels].T for name in ("query", "key", "value"))
    show("ids", "(T,)", ids)
    show("embedded", "(T, C)", x)
    show("queries = x @ Wq.T", "(T, D)", queries)
    show("keys    = x @ Wk.T", "(T, D)", keys)
    show("values  = x @ Wv.T", "(T, D)", values)
    show("scores  = queries @ keys.T / sqrt(D)", "(T, T)", queries @ keys.T / math.sqrt(channels))
    mixed, weights_of_head = attend(queries, keys, values)
    show("weights = softmax(masked scores)", "(T, T)", weights_of_head)
    show("mixed   = weights @ values", "(T, D)", mixed)
    print("  the first four rows of the weights; each sums to 1, none looks ahead:")
    for row, letter in zip(weights_of_head[:4, :4].tolist(), SENTENCE, strict=False):
        print(f"    {letter!r} looks at", "  ".join(f"{value:.2f}" for value in row))
    return weights_of_head


def tell_several_heads(ids: Tensor, weights: dict[str, Tensor]) -> None:
    """Four query heads that share two key/value heads."""
    print("\nSEVERAL HEADS: H = 4 query heads share K = 2 key/value heads, D = 16")
    x = weights["embedding.weight"][ids].unsqueeze(0)  # (B, T, C)
    head = part(weights, "blocks.0.attention.")
    mixed, maps = multi_head(x, head, n_heads=4)
    show("x", "(B, T, C)", x)
    show("Wq: C -> H x D", "(H D, C)", head["query"])
    show("Wk: C -> K x D", "(K D, C)", head["key"])
    show("attention maps", "(B, H, T, T)", maps)
    show("merged and projected", "(B, T, C)", mixed)


def tell_decoder(ids: Tensor, weights: dict[str, Tensor]) -> None:
    """The whole decoder, and what its mask promises."""
    print("\nTHE WHOLE DECODER: embedding, 2 blocks, norm, head")
    logits = decode(ids.unsqueeze(0), weights, n_heads=4, n_layers=2)
    show("logits", "(B, T, V)", logits)
    count = sum(weight.numel() for weight in weights.values())
    print(f"  {count:,} weights in {len(weights)} tensors")
    changed = ids.clone()
    changed[12] = ord("!")
    other = decode(changed.unsqueeze(0), weights, n_heads=4, n_layers=2)
    same = [bool((logits[0, t] == other[0, t]).all()) for t in range(len(ids))]
    print(
        f"  byte 12 changed: logits 0 to 11 unchanged {all(same[:12])}, 12 changed {not same[12]}"
    )
    guess = chr(int(logits[0, -1, 32:127].argmax()) + 32)
    print(f"  after {SENTENCE!r} the untrained model expects {guess!r}: it has learned nothing yet")


def show(name: str, axes: str, tensor: Tensor) -> None:
    """One line: what a tensor is and its shape."""
    print(f"  {name:38} {axes:13} = {tuple(tensor.shape)}")


def main() -> None:
    """Tells the three stories on one sentence."""
    print(f"{SENTENCE!r} is T = {len(SENTENCE)} bytes\n")
    ids = torch.tensor(list(SENTENCE.encode()))
    weights = random_weights(n_layers=2, channels=64, kv_width=32, inner=192)
    draw_map(tell_one_head(ids, weights), SENTENCE, FIGURE)
    print(f"  drawn: {FIGURE.parent.name}/{FIGURE.name}")
    tell_several_heads(ids, weights)
    tell_decoder(ids, weights)


if __name__ == "__main__":
    if sys.argv[1:]:
        from inside_a_run import main
    main()
