"""Where a step's time goes: every operation's own time, forward and backward, in a few groups."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from benchmark_contenders import our_run
from torch.profiler import ProfilerActivity, profile, record_function

from shared.text.batches import Batches
from shared.training import loop
from shared.training.loop import train
from shared.training.precision import Precision
from shared.training.run_config import RunConfig

LABEL = "benchmark: "  # begins the profiler's names for parts of the loop
ATTENTION, MATRICES, CASTS = "attention", "matrix products", "casts and copies"
NORMS_AND_ACTIVATIONS = "norms, RoPE, activations"
LOSS, OPTIMIZER, DATA, REST = "loss", "optimizer", "data", "Python and bookkeeping"
GROUPS = (MATRICES, ATTENTION, NORMS_AND_ACTIVATIONS, CASTS, LOSS, OPTIMIZER, DATA, REST)
ATTENTION_NAMES = ("RowBlockAttention", "scaled_dot_product", "ScaledDotProduct")
MATRIX_NAMES = {"mm", "addmm", "bmm", "baddbmm", "baddbmm_", "_grouped_mm", "dot", "mv"}
CAST_NAMES = {"_to_copy", "copy_", "clone", "contiguous"}


def step_shares(config: RunConfig, steps: int) -> dict[str, float]:
    """Per cent of the time of some steps on the CPU that each group of operations takes.

    A group has its operations' own time, forward and backward; what is left of the clock's
    is `REST`. The profiler slows Python, so that is an upper bound.
    """
    parts = [
        (loop, "cross_entropy", LOSS),
        (Batches, "__next__", DATA),
        (Precision, "clip", OPTIMIZER),
        (Precision, "step", OPTIMIZER),
    ]
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
    names = [event.name]
    outer = event
    while outer.cpu_parent is not None:
        outer = outer.cpu_parent
        names.append(outer.name)
    return names, outer.sequence_nr


def group_seconds(operations: Iterable[tuple[list[str], int, int, float]]) -> dict[str, float]:
    """Seconds of each group, `REST` left out.

    Args:
        operations: of each its name and those of all that called it, innermost first;
            autograd's number (an operation and its backward share it) of the outermost
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
    return NORMS_AND_ACTIVATIONS if names[0].startswith("aten::") else REST


def group_shares(seconds: dict[str, float], wall: float) -> dict[str, float]:
    """Per cent of the wall-clock time in each group; what no operation took is `REST`."""
    whole = max(wall, sum(seconds.values()))
    shares = {name: 100 * seconds[name] / whole for name in GROUPS[:-1]}
    return shares | {REST: 100 * (1 - sum(seconds.values()) / whole)}
