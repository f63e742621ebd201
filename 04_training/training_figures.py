"""Draws the figures of the notes: schedules, a wall-clock budget, Muon's singular values.

python 04_training/training_figures.py
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optimizers_by_hand import COEFFICIENTS, newton_schulz
from overfit import SAMPLE
from torch import Tensor

from shared.device import seed_everything
from shared.errors import one_line_errors
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.batches import shifted
from shared.text.tokenizer import ByteTokenizer
from shared.training.budget import Budget
from shared.training.loss import cross_entropy
from shared.training.schedule import warmup_cosine, warmup_stable_decay

FIGURES = Path(__file__).with_name("figures")
POINTS = 1000


def main() -> None:
    """Draws the figures and says where they are."""
    FIGURES.mkdir(exist_ok=True)
    for draw, name in (
        (draw_schedules, "schedules.png"),
        (draw_wall_clock, "wall_clock.png"),
        (draw_newton_schulz, "newton_schulz.png"),
    ):
        print(f"drawn: {draw(FIGURES / name)}")


def draw_schedules(path: Path) -> Path:
    """Both schedules with their default shares: warmup 0.02, decay 0.5."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    progress = [point / POINTS for point in range(POINTS + 1)]
    axes.plot(progress, [warmup_cosine(p) for p in progress], label="cosine")
    stable = [warmup_stable_decay(p) for p in progress]
    axes.plot(progress, stable, label="stable-decay (the default)")
    axes.axvspan(0, 0.02, color="0.85", zorder=0)
    axes.annotate("warmup", (0.01, 0.45), (0.06, 0.35), arrowprops={"arrowstyle": "->"})
    axes.set(xlabel="progress: share of the run that is over", ylabel="factor of the learning rate")
    axes.set(xlim=(0, 1), ylim=(0, 1.08))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    return save(figure, path)


def factors_of_a_run(seconds: float, pace: float, slow_down: float = 1.0) -> list[float]:
    """The factor at each step of a run with a made-up clock.

    A step takes `pace` seconds in the first half of the time and `slow_down` times that after.
    """
    now = [0.0]
    budget = Budget(seconds=seconds, clock=lambda: now[0])
    factors = []
    for _ in budget.remaining_steps():
        factors.append(warmup_stable_decay(budget.progress))
        now[0] += pace * (slow_down if now[0] >= seconds / 2 else 1.0)
    return factors


def draw_wall_clock(path: Path) -> Path:
    """One budget of 100 s on three machines: the same curve over time, three over steps."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    over_steps, over_time = figure.subplots(1, 2, sharey=True)
    machines = {
        "0.1 s a step": (0.1, 1.0),
        "0.1 s, from half way 0.3 s": (0.1, 3.0),
        "0.25 s a step": (0.25, 1.0),
    }
    for (name, (pace, slow_down)), style in zip(machines.items(), ("-", "--", ":"), strict=True):
        factors = factors_of_a_run(100, pace, slow_down)
        over_steps.plot(range(1, len(factors) + 1), factors, style)
        paces = [pace if step * pace < 50 else pace * slow_down for step in range(len(factors))]
        begun = torch.tensor([0.0, *paces[:-1]]).cumsum(0)
        over_time.plot(begun, factors, style, linewidth=2, label=name)
    over_steps.set(xlabel="step", ylabel="factor of the learning rate", ylim=(0, 1.08))
    over_time.set(xlabel="seconds, of a budget of 100")
    over_time.legend(loc="lower left", fontsize=8)
    for axes in (over_steps, over_time):
        axes.grid(alpha=0.3)
    return save(figure, path)


def real_gradient(seed: int = 0) -> Tensor:
    """(C, C): the gradient of the last block's query matrix on one sample, before any training."""
    seed_everything(seed)
    ids = torch.from_numpy(ByteTokenizer().encode(SAMPLE).copy()).long()
    model = Transformer(ModelConfig(context_length=len(ids), n_layers=2, d_model=64, n_heads=4))
    inputs, targets = shifted(ids.unsqueeze(0))
    cross_entropy(model(inputs), targets).backward()
    return model.blocks[-1].attention.query.weight.grad


def draw_polynomial(axes: Axes) -> None:
    """What each of the five steps makes of one singular value."""
    a, b, c = COEFFICIENTS
    start = torch.logspace(-4, 0, POINTS, dtype=torch.float64)
    value = start
    for step in range(1, 6):
        value = a * value + b * value**3 + c * value**5
        axes.plot(start, value, color=str(0.75 - 0.15 * step), label=f"after step {step}")
    axes.axhspan(0.68, 1.21, color="C2", alpha=0.2, label="0.68 to 1.21")
    axes.axvline(0.0015, color="C2", linestyle=":")
    axes.set(xscale="log", xlabel="singular value, as a share of the matrix's length")
    axes.set(ylabel="what becomes of it", ylim=(0, 1.9))
    axes.legend(fontsize=8, ncols=2, loc="upper left")


def draw_newton_schulz(path: Path) -> Path:
    """The polynomial, and the singular values of a real gradient before and after."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_polynomial(left)
    gradient = real_gradient()
    before = torch.linalg.svdvals(gradient / gradient.norm())
    after = torch.linalg.svdvals(newton_schulz(gradient).float())
    right.semilogy(before, ".", label="before, over its length")
    right.semilogy(after, ".", label="after five steps")
    right.set(xlabel="singular values of one real gradient, (64, 64)", ylim=(1e-7, 2))
    right.legend(fontsize=8, loc="lower left")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return save(figure, path)


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure, without the name of the software in it, and returns its path."""
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


if __name__ == "__main__":
    with one_line_errors():
        main()
