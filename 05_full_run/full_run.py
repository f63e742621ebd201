"""Trains a model from a config, and leaves a run folder: checkpoint, curves, card.

python 05_full_run/full_run.py --config quick
python 05_full_run/full_run.py --config laptop --data.path ~/notes
python 05_full_run/full_run.py --config laptop --data.path ~/notes --resume
python 05_full_run/full_run.py --plan
"""

import math
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from batch_search import with_largest_batch
from jsonargparse import ArgumentParser
from live_progress import live_progress, measured_peak
from plan_table import print_plans
from rich.console import Console

from shared.device import device_label, dtype_name
from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.text.token_file import data_folder
from shared.training.budget import parse_budget
from shared.training.card import CARD_FILE, Outcome, public_arguments, write_card
from shared.training.checkpoint import list_checkpoints, note_best
from shared.training.loop import Record, TrainingDiverged
from shared.training.loss import bits_per_byte
from shared.training.processes import count_processes, is_main, lost_processes
from shared.training.run import Run, build_run
from shared.training.run_config import (
    RunConfig,
    build_parser,
    resolve_config_names,
    to_run_config,
)
from shared.training.run_log import append_metrics, draw_curves, rewind_metrics
from shared.training.stop_signal import stop_signal
from shared.training.trackers import open_tracker, require_package

HERE = Path(__file__).resolve().parent
CONFIGS, RUNS, DATA = HERE / "configs", HERE / "runs", data_folder()
SAMPLE_PROMPTS = ("user: hello\nassistant:", "user: what are you?\nassistant:", "The ")

Log = Callable[[dict[str, Any]], None]

console = Console(markup=False, emoji=False, quiet=not is_main())  # paths may hold brackets


def main(arguments: list[str]) -> None:
    """Parses the command line and trains, or plans."""
    parser = command_line()
    resolved = resolve_config_names(arguments, CONFIGS)
    options = parser.parse_args(resolved)
    if options.plan:
        chosen = [options.config[-1].relative] if options.config else sorted(CONFIGS.glob("*.yaml"))
        print_plans({Path(p).stem: partial(config_of, Path(p), resolved) for p in chosen}, console)
        return
    config, stop_after = to_run_config(parser, options), sitting_seconds(options.stop_after)
    require_package(config.track)
    name = Path(options.config[-1].relative).stem if options.config else "run"
    folder = user_path(config.out or RUNS / name)
    if is_main():
        make_room(folder, options.resume, options.fresh)
    if options.batch == "auto" and count_processes() > 1:
        raise UserError("--batch auto measures one process: find the sizes without torchrun first")
    if options.batch == "auto":
        config = prepare_batch(config, folder)
    run = read_and_build(config, folder)
    if not begin(run, options.resume):
        return
    tell_the_start(run)
    with open_log(run) as log:
        if train_and_log(run, log, stop_after):
            finish(run, arguments, log)


def prepare_batch(config: RunConfig, folder: Path) -> RunConfig:
    """The config with the largest micro-batch that fits; tells which."""
    with console.status("measuring which micro-batch fits"):
        config = with_largest_batch(config, folder)
    console.print(f"micro-batch {config.train.batch_size}, {config.train.accumulation} a step")
    return config


def read_and_build(config: RunConfig, folder: Path) -> Run:
    """Builds the run; tells how much text was read, and which files were passed over."""
    read, skipped = 0, Counter()
    with console.status("reading the corpora") as status:

        def count_bytes(count: int) -> None:
            nonlocal read
            if read >> 20 != (read + count) >> 20:  # every MiB, not every document
                status.update(f"reading the corpora: {(read + count) / 1e6:,.0f} MB")
            read += count

        run = build_run(
            config, folder, DATA, count_bytes, lambda name, reason: skipped.update([reason])
        )
    if skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        console.print(f"passed over {skipped.total()} files or folders: {reasons}")
    return run


def make_room(folder: Path, resume: bool, fresh: bool) -> None:
    """Sets an earlier run in the folder aside, if `fresh`.

    Raises:
        UserError: it holds a run, and neither `resume` nor `fresh` says what to do.
    """
    earlier = list_checkpoints(folder / "checkpoints")
    if earlier and fresh:
        aside = folder.with_name(f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}")
        folder.rename(aside)
        console.print(f"the earlier run is now {aside}")
    elif earlier and not resume:
        raise UserError(
            f"{folder} already holds a run: --resume goes on with it, --fresh sets it aside, "
            "--out FOLDER trains elsewhere"
        )


def begin(run: Run, resume: bool) -> bool:
    """Goes on from the newest checkpoint if `resume`; False if there is nothing left to do."""
    if run.strategy.is_main:
        make_folder(run.folder)
    if resume and run.resume(console.print):
        if (run.folder / CARD_FILE).exists():  # the last thing a run writes
            console.print(f"{run.folder} is finished already; nothing to do")
            return False
        console.print(f"resuming after step {run.budget.step}")
    elif run.budget.step == 0 and run.strategy.is_main:
        rewind_metrics(run.folder, 0)  # of a run that ended before its first checkpoint
    return True


def make_folder(folder: Path) -> None:
    """Makes the run's folder.

    Raises:
        UserError: the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the run's folder {folder}: {error.strerror}") from error


def tell_the_start(run: Run) -> None:
    """Prints what is about to be trained, on what."""
    train_bytes = sum(corpus.manifest["bytes"]["train"] for corpus in run.corpora)
    console.print(
        f"{run.model.count_parameters():,} parameters · {train_bytes:,} bytes of text · "
        f"{device_label(run.device)} · {dtype_name(run.precision.dtype)} · {run.config.budget}"
    )


def command_line() -> ArgumentParser:
    """A run's fields, and what else can be asked for."""
    parser = build_parser(CONFIGS)
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument(
        "--stop-after", metavar="9m", help="end this sitting then, to --resume later"
    )
    parser.add_argument("--fresh", action="store_true", help="set an earlier run aside, start anew")
    parser.add_argument(
        "--batch", choices=["auto"], help="regroup a step's windows into micro-batches that fit"
    )
    parser.add_argument(
        "--plan", action="store_true", help="measure speed and memory of --config, or of every one"
    )
    return parser


def sitting_seconds(text: str | None) -> float:
    """Seconds in a `--stop-after`; none: no end.

    Raises:
        UserError: not a time.
    """
    seconds = math.inf if text is None else parse_budget(text).total_seconds
    if seconds is None:
        raise UserError(f"--stop-after {text!r}: expected a time, such as '90s', '9m' or '2h'")
    return seconds


@contextmanager
def open_log(run: Run) -> Iterator[Log]:
    """Yields what adds a line to metrics.jsonl and, if asked for, to the tracker."""
    if not run.strategy.is_main:
        yield lambda entry: None
        return
    name, step = run.folder.name, run.budget.step
    tracker = open_tracker(
        run.config.track, run.folder, name, asdict(run.config), step, console.print
    )

    def log(entry: dict[str, Any]) -> None:
        append_metrics(run.folder, entry)
        tracker.log(entry)

    try:
        yield log
    finally:
        tracker.close()


def train_and_log(run: Run, log: Log, stop_after: float = math.inf) -> bool:
    """Trains to the end, printing and saving on the way; False if the sitting ended before.

    Ctrl-C ends it, or the next step's reaching beyond `stop_after` seconds.

    Raises:
        UserError: the loss is no longer a number.
    """
    settings, budget = run.config.train, run.budget
    due = math.floor(budget.progress * settings.evaluations) + 1
    clock, agree = run.strategy.clock, run.strategy.agree
    saved_at, early = clock(), False
    with (
        stop_signal(console.print) as stopped,
        live_progress(run, console, measured_peak(run)) as live,
    ):
        reserve_time_for_the_end(run)
        try:
            for record in live.watch(run.steps(console.print)):
                log(entry_of(record, run) | live.figures)
                time_is_up = budget.elapsed_here + budget.pace + run.save_seconds > stop_after
                if early := agree(stopped() or (time_is_up and budget.progress < 1)):
                    break
                if budget.progress * settings.evaluations >= due and budget.progress < 1:
                    due += 1
                    checkpoint_and_look(run, record, log)
                    saved_at = clock()
                elif clock() - saved_at > settings.save_minutes * 60:
                    run.save()
                    saved_at = clock()
        except TrainingDiverged as error:
            raise UserError(told_divergence(run, error)) from error
    saved = run.save()
    if early:
        console.print(f"saved {saved}; to go on, run the same command with --resume")
    return not early


def told_divergence(run: Run, error: TrainingDiverged) -> str:
    """What to say about it, and what to do."""
    good = list_checkpoints(run.folder / "checkpoints")
    last = f"the last good checkpoint is {good[-1]}" if good else "nothing was saved yet"
    return (
        f"training diverged at {error}; {last}. "
        "Start again with lower rates and --fresh, or --out FOLDER"
    )


def reserve_time_for_the_end(run: Run) -> None:
    """A first guess, from one batch, of what the last evaluation will take; a look corrects it."""
    if run.budget.total_seconds is not None and not run.budget.reserve:
        rows = run.config.train.batch_size
        run.validate(rows)  # the first one warms up
        begun = time.monotonic()
        run.validate(rows)
        spent = run.strategy.same(time.monotonic() - begun)
        run.budget.reserve = spent * run.validation_windows() / run.validation_windows(rows)


def checkpoint_and_look(run: Run, record: Record, log: Log) -> None:
    """Saves first, then validates and samples: a crash in the latter loses nothing."""
    saved, begun = run.save(), run.strategy.clock()
    most = run.config.train.evaluation_windows
    validation = run.validate(most)
    spent = run.strategy.clock() - begun
    whole = spent * run.validation_windows() / run.validation_windows(most)
    run.budget.reserve = run.save_seconds + whole  # what the end of the run will take
    log({"step": record.step, "validation": validation})
    if validation and run.strategy.is_main:
        note_best(saved.parent, saved.name, sum(validation.values()) / len(validation))
    figures = " · ".join(f"{name} {value:.3f}" for name, value in validation.items())
    sample = run.sample(SAMPLE_PROMPTS[0], new=60).removeprefix(SAMPLE_PROMPTS[0]).splitlines()
    console.print(f"step {record.step} · validation bits per byte: {figures}", highlight=False)
    console.print(f"  hello → {sample[0] if sample else ''}", highlight=False, markup=False)


def finish(run: Run, arguments: list[str], log: Log) -> None:
    """Validates on everything, draws the curves, writes the card."""
    validation = run.validate()
    log({"step": run.budget.step, "validation": validation})
    samples = [(prompt, run.sample(prompt)[len(prompt) :]) for prompt in SAMPLE_PROMPTS]
    if not run.strategy.is_main:
        return
    draw_curves(run.folder, run.folder.name)
    settings = run.config.train
    per_step = settings.batch_size * settings.accumulation * run.config.model.context_length
    command = shlex.join(["python", "05_full_run/full_run.py", *public_arguments(arguments)])
    card = write_card(run, Outcome(command, validation, run.budget.step * per_step, samples))
    for name, value in validation.items():
        console.print(f"validation of {name}: {value:.4f} bits per byte", highlight=False)
    console.print(
        f"trained {run.budget.step} steps in {run.budget.elapsed:.0f} s; see {card}",
        highlight=False,
    )


def entry_of(record: Record, run: Run) -> dict[str, float]:
    """A record as a line of metrics.jsonl."""
    return {
        "step": record.step, "loss": record.loss,
        "bits_per_byte": bits_per_byte(record.loss, run.bytes_per_token),
        "grad_norm": record.grad_norm, "skipped": record.skipped,
        "lr_factor": record.lr_factor, "tokens": record.tokens, "seconds": record.seconds,
    }  # fmt: skip


def config_of(path: Path, arguments: list[str]) -> RunConfig:
    """The config of one file, with the overrides among `arguments`."""
    rest = list(arguments)
    if "--config" in rest:
        at = rest.index("--config")
        rest = rest[:at] + rest[at + 2 :]
    parser = command_line()
    return to_run_config(parser, parser.parse_args(["--config", str(path), *rest]))


if __name__ == "__main__":
    with one_line_errors(), lost_processes():
        main(sys.argv[1:])
