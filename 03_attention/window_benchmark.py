"""Times sliding-window attention: by blocks, by a mask over everything, and without a window.

python 03_attention/window_benchmark.py
python 03_attention/window_benchmark.py --positions 8192 --window 128
"""

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from shared.errors import UserError, one_line_errors
from shared.model.sliding_window import attend_in_window, window_mask

HEADS, CHANNELS, ROUNDS = 8, 64, 7


def main(arguments: list[str]) -> None:
    """Runs the three in turn, several rounds, and prints medians and what each is times ours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--positions", type=int, default=2048, help="T")
    parser.add_argument("--window", type=int, default=64, help="W")
    options = parser.parse_args(arguments)
    if min(options.positions, options.window) < 1:
        raise UserError("--positions and --window must be at least 1")
    generator = torch.Generator().manual_seed(0)
    shape = 1, HEADS, options.positions, CHANNELS
    parts = [torch.randn(shape, generator=generator, requires_grad=True) for _ in range(3)]
    ways = ways_to_attend(parts, options.window)
    apart = (ways["blocks"]() - ways["mask"]()).abs().max().item()
    times = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, attend in ways.items():
            times[name].append(seconds(attend, parts))
    print(f"(B, H, T, D) = {shape}, W = {options.window}, float32")
    print(f"largest difference between blocks and mask: {apart:.0e}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, rounds in times.items():
        forward, backward = (median(column) for column in zip(*rounds, strict=True))
        ratios = [forward / median(f for f, _ in times["blocks"])]
        ratios.append(backward / median(b for _, b in times["blocks"]))
        print(
            f"{name:10} forward {forward * 1e3:7.1f} ms ({ratios[0]:4.1f}x)   "
            f"backward {backward * 1e3:7.1f} ms ({ratios[1]:4.1f}x)"
        )


def ways_to_attend(parts: list[Tensor], window: int) -> dict[str, Callable[[], Tensor]]:
    """The same attention by blocks and by a mask, and full attention beside them."""
    positions = parts[0].shape[2]

    def by_mask() -> Tensor:
        mask = window_mask(positions, positions, window, torch.device("cpu"))
        return F.scaled_dot_product_attention(*parts, attn_mask=mask)

    return {
        "blocks": lambda: attend_in_window(*parts, None, window),
        "mask": by_mask,
        "no window": lambda: F.scaled_dot_product_attention(*parts, is_causal=True),
    }


def seconds(attend: Callable[[], Tensor], parts: list[Tensor]) -> tuple[float, float]:
    """What one forward and one backward pass take."""
    start = time.perf_counter()
    mixed = attend()
    between = time.perf_counter()
    torch.autograd.grad(mixed.sum(), parts)
    return between - start, time.perf_counter() - between


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
