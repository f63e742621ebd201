"""Trains a model from a config, and leaves a run folder: checkpoint, curves, card.

python 05_full_run/full_run.py --config quick
python 05_full_run/full_run.py --config laptop --data.path ~/notes
python 05_full_run/full_run.py --config laptop --data.path ~/notes --resume
python 05_full_run/full_run.py --plan
python 05_full_run/full_run.py --config quick --mine    # on your own functions
"""

import runpy
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from batch_search import with_largest_batch
from jsonargparse import ArgumentParser
from plan_table import print_plans

from shared.device import device_label, dtype_name
from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.text.token_file import data_folder, document_lengths
from shared.training.processes import count_processes, is_main, lost_processes
from shared.training.run import Run
from shared.training.run_building import build_run
from shared.training.run_config import RunConfig
from shared.training.run_folder import begin, make_room
from shared.training.run_options import build_parser, resolve_config_names, to_run_config
from shared.training.sitting import console, finish, open_log, sitting_seconds, train_and_log
from shared.training.trackers import require_package

HERE = Path(__file__).resolve().parent
SCRIPT = "05_full_run/full_run.py"
COURSE = HERE.parent / "01_env" / "course"
CONFIGS = HERE / "configs"
RUNS = HERE / "runs"
DATA = data_folder(HERE / "data")


def main(arguments: list[str]) -> None:
    """Parses the command line and trains, or plans."""
    parser = command_line()
    resolved = resolve_config_names(arguments, CONFIGS)
    options = parser.parse_args(resolved)
    if options.mine:
        runpy.run_path(str(COURSE))["swap_in"]()
    if options.plan:
        chosen = [options.config[-1].relative] if options.config else sorted(CONFIGS.glob("*.yaml"))
        print_plans({Path(p).stem: partial(config_of, Path(p), resolved) for p in chosen}, console)
        return
    config = to_run_config(parser, options)
    stop_after = sitting_seconds(options.stop_after)
    require_package(config.track)
    name = Path(options.config[-1].relative).stem if options.config else "run"
    folder = user_path(config.out or RUNS / name).resolve()  # `--out .` has a name, too
    if is_main():
        make_room(folder, options.resume, options.fresh, console.print)
    if options.batch == "auto" and count_processes() > 1:
        raise UserError("--batch auto measures one process: find the sizes without torchrun first")
    if options.batch == "auto":
        config = prepare_batch(config, folder)
    run = read_and_build(config, folder)
    if not begin(run, options.resume, console.print):
        return
    tell_the_start(run)
    tell_long_conversations(run)
    with open_log(run) as log:
        if train_and_log(run, log, stop_after):
            finish(run, SCRIPT, arguments, log)


def prepare_batch(config: RunConfig, folder: Path) -> RunConfig:
    """The config with the largest micro-batch that fits; tells which."""
    with console.status("measuring which micro-batch fits"):
        config = with_largest_batch(config, folder)
    console.print(f"micro-batch {config.train.batch_size}, {config.train.accumulation} a step")
    return config


def read_and_build(config: RunConfig, folder: Path) -> Run:
    """Builds the run; tells how much text was read, and which files were passed over."""
    read = 0
    skipped = Counter()
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


def tell_the_start(run: Run) -> None:
    """Prints what is about to be trained, on what."""
    train_bytes = sum(corpus.manifest["bytes"]["train"] for corpus in run.corpora)
    console.print(
        f"{run.model.count_parameters():,} parameters · {train_bytes:,} bytes of text · "
        f"{device_label(run.device)} · {dtype_name(run.precision.dtype)} · {run.config.budget}"
    )


def tell_long_conversations(run: Run) -> None:
    """Prints how many conversations, of the sources that hold some, no window shows whole."""
    length = run.config.model.context_length
    for corpus in run.corpora:
        if not corpus.manifest.get("conversations", {}).get("train"):
            continue
        lengths = document_lengths(corpus.train, run.tokenizer.end_of_text)
        if longer := int((lengths > length).sum()):
            console.print(
                f"{longer:,} of {len(lengths):,} conversations in {corpus.name} are longer than "
                f"the context of {length:,} ids, the longest {lengths.max():,}: "
                "learned in pieces, none is left out or shortened"
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
    parser.add_argument("--mine", action="store_true", help="run on your own finished functions")
    return parser


def config_of(path: Path, arguments: list[str], *more: str) -> RunConfig:
    """The config of one file, with the overrides among `arguments` and `more` of them."""
    rest = list(arguments)
    if "--config" in rest:
        at = rest.index("--config")
        rest = rest[:at] + rest[at + 2 :]
    parser = command_line()
    return to_run_config(parser, parser.parse_args(["--config", str(path), *rest, *more]))


if __name__ == "__main__":
    with one_line_errors(), lost_processes():
        main(sys.argv[1:])
