"""What `benchmark.py` makes of measurements: where a step's time goes, ratios, MFU, one table."""

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from math import inf
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import psutil
import torch
from benchmark_contenders import our_run
from comparison import curve_of
from comparison_jobs import SCRIPT, reason_of
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text
from torch.profiler import ProfilerActivity, profile, record_function

from shared.device import device_label, pick_device
from shared.files import atomic_file
from shared.model.counting import training_flops
from shared.privacy import without_folders
from shared.text.batches import Batches
from shared.training import loop
from shared.training.loop import train
from shared.training.precision import Precision
from shared.training.run_config import RunConfig
from shared.training.run_log import read_metrics

COLUMNS = ("what", "who", "median", "range", "MFU", "GiB", "ours is faster")
LABEL = "benchmark: "  # begins the profiler's names for parts of the loop
ATTENTION, MATRICES, CASTS = "attention", "matrix products", "casts and copies"
BENDS, LOSS, OPTIMIZER, DATA = "norms, RoPE, activations", "loss", "optimizer", "data"
REST = "Python and bookkeeping"
GROUPS = (MATRICES, ATTENTION, BENDS, CASTS, LOSS, OPTIMIZER, DATA, REST)
ATTENTION_NAMES = ("RowBlockAttention", "scaled_dot_product", "ScaledDotProduct")
MATRIX_NAMES = {"mm", "addmm", "bmm", "baddbmm", "baddbmm_", "_grouped_mm", "dot", "mv"}
CAST_NAMES = {"_to_copy", "copy_", "clone", "contiguous"}


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


def step_shares(config: RunConfig, steps: int) -> dict[str, float]:
    """Per cent of the time of some steps on the CPU that each group of operations takes.

    A group has its operations' own time, forward and backward; what is left of the clock's
    is `REST`. The profiler slows Python, so that is an upper bound.
    """
    parts = [
        (loop, "cross_entropy", LOSS), (Batches, "__next__", DATA),
        (Precision, "clip", OPTIMIZER), (Precision, "step", OPTIMIZER),
    ]  # fmt: skip
    with ExitStack() as labels:
        for owner, name, group in parts:
            labelled = record_function(LABEL + group)(getattr(owner, name))
            labels.enter_context(patch.object(owner, name, labelled))
        records = train(**our_run(config, steps + 1).for_training())
        next(records)  # allocates and warms up
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
            start = time.perf_counter()
            deque(records, maxlen=0)
            seconds = time.perf_counter() - start
    events = [(*callers(e), e.sequence_nr, e.self_cpu_time_total) for e in profiler.events()]
    return group_shares(group_seconds(events), seconds)


def callers(event: Any) -> tuple[list[str], int]:
    """Names from an event to the outermost around it, and that one's autograd number."""
    names, outer = [event.name], event
    while outer.cpu_parent is not None:
        outer = outer.cpu_parent
        names.append(outer.name)
    return names, outer.sequence_nr


def group_seconds(operations: Iterable[tuple[list[str], int, int, float]]) -> dict[str, float]:
    """Seconds of each group, `REST` left out.

    Args:
        operations: of each its name and those of all that called it, innermost first;
            autograd's number (an operation and its way back share it) of the outermost
            and of itself; its own microseconds.
    """
    operations = list(operations)
    of_loss = {own for names, _, own, _ in operations if f"{LABEL}{LOSS}" in names and own >= 0}
    seconds = dict.fromkeys(GROUPS[:-1], 0.0)
    for names, outer, _, microseconds in operations:
        backward_of_loss = names[-1].startswith("autograd::") and outer in of_loss
        group = LOSS if backward_of_loss else group_of(names)
        if group != REST:
            seconds[group] += microseconds / 1e6
    return seconds


def group_of(names: Sequence[str]) -> str:
    """The group of an operation, by its name and those of all that called it, innermost first."""
    for name in names:
        if name.startswith(LABEL):
            return name.removeprefix(LABEL)
    if any(part in name for name in names for part in ATTENTION_NAMES):
        return ATTENTION
    kinds = [name.removeprefix("aten::") for name in names]
    for kind in kinds:
        if kind in CAST_NAMES:
            return CASTS
        if kind in MATRIX_NAMES:
            return MATRICES
    return BENDS if names[0].startswith("aten::") else REST


def group_shares(seconds: dict[str, float], wall: float) -> dict[str, float]:
    """Per cent of the wall-clock time in each group; what no operation took is `REST`."""
    whole = max(wall, sum(seconds.values()))
    shares = {name: 100 * seconds[name] / whole for name in GROUPS[:-1]}
    return shares | {REST: 100 * (1 - sum(seconds.values()) / whole)}


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
    table, before = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)), ""
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


def loss_row(arguments: Sequence[str], target: float, nats: bool) -> Row:
    """Seconds that `full_run.py` trained, with its looks at validation, until one was so good."""
    row = Row("training, seconds", f"ours, to {target:g} {'nats' if nats else 'bits a byte'}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SCRIPT), *arguments, "--out", folder]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        entries = read_metrics(Path(folder))
    if done.returncode:
        return replace(row, failed=reason_of(done.stderr.splitlines(), done.returncode))
    if nats:
        step = next(entry for entry in entries if "loss" in entry)
        target *= step["bits_per_byte"] / step["loss"]
    curve = curve_of(entries)
    if seconds := [point["seconds"] for point in curve if point["bits_per_byte"] <= target]:
        return replace(row, values=seconds[:1])
    best = min((point["bits_per_byte"] for point in curve), default=inf)
    reason = f"not reached, the lowest was {best:.3f} bits a byte: give a longer --budget"
    return replace(row, failed=reason)


def facts_of(config: RunConfig, command: str, load: tuple[float, ...]) -> dict[str, str]:
    """What the numbers depend on, with no folder of its owner's."""
    model, device, flops = config.model, pick_device(config.device), training_flops(config.model)
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
    }  # fmt: skip
