"""How many bytes a second does a model write, one text at a time and many side by side?

python 06_chat/batch_benchmark.py
python 06_chat/batch_benchmark.py --texts 16 --new_bytes 200
python 06_chat/batch_benchmark.py --checkpoint RUN

Without --checkpoint the model has the quick run's shape and random weights: what is written
does not matter for the time. One at a time, an eighth of the prompts is enough to tell the rate.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from random import Random
from statistics import median

import torch
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from shared.chat.batch_generation import generate_batch
from shared.chat.generation import stream_ids
from shared.chat.sampling import SamplingSettings
from shared.device import device_label
from shared.errors import UserError, one_line_errors
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK = ModelConfig(context_length=256, n_layers=4, d_model=128, n_heads=2)
SAMPLE = 8  # every eighth prompt is continued alone, too
SHORTEST, LONGEST = 20, 120  # ids of a prompt

Rates = dict[str, dict[int, float]]


def main(arguments: list[str]) -> None:
    """Parses the command line, measures, prints one table and the ratio."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", help="a run or checkpoint folder")
    parser.add_argument("--texts", type=int, default=64, help="prompts, all side by side")
    parser.add_argument("--new_bytes", type=int, default=100, help="written after each")
    parser.add_argument("--temperature", type=float, default=0.7, help="0: greedy")
    parser.add_argument("--turns", type=int, default=5, help="of each way; medians count")
    options = parser.parse_args(arguments)
    if not 1 <= options.texts <= 4096 or not 1 <= options.turns <= 99:
        raise UserError("--texts is 1 to 4096 and --turns 1 to 99")
    seed, size = 0, options.new_bytes
    settings = SamplingSettings(temperature=options.temperature, max_new_bytes=size, seed=seed)
    torch.manual_seed(seed)
    if options.checkpoint is None:
        model = Transformer(QUICK).eval()
    else:
        model = load_model(find_checkpoint(options.checkpoint))[0]
    prompts = random_prompts(options.texts, model.config, seed)
    show(measured(model, prompts, settings, options.turns), model, len(prompts))


def random_prompts(count: int, config: ModelConfig, seed: int) -> list[list[int]]:
    """Prompts of different lengths; what they say does not matter for the time."""
    random = Random(seed)
    longest = min(LONGEST, config.context_length)
    lengths = [random.randint(min(SHORTEST, longest), longest) for _ in range(count)]
    return [[random.randrange(config.vocab_size) for _ in range(length)] for length in lengths]


def measured(
    model: Transformer, prompts: list[list[int]], settings: SamplingSettings, turns: int
) -> Rates:
    """Bytes a second of each way, on one thread and on all.

    The ways take turns, and the median of a way's turns counts: what else the machine does for
    a while is shared by all.
    """
    every = torch.get_num_threads()
    ways: dict[str, Callable[[], int]] = {
        "one at a time": partial(one_at_a_time, model, prompts[::SAMPLE], settings),
        f"{len(prompts)} side by side": partial(side_by_side, model, prompts, settings),
    }
    rates = {name: {threads: [] for threads in sorted({1, every})} for name in ways}
    try:
        for _ in range(turns):
            for name, way in ways.items():
                for threads, each in rates[name].items():
                    torch.set_num_threads(threads)
                    each.append(bytes_a_second(way))
    finally:
        torch.set_num_threads(every)
    return {
        name: {threads: median(each) for threads, each in columns.items()}
        for name, columns in rates.items()
    }


def one_at_a_time(model: Transformer, prompts: list[list[int]], settings: SamplingSettings) -> int:
    """Continues each prompt alone; returns the ids written."""
    return sum(1 for prompt in prompts for _ in stream_ids(model, prompt, settings))


def side_by_side(model: Transformer, prompts: list[list[int]], settings: SamplingSettings) -> int:
    """Continues all prompts at once; returns the ids written."""
    return sum(map(len, generate_batch(model, prompts, settings, batch_size=len(prompts))))


def bytes_a_second(way: Callable[[], int]) -> float:
    """Ids that it writes, divided by its time; on the CPU nothing is left in a queue."""
    begun = time.perf_counter()
    written = way()
    return written / (time.perf_counter() - begun)


def show(rates: Rates, model: Transformer, texts: int) -> None:
    """Prints the table, and how many times the best of one way is the best of the other."""
    console = Console()
    console.print(
        f"bytes a second · {model.count_parameters():,} parameters · {texts} prompts · torch "
        f"{torch.__version__} · {device_label(torch.device('cpu'))}"
    )
    threads = next(iter(rates.values()))
    table = Table("", *(f"{count} thread{'s' * (count > 1)}" for count in threads))
    for name, columns in rates.items():
        table.add_row(name, *(f"{rate:,.0f}" for rate in columns.values()))
    console.print(table)
    alone, together = (max(columns.values()) for columns in rates.values())
    console.print(f"side by side: {together / alone:.1f} times as many bytes a second")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
