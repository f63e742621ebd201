"""How far a comparison is: a bar over its runs, from what each of them has logged."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from comparison_jobs import Job, Show
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from shared.training.budget import parse_budget
from shared.training.run_log import METRICS_FILE

TAIL = 8192  # bytes at the end of a log that hold its last lines


@contextmanager
def progress_bar(total: int, console: Console) -> Iterator[Show]:
    """A bar over `total` runs; yields the function that moves it by what a job has logged."""
    columns = (
        TextColumn("{task.completed:.1f} of {task.total} runs"),
        BarColumn(bar_width=8),
        TimeRemainingColumn(compact=True),
        TextColumn("left · {task.description}"),
    )
    begun: list[Path] = []
    with Progress(*columns, console=console, speed_estimate_period=3600) as progress:
        task = progress.add_task("", total=total, visible=total > 0)

        def show(job: Job) -> None:
            if job.folder not in begun:
                begun.append(job.folder)
            share, text = progress_of(job)
            name = f"{job.variant.name}, seed {job.seed}"
            progress.update(task, completed=len(begun) - 1 + share, description=f"{name}{text}")

        yield show


def progress_of(job: Job) -> tuple[float, str]:
    """The share of a job that is over, 0 to 1, and its loss and rate in words."""
    records = last_records(job.folder / METRICS_FILE)
    if job.finished or len(records) < 2:
        return float(job.finished), ""
    first = records[0]
    last = records[-1]
    budget = parse_budget(job.budget)
    share = (
        last["step"] / budget.total_steps
        if budget.total_steps
        else (last["seconds"] / budget.total_seconds)
    )
    rate = (len(records) - 1) * last["tokens"] / max(last["seconds"] - first["seconds"], 1e-9)
    words = f" · {last['bits_per_byte']:.2f} bits/byte · {rate / 1e3:.1f}k tokens/s"
    return min(1.0, share), words


def last_records(path: Path) -> list[dict[str, Any]]:
    """The steps among the last lines of a log that is being written."""
    records = []
    with suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        for line in file.read().splitlines():
            with suppress(ValueError):  # the first may be cut, the last half-written
                records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict) and "loss" in record]
