"""Draws what autograd sees: the graph of an expression, and the line between two moons.

python 04_training/autograd_figures.py
"""

import random
from pathlib import Path

from autograd import Value, in_order
from matplotlib.figure import Figure
from two_moons import MLP, NOISE, POINTS, SIZES, Point, train, two_moons

FIGURES = Path(__file__).with_name("figures")
COLOURS = {-1: "tab:orange", 1: "tab:purple"}


def main() -> None:
    """Draws both and says where they are."""
    x, w = Value(2.0), Value(3.0)
    loss = (x + w * x + -10) ** 2 * 0.5
    loss.backward()
    print(f"drawn: {draw_graph(loss, {x: 'x', w: 'w'}, FIGURES / 'autograd_graph.png')}")
    rng = random.Random(0)
    model = MLP(SIZES, rng)
    seen, unseen = two_moons(POINTS, NOISE, rng), two_moons(POINTS, NOISE, rng)
    train(model, *seen, rng)
    print(f"drawn: {draw_boundary(model, *unseen, FIGURES / 'two_moons.png')}")


def depths(result: Value) -> dict[Value, int]:
    """How many operations lie between each value and what was given, at most."""
    found: dict[Value, int] = {}
    for value in in_order(result):
        found[value] = 1 + max((found[part] for part, _ in value.made_of), default=-1)
    return found


def places(result: Value) -> dict[Value, tuple[float, float]]:
    """Each value right of its parts; what was given stands just before its first use."""
    depth = depths(result)
    for value in reversed(in_order(result)):
        for part, _ in value.made_of:
            if not part.made_of:
                depth[part] = min(d for v, d in depth.items() if part in made(v)) - 1
    columns: dict[int, list[Value]] = {}
    for value in in_order(result):
        columns.setdefault(depth[value], []).append(value)
    return {
        value: (column, row - (len(values) - 1) / 2)
        for column, values in columns.items()
        for row, value in enumerate(values)
    }


def made(value: Value) -> list[Value]:
    """What went into the value."""
    return [part for part, _ in value.made_of]


def draw_graph(result: Value, names: dict[Value, str], path: Path) -> Path:
    """Boxes with value and gradient; an arrow from each number to what was made of it."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots()
    where = places(result)
    for value, (x, y) in where.items():
        for part in made(value):
            bend = "arc3,rad=0.35" if x - where[part][0] > 1 else "arc3"  # not through a box
            style = {"arrowstyle": "->", "color": "0.4", "shrinkA": 34, "shrinkB": 34}
            axes.annotate("", (x, y), where[part], arrowprops=style | {"connectionstyle": bend})
        head = names.get(value) or value.operation or "given"
        text = f"{head}\nvalue {value.data:g}\ngradient {value.gradient:g}"
        shade = "#fff2cc" if value.made_of else "#dae8fc"
        box = {"boxstyle": "round", "facecolor": shade, "edgecolor": "0.5"}
        axes.text(x, y, text, ha="center", va="center", fontsize=9, bbox=box)
    xs, ys = zip(*where.values(), strict=True)
    axes.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(ys) - 0.9, max(ys) + 0.6))
    axes.axis("off")
    return save(figure, path)


def draw_boundary(model: MLP, points: list[Point], labels: list[int], path: Path) -> Path:
    """The model's output over the plane, the line where it is 0, and the points."""
    xs = [-1.5 + 4 * step / 60 for step in range(61)]
    ys = [-1.0 + 2.5 * step / 40 for step in range(41)]
    outputs = [[model((x, y))[0].data for x in xs] for y in ys]
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    shades = axes.contourf(xs, ys, outputs, levels=20, cmap="PuOr", alpha=0.7)
    axes.contour(xs, ys, outputs, levels=[0], colors="black")
    colours = [COLOURS[label] for label in labels]
    axes.scatter(*zip(*points, strict=True), c=colours, edgecolors="white", linewidths=0.5)
    axes.set(title="new points, and where the network draws the line", aspect="equal")
    figure.colorbar(shades, label="output")
    return save(figure, path)


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure, without the name of the software in it, and returns its path."""
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


if __name__ == "__main__":
    main()
