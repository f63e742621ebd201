"""Plan: what a config would do on this machine, from a few measured steps.

Promoted by 05_full_run.
"""

import time
from dataclasses import dataclass, replace

import torch

from shared.device import peak_memory, pick_device, synchronize, total_memory
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.own_tokenizer import learned_size
from shared.text.tokenizer_file import pick_tokenizer
from shared.training.budget import Budget
from shared.training.clipping import Clipping
from shared.training.loop import train
from shared.training.precision import Precision
from shared.training.run import build_optimizers, build_schedule, model_for, pick_dtype
from shared.training.run_config import RunConfig
from shared.training.strategy import OneProcess

MEASURED_TOKENS = 4096  # a micro-batch larger than this is measured in part
USABLE = 0.8  # of the memory; the rest is the system's


@dataclass(frozen=True)
class Plan:
    """Measured speed and memory of one config on one device."""

    parameters: int
    tokens_per_second: float
    memory: int
    """bytes in training, estimated for the whole micro-batch"""
    available: int
    """bytes the device has"""

    @property
    def fits(self) -> bool:
        """True if the memory leaves a fifth of the device free."""
        return self.memory <= USABLE * self.available

    def bytes_seen(self, hours: float = 6.0) -> float:
        """Training targets in that time."""
        return self.tokens_per_second * hours * 3600


def planned_model(config: RunConfig) -> ModelConfig:
    """The model's config with the vocabulary it will have; `bpe:N` need not be learned for it."""
    if (size := learned_size(config.data.tokenizer)) is not None:
        return replace(config.model, vocab_size=size)
    return model_for(config, pick_tokenizer(config.data.tokenizer))


def measure_plan(config: RunConfig, steps: int = 3, patience: float = 15.0) -> Plan:
    """Trains on random ids for a few steps (or for `patience` seconds) and reports.

    Call it in a process of its own: the peak memory of a process never falls.
    """
    device = pick_device(config.device)
    precision = Precision(device, pick_dtype(config.precision, device))
    before = peak_memory(device)
    model = Transformer(planned_model(config)).to(device)
    model.recompute = config.train.recompute
    optimizers = build_optimizers(model, config.train)
    length = config.model.context_length
    rows = max(1, min(config.train.batch_size, MEASURED_TOKENS // length))
    windows = torch.randint(model.config.vocab_size, (rows, length + 1))
    endless = iter(lambda: (windows[:, :-1], windows[:, 1:]), None)
    records = train(
        model, optimizers, endless, Budget(steps=steps + 1), build_schedule(config.train),
        precision, OneProcess(device), Clipping(config.train.max_grad_norm),
    )  # fmt: skip
    next(records)  # the first step allocates and warms up
    tokens, start = 0, time.perf_counter()
    for record in records:
        synchronize(device)
        tokens, spent = tokens + record.tokens, time.perf_counter() - start
        if spent > patience:
            break
    used = peak_memory(device)
    fixed = 16 * model.count_parameters()  # weights, gradients, two moments: 4 bytes each
    activations = max(0, used - before - fixed) / rows
    memory = round(before + fixed + activations * config.train.batch_size)
    return Plan(model.count_parameters(), tokens / spent, memory, total_memory(device))
