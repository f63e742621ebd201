"""Draws five figures for the notes: the KV cache, practice, temperatures, top-p, cache times.

    python 06_chat/chat_figures.py
    python 06_chat/chat_figures.py RUN

The first two need no run. The next two show the model's own shares for the byte after
`PROMPT`; the last is measured, and its numbers are printed.
"""

import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from shared.chat.generation import prefill
from shared.chat.practice import advantages
from shared.chat.sampling import keep_top_p
from shared.device import device_label
from shared.errors import one_line_errors
from shared.model.transformer import Transformer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
FIGURES = Path(__file__).with_name("figures")
PROMPT = "The garden "
SHOWN = 16  # likeliest bytes drawn
TOP_P = 0.9
TEMPERATURES = {0.5: "tab:blue", 1.0: "tab:green", 2.0: "tab:orange"}
KEPT, DROPPED, NEW = "#2a788e", "#cccccc", "tab:orange"
HEADS, KV_HEADS, PLACES, FILLED = 4, 2, 16, 6  # H, K, T of the notes' model; positions prefilled
REPEATS = 30  # timings of each length; their median is drawn


def main(arguments: list[str]) -> None:
    """Draws the figures of the run named, or of the quick one."""
    print(f"drawn: {draw_kv_cache(FIGURES / 'kv_cache.png')}")
    print(f"drawn: {draw_learning_signal(FIGURES / 'learning_signal.png')}")
    model, tokenizer = load_model(find_checkpoint(arguments[0] if arguments else QUICK_RUN))
    ids = [tokenizer.end_of_text, *tokenizer.encode(PROMPT).tolist()]
    with torch.inference_mode():
        logits = prefill(model, ids)[1]  # (V,)
        print(f"drawn: {draw_temperatures(logits, FIGURES / 'temperatures.png')}")
        print(f"drawn: {draw_top_p(logits, FIGURES / 'top_p.png')}")
        print(f"drawn: {draw_cache_times(model, FIGURES / 'cache_times.png')}")


def draw_kv_cache(path: Path) -> Path:
    """One layer's cache when a seventh byte comes: what is kept, what is new, who reads it."""
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    axes = figure.subplots()
    for head in range(KV_HEADS):
        for row, part in enumerate(("keys", "values")):
            draw_strip(axes, f"{part} {head}", height=5.5 - 3 * head - row)
    for head in range(HEADS):
        height = 5.5 - 1.5 * head
        group = head * KV_HEADS // HEADS
        axes.add_patch(Rectangle((-9, height - 0.4), 2.2, 0.8, facecolor=NEW))
        axes.text(-7.9, height, f"query {head}", ha="center", va="center", color="white")
        ends = {"xy": (-2.5, 5 - 3 * group), "xytext": (-6.7, height)}
        axes.annotate("", **ends, arrowprops={"arrowstyle": "->"})
    axes.text(-7.9, 6.4, "new: (1, H, 1, D)", ha="center")
    axes.text(PLACES / 2, 6.4, "cache: (1, K, T, D), twice", ha="center")
    axes.text(PLACES / 2, 0.6, "place = position of the byte", ha="center")
    axes.set(xlim=(-9.3, PLACES + 0.3), ylim=(0.3, 7))
    axes.set_axis_off()
    return save(figure, path)


def draw_strip(axes: Axes, name: str, height: float) -> None:
    """The T places of one key/value head: those that are kept, the new one, those still free."""
    axes.text(-0.2, height, name, ha="right", va="center")
    for place in range(PLACES):
        colour = KEPT if place < FILLED else NEW if place == FILLED else "white"
        box = Rectangle((place, height - 0.4), 1, 0.8, facecolor=colour, edgecolor="0.5")
        axes.add_patch(box)
        colour = "white" if place <= FILLED else "0.5"
        axes.text(place + 0.5, height, str(place), ha="center", va="center", color=colour)


def draw_learning_signal(path: Path) -> Path:
    """What a group can teach against the share of it that is right, for two sizes of group."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    for samples, colour in ((4, NEW), (16, KEPT)):
        shares, signals = signals_of_groups(samples)
        axes.plot(shares, signals, "o", color=colour, label=f"groups of k = {samples}")
        curve = [place / 100 for place in range(101)]
        axes.plot(curve, [samples * p * (1 - p) for p in curve], color=colour, alpha=0.4)
    arrow = {"arrowstyle": "->"}
    for share, place, word in ((0, -0.2, "wrong"), (1, 1.2, "right")):
        text = f"all {word}:\nnothing to learn"
        axes.annotate(text, (share, 0), (place, 0.6), ha="center", arrowprops=arrow)
    axes.set(xlabel="share right, p", ylabel="advantages, squared and summed")
    axes.set(xlim=(-0.35, 1.35), xticks=(0, 0.25, 0.5, 0.75, 1), ylim=(-0.15, 4.4))
    axes.set_title("the learning signal of a group: k · p (1 - p)")
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, path)


def signals_of_groups(samples: int) -> tuple[list[float], list[float]]:
    """For each number of right replies: their share, and the sum of the squared advantages."""
    groups = torch.ones(samples + 1, samples).tril(diagonal=-1)  # row i has i right replies
    signals = advantages(groups).square().sum(dim=1)
    return groups.mean(dim=1).tolist(), signals.tolist()


def shown(byte: int) -> str:
    """A byte as a label: the character, or its number where it has none of its own."""
    return {32: "␣", 10: "↵"}.get(byte, chr(byte) if 32 < byte < 127 else str(byte))


def draw_temperatures(logits: Tensor, path: Path) -> Path:
    """The likeliest bytes and their shares, three times: at each temperature."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    best = logits.topk(SHOWN).indices
    for place, (temperature, colour) in enumerate(TEMPERATURES.items()):
        shares = (logits / temperature).softmax(dim=-1)
        rest = 1 - shares[best].sum().item()
        label = f"temperature {temperature:g} (all other bytes: {rest:.2f})"
        across = [rank + 0.27 * (place - 1) for rank in range(SHOWN)]
        axes.bar(across, shares[best], width=0.27, color=colour, label=label)
    axes.set_xticks(range(SHOWN), [shown(byte) for byte in best.tolist()], fontsize=12)
    axes.set(xlabel=f"the byte after {PROMPT!r}", ylabel="share", xlim=(-0.6, SHOWN - 0.4))
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return save(figure, path)


def draw_top_p(logits: Tensor, path: Path) -> Path:
    """The likeliest bytes in order; those that top-p keeps are coloured."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    shares, best = logits.softmax(dim=-1).topk(SHOWN)
    kept = keep_top_p(logits, TOP_P).isfinite()
    count = int(kept.sum())
    total = logits.softmax(dim=-1)[kept].sum().item()
    print(f"top_p {TOP_P}: {count} of {len(logits)} bytes are kept, {total:.3f} of the share")
    colours = [KEPT if kept[byte] else DROPPED for byte in best.tolist()]
    axes.bar(range(SHOWN), shares, color=colours)
    axes.plot(range(SHOWN), shares.cumsum(0), "o-", color="black", markersize=4, label="sum so far")
    axes.axhline(TOP_P, color="tab:red", linestyle=":", label=f"top_p = {TOP_P:g}")
    axes.set_xticks(range(SHOWN), [shown(byte) for byte in best.tolist()], fontsize=12)
    axes.set(xlabel=f"the byte after {PROMPT!r}", ylabel="share", ylim=(0, 1.05))
    axes.set_title(f"{count} of {len(logits)} bytes are kept (dark), the others can never be drawn")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="center right")
    return save(figure, path)


def draw_cache_times(model: Transformer, path: Path) -> Path:
    """Milliseconds for one new byte against the length of the text, measured both ways."""
    lengths = [model.config.context_length * eighth // 8 for eighth in range(1, 9)]
    machine = f"{device_label(torch.device('cpu'))}, torch {torch.__version__}"
    print(f"{machine}, milliseconds a byte, medians of {REPEATS}")
    print("  length  without cache  with cache")
    plain, cached = [], []
    for length in lengths:
        ids = list(range(97, 123)) * (length // 26 + 1)
        plain.append(time_without(model, ids[:length]))
        cached.append(time_with(model, ids[:length]))
        print(f"  {length:6}  {plain[-1]:13.2f}  {cached[-1]:10.2f}")
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(lengths, plain, "o-", color="tab:red", label="without: the whole text again")
    axes.plot(lengths, cached, "o-", color=KEPT, label="with the KV cache: the new byte alone")
    axes.set(xlabel="length of the text, in bytes", ylabel="ms for one new byte")
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, path)


def time_without(model: Transformer, ids: list[int]) -> float:
    """Milliseconds of one pass over the whole text, ids of length t."""
    batch = torch.tensor([ids])  # (1, t)
    return middle(seconds(lambda: model(batch)) for _ in range(REPEATS))


def time_with(model: Transformer, ids: list[int]) -> float:
    """Milliseconds of one pass over the last id, the others being in the cache before."""
    last = torch.tensor([ids[-1:]])  # (1, 1)
    caches = (prefill(model, ids[:-1])[0] for _ in range(REPEATS))
    return middle(seconds(partial(model, last, cache)) for cache in caches)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes; the model is on the CPU, so nothing is left in a queue."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def middle(times: Iterable[float]) -> float:
    """The median of times in seconds, as milliseconds: one disturbed round does not count."""
    return 1000 * median(times)


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure as a PNG."""
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
