"""What `benchmark.py` measures, each in a process of its own: training and generation.

A turn builds its contender, takes one step that nobody times, then the timed ones.
"""

import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from full_run_paths import DATA
from torch import nn
from torch.nn import functional as F

from shared.chat.generation import steady_generation, stream_ids
from shared.chat.sampling import SamplingSettings
from shared.device import peak_memory, pick_device, seed_everything, synchronize
from shared.errors import UserError
from shared.model.interop import to_transformers
from shared.model.transformer import Transformer
from shared.training.loop import train
from shared.training.run import Run
from shared.training.run_building import build_run
from shared.training.run_config import RunConfig
from shared.training.sampler import continue_text

try:
    import resource
except ImportError:
    resource = None


@dataclass(frozen=True)
class Turn:
    """One contender's part of one round."""

    seconds: list[float]
    """of each timed step"""
    tokens: int
    """targets in a step"""
    memory: int | None
    """bytes at the process's peak"""

    @property
    def rate(self) -> float:
        """Tokens a second in the median step."""
        return self.tokens / median(self.seconds)


def in_own_process(work: Callable, *arguments: Any) -> Any:
    """`work(*arguments)` in a fresh process: peak memory is its own, and it can die alone.

    Raises:
        UserError: it died, or memory ran out.
    """
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, spawn) as pool:
            return pool.submit(work, *arguments).result()
    except BrokenProcessPool:
        raise UserError("the process was killed (out of memory?): try a smaller --batch") from None
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise UserError("memory ran out: try a smaller --batch") from error


def our_turn(config: RunConfig, steps: int) -> Turn:
    """Training as `full_run.py` trains."""
    return timed(train(**our_run(config, steps + 1).for_training()), config)


def their_turn(config: RunConfig, steps: int) -> Turn:
    """Training of the `transformers` model of the same sizes, in a plain loop."""
    return timed(plain_steps(config, steps + 1), config)


def our_run(config: RunConfig, steps: int) -> Run:
    """The run that `full_run.py` would train for some steps; it writes nothing but token files."""
    return build_run(replace(config, budget=f"{steps} steps"), "unwritten", DATA)


def plain_steps(config: RunConfig, steps: int) -> Iterator[float]:
    """The loop that one writes first around a model of the library: its losses.

    The same batches, AdamW as PyTorch builds it, gradients clipped as ours are. In float32,
    or under autocast if the config's precision says so.
    """
    run, dtype = our_run(config, steps), getattr(torch, config.precision)
    device, batches = run.device, run.batches
    model = to_transformers(run.model).to(device).train()
    del run  # our weights must not count as its memory
    rates = {"lr": config.train.learning_rate, "weight_decay": config.train.weight_decay}
    optimizer = torch.optim.AdamW(model.parameters(), **rates)
    half = nullcontext() if dtype is torch.float32 else torch.autocast(device.type, dtype)
    for _ in range(steps):
        inputs, targets = (ids.to(device) for ids in next(batches))
        with half:
            logits = model(input_ids=inputs, use_cache=False).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def timed(steps: Iterator, config: RunConfig) -> Turn:
    """The seconds of every step but the first, which allocates and warms up."""
    device, seconds = pick_device(config.device), []
    next(steps)
    synchronize(device)
    start = time.perf_counter()
    for _ in steps:
        synchronize(device)
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    tokens = config.train.batch_size * config.model.context_length
    return Turn(seconds, tokens, peak_memory(device))


def generation_lengths(context: int) -> tuple[int, int]:
    """Ids of the prompt and new ids: 64 and 128, or what fits into the context without a cut."""
    prompt = min(64, context // 3)
    return prompt, min(128, context - prompt)


def generation_rounds(config: RunConfig, rounds: int) -> tuple[dict[str, list[float]], bool]:
    """Ids a second of each way to generate, and whether all wrote the same.

    Greedy, in float32, with the same untrained weights, on as many threads as suit ours.
    """
    device = pick_device(config.device)
    prompt, new = generation_lengths(config.model.context_length)
    seed_everything(config.seed)
    model = Transformer(config.model).to(device).eval()
    ids = torch.randint(config.model.vocab_size, (prompt,)).tolist()
    greedy = SamplingSettings(temperature=0, max_new_bytes=new, seed=config.seed)
    theirs, batch = to_transformers(model), torch.tensor([ids], device=device)
    asked = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    asked["attention_mask"] = torch.ones_like(batch)
    ways = {
        "ours, KV cache": lambda: list(stream_ids(model, ids, greedy)),
        "ours, no cache": lambda: continue_text(model, ids, new)[prompt:],
        "transformers generate": lambda: theirs.generate(batch, **asked)[0, prompt:].tolist(),
    }
    rates = {name: [] for name in ways}
    with steady_generation(model):
        texts = [way() for way in ways.values()]  # this warms up, too
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                rates[name].append(new / (time.perf_counter() - start))
    return rates, all(text == texts[0] for text in texts)


@dataclass(frozen=True)
class Baseline:
    """Somebody else's training, told as a command that prints lines of progress."""

    command: str
    folder: str | None
    pattern: str
    """a group named ms or seconds (a step) or rate (tokens a second)"""
    tokens: int
    """targets in one of its steps"""
    warmup: int
    """lines not counted"""


def baseline_turn(baseline: Baseline, steps: int) -> Turn:
    """Runs the command until it has told of enough steps, and ends it.

    Raises:
        UserError: it does not start, or tells of too few.
    """
    told, last = [], "it wrote nothing"
    try:
        process = subprocess.Popen(
            shlex.split(baseline.command),
            cwd=baseline.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    except (OSError, ValueError) as error:
        raise UserError(f"the baseline does not start: {error}") from error
    with process:
        try:
            while len(told) < baseline.warmup + steps and (line := process.stdout.readline()):
                last = line.strip() or last
                if match := re.search(baseline.pattern, line):
                    told.append(step_seconds(match, baseline.tokens))
        finally:
            process.kill()
    if len(told) <= baseline.warmup:
        raise UserError(
            f"the baseline told of {len(told)} steps, {baseline.warmup + 1} are needed: "
            f"see --baseline-pattern and --baseline-warmup. Its last line: {last[:200]}"
        )
    return Turn(told[baseline.warmup :], baseline.tokens, memory_of_children())


def step_seconds(match: re.Match, tokens: int) -> float:
    """Seconds of one step, from whichever group the pattern has."""
    found = match.groupdict()
    if "ms" in found:
        return float(found["ms"]) / 1000
    return float(found["seconds"]) if "seconds" in found else tokens / float(found["rate"])


def memory_of_children() -> int | None:
    """Bytes that the largest ended child of this process held at its peak; none on Windows."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def contenders_of(
    config: RunConfig, baseline: Baseline | None
) -> dict[str, tuple[Callable[[int], Turn], str | None]]:
    """What each does in a turn of some steps, and its dtype, by name; ours first."""
    adamw = replace(config, train=replace(config.train, optimizer="adamw"))
    muon = replace(config, train=replace(config.train, optimizer="muon"))
    plain, dtype = replace(adamw, precision="float32"), config.precision
    found = {f"ours, {dtype}, AdamW": (partial(our_turn, adamw), dtype)}
    found[f"ours, {dtype}, Muon"] = (partial(our_turn, muon), dtype)
    found["ours, float32, AdamW"] = (partial(our_turn, plain), "float32")
    found["transformers, float32"] = (partial(their_turn, plain), "float32")
    found[f"transformers, {dtype}"] = (partial(their_turn, adamw), dtype)
    if baseline:
        found["baseline"] = (partial(baseline_turn, baseline), None)
    return found
