"""Live progress: loss, rate, MFU, memory and time left, while a model trains.

In a terminal a bar over two lines; elsewhere (a file, a pipe) a plain line now and then.
Promoted by 05_full_run.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import psutil
import torch
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from shared.device import matmul_gflops
from shared.model.counting import training_flops
from shared.training.loop import Record
from shared.training.loss import bits_per_byte
from shared.training.run import Run
from shared.training.run_log import running_mean

WINDOW = 20.0  # seconds of training that the rate is a mean over
GIB = 2**30


class Pace:
    """Tokens a second over the last `window` seconds of training."""

    def __init__(self, window: float = WINDOW) -> None:
        self.window = window
        self._steps = deque()
        self._tokens = 0
        self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Counts a step, and forgets those before the window."""
        self._steps.append((tokens, seconds))
        self._tokens += tokens
        self._seconds += seconds
        while self._seconds - self._steps[0][1] >= self.window:
            tokens, seconds = self._steps.popleft()
            self._tokens -= tokens
            self._seconds -= seconds

    @property
    def rate(self) -> float:
        """Tokens a second; 0 before the first step."""
        return self._tokens / max(self._seconds, 1e-9)


class LiveProgress:
    """Follows a run's steps: measures them, and shows where the run stands.

    Args:
        peak_flops: what the device can do in a second; None leaves MFU out.
        draw: gets the share that is over, 0 to 1, and two lines of text.
        clock: returns seconds; a test passes its own.
    """

    def __init__(
        self,
        run: Run,
        peak_flops: float | None,
        draw: Callable[[float, str, str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self.peak_flops = peak_flops
        self._draw = draw
        self._clock = clock
        self.figures: dict[str, float] = {}
        self._pace = Pace()
        self._flops = training_flops(run.model.config)
        self._bytes_per_token = run.bytes_per_token
        self._loss = math.nan
        self._seen = 0
        self._skipped = 0

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Passes records on, each shown already.

        Only the time between asking for a record and getting it counts: validating,
        sampling and saving do not lower the rate.
        """
        steps = iter(records)
        asked = self._clock()
        for record in steps:
            self._pace.add(record.tokens, self._clock() - asked)
            self.show(record)
            yield record
            asked = self._clock()

    def show(self, record: Record) -> None:
        """Takes a step into the figures, and draws them."""
        if record.skipped:
            self._skipped += 1
        else:
            self._loss = running_mean(self._loss, record.loss, self._seen)
            self._seen += 1
        rate = self._pace.rate
        self.figures = {"tokens_per_second": rate, "memory": held_memory(self.run.device)}
        if self.peak_flops:
            self.figures["mfu"] = rate * self._flops / self.peak_flops
        self._draw(self.run.budget.progress, self._where(record), self._how())

    def _where(self, record: Record) -> str:
        skipped = f" · {self._skipped} skipped" if self._skipped else ""
        left = clock_text(self.run.budget.seconds_left)
        return f"{self.run.budget.progress:.0%} · step {record.step}{skipped} · {left} left"

    def _how(self) -> str:
        bits = bits_per_byte(self._loss, self._bytes_per_token)
        parts = [f"loss {self._loss:.3f}", f"{bits:.2f} bits/byte"]
        parts.append(f"{short(self.figures['tokens_per_second'])} tokens/s")
        if "mfu" in self.figures:
            parts.append(f"MFU {self.figures['mfu']:.1%}")
        return " · ".join([*parts, f"{self.figures['memory'] / GIB:.1f} GiB"])


@contextmanager
def live_progress(
    run: Run,
    console: Console,
    peak_flops: float | None = None,
    every: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[LiveProgress]:
    """Shows a run's progress while the block lasts; a line each `every` seconds if no terminal."""
    if not console.is_terminal or console.is_dumb_terminal:
        lines = PlainLines(console, every, clock)
        try:
            yield LiveProgress(run, peak_flops, lines.draw, clock)
        finally:
            lines.flush()
        return
    with TwoLines(
        BarColumn(bar_width=24), TextColumn("{task.description}"), console=console
    ) as bar:
        task = bar.add_task("", total=1.0)

        def draw(share: float, where: str, how: str) -> None:
            bar.below = how
            bar.update(task, completed=share, description=where)

        yield LiveProgress(run, peak_flops, draw, clock)


class TwoLines(Progress):
    """A bar with a line of text below it; each fits into 80 columns."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the line."""
        yield from super().get_renderables()
        yield Text(self.below, no_wrap=True, overflow="ellipsis")


class PlainLines:
    """Prints the first line, one each `every` seconds, and the last."""

    def __init__(self, console: Console, every: float, clock: Callable[[], float]) -> None:
        self.console = console
        self.every = every
        self._clock = clock
        self._line = ""
        self._due = -math.inf

    def draw(self, share: float, where: str, how: str) -> None:
        """Prints the line if it is time."""
        self._line = f"{where} · {how}"
        if self._clock() >= self._due:
            self._due = self._clock() + self.every
            self.flush()

    def flush(self) -> None:
        """Prints the line that is still to be printed, if there is one."""
        if self._line:
            self.console.print(self._line, highlight=False, soft_wrap=True)
        self._line = ""


def measured_peak(run: Run) -> float | None:
    """FLOPs a second of matrix products on the run's device in its dtype, in about a second.

    None if the device cannot multiply in that dtype. Random numbers that the run
    draws later are as if nothing had been measured.
    """
    devices = [run.device] if run.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            return 1e9 * matmul_gflops(run.device, run.precision.dtype)
    except (RuntimeError, TypeError):
        return None


def held_memory(device: torch.device) -> int:
    """Bytes this process holds right now: on an accelerator there, else in main memory."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return psutil.Process().memory_info().rss


def clock_text(seconds: float) -> str:
    """3725 -> `"1:02:05"`; infinite -> `"?"`."""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def short(number: float) -> str:
    """26130 -> `"26.1k"`, in at most six characters up to a billion."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"
