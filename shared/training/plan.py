"""Plan: what a config would do on this machine, from a few measured steps.

Promoted by 05_full_run.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median

import torch

from shared.device import peak_memory, pick_device, steady_threads, synchronize, total_memory
from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.own_tokenizer import learned_size
from shared.text.tokenizer_file import pick_tokenizer
from shared.training.budget import Budget
from shared.training.clipping import Clipping
from shared.training.loop import Record, train
from shared.training.precision import Precision, pick_dtype
from shared.training.run_config import RunConfig
from shared.training.run_parts import build_optimizers, build_schedule, model_for
from shared.training.strategy import OneProcess

TOKENS_A_PARAMETER = 20  # best for a given amount of arithmetic, says Hoffmann et al. 2022
MEASURED_TOKENS = 4096  # a micro-batch larger than this is measured in part
USABLE = 0.8  # of the memory; the rest is the system's


@dataclass(frozen=True)
class Plan:
    """Measured speed and memory of one config on one device."""

    parameters: int
    tokens_per_second: float
    fixed: int
    """bytes in training that do not depend on the micro-batch"""
    per_window: int
    """bytes for each window of the micro-batch"""
    windows: int
    """B, of the config"""
    available: int
    """bytes the device has"""

    @property
    def memory(self) -> int:
        """Bytes in training."""
        return self.fixed + self.windows * self.per_window

    @property
    def fits(self) -> bool:
        """True if the memory leaves a fifth of the device free."""
        return self.memory <= USABLE * self.available

    def tokens_seen(self, hours: float = 6.0) -> float:
        """Training targets in that time."""
        return self.tokens_per_second * hours * 3600

    def tokens_per_parameter(self, hours: float = 6.0) -> float:
        """Training targets in that time for each parameter (a byte of text each, with bytes)."""
        return self.tokens_seen(hours) / self.parameters

    def largest_batch(self, together: int) -> int:
        """The largest micro-batch that fits and divides the `together` windows of a step.

        Raises:
            UserError: not even one window fits.
        """
        fitting = (USABLE * self.available - self.fixed) // max(1, self.per_window)
        sizes = [n for n in range(1, together + 1) if together % n == 0 and n <= fitting]
        if not sizes:
            raise UserError(
                f"one window needs {(self.fixed + self.per_window) / 2**30:.1f} GiB and the "
                f"device has {self.available / 2**30:.1f}: take a smaller model, a shorter "
                "context, or --train.recompute true"
            )
        return sizes[-1]


def planned_model(config: RunConfig) -> ModelConfig:
    """The model's config with the vocabulary it will have; `bpe:N` need not be learned for it."""
    if (size := learned_size(config.data.tokenizer)) is not None:
        start = size - 1 if config.data.within_documents else None  # the end of text comes last
        return replace(config.model, vocab_size=size, document_start=start)
    return model_for(config, pick_tokenizer(config.data.tokenizer))


def measure_plan(config: RunConfig, steps: int = 3, patience: float = 8.0) -> Plan:
    """Trains on random ids for a few steps (or for `patience` seconds) and reports.

    A micro-batch of more than 4,096 tokens is measured in part. Steps of one and of two
    of them tell what a micro-batch takes and what the optimizer. On a CPU one thread is
    measured if it is faster than all, as beside busy programs: a moment's neighbours
    should not make a night look hopeless. Call it in a process of its own: the peak memory
    of a process never falls.
    """
    device = pick_device(config.device)
    precision = Precision(device, pick_dtype(config.precision, device))
    before = peak_memory(device)
    model = Transformer(planned_model(config)).to(device)
    model.recompute = config.train.recompute
    optimizers = build_optimizers(model, config.train, precision.dtype)
    length, windows = config.model.context_length, config.train.batch_size
    rows = max(1, min(windows, MEASURED_TOKENS // length))
    ids = torch.randint(model.config.vocab_size, (rows, length + 1))

    def seconds(micro_batches: int) -> float:
        records = train(
            model,
            optimizers,
            iter(lambda: (ids[:, :-1], ids[:, 1:]), None),
            Budget(steps=steps + 1),
            build_schedule(config.train),
            precision,
            OneProcess(device, micro_batches),
            Clipping(config.train.max_grad_norm),
        )
        return _median_step(records, device, patience)

    with steady_threads(torch.no_grad()(lambda: model(ids[:1, :-1].to(device))), 1.0, rounds=2):
        one, two = seconds(1), seconds(2)
    micro = min(max(two - one, one / 4), one)  # noise must not make either negative
    together = windows * config.train.accumulation
    step = micro * together / rows + (one - micro)
    used = peak_memory(device)
    fixed = 16 * model.count_parameters()  # weights, gradients, two moments: 4 bytes each
    return Plan(
        parameters=model.count_parameters(),
        tokens_per_second=together * length / step,
        fixed=before + fixed,
        per_window=round(max(0, used - before - fixed) / rows),
        windows=windows,
        available=total_memory(device),
    )


def _median_step(records: Iterator[Record], device: torch.device, patience: float) -> float:
    next(records)  # the first step allocates and warms up
    durations = []
    begun = time.perf_counter()
    for _ in records:
        synchronize(device)
        durations.append(time.perf_counter() - begun - sum(durations))
        if sum(durations) > patience:
            break
    return median(durations)
