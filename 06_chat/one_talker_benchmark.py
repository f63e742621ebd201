"""How fast is one conversation, and what made it so?

python 06_chat/one_talker_benchmark.py
python 06_chat/one_talker_benchmark.py --checkpoint RUN --clock processor
python 06_chat/one_talker_benchmark.py --grow small
python 06_chat/one_talker_benchmark.py --where

Bytes a second after twenty prompts that no training text holds: exercises about held-out words
and numbers, and openings of prose. Temperature 0.7, seed 0. The ways take turns at each prompt;
the median prompt counts. `--grow small` puts the model into a corner of a model as large as that
preset, with zeros around it: it writes the same and takes the larger one's time. `--where`
prints what the processor does meanwhile.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from exam_questions import WORKING, asked, sizes_of
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table
from torch import nn

from shared.chat.generation import prefill, steady_generation, stream_ids
from shared.chat.sampling import SamplingSettings, next_token
from shared.chat.session import GrowingReply
from shared.chat.speculation import SILENT, Speculation, begin_speculation
from shared.chat.stacked import stacked
from shared.device import device_label
from shared.errors import UserError, one_line_errors
from shared.model.interop import to_transformers
from shared.model.presets import PRESETS
from shared.model.transformer import Transformer
from shared.text.drills import SKILLS
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import render_prompt
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
PROMPTS = 20
REPEATS = 200  # of a part that is timed alone
OPENINGS = (
    *("The old lighthouse stood ", "Return the number of ", "If the file is missing, "),
    *("A class that keeps ", "In the morning they ", "This function raises "),
)
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
Ways = dict[str, Callable[[list[int]], int]]


def main(arguments: list[str]) -> None:
    """Parses the command line, measures, prints one table."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", default=str(QUICK_RUN), help="a run or checkpoint folder")
    parser.add_argument("--grow", choices=sorted(PRESETS), help="into a model of this size")
    parser.add_argument("--new_bytes", type=int, default=100, help="written after each prompt")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="what is counted")
    parser.add_argument("--where", action="store_true", help="the parts of one byte's time")
    options = parser.parse_args(arguments)
    model, tokenizer = load_model(find_checkpoint(options.checkpoint), torch.device("cpu"))
    if options.grow:
        model = grown(model, options.grow)
    settings = SamplingSettings(max_new_bytes=options.new_bytes, seed=0)
    with steady_generation(model) as threads:
        Console().print(
            f"{model.count_parameters():,} parameters · torch {torch.__version__} · "
            f"{device_label(torch.device('cpu'))}, {threads} used · {options.clock} time"
        )
        speculation = begin_speculation(stacked(model), tokenizer)
        if options.where:
            Console().print(where(model, tokenizer, speculation))
            return
        prompts = [ids for _, ids in held_out(tokenizer)][:PROMPTS]
        ways = ways_of(model, settings, speculation)
        Console().print(rates(ways, prompts, CLOCKS[options.clock]))
        Console().print(f"a position more in a pass: {speculation.price:.3f} of a pass")


def held_out(tokenizer: Tokenizer) -> list[tuple[str, list[int]]]:
    """Kind and ids of each prompt: one exercise of a skill, and openings of prose."""
    sizes = {skill: sizes_of(skill, closed=False) for skill in SKILLS}
    sizes = {skill: each for skill, each in sizes.items() if each}
    prompts = [("drills", render_prompt(q.exercise.messages)) for q in asked(sizes, WORKING, 1)]
    prompts = prompts[: PROMPTS - len(OPENINGS)] + [("prose", text) for text in OPENINGS]
    return [(kind, as_ids(text, tokenizer)) for kind, text in prompts]


def as_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of a prompt that opens a document."""
    return [tokenizer.end_of_text, *tokenizer.encode(text).tolist()]


def ways_of(model: Transformer, settings: SamplingSettings, speculation: Speculation) -> Ways:
    """Each way to continue a prompt; all but the first are ours."""

    def ours(model: nn.Module, guessing: bool) -> Callable[[list[int]], int]:
        def way(prompt: list[int]) -> int:
            fresh = deepcopy(speculation) if guessing else SILENT  # it knows no other prompt
            return sum(1 for _ in stream_ids(model, prompt, settings, speculation=fresh))

        return way

    fast, half = stacked(model), stacked(model, torch.bfloat16)
    return {
        "transformers' generate": by_transformers(model, settings),
        "plain": ours(model, False),
        "plain, with speculation": ours(model, True),
        "stacked": ours(fast, False),
        "stacked, with speculation": ours(fast, True),
        "stacked, bfloat16": ours(half, False),
        "stacked, bfloat16, with speculation": ours(half, True),
    }


def by_transformers(model: Transformer, settings: SamplingSettings) -> Callable[[list[int]], int]:
    """The same weights in the library's own class, sampled by its own loop."""
    theirs, count = to_transformers(model), settings.max_new_bytes
    asked = {"max_new_tokens": count, "min_new_tokens": count, "pad_token_id": 0}
    asked |= {"do_sample": True, "temperature": settings.temperature, "top_k": settings.top_k}
    asked |= {"top_p": settings.top_p}

    def way(prompt: list[int]) -> int:
        ids = torch.tensor([prompt])
        written = theirs.generate(ids, attention_mask=torch.ones_like(ids), **asked)
        return written.shape[1] - len(prompt)

    return way


def rates(ways: Ways, prompts: list[list[int]], clock: Callable[[], float]) -> Table:
    """A row for each way: bytes a second, and how many times the first way's."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(prompts[0])  # what is loaded at first use
    for prompt in prompts:
        for name, way in ways.items():
            begun = clock()
            written = way(prompt)
            found[name].append(written / (clock() - begun))
    table = Table("", "bytes a second", "times transformers", title=f"{len(prompts)} prompts")
    first = found["transformers' generate"]
    for name, each in found.items():
        ratio = median(mine / theirs for mine, theirs in zip(each, first, strict=True))
        table.add_row(name, f"{median(each):,.0f}", f"{ratio:.1f}")
    return table


def where(model: Transformer, tokenizer: Tokenizer, speculation: Speculation) -> Table:
    """Microseconds of work of each part of a byte, on the plain model and on the stacked one."""
    table = Table("microseconds of work", "plain", "stacked")
    columns = [parts(way, tokenizer, speculation) for way in (model, stacked(model))]
    for name in columns[0]:
        table.add_row(name, *(f"{column[name]:,.0f}" for column in columns))
    return table


@torch.inference_mode()
def parts(model: nn.Module, tokenizer: Tokenizer, speculation: Speculation) -> dict[str, float]:
    """Microseconds of work of each part of one byte after 100 others."""
    ids, settings = list(range(64, 164)), SamplingSettings(seed=0)
    cache, logits = prefill(model, ids)
    generator, reply = settings.generator(), GrowingReply(tokenizer, 10**6)
    one_id, speculation = torch.tensor([ids[-1:]]), deepcopy(speculation)

    def read() -> None:
        model(one_id, cache)
        cache.forget(1)

    def follow() -> None:
        speculation.follow(ids)
        speculation.guess(ids, 8)

    found = {"a pass": work(read), **families(read)}
    found["  Python between them"] = 2 * found["a pass"] - sum(found.values())
    found["drawing"] = work(lambda: next_token(logits, settings, generator, ids))
    found["guessing"] = work(follow)
    found["decoding"] = work(lambda: reply.add(97))
    return found


def families(read: Callable[[], None]) -> dict[str, float]:
    """Where a pass spends its time: the profiler's kinds of operations, and the rest."""
    kinds = {"products": ("mm", "addmm", "mv"), "attention": ("_scaled_dot_product",)}
    kinds["norms"] = ("rms_norm", "_fused_rms", "pow", "mean", "rsqrt", "square")
    found = dict.fromkeys((f"  {kind}" for kind in (*kinds, "other operations")), 0.0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(REPEATS):
            read()
    times = defaultdict(list)
    for event in profiler.events():
        times[event.name.removeprefix("aten::")].append(event.self_cpu_time_total)
    for name, each in times.items():
        fits = (kind for kind, names in kinds.items() if name.startswith(names))
        microseconds = median(each) * len(each) / REPEATS  # what waited for its turn is left out
        found[f"  {next(fits, 'other operations')}"] += microseconds
    return found


def work(part: Callable[[], object]) -> float:
    """Microseconds of the processor, the median of many turns."""
    seconds = []
    for _ in range(REPEATS):
        begun = time.process_time()
        part()
        seconds.append(time.process_time() - begun)
    return 1e6 * median(seconds)


def grown(model: Transformer, preset: str) -> Transformer:
    """The same function in a model as large as a preset: its weights in the corners, else zeros.

    Norms divide by more channels than are in use, so their gains shrink by the root of the share.
    """
    small, large = model.config, PRESETS[preset]
    width = large.d_model
    fields = {"n_layers": large.n_layers, "d_model": width, "d_ff": large.ff_width}
    heads = {"n_heads": width // small.head_width, "n_kv_heads": None}
    if width < small.d_model or width % small.head_width or small.kv_heads < small.n_heads:
        raise UserError(f"the model does not fit into {preset}: take a larger one")
    built = Transformer(replace(small, **fields, **heads)).eval()
    ours, shrunk = model.state_dict(), (small.d_model / width) ** 0.5
    for name, tensor in built.state_dict().items():
        tensor.zero_()
        if name in ours:
            gain = shrunk if tensor.dim() == 1 and len(tensor) == width else 1.0
            tensor[tuple(slice(size) for size in ours[name].shape)] = ours[name] * gain
    return built


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
