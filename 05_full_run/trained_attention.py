"""Draws what two heads of a trained model look at.

python 05_full_run/trained_attention.py          the quick run, into figures/
python 05_full_run/trained_attention.py RUN      another run, into its own folder
"""

import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.model.causal_attention import CausalAttention
from shared.model.heads import share_heads, split_heads
from shared.model.positions import Angles
from shared.model.sliding_window import window_mask
from shared.model.transformer import Transformer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK_RUN = Path(__file__).with_name("runs") / "quick"
FIGURE = Path(__file__).with_name("figures") / "trained_attention.png"
TEXT = "user: hello\nassistant: Hello! It is"
DRAWN = {(1, 1): "looks one or two bytes back", (3, 0): "looks back to where the word began"}
ROWS = range(24, 29)  # the positions of the reply's `Hello`, the end-of-text id being position 0


def main(arguments: list[str]) -> None:
    """Draws two heads, and prints how far back every head looks."""
    model, tokenizer = load_model(find_checkpoint(arguments[0] if arguments else QUICK_RUN))
    if tokenizer.kind != "bytes":
        raise UserError("the figure is of bytes: give a run with the byte tokenizer")
    if model.config.n_layers < 4 or model.config.n_heads < 2:
        raise UserError("the figure shows heads of layers 2 and 4: give a run with these")
    ids = [tokenizer.end_of_text, *tokenizer.encode(TEXT).tolist()]
    maps = attention_maps(model, torch.tensor([ids]))
    print("share of the weight on       itself  one back  two back  further")
    for layer, heads in enumerate(maps, start=1):
        for head, weights in enumerate(heads, start=1):
            near = [weights.diagonal(-back).sum().item() / len(ids) for back in range(3)]
            shares = "".join(f"{share:10.2f}" for share in (*near, 1 - sum(near)))
            print(f"  layer {layer}, head {head}        {shares}")
    letters = [{"\x1e": "■", "\n": "↵", " ": "·"}.get(chr(byte), chr(byte)) for byte in ids]
    print_rows(maps[3][0], letters)
    figure = path_in_run(arguments[0], FIGURE.name) if arguments else FIGURE
    print(f"drawn: {draw(maps, letters, figure)}")


def path_in_run(run: str, name: str) -> Path:
    """Where a figure of `run` goes: into its folder; of `RUN/best`, which is none, into RUN."""
    folder = user_path(run)
    return (folder if folder.is_dir() else folder.parent) / name


def attention_maps(model: Transformer, ids: Tensor) -> list[Tensor]:
    """Every layer's attention weights for ids (1, T), each (H, T, T).

    The model's fused attention never builds them, so they are computed again from
    what enters each attention module.
    """
    maps: list[Tensor] = []

    def keep(module: CausalAttention, inputs: tuple[Tensor, ...]) -> None:
        maps.append(weights_of(module, *inputs[:2], model.config.reach))

    hooks = [block.attention.register_forward_pre_hook(keep) for block in model.blocks]
    try:
        with torch.no_grad():
            model(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def weights_of(module: CausalAttention, x: Tensor, angles: Angles, window: int) -> Tensor:
    """x (1, T, C) and angles (T, D/2) -> the weights of each head, (H, T, T).

    Args:
        window: keys that a query sees, its own included; the rest have weight 0.
    """
    queries = split_heads(module.query(x), module.n_heads)  # (1, H, T, D)
    keys = split_heads(module.key(x), module.kv_heads)  # (1, K, T, D)
    queries = module.turn(module.query_norm(queries), angles)
    keys = module.turn(module.key_norm(keys), angles)
    keys = share_heads(keys, module.n_heads)  # (1, H, T, D)
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])  # (1, H, T, T)
    allowed = window_mask(*scores.shape[-2:], window, scores.device)  # (T, T)
    return scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)[0]  # (H, T, T)


def print_rows(weights: Tensor, letters: list[str]) -> None:
    """Where each byte of the reply's first word looks most, in one head."""
    print("layer 4, head 1:")
    for row in ROWS:
        share, column = weights[row].max(dim=0)
        print(f"  {letters[row]} at {row} looks at {letters[column]} at {column}: {share:.2f}")


def draw(maps: list[Tensor], letters: list[str], path: Path) -> Path:
    """Draws the chosen heads side by side: row = the byte that looks, column = looked at."""
    figure = Figure(figsize=(12.5, 6), layout="constrained")
    panels = figure.subplots(1, len(DRAWN))
    for axes, ((layer, head), title) in zip(panels, DRAWN.items(), strict=True):
        image = axes.imshow(maps[layer][head].numpy(), cmap="viridis", vmin=0, vmax=1)
        axes.set_xticks(range(len(letters)), letters, fontsize=9)
        axes.set_yticks(range(len(letters)), letters, fontsize=9)
        axes.set(xlabel="key: the byte looked at", ylabel="query: the byte that looks")
        axes.set_title(f"layer {layer + 1}, head {head + 1}: {title}")
    figure.colorbar(image, ax=panels, label="attention weight")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
