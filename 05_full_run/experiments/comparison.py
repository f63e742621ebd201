"""What a comparison found: rows read from finished runs, one table, one figure."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from shared.errors import UserError
from shared.files import atomic_file, user_path
from shared.model.weights import load_weights
from shared.training.card import CARD_FILE
from shared.training.checkpoint import RUN_FILE
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.run_log import read_metrics

RESULTS_FILE, TABLE_FILE, FIGURE_FILE = "results.json", "results.md", "figure.png"
COLUMNS = ("variant", "parameters", "tokens", "seconds", "tokens/s", "bits per byte", "difference")
SHORT_COLUMNS = ("variant", "params", "tokens", "seconds", "tokens/s", "bits per byte", "to first")

Row = dict[str, Any]
"""one run: names, counts and scores; one that failed has the reason under `failed`"""


def read_row(folder: Path, variant: str, overrides: dict[str, str], seed: int) -> Row:
    """The row of a finished run.

    `tokens_per_second` is that of the median step, so evaluations do not slow it;
    `seconds` is all of the training time, evaluations included.

    Raises:
        UserError: no checkpoint, no steps or no validation in its folder.
    """
    entries = read_metrics(folder)
    steps = [entry for entry in entries if "loss" in entry]
    curve = curve_of(entries)
    if not steps or not curve:
        raise UserError(f"{folder} has no steps or no validation in its log: nothing to compare")
    seconds = [entry["seconds"] for entry in steps]
    pace = median(b - a for a, b in zip([0.0, *seconds], seconds, strict=False))
    validation = next(e["validation"] for e in reversed(entries) if e.get("validation"))
    return {
        "variant": variant,
        "overrides": overrides,
        "seed": seed,
        "parameters": load_weights(find_checkpoint(folder)).count_parameters(),
        "steps": steps[-1]["step"],
        "tokens": sum(entry["tokens"] for entry in steps),
        "seconds": seconds[-1],
        "tokens_per_second": steps[-1]["tokens"] / max(pace, 1e-9),
        "validation": validation,
        "bits_per_byte": mean(validation.values()),
        "curve": curve,
        **machine_of(folder),
    }


def curve_of(entries: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Every validation, with the tokens and seconds it came after."""
    curve = []
    tokens = 0
    seconds = 0.0
    for entry in entries:
        tokens += entry.get("tokens", 0)
        seconds = entry.get("seconds", seconds)
        if scores := entry.get("validation"):
            point = {"step": entry["step"], "tokens": tokens, "seconds": seconds}
            curve.append(point | {"bits_per_byte": mean(scores.values())})
    return curve


def machine_of(folder: Path) -> dict[str, str]:
    """The device and the versions that a run's card names."""
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    found = {"device": r"\| time \| .*? s on (.*) \|", "versions": r"\| versions \| (.*) \|"}
    matches = {name: re.search(pattern, card) for name, pattern in found.items()}
    return {name: match[1] if match else "unknown" for name, match in matches.items()}


def rows_of(path: str | Path) -> list[Row]:
    """The rows of a results.json, of a comparison's folder, or of one finished run.

    Runs in folders called `seed-0`, `seed-1` are one variant, called as the folder above.

    Raises:
        UserError: none of these.
    """
    path = user_path(path)
    file = path if path.is_file() else path / RESULTS_FILE
    if file.is_file():
        return read_results(file)
    if not (path / CARD_FILE).is_file():
        raise UserError(f"{path} is neither a finished run nor a comparison's folder")
    checkpoint = find_checkpoint(path)
    if not (checkpoint / RUN_FILE).is_file():
        raise UserError(f"{path} is a published model, without its log: name the run's own folder")
    saved = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8"))
    place = path.resolve()
    name = place.parent.name if re.fullmatch(r"seed-\d+", place.name) else place.name
    return [read_row(path, name, {}, saved["seed"])]


def read_results(file: Path) -> list[Row]:
    """The rows of a results.json.

    Raises:
        UserError: it is broken, or another kind of file.
    """
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["runs"]
        needed = {"parameters", "tokens", "bits_per_byte", "tokens_per_second", "curve"}
        if not all("variant" in row and ("failed" in row or needed <= row.keys()) for row in rows):
            raise KeyError("a run without its numbers")
        return rows
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is no {RESULTS_FILE} of compare.py: {error}") from error


def by_variant(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The finished runs of every variant, variants in the order of their first row."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["variant"], []).extend([] if "failed" in row else [row])
    return groups


def half_range(values: Sequence[float]) -> float:
    """Half of largest minus smallest: the spread over seeds."""
    return (max(values) - min(values)) / 2


def table_lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The cells of the table: a line a variant, and a line for every failed run."""
    lines = []
    first = None
    for name, runs in by_variant(rows).items():
        if runs:
            bits = [run["bits_per_byte"] for run in runs]
            difference = "–" if first is None else f"{mean(bits) - first:+.4f}"
            first = mean(bits) if first is None else first
            fields = ("parameters", "tokens", "seconds", "tokens_per_second")
            counts = [f"{mean(run[field] for run in runs):,.0f}" for field in fields]
            spread = f" ± {half_range(bits):.4f}" if len(bits) > 1 else ""
            lines.append((name, *counts, f"{mean(bits):.4f}{spread}", difference))
        for reason, seeds in failures(rows, name).items():
            lines.append((f"{name} (seed {seeds})", *["–"] * 4, f"failed: {reason}", "–"))
    return lines


def failures(rows: Sequence[Row], variant: str) -> dict[str, str]:
    """Why runs of a variant failed -> their seeds."""
    seeds: dict[str, list[str]] = {}
    for row in rows:
        if row["variant"] == variant and "failed" in row:
            seeds.setdefault(row["failed"], []).append(str(row["seed"]))
    return {reason: ", ".join(found) for reason, found in seeds.items()}


def table_notes(rows: Sequence[Row]) -> list[str]:
    """What must be known to read the table."""
    good = [row for row in rows if "failed" not in row]
    if not good:
        return ["No run was finished."]
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in good}))
    notes = [
        f"Seeds {seeds}; ± is half of largest minus smallest over the seeds. Bits per byte are of "
        "the whole validation text, the mean over its corpora; the difference is to the first "
        "variant here that was trained. Seconds hold the evaluations, tokens/s is that of the "
        "median step."
    ]
    notes += [f"Machine: {m}." for m in sorted({f"{r['device']}; {r['versions']}" for r in good})]
    if len({tuple(sorted(row["validation"])) for row in good}) > 1:
        notes.append("Careful: not all were validated on the same corpora, so compare with care.")
    return notes


def rich_table(rows: Sequence[Row], title: str) -> Table:
    """The table for a terminal; reasons of failures are too long for it."""
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for column, short in zip(COLUMNS, SHORT_COLUMNS, strict=True):
        first = column == "variant"
        justify = "left" if first or column == "bits per byte" else "right"
        table.add_column(short, justify=justify, overflow="fold", no_wrap=not first)
    for line in table_lines(rows):
        table.add_row(*("failed" if cell.startswith("failed: ") else cell for cell in line))
    return table


def write_report(rows: Sequence[Row], folder: Path, command: str, figure: bool = True) -> None:
    """Writes results.json, results.md and, if any run was finished, figure.png."""
    content = json.dumps({"command": command, "runs": list(rows)}, indent=1) + "\n"
    cells = [COLUMNS, ["---"] + ["---:"] * (len(COLUMNS) - 1), *table_lines(rows)]
    table = "\n".join("| " + " | ".join(c.replace("|", "/") for c in line) + " |" for line in cells)
    text = "\n\n".join([table, *table_notes(rows), f"`{command}`"]) + "\n"
    for name, body in ((RESULTS_FILE, content), (TABLE_FILE, text)):
        with atomic_file(folder / name) as partial:
            partial.write_text(body, encoding="utf-8")
    if figure and any("failed" not in row for row in rows):
        draw(by_variant(rows), folder / FIGURE_FILE)


def draw(groups: dict[str, list[Row]], path: Path) -> Path:
    """Bits per byte against seconds, tokens and parameters: means, and minimum to maximum."""
    figure = Figure(figsize=(14, 4.8), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for number, (name, runs) in enumerate((n, r) for n, r in groups.items() if r):
        style = {"color": f"C{number % 10}", "marker": "osD^v"[number // 10 % 5]}
        for axes, unit in zip(panels, ("seconds", "tokens"), strict=False):
            draw_band(axes, [run["curve"] for run in runs], unit, style | {"label": name})
        bits = [run["bits_per_byte"] for run in runs]
        middle = mean(bits)
        count = mean(run["parameters"] for run in runs)
        reach = [[middle - min(bits)], [max(bits) - middle]]
        panels[2].errorbar([count], [middle], yerr=reach, capsize=3, **style)
    for axes, unit in zip(panels, ("seconds", "tokens", "parameters"), strict=True):
        axes.set_xlabel(unit)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("validation bits per byte")
    panels[2].set_title("at the end")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=110)
    return path


def draw_band(axes: Axes, curves: list[list[dict]], unit: str, style: dict[str, str]) -> None:
    """The mean of several curves, read at the points of the first, and their spread."""
    sides = [([p[unit] for p in curve], [p["bits_per_byte"] for p in curve]) for curve in curves]
    x = sides[0][0]
    heights = np.stack([np.interp(x, *side) for side in sides])
    axes.plot(x, heights.mean(axis=0), markersize=4, **style)
    if len(curves) > 1:
        axes.fill_between(x, heights.min(0), heights.max(0), color=style["color"], alpha=0.2)
