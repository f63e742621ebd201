"""`--batch auto`: the largest micro-batch that fits this machine, found once for a run."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.files import atomic_file
from shared.training.plan import Plan, measure_plan
from shared.training.run_config import RunConfig

BATCH_FILE = "batch.json"


def with_largest_batch(config: RunConfig, folder: Path) -> RunConfig:
    """The config with its windows a step regrouped: the same gradient, as few pieces as fit.

    What was found is kept in the run's folder, so that a resumed run has the same shapes.

    Raises:
        UserError: not even one window fits.
    """
    together = config.train.batch_size * config.train.accumulation
    found = folder / BATCH_FILE
    question = {"together": together, **asdict(config.model)}
    windows = read_answer(found, question)
    if windows is None:
        windows = measured(config).largest_batch(together)
        with atomic_file(found) as partial:
            partial.write_text(json.dumps({"windows": windows, "for": question}), encoding="utf-8")
    train = replace(config.train, batch_size=windows, accumulation=together // windows)
    return replace(config, train=train)


def read_answer(found: Path, question: dict[str, Any]) -> int | None:
    """The windows found earlier for the same model and step; None if there are none."""
    try:
        answer = json.loads(found.read_text(encoding="utf-8"))
        return answer["windows"] if answer["for"] == question else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measured(config: RunConfig) -> Plan:
    """The config's plan, measured in a process of its own.

    Raises:
        UserError: the memory does not even hold what is measured.
    """
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, spawn) as pool:
            return pool.submit(measure_plan, config).result()
    except (RuntimeError, MemoryError, BrokenProcessPool) as error:  # ways to run out of memory
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise UserError(f"this model does not fit the memory here ({reason})") from error
