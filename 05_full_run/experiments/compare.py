"""Trains the variants of a config under one budget, and shows them in one table and one figure.

python 05_full_run/experiments/compare.py OPTIONS, which are such as
    --config quick --vary model.d_model=64,128 --budget '400 steps'
    --config quick --vary train.learning_rate=log:1e-4..1e-2 --random 8
    --config quick --variant 'plain:' --variant 'wide: model.d_ff=512'
    --runs 05_full_run/runs/quick 05_full_run/runs/laptop

The same command goes on where an earlier one was stopped or killed.
"""

import re
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from comparison import TABLE_FILE, Row, rich_table, rows_of, table_notes, write_report
from comparison_jobs import Job, plan_jobs, train
from comparison_progress import progress_bar
from full_run_paths import CONFIGS, RUNS
from rich.console import Console
from variants import Variant, expand, name_variants, read_named, read_vary

from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.privacy import without_folders
from shared.training.run_options import config_path
from shared.training.stop_signal import stop_signal

console = Console(markup=False, emoji=False)  # paths may hold brackets


def main(arguments: list[str]) -> None:
    """Parses the command line, trains what is missing, and reports."""
    parser = options_parser(__doc__.splitlines()[0])
    options, passed_on = parser.parse_known_args(arguments)
    given = given_rows(options.runs)
    variants = variants_of(options, passed_on)
    if not variants and not given:
        raise UserError("nothing to compare: give --config, --vary, --variant or --runs")
    out = user_path(options.out or RUNS / "compare")
    jobs = plan_jobs(variants, read_seeds(options.seeds), passed_on, options.budget, out)
    budgets = {job.budget for job in jobs if not job.refused}
    if options.budget is None and len(budgets) > 1:
        raise UserError("the configs have budgets of their own: give one to all with --budget")
    compare(jobs, out, command_of("compare.py", arguments), given)


def options_parser(description: str) -> ArgumentParser:
    """The options of a comparison; its mistakes are `UserError`s."""
    parser = ArgumentParser(
        description=description,
        allow_abbrev=False,
        epilog="Every other option, such as --data.path FILE, goes to each run as it is: "
        "see full_run.py --help.",
    )
    many = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument("--config", **many, help="names or .yaml files to start from")
    parser.add_argument("--vary", **many, help="field=a,b or field=[log:]low..high; joined, a grid")
    parser.add_argument(
        "--variant", action="append", default=[], help="'name: field=value field=value'"
    )
    parser.add_argument("--random", type=int, metavar="N", help="N random members of the grid")
    parser.add_argument("--search-seed", type=int, default=0, help="seeds those draws")
    parser.add_argument("--seeds", default="0", help="seeds of each variant, such as 0,1,2")
    parser.add_argument("--budget", help="'2000 steps', '15m' or '10M tokens', for every run")
    parser.add_argument("--runs", **many, help="finished runs, or folders of comparisons, to add")
    parser.add_argument("--out", help="folder of the comparison; none: 05_full_run/runs/compare")
    parser.error = refuse_in_one_line
    return parser


def refuse_in_one_line(message: str) -> NoReturn:
    """In place of a parser's usage and exit.

    Raises:
        UserError: always.
    """
    raise UserError(f"{message}; --help lists the options")


def variants_of(options: Namespace, passed_on: Sequence[str]) -> list[Variant]:
    """The variants that the options ask for; none if there is nothing to train.

    Raises:
        UserError: an option that cannot be read.
    """
    if not (options.config or options.vary or options.variant):
        if passed_on:
            raise UserError(f"{passed_on[0]} changes nothing: there is no --config to train")
        return []
    if options.random is not None and options.random < 1:
        raise UserError(f"--random is {options.random}; it must be at least 1")
    for name in options.config:
        config_path(name, CONFIGS)
    axes = [read_vary(text) for text in options.vary]
    if options.variant:
        axes.insert(0, [read_named(text) for text in options.variant])
    return name_variants(options.config, expand(axes, options.random, options.search_seed))


def read_seeds(text: str) -> list[int]:
    """`"0,1"` -> `[0, 1]`, each once.

    Raises:
        UserError: anything but whole numbers and commas.
    """
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise UserError(f"--seeds {text!r}: expected whole numbers such as 0,1,2")
    return list(dict.fromkeys(int(part) for part in text.split(",")))


def given_rows(paths: Sequence[str]) -> list[Row]:
    """The rows of finished runs; what would be counted twice gets another name."""
    rows, seen = [], set()
    for row in (row for path in paths for row in rows_of(path)):
        name, number = row["variant"], 2
        while (row["variant"], row["seed"]) in seen:
            row, number = row | {"variant": f"{name}-{number}"}, number + 1
        seen.add((row["variant"], row["seed"]))
        rows.append(row)
    return rows


def compare(jobs: Sequence[Job], out: Path, command: str, given: Sequence[Row] = ()) -> bool:
    """Trains the jobs that are not finished, and reports all; False if Ctrl-C ended it early.

    Raises:
        UserError: there is not one run to show.
    """
    rows = list(given)
    missing = sum(not (job.finished or job.refused) for job in jobs)
    with progress_bar(missing, console) as show, stop_signal(console.print) as stopped:
        for job in jobs:
            ready, reason = job.finished, job.refused
            if not ready and not reason and not stopped():
                reason = train(job, show, stopped)
            if stopped() and not job.finished:
                continue  # neither failed nor done; what is finished already still counts
            rows.append(job.failed_row(reason) if reason else job.row())
            if reason:
                tell(f"{job.variant.name}, seed {job.seed} failed: {reason}")
            if not ready and not reason:
                write_report(rows, out, command, figure=False)
    if rows:
        write_report(rows, out, command)
        report(rows, out)
    if left := sum(not (job.finished or job.refused) for job in jobs) * stopped():
        tell(f"stopped with {left} of {len(jobs)} runs to go; the same command goes on")
    elif all("failed" in row for row in rows):
        raise UserError(f"no run was finished: {rows[0]['failed']}")
    return not left


def report(rows: Sequence[Row], out: Path) -> None:
    """Prints the table, how to read it, and where it is."""
    console.print(rich_table(rows, out.name))
    for note in table_notes(rows):
        tell(note)
    tell(f"see {out / TABLE_FILE}")


def tell(line: str) -> None:
    """Prints one line, broken by nothing but the terminal."""
    console.print(line, highlight=False, soft_wrap=True)


def command_of(script: str, arguments: Sequence[str]) -> str:
    """The command line, without folders of its owner."""
    return shlex.join(["python", f"05_full_run/experiments/{script}", *without_folders(arguments)])


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
