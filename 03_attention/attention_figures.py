"""Draws two figures for the notes: the causal mask, and RoPE's score against distance.

python 03_attention/attention_figures.py
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from shared.errors import one_line_errors
from shared.model.causal_attention import causal_mask
from shared.model.config import RopeConfig
from shared.model.positions import rope_angles, rotate

FIGURES = Path(__file__).with_name("figures")
WORD = "hello!"
HEAD_WIDTH = 64  # D of the quick model
LONGEST = 64  # the greatest distance drawn
LIGHT, DARK = "#e8e8e8", "#2a788e"


def main() -> None:
    """Draws both figures and says where they are."""
    print(f"drawn: {draw_mask(FIGURES / 'causal_mask.png')}")
    print(f"drawn: {draw_rope(FIGURES / 'rope_distance.png')}")


def draw_mask(path: Path) -> Path:
    """Who may look at whom: a whole word at once, and two new bytes after four cached ones."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    size = len(WORD)
    show_mask(left, torch.ones(size, size, dtype=torch.bool).tril(), WORD)
    left.set_title("training: all six at once")
    show_mask(right, causal_mask(2, size, torch.device("cpu")), WORD[-2:])
    right.set_title("writing: two new bytes, four in the cache")
    return save(figure, path)


def show_mask(axes: Axes, allowed: Tensor, queries: str) -> None:
    """Draws booleans (queries, keys): dark where a query may look, -inf elsewhere."""
    axes.imshow(allowed.int(), cmap=ListedColormap([LIGHT, DARK]), vmin=0, vmax=1)
    for row, column in (~allowed).nonzero().tolist():
        axes.text(column, row, "−∞", ha="center", va="center", fontsize=11)
    for row, column in allowed.nonzero().tolist():
        axes.text(column, row, "look", ha="center", va="center", fontsize=10, color="white")
    axes.set_xticks(range(len(WORD)), list(WORD), fontsize=12)
    axes.set_yticks(range(len(queries)), list(queries), fontsize=12)
    axes.set(xlabel="key: the byte looked at", ylabel="query: the byte that looks")


def rope_scores(vector: Tensor, position: int) -> Tensor:
    """Scores of one vector, as a query at `position`, with itself as a key 0 to LONGEST back.

    The vector is (D,); returns (LONGEST + 1,), divided by the score at distance 0.
    """
    angles = rope_angles(position + 1, len(vector), RopeConfig())  # (T, D/2) each
    turned = rotate(vector.expand(1, 1, position + 1, -1), angles)[0, 0]  # (T, D)
    scores = turned @ turned[position]  # (T,)
    return scores.flip(0)[: LONGEST + 1] / vector.dot(vector)


def one_pair(pair: int) -> Tensor:
    """A vector (D,) of zeros, but for one pair of channels."""
    vector = torch.zeros(HEAD_WIDTH)
    vector[[pair, pair + HEAD_WIDTH // 2]] = 1.0
    return vector


def draw_rope(path: Path) -> Path:
    """Above: single pairs turn fast or slowly. Below: all pairs together, from two positions."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for pair, colour in ((0, "tab:red"), (8, "tab:orange"), (16, "tab:green"), (31, "tab:blue")):
        above.plot(rope_scores(one_pair(pair), LONGEST), color=colour, label=f"pair {pair}")
    above.set_title("one pair of channels alone: a clock hand, fast for pair 0, slow for pair 31")
    above.legend(loc="lower left", ncols=4)
    ones = torch.ones(HEAD_WIDTH)
    below.plot(rope_scores(ones, LONGEST), color=DARK, label=f"query at position {LONGEST}")
    late = rope_scores(ones, 250)
    below.plot(range(0, LONGEST + 1, 6), late[::6], "o", color="black", markersize=4,
               label="query at position 250")  # fmt: skip
    below.set_title("all 32 pairs together: the same curve wherever the query stands")
    below.set_xlabel("distance from the query back to the key, in positions")
    below.legend(loc="upper right")
    for axes, lowest in ((above, -1.6), (below, 0)):
        axes.set(ylabel="score / score at distance 0", ylim=(lowest, 1.15), xlim=(0, LONGEST))
        axes.grid(alpha=0.3)
    return save(figure, path)


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure as a PNG; the same tensors give the same bytes."""
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


if __name__ == "__main__":
    with one_line_errors():
        main()
