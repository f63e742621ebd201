"""Loss history: what a run had lost and read at a step, for its card and its page.

Promoted by 05_full_run.
"""

import math
from pathlib import Path
from typing import Any

from shared.training.run_log import read_metrics
from shared.training.snapshots import list_snapshots, step_of

RECENT = 0.9  # a noisy loss is told as the mean of the last tenth of the steps
POINTS = 120  # of a curve, evenly over the logarithm of the steps


class LossHistory:
    """The steps of `metrics.jsonl` that moved the weights."""

    def __init__(self, run: Path) -> None:
        steps = [e for e in read_metrics(run) if "bits_per_byte" in e and "tokens" in e]
        self.bits = {e["step"]: e["bits_per_byte"] for e in steps if not e.get("skipped")}
        self.bytes = {}
        read = 0.0
        for entry in steps:
            read += entry["tokens"] * bytes_per_token(entry)
            self.bytes[entry["step"]] = round(read)

    def bits_at(self, step: int) -> float | None:
        """Training loss in bits a byte, the mean of the last tenth of the steps; None: unknown."""
        recent = range(math.floor(RECENT * step) + 1, step + 1)
        known = [self.bits[each] for each in recent if each in self.bits]
        return sum(known) / len(known) if known else None

    def curve(self) -> list[tuple[int, float]]:
        """Steps and their bits a byte, few enough to be drawn by a page."""
        last = max(self.bits, default=0)
        steps = sorted({round(last ** (n / POINTS)) for n in range(POINTS + 1)}) if last else []
        points = [(step, self.bits_at(step)) for step in steps]
        return [(step, round(bits, 3)) for step, bits in points if bits is not None]


def short_log(run: Path) -> list[dict[str, Any]]:
    """Lines for a `metrics.jsonl` of the curve and the snapshots alone: a log to publish.

    Who reads it finds the same bytes read there, and bits a byte that differ by a few
    hundredths at most: each line holds a mean already.
    """
    history, read, lines = LossHistory(run), 0, []
    for step in sorted(
        {step for step, _ in history.curve()} | set(map(step_of, list_snapshots(run)))
    ):
        if (bits := history.bits_at(step)) is not None and step in history.bytes:
            tokens, read = history.bytes[step] - read, history.bytes[step]
            nats = bits * math.log(2)
            lines.append({"step": step, "loss": nats, "bits_per_byte": bits, "tokens": tokens})
    return lines


def bytes_per_token(entry: dict[str, Any]) -> float:
    """Of an entry's text: its loss is nats a token and bits a byte at once."""
    bits = entry["bits_per_byte"]
    return entry["loss"] / math.log(2) / bits if bits > 0 else 1.0


def told_snapshots(run: Path) -> list[dict[str, Any]]:
    """Of each snapshot its file, step, and if known the bytes read and the bits a byte by then."""
    history = LossHistory(run)
    return [
        {
            "file": snapshot,
            "step": step_of(snapshot),
            "bytes": history.bytes.get(step_of(snapshot)),
            "bits_per_byte": history.bits_at(step_of(snapshot)),
        }
        for snapshot in list_snapshots(run)
    ]
