"""One sitting of a run: train, show, save, look, until it is finished or told to stop.

Promoted by 05_full_run.
"""

import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from shared.errors import UserError
from shared.privacy import without_folders
from shared.training.budget import parse_budget
from shared.training.card import Outcome, write_card
from shared.training.checkpoint_folder import list_checkpoints, note_best
from shared.training.live_progress import live_progress, measured_peak
from shared.training.loop import Record, TrainingDiverged, train
from shared.training.loss import bits_per_byte
from shared.training.processes import is_main
from shared.training.run import Run
from shared.training.run_log import CURVES_FILE, append_metrics, draw_curves
from shared.training.stop_signal import stop_signal
from shared.training.trackers import open_tracker
from shared.training.validation import Scores, mean_bits, score_corpora, shown

SAMPLE_PROMPTS = ("user: hello\nassistant:", "user: what are you?\nassistant:", "The ")

SAMPLED = 120  # ids after each of them in the card

Log = Callable[[dict[str, Any]], None]

console = Console(markup=False, emoji=False, quiet=not is_main())  # paths may hold brackets


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


def sitting_seconds(text: str | None) -> float:
    """Seconds in a `--stop-after`; none: no end.

    Raises:
        UserError: not a time.
    """
    seconds = math.inf if text is None else parse_budget(text).total_seconds
    if seconds is None:
        raise UserError(f"--stop-after {text!r}: expected a time, such as '90s', '9m' or '2h'")
    return seconds


def train_and_log(run: Run, log: Log, stop_after: float = math.inf) -> bool:
    """Trains to the end, printing and saving on the way; False if the sitting ended before.

    Ctrl-C ends it, or the next step's reaching beyond `stop_after` seconds.

    Raises:
        UserError: the loss is no longer a number.
    """
    settings = run.config.train
    budget = run.budget
    due = math.floor(budget.progress * settings.evaluations) + 1
    clock, agree = run.strategy.clock, run.strategy.agree
    saved_at = clock()
    early = False
    with (
        stop_signal(console.print) as stopped,
        live_progress(run, console, measured_peak(run)) as live,
    ):
        reserve_time_for_the_end(run)
        try:
            for record in live.watch(train(**run.for_training(console.print))):
                log(entry_of(record, run) | live.figures)
                run.snapshot_if_due(console.print)
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
    save_the_end(run, early)
    return not early


def save_the_end(run: Run, early: bool) -> None:
    """Saves what a sitting leaves: of the run, or of a part of it if it ended early."""
    if early:
        console.print(f"saved {run.save()}; to go on, run the same command with --resume")
        return
    run.snapshot_if_due(console.print, over=True)
    saved = run.save()
    note_if_best(run, saved, run.validate(run.config.train.evaluation_windows))


def told_divergence(run: Run, error: TrainingDiverged) -> str:
    """What to say about it, and what to do."""
    good = list_checkpoints(run.folder / "checkpoints")
    last = f"the last good checkpoint is {good[-1]}" if good else "nothing was saved yet"
    return (
        f"training diverged at {error}; {last}. "
        "Start again with lower rates and --fresh, or --out FOLDER"
    )


def reserve_time_for_the_end(run: Run) -> None:
    """A first guess of what comes after the last step; looks correct the part for evaluating."""
    if run.budget.total_seconds is None:
        return
    rows = run.config.train.batch_size
    run.validate(rows)  # the first one warms up
    begun = time.monotonic()
    run.validate(rows)
    evaluated = time.monotonic()
    run.sample(SAMPLE_PROMPTS[0], new=SAMPLED // 4)
    sampled = time.monotonic()
    with TemporaryDirectory() as folder:
        draw_curves(run.folder, "", Path(folder) / CURVES_FILE)
    drawing = time.monotonic() - sampled
    closing = 4 * len(SAMPLE_PROMPTS) * (sampled - evaluated) + drawing
    run.closing_seconds = run.strategy.same(closing)
    reserve_for(run, run.strategy.same(evaluated - begun), rows)


def reserve_for(run: Run, spent: float, windows: int) -> None:
    """Keeps time for the end of the run, after a validation of `windows` took `spent` seconds.

    What comes then: saving, validating as in a look and on everything, samples, curves.
    """
    looked_at = run.validation_windows(windows)
    look = run.validation_windows(run.config.train.evaluation_windows)
    evaluating = spent * (look + run.validation_windows()) / looked_at
    run.budget.reserve = run.save_seconds + evaluating + run.closing_seconds


def checkpoint_and_look(run: Run, record: Record, log: Log) -> None:
    """Saves first, then validates and samples: a crash in the latter loses nothing."""
    saved = run.save()
    begun = run.strategy.clock()
    most = run.config.train.evaluation_windows
    validation = run.validate(most)
    reserve_for(run, run.strategy.clock() - begun, most)
    log({"step": record.step, "validation": validation})
    note_if_best(run, saved, validation)
    figures = " · ".join(f"{name} {value:.3f}" for name, value in validation.items())
    sample = run.sample(SAMPLE_PROMPTS[0], new=60).removeprefix(SAMPLE_PROMPTS[0]).splitlines()
    console.print(f"step {record.step} · validation bits per byte: {figures}", highlight=False)
    console.print(f"  hello → {sample[0] if sample else ''}", highlight=False, markup=False)


def note_if_best(run: Run, saved: Path, validation: dict[str, float]) -> None:
    """Remembers the checkpoint if none did better on the windows of a look."""
    if validation and run.strategy.is_main:
        note_best(saved.parent, saved.name, sum(validation.values()) / len(validation))


def finish(run: Run, script: str, arguments: Sequence[str], log: Log) -> None:
    """Validates on everything, draws the curves, writes the card.

    Args:
        script: what trained it, as it is called from the repository's top.
        arguments: what it was asked for.
    """
    losses = run.validation_losses()
    log({"step": run.budget.step, "validation": mean_bits(run.corpora, losses)})
    samples = [(prompt, run.sample(prompt, SAMPLED)[len(prompt) :]) for prompt in SAMPLE_PROMPTS]
    if not run.strategy.is_main:
        return
    draw_curves(run.folder, run.folder.name)
    seconds = run.budget.elapsed
    settings = run.config.train
    with console.status("the same text, guessed by counting and by xz"):
        scores = score_corpora(run.tokenizer, run.corpora, losses)
    tokens = settings.batch_size * settings.accumulation * run.config.model.context_length
    command = shlex.join(["python", script, *without_folders(arguments)])
    outcome = Outcome(command, scores, run.budget.step * tokens, seconds, samples)
    card = write_card(run, outcome)
    for one in scores:
        console.print(told_scores(one), highlight=False)
    console.print(
        f"trained {run.budget.step} steps in {seconds:.0f} s; see {card}", highlight=False
    )


def told_scores(scores: Scores) -> str:
    """The model beside the yardsticks, a line each."""
    lines = [f"validation of {scores.corpus}, bits per byte"]
    lines += [f"  {who:28} {shown(bits)}" for who, bits in scores.figures.items()]
    if scores.repeated is not None:
        lines.append(f"  {scores.repeated:.1%} of it repeats training text")
    return "\n".join(lines)


def entry_of(record: Record, run: Run) -> dict[str, float]:
    """A record as a line of metrics.jsonl."""
    return {
        "step": record.step,
        "loss": record.loss,
        "bits_per_byte": bits_per_byte(record.loss, run.bytes_per_token),
        "grad_norm": record.grad_norm,
        "skipped": record.skipped,
        "lr_factor": record.lr_factor,
        "tokens": record.tokens,
        "seconds": record.seconds,
    }
