"""What each fast path buys in a whole training step, on this machine: time and memory.

    python 03_attention/fast_path_shares.py
    python 03_attention/fast_path_shares.py --threads 1 --dtype float32 --rounds 15

Steps with all paths and with all but one are timed in turn, in one process. The table says
how much longer a step takes without a path, and how much more memory it holds. One thread is
timed by its own time, which leaves out what other programs take; several by the clock's.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from sizes import build_optimizers, cross_entropy, measure_step

from shared.device import dtype_name, fastest_right_dtype, keep_freed_memory, measure_dtypes
from shared.errors import UserError, one_line_errors
from shared.model import causal_attention, fast_paths, norms, sliding_window, transformer
from shared.model.config import ModelConfig
from shared.model.presets import PRESETS
from shared.model.transformer import Transformer

QUICK = ModelConfig(context_length=256, n_layers=4, d_model=128, n_heads=2)
SHAPES = {
    "quick, 16 windows of 256": (QUICK, 16),
    "quick, attention window 64": (replace(QUICK, window=64), 16),
    "small, 2 windows of 256": (PRESETS["small"], 2),
}


def never(*arguments: object) -> bool:
    """In place of a question whether a path is the faster one."""
    return False


# Path -> what stands in its place: the owner of a name, the name, its value
SWITCHES: dict[str, list[tuple[Any, str, Any]]] = {
    "row blocks": [
        (causal_attention, "rows_are_faster", never),
        (sliding_window, "rows_are_faster", never),
    ],
    "plain products": [(fast_paths, "NARROW_WINDOW", 0)],
    "RMSNorm by hand": [(norms, "trains_on_cpu", never)],
    "one cast": [(transformer, "cast_once", lambda x: x)],
}


@dataclass(frozen=True)
class Share:
    """A step without one path, beside a step with all."""

    seconds: float
    """of the median step"""
    longer: float
    """0.05: it takes 5 % longer; median over the rounds"""
    larger: float
    """0.05: it holds 5 % more memory"""


@contextmanager
def without(path: str | None) -> Iterator[None]:
    """Switches one path off, or none."""
    with ExitStack() as stack:
        for owner, name, value in SWITCHES.get(path, []):
            stack.enter_context(patch.object(owner, name, value))
        yield


def paths_taken(config: ModelConfig, dtype: torch.dtype) -> list[str]:
    """Those paths that a step of this model in this dtype goes by, on the CPU."""
    taken = ["RMSNorm by hand"]
    if dtype is torch.bfloat16:
        narrow = config.reach < min(config.context_length, fast_paths.NARROW_WINDOW + 1)
        taken += ["plain products" if narrow else "row blocks", "one cast"]
    return taken


def measure_shares(
    config: ModelConfig, batch: int, dtype: torch.dtype, rounds: int
) -> tuple[float, dict[str, Share]]:
    """Seconds of a step with all paths, and the share of each that it takes.

    Args:
        batch: B, windows in a step; memory is measured with two at most.
    """
    taken = paths_taken(config, dtype)
    step = training_step(config, batch, dtype)
    times: dict[str | None, list[float]] = {path: [] for path in (None, *taken)}
    step()  # allocates and warms up
    for _ in range(rounds):
        for path, timed in times.items():
            with without(path):
                timed.append(seconds(step))
    held = {}
    for path in times:
        with without(path):
            held[path] = measure_step(config, min(batch, 2), dtype is torch.bfloat16, "adamw")
    shares = {}
    for path in taken:
        ratios = [one / whole for one, whole in zip(times[path], times[None], strict=True)]
        larger = held[path] / held[None] - 1
        shares[path] = Share(median(times[path]), median(ratios) - 1, larger)
    return median(times[None]), shares


def training_step(config: ModelConfig, batch: int, dtype: torch.dtype) -> Callable[[], None]:
    """Forward, loss, backward and AdamW for random ids, ready to be called."""
    torch.manual_seed(0)
    model = Transformer(config).train()
    optimizers = build_optimizers(model, "adamw")
    ids = torch.randint(config.vocab_size, (batch, config.context_length + 1))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            loss = cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def seconds(step: Callable[[], None]) -> float:
    """What one step takes."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    step()
    return clock() - start


def faster_dtype() -> torch.dtype:
    """bfloat16 where its products are right and faster, or float32."""
    reports = measure_dtypes(torch.device("cpu"))
    return fastest_right_dtype([r for r in reports if r.dtype is not torch.float16])


def main(arguments: list[str]) -> None:
    """Prints a table for each shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="none: the faster")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each kind (7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    if min(options.rounds, options.threads) < 1:
        raise UserError("--rounds and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    dtype = getattr(torch, options.dtype) if options.dtype else faster_dtype()
    machine = f"{torch.backends.cpu.get_cpu_capability()}, {options.threads} threads"
    print(f"torch {torch.__version__}, {machine}, {dtype_name(dtype)}")
    for name, (config, batch) in SHAPES.items():
        whole, shares = measure_shares(config, batch, dtype, options.rounds)
        print(f"\n{name}: {whole * 1e3:.1f} ms a step")
        for path, share in shares.items():
            print(
                f"without {path:16} {share.seconds * 1e3:8.1f} ms, {share.longer:+.1%} time, "
                f"{share.larger:+.1%} memory"
            )


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
