"""How fast does a model write beside other programs that want the processor too?

python 06_chat/busy_neighbours.py
python 06_chat/busy_neighbours.py --preset small --loops 2 --seconds 5
python 06_chat/busy_neighbours.py --checkpoint RUN

Bytes a second with nothing beside it and with some endless loops beside it: on one thread, on
all, and on as many as chat.py and serve.py choose by measuring, which they do once, at their
start. Here the choice is made anew in each turn.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import torch
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from shared.chat.generation import steady_generation, stream_ids
from shared.chat.sampling import SamplingSettings
from shared.device import device_label
from shared.errors import UserError, one_line_errors
from shared.model.presets import PRESETS
from shared.model.transformer import Transformer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
TURNS = 5  # of each way, alone and beside the loops
PROMPT = [0] * 32  # ids; what they are does not matter for the time


def main(arguments: list[str]) -> None:
    """Parses the command line, measures, prints one table."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", default=str(QUICK_RUN), help="a run or checkpoint folder")
    parser.add_argument("--preset", choices=sorted(PRESETS), help="an untrained model instead")
    parser.add_argument("--loops", type=int, default=2, help="programs that do nothing but count")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of a measurement, its turns together"
    )
    options = parser.parse_args(arguments)
    if not 1 <= options.loops <= 64 or not 0 < options.seconds <= 60:
        raise UserError("--loops is 1 to 64 and --seconds up to 60")
    if options.preset:
        model = Transformer(PRESETS[options.preset]).eval()
    else:
        model = load_model(find_checkpoint(options.checkpoint))[0]
    table = Table("threads", "alone", f"beside {options.loops} loops", "share of it alone")
    rows = measured(model, options.loops, options.seconds)
    for name, (alone, beside) in rows.items():
        table.add_row(name, f"{alone:,.0f}", f"{beside:,.0f}", f"{beside / alone:.2f}")
    console = Console()
    console.print(
        f"bytes a second · {model.count_parameters():,} parameters · torch "
        f"{torch.__version__} · {device_label(torch.device('cpu'))}"
    )
    console.print(table)


def measured(model: Transformer, loops: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Bytes a second alone and beside the loops, for each way to choose the threads.

    The ways take turns, and the median of a way's turns counts: what else the machine does for a
    while is shared by all.
    """
    every = torch.get_num_threads()
    ways: dict[str, Callable[[], AbstractContextManager]] = {
        "1": partial(fixed_threads, 1),
        f"{every}, all": partial(fixed_threads, every),
        "chosen by measuring": partial(steady_generation, model),
    }
    columns = []
    for neighbours in (0, loops):
        rates: dict[str, list[float]] = {name: [] for name in ways}
        with busy(neighbours):
            for _ in range(TURNS):
                for name, threads in ways.items():
                    with threads():
                        rates[name].append(bytes_a_second(model, seconds / TURNS))
        columns.append({name: median(each) for name, each in rates.items()})
    return {name: (columns[0][name], columns[1][name]) for name in ways}


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """A block on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Endless loops in processes of their own, which end with the block."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def bytes_a_second(model: Transformer, seconds: float) -> float:
    """Ids that the model writes in that time, divided by it."""
    room = model.config.context_length - len(PROMPT)
    settings = SamplingSettings(max_new_bytes=max(1, room), seed=0)
    written = 0
    begun = time.perf_counter()
    while True:
        for _ in stream_ids(model, PROMPT, settings):
            written += 1
            if (spent := time.perf_counter() - begun) > seconds:
                return written / spent


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
