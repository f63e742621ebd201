"""How fast is it? Training, generation and where a step's time goes, in one run and one table.

python 05_full_run/experiments/benchmark.py OPTIONS, which are such as
    --out results.md
    --only train --preset nano --batch 16 --rounds 5
    --only train --baseline 'python train.py' --baseline-folder ~/other
    --only loss --config quick --until 2.5 --budget 10m

Contenders take turns, A B C A B C: what slows the machine for a while slows them all.
"""

import os
import re
import shlex
import sys
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median

import psutil
import torch
from benchmark_contenders import (
    Baseline,
    contenders_of,
    generation_lengths,
    generation_rounds,
    in_own_process,
)
from benchmark_results import Row, facts_of, mfu, ratio_of, rich_table, write_results
from compare import refuse_in_one_line
from comparison_jobs import read_config
from rich.console import Console
from step_profile import step_shares
from time_to_loss import loss_row

from shared.device import dtype_name, matmul_gflops, pick_device
from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.model.counting import training_flops
from shared.model.presets import PRESETS
from shared.privacy import without_folders
from shared.training.plan import planned_model
from shared.training.precision import pick_dtype
from shared.training.run_config import RunConfig

SECTIONS = ("train", "generate", "loss", "profile")
NANOGPT_LINE = r"^iter \d+: loss \S+, time (?P<ms>[\d.]+)ms"

console = Console(markup=False, emoji=False, highlight=False)


def main(arguments: list[str]) -> None:
    """Parses the command line, measures, shows; a contender that failed is told last of all."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells of its every start
    load = psutil.getloadavg()
    options, passed_on = options_parser().parse_known_args(arguments)
    sections = read_sections(options)
    run_arguments = arguments_of_run(options, passed_on)
    config = settled_config(run_arguments)
    if "profile" in sections and pick_device(config.device).type != "cpu":
        if options.only:
            raise UserError("the profile is of CPUs: give --device cpu, or --only the others")
        sections.remove("profile")
    baseline = read_baseline(options, config)
    work = {
        "train": lambda: train_rows(config, options.rounds, options.steps, baseline),
        "generate": lambda: generate_rows(config, options.rounds),
        "loss": lambda: [loss_row(run_arguments, options.until, options.nats)],
        "profile": lambda: profile_rows(config, options.steps),
    }
    rows = [row for section in sections for row in work[section]()]
    facts = facts_of(config, public_command(arguments), load)
    console.print(rich_table(rows))
    for name, fact in facts.items():
        console.print(f"{name}: {fact}", soft_wrap=True)
    if options.out:
        write_results(user_path(options.out), rows, facts)
    if failed := [f"{row.who}: {row.failed}" for row in rows if row.failed]:
        raise UserError("; ".join(failed))


def options_parser() -> ArgumentParser:
    """The options; mistakes are `UserError`s, and what is not known here is for the run."""
    parser = ArgumentParser(
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
        epilog="Every other option, such as --device cpu or --seed 1, is one of full_run.py.",
    )
    parser.add_argument(
        "--only", help=f"some of {','.join(SECTIONS)}; none: all, loss if --until, profile on a CPU"
    )
    parser.add_argument("--config", help="name or .yaml file of a run's config")
    parser.add_argument("--preset", choices=PRESETS, help="sizes of the model (small)")
    parser.add_argument("--batch", type=int, help="windows in a step (64, or the config's)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps in a turn (3)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (3)")
    parser.add_argument("--until", type=float, help="validation loss to reach, in bits a byte")
    parser.add_argument("--nats", action="store_true", help="--until counts in nats a token")
    parser.add_argument("--baseline", metavar="COMMAND", help="trains, and prints its progress")
    parser.add_argument("--baseline-folder", metavar="FOLDER", help="where to run it")
    parser.add_argument(
        "--baseline-pattern",
        default=NANOGPT_LINE,
        metavar="REGEX",
        help="finds a step: group ms or seconds (of a step) or rate (tokens/s); none: nanoGPT's",
    )
    parser.add_argument("--baseline-tokens", type=int, help="in a step of it; none: as in ours")
    parser.add_argument("--baseline-warmup", type=int, default=2, help="steps not counted (2)")
    parser.add_argument("--out", metavar="FILE.md", help="write the table here, JSON beside it")
    parser.error = refuse_in_one_line
    return parser


def read_sections(options: Namespace) -> list[str]:
    """The sections to measure, in their order; a `UserError` if an option cannot be meant."""
    every = [name for name in SECTIONS if name != "loss" or options.until]
    chosen = options.only.split(",") if options.only else every
    if unknown := set(chosen) - set(SECTIONS):
        raise UserError(f"--only {unknown.pop()!r}: pick some of {','.join(SECTIONS)}")
    least_of = {"steps": 1, "rounds": 1, "baseline_tokens": 1, "baseline_warmup": 0}
    for name, least in least_of.items():
        if (value := getattr(options, name)) is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}")
    if "loss" in chosen and not options.until:
        raise UserError("--only loss needs a target: give --until 2.5, in bits a byte")
    if options.out and not options.out.endswith(".md"):
        raise UserError(f"--out {options.out}: expected a name that ends in .md")
    return [name for name in SECTIONS if name in chosen]


def arguments_of_run(options: Namespace, passed_on: Sequence[str]) -> list[str]:
    """The command line for `full_run.py`; nanoGPT's shape if neither config nor preset is given."""
    arguments = ["--config", options.config] if options.config else []
    if options.preset or not options.config:
        arguments += ["--model", options.preset or "small"]
    batch = 64 if options.batch is None and not options.config else options.batch
    return [*arguments, *passed_on, *([] if batch is None else [f"--train.batch_size={batch}"])]


def settled_config(arguments: Sequence[str]) -> RunConfig:
    """The run's config, its dtype and vocabulary settled, with one micro-batch a step."""
    try:
        config = read_config(arguments)
    except ArgumentError as error:
        raise UserError(str(error)) from error
    dtype = dtype_name(pick_dtype(config.precision, pick_device(config.device)))
    train = replace(config.train, accumulation=1)
    model = planned_model(config)
    return replace(config, train=train, model=model, precision=dtype)


def read_baseline(options: Namespace, config: RunConfig) -> Baseline | None:
    """The baseline that the options tell of; a `UserError` if its pattern can find no time."""
    try:
        groups = re.compile(options.baseline_pattern).groupindex
    except re.error as error:
        raise UserError(f"--baseline-pattern: {error}") from error
    if not groups.keys() & {"ms", "seconds", "rate"}:
        raise UserError("--baseline-pattern needs a group (?P<ms>...), <seconds> or <rate>")
    if options.baseline is None:
        return None
    tokens = options.baseline_tokens or config.train.batch_size * config.model.context_length
    folder = options.baseline_folder and str(user_path(options.baseline_folder))
    pattern, warmup = options.baseline_pattern, options.baseline_warmup
    return Baseline(options.baseline, folder, pattern, tokens, warmup)


def train_rows(config: RunConfig, rounds: int, steps: int, baseline: Baseline | None) -> list[Row]:
    """Training speed of every contender, and the matrix-product peaks it is measured against."""
    contenders = contenders_of(config, baseline)
    dtypes = dict.fromkeys(dtype for _, dtype in contenders.values() if dtype)
    measure = partial(matmul_gflops, pick_device(config.device))
    turns = {f"peak, {name}": partial(measure, getattr(torch, name)) for name in dtypes}
    turns |= {name: partial(work, steps) for name, (work, _) in contenders.items()}
    results, failed = take_turns(turns, rounds)
    flops = training_flops(config.model)
    rows = []
    ours = next(iter(contenders))
    for name in dtypes:
        rows.append(Row("matrix products, GFLOP/s", name, results[f"peak, {name}"]))
    for name, (_, dtype) in contenders.items():
        if name in failed:
            rows.append(Row("training, tokens/s", name, failed=failed[name]))
            continue
        rates = [turn.rate for turn in results[name]]
        memory = max(turn.memory or 0 for turn in results[name]) or None
        share = mfu(median(rates), flops, median(results[f"peak, {dtype}"])) if dtype else None
        ratio = None if ours in failed else ratio_of([t.rate for t in results[ours]], rates)
        rows.append(Row("training, tokens/s", name, rates, share, memory, ratio))
    return rows


def take_turns(turns: dict[str, Callable], rounds: int) -> tuple[dict[str, list], dict[str, str]]:
    """Every result of each turn, and why those that failed did; these get no second turn."""
    results = {name: [] for name in turns}
    failed = {}
    for number in range(1, rounds + 1):
        for name, turn in turns.items():
            if name not in failed:
                with console.status(f"round {number} of {rounds}: {name}"):
                    try:
                        results[name].append(in_own_process(turn))
                    except UserError as error:
                        failed[name] = str(error)
    return results, failed


def generate_rows(config: RunConfig, rounds: int) -> list[Row]:
    """Speed of each way to generate, and whether all wrote the same text."""
    prompt, new = generation_lengths(config.model.context_length)
    unit = "bytes/s" if config.data.tokenizer == "bytes" else "ids/s"
    what = f"generation {prompt}+{new}, {unit}"
    with console.status("generating"):
        try:
            rates, same = in_own_process(generation_rounds, config, rounds)
        except UserError as error:
            return [Row(what, "all ways", failed=str(error))]
    ours = next(iter(rates.values()))
    rows = [Row(what, name, each, ratio=ratio_of(ours, each)) for name, each in rates.items()]
    if not same:
        rows.append(Row(what, "greedy texts", failed="they differ"))
    return rows


def profile_rows(config: RunConfig, steps: int) -> list[Row]:
    """Where a step of ours goes."""
    adamw = replace(config, train=replace(config.train, optimizer="adamw"))
    with console.status("profiling"):
        shares = in_own_process(step_shares, adamw, steps)
    return [Row("a step of ours, %", name, [share]) for name, share in shares.items()]


def public_command(arguments: Sequence[str]) -> str:
    """The command line, without folders of its owner; a pattern stays as it is."""
    shown = ["python", "05_full_run/experiments/benchmark.py"]
    for flag, argument in zip(["", *arguments], arguments, strict=False):
        words = shlex.split(argument) if flag == "--baseline" else [argument]
        public = words if flag == "--baseline-pattern" else without_folders(words)
        shown.append(shlex.join(public) if flag == "--baseline" else public[0])
    return shlex.join(shown)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
