"""What breaks: one line is changed, a small model is trained, and its loss is measured.

    python 04_training/what_breaks.py

Two minutes on one core that is busy with other work, too. Each model is trained alike, with two
seeds, and asked twice: what is its loss on the text it trains on, and what is it when it *writes*,
where the byte to be guessed does not exist yet? Prints both and draws `figures/what_breaks.png`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean
from typing import Any
from unittest.mock import patch

import torch
from einops import repeat
from matplotlib.figure import Figure
from torch import Tensor, nn
from warmup_effect import train_small

from shared.device import keep_freed_memory, seed_everything
from shared.errors import one_line_errors
from shared.model import causal_attention
from shared.model.config import ModelConfig
from shared.model.positions import Angles
from shared.model.transformer import Block, Transformer
from shared.text.tokenizer import ByteTokenizer
from shared.training.loss import cross_entropy
from shared.training.schedule import warmup_stable_decay

FIGURE = Path(__file__).with_name("figures") / "what_breaks.png"
SIZES = {"context_length": 64, "n_layers": 2, "d_model": 64, "n_heads": 4, "n_kv_heads": 2}
RATE, STEPS, SEEDS = 0.003, 300, (0, 1)
LAST = 20  # steps whose mean loss is the loss in training
WINDOWS = 1024  # of text not trained on; one byte is guessed after each
LONGER = 100  # times; scores then pass 88.7, and float32 holds no number above e^88.7


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    _documents: Tensor | None = None,
    *,
    first_hidden: int | None = 1,
    divided: bool = True,
    lowered: bool = True,
) -> Tensor:
    """The formula of step 03 on three of (B, H, T, D) -> (B, H, T, D), with three switches.

    Args:
        first_hidden: how many positions after its own the first hidden one stands; None: none is.
        divided: scores are divided by the root of D.
        lowered: the largest score is taken out before the exponential.
    """
    scores = queries @ keys.mT  # (B, H, T, T)
    if divided:
        scores = scores / math.sqrt(queries.shape[-1])
    if first_hidden is not None:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(first_hidden)  # (T, T)
        scores = scores.masked_fill(hidden, -math.inf)
    if lowered:
        scores = scores - scores.amax(dim=-1, keepdim=True)
    exponents = scores.exp()
    return exponents / exponents.sum(dim=-1, keepdim=True) @ values


def attend_with(model: Transformer, **switches: Any) -> None:
    """Gives every block the attention above, with these switches."""
    for block in model.blocks:
        block.attention.attend = partial(attend, **switches)


def remove_residuals(model: Transformer) -> None:
    """Lets each branch overwrite the stream it has read."""
    for block in model.blocks:
        block.forward = partial(overwrite_stream, block)


def overwrite_stream(
    block: Block, x: Tensor, angles: Angles, _cache: None = None, _documents: None = None
) -> Tensor:
    """A block without `x +`: (B, T, C) -> (B, T, C)."""
    x = block.attention(block.attention_norm(x), angles)
    return block.feedforward(block.feedforward_norm(x))


def remove_norms(model: Transformer) -> None:
    """Lets each branch, and the head, read vectors as long as they happen to be."""
    for block in model.blocks:
        block.attention_norm = block.feedforward_norm = nn.Identity()
    model.final_norm = nn.Identity()


def share_in_turn(x: Tensor, n_heads: int) -> Tensor:
    """(B, K, T, D) -> (B, H, T, D) in the wrong order: 0,1,0,1 for H = 4, K = 2."""
    pattern = "batch kv_heads positions channels -> batch (group kv_heads) positions channels"
    return repeat(x, pattern, group=n_heads // x.shape[1])


@dataclass(frozen=True)
class Change:
    """One thing done otherwise."""

    name: str
    line: str
    """what then stands in the code"""
    breaks: Callable[[Transformer], None] = lambda model: None
    sizes: dict[str, Any] = field(default_factory=dict)
    """fields of the config"""
    rate: float = RATE


UNDIVIDED = partial(attend_with, divided=False)
ONE_HEAD = {"n_heads": 1, "n_kv_heads": 1}
CHANGES = (
    Change("nothing", "—"),
    Change("no mask", "no masked_fill", partial(attend_with, first_hidden=None)),
    Change("mask off by one", "triu(2) for triu(1)", partial(attend_with, first_hidden=2)),
    Change("no √D", "queries @ keys.mT", UNDIVIDED),
    Change("one head, D = 64", "n_heads=1", sizes=ONE_HEAD),
    Change("one head, no √D", "queries @ keys.mT", UNDIVIDED, ONE_HEAD),
    Change("no residual", "x = branch(norm(x))", remove_residuals),
    Change("no norm", "x = x + branch(x)", remove_norms),
    Change("no positions", 'positions="none"', sizes={"positions": "none"}),
    Change("rate × 10", f"RATE = {10 * RATE:g}", rate=10 * RATE),
    Change("rate ÷ 10", f"RATE = {RATE / 10:g}", rate=RATE / 10),
)


def read_text() -> tuple[Tensor, Tensor]:
    """Python's help topics as ids, (n,) twice: nine tenths to train on, and the rest."""
    text = "\n".join(topics[name] for name in sorted(topics))
    ids = torch.from_numpy(ByteTokenizer().encode(text).copy()).long()
    return ids.tensor_split([len(ids) * 9 // 10])


def train(change: Change, ids: Tensor, seed: int, steps: int = STEPS) -> tuple[Transformer, float]:
    """A model with the change, trained on ids (n,), and the mean of its last losses."""
    seed_everything(seed)
    model = Transformer(ModelConfig(**SIZES | change.sizes))
    change.breaks(model)
    factors = [warmup_stable_decay(step / steps, warmup_share=0.05) for step in range(steps)]
    losses = train_small(model, ids, change.rate, factors)
    return model.eval(), mean(losses[-LAST:])


@torch.no_grad()
def writing_loss(model: Transformer, ids: Tensor, windows: int = WINDOWS) -> float:
    """The loss of the byte after each of some windows of ids (n,), the same at every call.

    Only the last position is asked. No later one stands there to be looked at, just as when
    the model writes.
    """
    every = ids.unfold(0, model.config.context_length + 1, 1)  # (n - T, T + 1)
    chosen = every[torch.linspace(0, len(every) - 1, windows).long()]
    logits = model(chosen[:, :-1])[:, -1:]  # (windows, 1, V)
    return cross_entropy(logits, chosen[:, -1:]).item()


def losses_afterwards(model: Transformer, ids: Tensor) -> dict[str, float]:
    """Writing losses of a whole, trained model once a line is changed; the last change stays."""
    losses = {}
    with patch.object(causal_attention, "share_heads", share_in_turn):
        losses["heads shared as 0,1,0,1"] = writing_loss(model, ids)
    attend_with(model, divided=False)
    losses["no √D"] = writing_loss(model, ids)
    attend_with(model, lowered=False)
    losses["largest score left in"] = writing_loss(model, ids)
    for block in model.blocks:
        block.attention.query.weight.data *= LONGER
    attend_with(model)
    losses[f"queries {LONGER} times as long"] = writing_loss(model, ids)
    attend_with(model, lowered=False)
    losses["and the largest score left in, too"] = writing_loss(model, ids)
    return losses


def main() -> None:
    """Trains and tells one change after the other, then probes the whole models and draws."""
    keep_freed_memory()
    torch.set_num_threads(1)  # a model so small waits for a second thread longer than it computes
    known, new = read_text()
    print(f"nats a byte after {STEPS} steps, seeds {SEEDS}")
    print(f"{'changed':24}{'the line':24}{'in training':16}when it writes")
    outcomes, whole = {}, []
    for change in CHANGES:
        trained = [train(change, known, seed) for seed in SEEDS]
        training = [loss for _, loss in trained]
        writing = [writing_loss(model, new) for model, _ in trained]
        outcomes[change.name] = training, writing
        whole = whole or [model for model, _ in trained]
        ends = f"{side_by_side(training):16}{side_by_side(writing)}"
        print(f"{change.name:24}{change.line:24}{ends}", flush=True)
    print("changed in a whole model after its training, when it writes")
    afterwards = [losses_afterwards(model, new) for model in whole]
    for name in afterwards[0]:
        print(f"{name:64}{side_by_side(losses[name] for losses in afterwards)}")
    print(f"drawn: {draw(outcomes, FIGURE)}")


def side_by_side(losses: Iterable[float]) -> str:
    """Each seed's loss."""
    return "  ".join(f"{loss:.2f}" for loss in losses)


def draw(outcomes: dict[str, tuple[list[float], list[float]]], path: Path) -> Path:
    """A row a change: its losses in training and when it writes, means over the seeds."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    names = list(outcomes)[::-1]  # the first on top
    training, writing = ([mean(outcomes[name][i]) for name in names] for i in (0, 1))
    axes.hlines(names, training, writing, color="0.7", linewidth=3, zorder=1)
    axes.scatter(training, names, color="#2a788e", label="in training", zorder=2)
    axes.scatter(writing, names, color="tab:red", label="when it writes", zorder=3)
    axes.axvline(writing[-1], color="0.5", linestyle=":")
    axes.set(xlabel="loss in nats a byte (dotted: nothing changed)", xlim=(0, None))
    axes.grid(axis="x", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


if __name__ == "__main__":
    with one_line_errors():
        main()
