"""What `benchmark.py` makes of measurements: rows, ratios, MFU, one table."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import psutil
import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from shared.device import device_label, pick_device
from shared.files import atomic_file
from shared.model.counting import training_flops
from shared.privacy import without_folders
from shared.training.run_config import RunConfig

COLUMNS = ("what", "who", "median", "range", "MFU", "GiB", "ours is faster")


@dataclass(frozen=True)
class Row:
    """One contender in one measurement."""

    what: str
    """what is measured, with its unit after a comma"""
    who: str
    values: list[float] = field(default_factory=list)
    """one of each round"""
    mfu: float | None = None
    memory: int | None = None
    """bytes at the peak of its process, the largest of all rounds"""
    ratio: tuple[float, float, float] | None = None
    """how many times faster ours is: of the medians, and lowest and highest of the rounds"""
    failed: str | None = None


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """The medians' ratio, and the lowest and the highest ratio within one round."""
    rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
    return median(ours) / median(theirs), min(rounds), max(rounds)


def mfu(tokens_per_second: float, flops_per_token: float, peak_gflops: float) -> float:
    """Model FLOPs utilisation: the share of the measured peak that goes into the model.

    Source: Chowdhery et al. 2022, "PaLM", section 4.1, with a measured peak for the vendor's.
    """
    return tokens_per_second * flops_per_token / (peak_gflops * 1e9)


def cells_of(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of `COLUMNS`."""
    if row.failed:
        return (row.what, row.who, "failed", *"–" * 4)
    several = len(row.values) > 1
    ratio, low, high = row.ratio or (0, 0, 0)
    rounds = f" ({low:.2f}–{high:.2f})" if several and (low, high) != (1, 1) else ""
    return (
        row.what,
        row.who,
        number(median(row.values)),
        f"{number(min(row.values))}–{number(max(row.values))}" if several else "–",
        "–" if row.mfu is None else f"{row.mfu:.1%}",
        "–" if row.memory is None else f"{row.memory / 2**30:.2f}",
        f"{ratio:.2f}×{rounds}" if row.ratio else "–",
    )


def number(value: float) -> str:
    """Whole from a hundred on, with one decimal or two below."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rich_table(rows: Sequence[Row]) -> Table:
    """The table for a terminal; what is measured stands on a line of its own."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    before = ""
    for column in COLUMNS[1:]:
        table.add_column(column, justify="left" if column == "who" else "right", no_wrap=True)
    for what, *cells in map(cells_of, rows):
        if what != before:
            table.add_row(Text(what, style="bold"))
        table.add_row(*cells)
        before = what
    return table


def write_results(path: Path, rows: Sequence[Row], facts: dict[str, str]) -> None:
    """Writes the table and the facts below it as Markdown, and all as JSON beside it.

    Raises:
        UserError: the disk refuses.
    """
    rows = [replace(row, failed=without_folders(row.failed)) for row in rows]
    lines = [COLUMNS, ("---", "---", *["---:"] * (len(COLUMNS) - 2)), *map(cells_of, rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    below = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    with atomic_file(path) as partial:
        partial.write_text(f"{table}\n\n{below}\n", encoding="utf-8")
    content = {"rows": [asdict(row) for row in rows], "facts": facts}
    with atomic_file(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def facts_of(config: RunConfig, command: str, load: tuple[float, ...]) -> dict[str, str]:
    """What the numbers depend on, with no folder of its owner's."""
    model = config.model
    device = pick_device(config.device)
    flops = training_flops(config.model)
    before, after = load[0], psutil.getloadavg()[0]
    libraries = [f"{name} {version(name)}" for name in ("torch", "transformers") if find_spec(name)]
    return {
        "command": command,
        "model": f"{model.n_layers} layers, {model.n_heads} heads, {model.d_model} channels, "
        f"T {model.context_length}, B {config.train.batch_size}; "
        f"{flops / 1e6:,.1f} MFLOPs to train on a token",
        "device": f"{device_label(device)}, {torch.get_num_threads()} threads; ours in "
        f"{config.precision}; load average {before:.1f} before, {after:.1f} after",
        "versions": ", ".join([f"Python {platform.python_version()}", *libraries]),
        "seed": str(config.seed),
    }
