"""Run log: `metrics.jsonl`, one JSON object a line, and the curves drawn from it.

Promoted by 05_full_run.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import UserError
from shared.files import atomic_file

if TYPE_CHECKING:  # drawing is the only use, and importing takes a second
    from matplotlib.axes import Axes

METRICS_FILE, CURVES_FILE = "metrics.jsonl", "curves.png"
HIGHEST = 8.2  # bits per byte at the top of the curves; spikes are drawn there


def append_metrics(folder: Path, entry: dict[str, Any]) -> None:
    """Adds one line; a crash can tear at most the last one.

    Raises:
        UserError: the disk refuses (full, read-only).
    """
    try:
        with open(folder / METRICS_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write {folder / METRICS_FILE}: {error.strerror}; checkpoints saved so far "
            "are whole, and --resume goes on from the last one"
        ) from error


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All whole lines, in order."""
    path = folder / METRICS_FILE
    entries = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:  # torn by a crash
                continue
    return entries


def rewind_metrics(folder: Path, step: int) -> None:
    """Drops the entries after `step`: a resumed run writes them again."""
    kept = [entry for entry in read_metrics(folder) if entry["step"] <= step]
    with atomic_file(folder / METRICS_FILE) as partial:
        partial.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")


def running_mean(mean: float, value: float, seen: int) -> float:
    """The mean of a noisy curve after one more value: of all of them at first, then recent ones.

    Args:
        seen: how many values `mean` is of; with 0 it is ignored.
    """
    keep = min(0.95, seen / (seen + 1))  # a plain mean at first, so the start is no lag
    return keep * mean + (1 - keep) * value if seen else value


def draw_curves(folder: Path, title: str, path: Path | None = None) -> Path:
    """Draws both losses against steps, in bits per byte, into `path` or the run's `curves.png`.

    Below them the learning rate, as a share of its peak, and tokens a second if logged.
    """
    import matplotlib

    matplotlib.use("Agg")  # no screen needed
    from matplotlib import pyplot

    entries = read_metrics(folder)
    figure, (losses, rates) = pyplot.subplots(
        2, sharex=True, figsize=(8, 5.5), height_ratios=(4, 1), layout="constrained"
    )
    _draw_losses(losses, entries)
    losses.set_title(title)
    _draw_rates(rates, entries)
    path = path or folder / CURVES_FILE
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=120)
    pyplot.close(figure)
    return path


def _draw_losses(axes: "Axes", entries: list[dict[str, Any]]) -> None:
    steps = [e for e in entries if "bits_per_byte" in e]
    trained = [(e["step"], e["bits_per_byte"]) for e in steps if not e.get("skipped")]
    if trained:
        axes.plot(*zip(*trained, strict=True), color="0.8", linewidth=0.8)
        axes.plot(*zip(*_smoothed(trained), strict=True), color="0.35", label="training")
    names = sorted({name for e in entries for name in e.get("validation", {})})
    for name in names:
        points = [(e["step"], e["validation"][name]) for e in entries if "validation" in e]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"validation {name}")
    skipped = [(e["step"], min(HIGHEST, e["bits_per_byte"])) for e in steps if e.get("skipped")]
    if skipped:
        style = {"color": "tab:red", "marker": "x", "linestyle": "none", "markersize": 5}
        axes.plot(*zip(*skipped, strict=True), label="skipped steps", **style)
    axes.axhline(8, color="tab:red", linestyle=":", linewidth=1, label="knows nothing: 8 bits")
    axes.set(ylabel="bits per byte", ylim=(0, HIGHEST + 0.2))
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_rates(axes: "Axes", entries: list[dict[str, Any]]) -> None:
    factors = [(e["step"], e["lr_factor"]) for e in entries if "lr_factor" in e]
    if factors:
        axes.plot(*zip(*factors, strict=True), color="tab:blue")
    axes.set(xlabel="step", ylim=(0, 1.1))
    axes.set_ylabel("learning rate", color="tab:blue")
    axes.grid(alpha=0.3)
    rates = [(e["step"], e["tokens_per_second"]) for e in entries if "tokens_per_second" in e]
    if rates:
        right = axes.twinx()
        right.plot(*zip(*rates, strict=True), color="tab:orange")
        right.set_ylabel("tokens/s", color="tab:orange")
        right.set_ylim(0, 1.8 * max(rate for _, rate in rates))  # below the other curve's plateau


def _smoothed(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    smooth = []
    value = 0.0
    for seen, (step, loss) in enumerate(points):
        value = running_mean(value, loss, seen)
        smooth.append((step, value))
    return smooth
