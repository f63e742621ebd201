"""Draws the notes' figures: the mask, the residual stream, RoPE's scores, SwiGLU.

python 03_attention/attention_figures.py
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import silu

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
    """Draws all figures and says where they are."""
    print(f"drawn: {draw_mask(FIGURES / 'causal_mask.png')}")
    print(f"drawn: {draw_stream(FIGURES / 'residual_stream.png')}")
    print(f"drawn: {draw_rope(FIGURES / 'rope_distance.png')}")
    print(f"drawn: {draw_swiglu(FIGURES / 'swiglu.png')}")


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
    below.plot(
        range(0, LONGEST + 1, 6),
        late[::6],
        "o",
        color="black",
        markersize=4,
        label="query at position 250",
    )
    below.set_title("all 32 pairs together: the same curve wherever the query stands")
    below.set_xlabel("distance from the query back to the key, in positions")
    below.legend(loc="upper right")
    for axes, lowest in ((above, -1.6), (below, 0)):
        axes.set(ylabel="score / score at distance 0", ylim=(lowest, 1.15), xlim=(0, LONGEST))
        axes.grid(alpha=0.3)
    return save(figure, path)


def draw_stream(path: Path) -> Path:
    """One line from the embedding to the head; two branches of one block read and add."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.3, 12.6), ylim=(-1.1, 2.3))
    axes.set_axis_off()
    draw_box(axes, (0.5, 0), "embedding\n(V, C)")
    draw_arrow(axes, (1.25, 0), (9.9, 0), width=4)
    axes.text(1.35, 0.2, "x (B, T, C)", fontsize=10)
    for start, branch in ((2.9, "attention"), (6.3, "feed-forward")):
        draw_arrow(axes, (start, 0), (start, 1.35))
        axes.text(start + 0.1, 0.65, "copy", fontsize=10, color="grey")
        draw_box(axes, (start, 1.7), "norm")
        draw_arrow(axes, (start + 0.45, 1.7), (start + 1.15, 1.7))
        draw_box(axes, (start + 2, 1.7), branch)
        draw_arrow(axes, (start + 2, 1.35), (start + 2, 0.25))
        draw_box(axes, (start + 2, 0), "+", shape="circle,pad=0.2")
    draw_box(axes, (10.5, 0), "norm")
    draw_arrow(axes, (10.95, 0), (11.4, 0))
    draw_box(axes, (11.95, 0), "head\n(V, C)")
    axes.annotate("", (2.4, -0.5), (9.4, -0.5), arrowprops={"arrowstyle": "|-|", "color": "grey"})
    axes.text(5.9, -0.95, "one block; L of them in a row", ha="center", color="grey", fontsize=10)
    axes.set_title("the residual stream: read as a normed copy, added to, never overwritten")
    return save(figure, path)


def draw_box(
    axes: Axes, centre: tuple[float, float], text: str, shape: str = "round,pad=0.5"
) -> None:
    """Words in a box."""
    box = {"boxstyle": shape, "facecolor": LIGHT, "edgecolor": DARK}
    axes.text(*centre, text, ha="center", va="center", fontsize=11, zorder=3, bbox=box)


def draw_arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], width: float = 1.5
) -> None:
    """A straight arrow."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": DARK, "lw": width})


def draw_swiglu(path: Path) -> Path:
    """Left: silu's curve. Right: gate, up and down as boxes, with the shapes between them."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    z = torch.linspace(-6, 4, 200)
    left.plot(z, z.clamp(min=0), color="grey", linestyle="--", label="max(z, 0)")
    left.plot(z, silu(z), color=DARK, label="silu(z)")
    left.set(xlabel="z", title="silu")
    left.grid(alpha=0.3)
    left.legend()
    right.set(xlim=(-0.6, 9.4), ylim=(-1.7, 1.9), title="three matrices, F = 8C/3")
    right.set_axis_off()
    for height, name in ((1, "gate\n(F, C)"), (-1, "up\n(F, C)")):
        draw_arrow(right, (0.6, 0), (1.55, height))
        draw_box(right, (2.2, height), name)
        right.text(4.05, height * 1.15, "(B, T, F)", ha="center", va="center", fontsize=10)
        draw_arrow(right, (2.85, height), (5.05, height * 0.12))
    right.text(4.05, 0.75, "silu", ha="center", va="center", fontsize=11, color=DARK)
    draw_box(right, (5.3, 0), "×")
    draw_box(right, (7.1, 0), "down\n(C, F)")
    draw_arrow(right, (5.65, 0), (6.4, 0))
    draw_arrow(right, (7.75, 0), (8.3, 0))
    for place in (0, 8.95):
        right.text(place, 0, "(B, T, C)", ha="center", va="center", fontsize=10)
    return save(figure, path)


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure as a PNG; the same tensors give the same bytes."""
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


if __name__ == "__main__":
    with one_line_errors():
        main()
