"""The runs that a comparison needs: planned, checked before the first one trains, then trained.

Each is a `full_run.py` in a process of its own, so that one that dies takes no other with it.
"""

import json
import subprocess
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from comparison import Row, read_row
from full_run_paths import CONFIGS, SCRIPT
from variants import Variant, budget_in_steps

from shared.errors import UserError
from shared.files import make_folder
from shared.model.counting import count_parameters
from shared.privacy import without_folders
from shared.training.card import trained_steps
from shared.training.checkpoint import RUN_FILE
from shared.training.checkpoint_folder import list_checkpoints, step_of
from shared.training.plan import planned_model
from shared.training.run_config import RunConfig, differing_fields
from shared.training.run_options import build_parser, resolve_config_names, to_run_config
from shared.training.stop_signal import send_stop, start_apart

LOG_FILE = "log.txt"
OF_TOKENIZER = ("vocab_size", "document_start")  # fields of a model that a run sets itself

Show = Callable[["Job"], None]


@dataclass(frozen=True)
class Job:
    """One run that a comparison needs."""

    variant: Variant
    seed: int
    folder: Path
    arguments: list[str]
    """for `full_run.py`"""
    budget: str = ""
    """in steps or in time"""
    refused: str | None = None
    """why it cannot be trained: sizes that do not fit each other"""
    config: RunConfig | None = None
    """what it trains; none if refused"""

    @property
    def finished(self) -> bool:
        """Whether its card, the last thing a run writes, tells of its newest checkpoint."""
        saved = list_checkpoints(self.folder / "checkpoints")
        return bool(saved) and trained_steps(self.folder) == step_of(saved[-1])

    def expected(self) -> tuple[int, int]:
        """Parameters and tokens that it will have, of a budget in steps."""
        model, train = planned_model(self.config), self.config.train
        windows = int(self.budget.split()[0]) * train.batch_size * train.accumulation
        return count_parameters(model).total, windows * model.context_length

    def row(self) -> Row:
        """What it found, or why that cannot be read."""
        try:
            return read_row(self.folder, self.variant.name, self._overrides(), self.seed)
        except UserError as error:
            return self.failed_row(str(error))

    def failed_row(self, reason: str) -> Row:
        """A row with a reason instead of numbers, and no folder of its owner in it."""
        public = without_folders(" ".join(reason.split()))
        fields = self._overrides()
        return {
            "variant": self.variant.name,
            "overrides": fields,
            "seed": self.seed,
            "failed": public,
        }

    def _overrides(self) -> dict[str, str]:
        return without_folders(self.variant.overrides)


def plan_jobs(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    passed_on: Sequence[str],
    budget: str | None,
    out: Path,
) -> list[Job]:
    """Every variant with every seed; all variants before the next seed.

    Args:
        passed_on: options for every run.
        budget: of each variant that has none of its own; none: the config's.

    Raises:
        UserError: a field that does not exist, no budget, a folder that was started
            differently; or sizes that do not fit, in every variant.
    """
    if any(argument.partition("=")[0] == "--seed" for argument in passed_on):
        raise UserError("--seed is for one run: give --seeds 0,1 to a comparison")
    jobs = [
        plan_job(variant, seed, passed_on, budget, out / variant.name / f"seed-{seed}")
        for seed in seeds
        for variant in variants
    ]
    if jobs and all(job.refused for job in jobs):
        raise UserError(jobs[0].refused)
    return jobs


def plan_job(
    variant: Variant, seed: int, passed_on: Sequence[str], budget: str | None, folder: Path
) -> Job:
    """One run; see `plan_jobs`."""
    arguments = [*variant.arguments(passed_on), f"--seed={seed}"]
    try:
        config = read_config(arguments)
    except ArgumentError as error:
        raise UserError(f"{variant.name}: {error}") from error
    except UserError as error:
        return Job(variant, seed, folder, arguments, refused=str(error))
    steps = budget_in_steps(variant.budget or budget or config.budget, config)
    refuse_other_config(folder, replace(config, budget=steps))
    arguments += [f"--budget={steps}", "--out", str(folder), "--resume"]
    return Job(variant, seed, folder, arguments, steps, config=config)


def read_config(arguments: Sequence[str]) -> RunConfig:
    """The config that `full_run.py` will make of `arguments`.

    Raises:
        UserError: sizes that do not fit each other.
        ArgumentError: a field or a value that does not exist.
    """
    parser = build_parser(CONFIGS)
    parser.exit_on_error = False
    return to_run_config(parser, parser.parse_args(resolve_config_names(list(arguments), CONFIGS)))


def refuse_other_config(folder: Path, config: RunConfig) -> None:
    """Says at once what `full_run.py` would say hours later, or never of a finished run.

    Raises:
        UserError: the folder holds a run of another config.
    """
    checkpoints = list_checkpoints(folder / "checkpoints")
    with suppress(OSError, ValueError, KeyError):  # broken: full_run.py goes back to one before
        saved = (
            json.loads((checkpoints[-1] / RUN_FILE).read_text(encoding="utf-8"))
            if checkpoints
            else None
        )
        if saved and saved.pop("corpora"):
            sizes = saved["model"]
            model = replace(config.model, **{name: sizes[name] for name in OF_TOKENIZER})
            if changes := differing_fields(saved, replace(config, model=model)):
                raise UserError(
                    f"{folder} was started differently: {'; '.join(changes)}. "
                    "Put that back, or compare elsewhere with --out FOLDER"
                )


def train(job: Job, show: Show, stopped: Callable[[], bool]) -> str | None:
    """Trains one job to its end, or until `stopped`; returns why it has none, if so.

    Raises:
        UserError: another process is training in its folder.
    """
    refuse_busy(job.folder)
    make_folder(job.folder)
    with open(job.folder / LOG_FILE, "a+b") as log:
        begin = log.tell()
        process = start_apart(
            [sys.executable, str(SCRIPT), *job.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            told = False
            while process.poll() is None:
                if stopped() and not told:
                    send_stop(process)
                    told = True
                show(job)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(begin)
        lines = log.read().decode(errors="replace").splitlines()
    return None if job.finished else reason_of(lines, process.returncode)


def reason_of(lines: Sequence[str], status: int) -> str:
    """Why a run ended early: its own line if it wrote one."""
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if status < 0:
        return f"ended by signal {-status} (9 may mean: out of memory)"
    last = next((line.strip() for line in reversed(lines) if line.strip()), "wrote nothing")
    return f"ended with status {status}: {last}"


def refuse_busy(folder: Path) -> None:
    """A killed comparison may leave its last run training.

    Raises:
        UserError: it does; two at once would spoil the folder.
    """
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(folder) in words and str(SCRIPT) in words:
            raise UserError(
                f"process {process.pid} still trains in {folder}: wait for it, or end it"
            )
