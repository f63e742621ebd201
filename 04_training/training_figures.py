"""Draws `figures/schedules.png`: the two learning-rate schedules over a run.

python 04_training/training_figures.py
"""

from pathlib import Path

from matplotlib.figure import Figure

from shared.errors import one_line_errors
from shared.training.schedule import warmup_cosine, warmup_stable_decay

FIGURE = Path(__file__).with_name("figures") / "schedules.png"
POINTS = 1000


def main() -> None:
    """Draws the figure and says where it is."""
    print(f"drawn: {draw_schedules(FIGURE)}")


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
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


if __name__ == "__main__":
    with one_line_errors():
        main()
