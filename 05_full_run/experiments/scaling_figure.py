"""The figure of `scaling.py`: losses against sizes, and the best sizes of all budgets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from power_law import FLOPS, Point, PowerLaw

from shared.files import atomic_file
from shared.training.plan import TOKENS_A_PARAMETER

RULE = f"{TOKENS_A_PARAMETER} tokens a parameter"


def draw(
    law: PowerLaw, points: Sequence[Point], best: tuple[float, float] | None, path: Path
) -> Path:
    """Loss against parameters, and tokens against parameters with the line of best sizes."""
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    reach = [point.parameters for point in points] + ([best[0]] if best else [])
    sizes = np.geomspace(min(reach) / 1.5, max(reach) * 1.5, 60)
    draw_losses(left, law, points, sizes)
    right.plot(sizes, TOKENS_A_PARAMETER * sizes, "--", color="0.4", label=RULE)
    if law.b:
        ends = [FLOPS * n * d for n in (sizes[0], sizes[-1]) for d in (n / 1e4, n * 1e8)]
        line = np.array([law.best(flops) for flops in np.geomspace(min(ends), max(ends), 400)])
        line = line[(line[:, 0] >= sizes[0]) & (line[:, 0] <= sizes[-1])]
        right.plot(*line.T, color="C3", label="best size, by the fit")
    right.scatter([p.parameters for p in points], [p.tokens for p in points], label="trained")
    if best:
        right.scatter(*best, marker="*", s=200, color="C3", label="best for the budget", zorder=3)
    right.set(xscale="log", yscale="log", xlabel="parameters", ylabel="tokens")
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=110)
    return path


def draw_losses(axes: Axes, law: PowerLaw, points: Sequence[Point], sizes: np.ndarray) -> None:
    """The points and the law, a colour for each number of tokens."""
    for number, tokens in enumerate(sorted({point.tokens for point in points})):
        colour = f"C{number % 10}"
        here = [(p.parameters, p.loss) for p in points if p.tokens == tokens]
        axes.scatter(*zip(*here, strict=True), color=colour, label=f"{tokens:,.0f} tokens")
        if law.b or tokens == law.tokens:
            axes.plot(sizes, [law.loss(n, tokens) for n in sizes], color=colour, linewidth=1)
    axes.set(xscale="log", xlabel="parameters", ylabel="validation bits per byte")
