"""What training a preset on many GPUs would take: hours, money, memory, bytes on the wire.

python 05_full_run/experiments/cluster_cost.py --gpus 1 8 32 --price 2.5
"""

import argparse
from collections.abc import Sequence

import torch

from shared.model.presets import PRESETS
from shared.model.transformer import Transformer
from shared.training.plan import TOKENS_A_PARAMETER

MODELS = ("124m", "1b", "3b")
PEAK = 989.0  # TFLOP/s, H100 SXM, bfloat16, dense
UTILISATION = 0.4  # of the peak (MFU): good for a few nodes; assumed, not measured
LAPTOP = 1.0  # TFLOP/s that a laptop's own GPU really does in training; assumed
STEP_TOKENS = 2**19  # in a step, all processes together
NVLINK = 450.0  # GB/s that a GPU sends within an H100 node
NETWORK = 50.0  # GB/s out of a node with one 400 Gbit/s card; the best nodes have eight


def main(arguments: list[str] | None = None) -> str:
    """Parses the command line, prints both tables and returns them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 32], help="how many")
    parser.add_argument("--price", type=float, default=2.5, help="dollars for a GPU and an hour")
    parser.add_argument("--peak", type=float, default=PEAK, help="TFLOP/s of one GPU")
    parser.add_argument("--mfu", type=float, default=UTILISATION, help="share of it that is used")
    parser.add_argument("--laptop", type=float, default=LAPTOP, help="TFLOP/s that a laptop does")
    options = parser.parse_args(arguments)
    if min(*options.gpus, options.price, options.peak, options.mfu, options.laptop) <= 0:
        parser.error("every number must be above 0")
    useful = options.peak * options.mfu
    tables = time_table(options.gpus, options.price, useful, options.laptop)
    tables += ["", *wire_table(max(g for g in options.gpus), useful)]
    text = "\n".join(tables)
    print(text)
    return text


def count(model: str) -> int:
    """Parameters of a preset; on the meta device tensors have shapes and no memory."""
    with torch.device("meta"):
        return Transformer(PRESETS[model]).count_parameters()


def training_seconds(parameters: int, teraflops: float) -> float:
    """Seconds of 6 N D operations at that rate, D being 20 tokens a parameter."""
    return 6 * parameters * TOKENS_A_PARAMETER * parameters / (teraflops * 1e12)


def time_table(gpus: Sequence[int], price: float, useful: float, laptop: float) -> list[str]:
    """Lines: parameters, tokens, time on a laptop and on each number of GPUs, dollars."""
    heads = [f"{n} GPU{'s' if n > 1 else ''}" for n in gpus]
    rows = []
    for model in MODELS:
        parameters = count(model)
        alone = training_seconds(parameters, useful)
        times = [in_words(alone / n) for n in gpus]
        size = f"{parameters / 1e6:,.0f} M", f"{TOKENS_A_PARAMETER * parameters / 1e9:,.1f} G"
        slow = in_words(training_seconds(parameters, laptop))
        rows.append([f"`{model}`", *size, slow, *times, f"${alone / 3600 * price:,.0f}"])
    return table(["model", "parameters", "tokens", "laptop", *heads, "cost"], rows)


def wire_table(gpus: int, useful: float) -> list[str]:
    """Lines: per GPU and step, memory and bytes sent by each strategy, beside the arithmetic."""
    rows = []
    for model in MODELS:
        parameters = count(model)
        around = 4 * parameters * (gpus - 1) / gpus / 1e9  # GB: one pass of all float32 numbers
        compute = 6 * parameters * STEP_TOKENS / gpus / (useful * 1e12)
        for name, passes, shares in (("ddp", 2, 1), ("fsdp", 3, gpus)):
            sent = passes * around
            memory = f"{16 * parameters / shares / 1e9:.1f} GB"
            seconds = (sent / NVLINK, sent / NETWORK, compute)
            times = [f"{value:.2f} s" for value in seconds]
            rows.append([f"`{model}`", name, memory, f"{sent:.1f} GB", *times])
    heads = ["memory", "sent in a step", "by NVLink", "by network", "arithmetic"]
    return table(["model", f"{gpus} GPUs", *heads], rows)


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def in_words(seconds: float) -> str:
    """Minutes, hours, days or years, with two or three digits."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400.0), ("h", 3600.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    main()
