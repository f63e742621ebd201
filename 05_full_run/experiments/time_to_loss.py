"""How long `full_run.py` trains until validation is as good as asked for."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

from benchmark_results import Row
from comparison import curve_of
from comparison_jobs import reason_of
from full_run_paths import SCRIPT

from shared.training.run_log import read_metrics


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
