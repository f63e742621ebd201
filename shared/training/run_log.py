"""Run log: `metrics.jsonl`, one JSON object a line, and the curves drawn from it.

Promoted by 05_full_run.
"""

import json
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.files import atomic_file

METRICS_FILE, CURVES_FILE = "metrics.jsonl", "curves.png"


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
    path, entries = folder / METRICS_FILE, []
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


def draw_curves(folder: Path, title: str, path: Path | None = None) -> Path:
    """Draws both losses against steps, in bits per byte, into `path` or the run's `curves.png`."""
    import matplotlib

    matplotlib.use("Agg")  # no screen needed
    from matplotlib import pyplot

    entries = read_metrics(folder)
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    losses = [(e["step"], e["bits_per_byte"]) for e in entries if "bits_per_byte" in e]
    if losses:
        axes.plot(*zip(*losses, strict=True), color="0.8", linewidth=0.8)
        axes.plot(*zip(*_smoothed(losses), strict=True), color="0.35", label="training")
    names = sorted({name for e in entries for name in e.get("validation", {})})
    for name in names:
        points = [(e["step"], e["validation"][name]) for e in entries if "validation" in e]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"validation {name}")
    axes.axhline(8, color="tab:red", linestyle=":", linewidth=1, label="knows nothing: 8 bits")
    axes.set(xlabel="step", ylabel="bits per byte", title=title, ylim=(0, 8.4))
    axes.grid(alpha=0.3)
    axes.legend()
    path = path or folder / CURVES_FILE
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=120)
    pyplot.close(figure)
    return path


def _smoothed(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    smooth, value = [], 0.0
    for seen, (step, loss) in enumerate(points):
        keep = min(0.95, seen / (seen + 1))  # a plain mean at first, so the start is no lag
        value = keep * value + (1 - keep) * loss
        smooth.append((step, value))
    return smooth
