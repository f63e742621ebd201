"""Draws what two heads of a trained model look at while it spells a word.

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
from shared.text.drills_letters import numbered
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK_RUN = Path(__file__).with_name("runs") / "quick"
FIGURE = Path(__file__).with_name("figures") / "trained_attention.png"
WORD = "monkey"  # held out: no drill in training spells it
QUESTION = f"system: Show your working.\nuser: spell {WORD}\nassistant:"
TEXT = QUESTION + " " + " ".join(numbered(WORD))  # 1m 2o 3n 4k 5e 6y
# Positions, the end-of-text id being 0: each letter as it was asked, and the number before it
# in the reply, where the letter is to be guessed.
ASKED = [1 + QUESTION.index(WORD) + place for place in range(len(WORD))]
GUESSING = [2 + len(QUESTION) + 3 * place for place in range(len(WORD))]


def main(arguments: list[str]) -> None:
    """Prints how far back every head looks, and draws the nearest one and the one that copies."""
    model, tokenizer = load_model(find_checkpoint(arguments[0] if arguments else QUICK_RUN))
    if tokenizer.kind != "bytes":
        raise UserError("the figure is of bytes: give a run with the byte tokenizer")
    ids = [tokenizer.end_of_text, *tokenizer.encode(TEXT).tolist()]
    if len(ids) > model.config.context_length:
        raise UserError(f"the text has {len(ids)} bytes: give a run whose context has as many")
    maps = attention_maps(model, torch.tensor([ids]))
    print("share of the weight on       itself  one back  two back  further   letter to copy")
    copying, near = {}, {}
    for layer, heads in enumerate(maps, start=1):
        for head, weights in enumerate(heads, start=1):
            shares = [weights.diagonal(-back).sum().item() / len(ids) for back in range(3)]
            copying[layer, head] = weights[GUESSING, ASKED].mean().item()
            near[layer, head] = shares[1]
            cells = "".join(f"{share:10.2f}" for share in (*shares, 1 - sum(shares)))
            print(f"  layer {layer}, head {head}        {cells}{copying[layer, head]:17.2f}")
    letters = [{"\x1e": "■", "\n": "↵", " ": "·"}.get(chr(byte), chr(byte)) for byte in ids]
    one_back, copies = max(near, key=near.get), max(copying, key=copying.get)
    titles = {
        one_back: f"{near[one_back]:.0%} one back",
        copies: f"{copying[copies]:.0%} on the letter to copy",
    }
    print_rows(copies, maps[copies[0] - 1][copies[1] - 1], letters)
    figure = path_in_run(arguments[0], FIGURE.name) if arguments else FIGURE
    print(f"drawn: {draw(maps, titles, letters, figure)}")


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


def print_rows(name: tuple[int, int], weights: Tensor, letters: list[str]) -> None:
    """Where one head looks most when each letter is to be guessed."""
    print(f"layer {name[0]}, head {name[1]}:")
    for letter, row in zip(WORD, GUESSING, strict=True):
        share, column = weights[row].max(dim=0)
        print(f"  to guess {letter} it looks at {letters[column]} at {column}: {share:.2f}")


def draw(
    maps: list[Tensor], titles: dict[tuple[int, int], str], letters: list[str], path: Path
) -> Path:
    """Draws the titled heads side by side: row = the byte that looks, column = looked at."""
    figure = Figure(figsize=(8.5 * len(titles), 8), layout="constrained")
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, ((layer, head), title) in zip(panels, titles.items(), strict=True):
        image = axes.imshow(maps[layer - 1][head - 1].numpy(), cmap="viridis", vmin=0, vmax=1)
        axes.set_xticks(range(len(letters)), letters, fontsize=8)
        axes.set_yticks(range(len(letters)), letters, fontsize=8)
        axes.set(xlabel="key: the byte looked at", ylabel="query: the byte that looks")
        axes.set_title(f"layer {layer}, head {head}: {title}")
    figure.colorbar(image, ax=panels, label="attention weight")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
