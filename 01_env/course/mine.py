"""Runs a script of a step on your own functions: what you have finished takes the place of ours.

    python 01_env/course/mine.py 06_chat/generate.py --prompt "def "

`overfit.py`, `full_run.py`, `chat.py` and `serve.py` do the same by themselves, given `--mine`.

Your decoder runs in every forward pass of every model, so it must be finished: all of step 03 up
to `decode`. It is compared with ours first. It keeps no keys and values, so each new byte reads the
whole text again. At the end it says which of your functions ran, and how often.
"""

import argparse
import atexit
import runpy
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import torch
from course_state import load_state
from exercise_table import all_exercises, exercise_named
from fitting import by_rows, by_windows, rope_base, turning_by_the_models_base
from learner_file import load
from torch import Tensor

from shared.chat.generation import stream_ids
from shared.chat.kv_cache import KVCache
from shared.chat.sampling import SamplingSettings
from shared.errors import UserError, one_line_errors
from shared.model.config import ModelConfig, NormConfig, RopeConfig
from shared.model.transformer import Transformer

# These take the same arguments as the shipped functions that runs and chats call.
AS_THEY_ARE = ("shifted", "bits_per_byte", "decay_groups", "warmup", "warmup_cosine")
# These were asked for one row of logits, and are called with one for each text.
BY_ROWS = ("keep_top_k", "keep_top_p")
# This one was asked for targets that all count.
BY_WINDOWS = ("cross_entropy",)
CLOSE = 1e-4
LIKE_QUICK = (
    "this model has QK-norm, and another base of RoPE, as quick has: norm where there are gains, "
    "and call your own `rotate` without naming a base"
)


def forward_by(decode: Callable) -> Callable:
    """`Transformer.forward`, made of a plain decoder; a cache holds ids in place of keys."""

    def forward(self: Transformer, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        refuse_relatives(self.config)
        rope_base.set(self.config.rope.base)
        new = ids.shape[1]
        if cache is not None and not isinstance(cache, KVCache):
            raise UserError("your decoder reads one text at a time, not many side by side")
        if cache is not None:
            before = getattr(cache, "ids", ids[:, :0])[:, : cache.length]  # some were taken back
            ids = cache.ids = torch.cat((before, ids), dim=1)
            for layer in cache.layers:
                layer.length = ids.shape[1]
        if ids.shape[1] > self.config.context_length:
            raise ValueError(
                f"{ids.shape[1]} positions; the model has {self.config.context_length}"
            )
        weights = self.state_dict(keep_vars=True)  # the parameters themselves: gradients reach them
        return decode(ids, weights, self.config.n_heads, self.config.n_layers)[:, -new:]

    return forward


def refuse_relatives(config: ModelConfig) -> None:
    """The plain decoder knows sizes, RoPE's base and QK-norm, and no other norms or parts.

    Raises:
        UserError: the model is a relative of the plain one.
    """
    sizes = ("vocab_size", "context_length", "n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff")
    same = {name: getattr(config, name) for name in (*sizes, "tied_head")}
    same["norm"] = NormConfig(queries_and_keys=config.norm.queries_and_keys)
    plain = ModelConfig(**same, rope=RopeConfig(base=config.rope.base))
    if config != plain:
        raise UserError(
            "your decoder is the plain one, and this model has other parts: see its card"
        )


@contextmanager
def using(own: Mapping[str, Callable]) -> Iterator[Counter]:
    """A block in which these functions take the place of the shipped ones; counts their calls.

    Those that nothing here can take, such as a norm, are counted where the others call them.
    """
    calls: Counter = Counter()
    with ExitStack() as replaced:
        for name, function in own.items():
            counting = counted(name, function, calls)
            if name == "rotate":
                counting = turning_by_the_models_base(counting)
            for module, attribute in places(function):
                replaced.enter_context(patch.object(module, attribute, counting))
            if name == "decode":
                replaced.enter_context(patch.object(Transformer, "forward", forward_by(counting)))
            elif name in (*AS_THEY_ARE, *BY_ROWS, *BY_WINDOWS):
                called = by_rows(counting) if name in BY_ROWS else counting
                called = by_windows(counting) if name in BY_WINDOWS else called
                for module, attribute in places(exercise_named(name).shipped()):
                    replaced.enter_context(patch.object(module, attribute, called))
        yield calls


def counted(name: str, function: Callable, calls: Counter) -> Callable:
    """The function, and one more in `calls` each time."""

    @wraps(function)
    def counting(*given: object, **named: object) -> object:
        calls[name] += 1
        return function(*given, **named)

    return counting


def places(function: Callable) -> list[tuple[object, str]]:
    """Every module that has the function, under whatever name: importing copies names."""
    modules = [m for m in sys.modules.values() if isinstance(m, ModuleType)]
    return [(m, name) for m in modules for name, value in vars(m).items() if value is function]


def finished_functions() -> dict[str, Callable]:
    """The learner's own, as they stand in the files.

    Raises:
        UserError: the decoder is not among them.
    """
    state = load_state()
    finished = [exercise for exercise in all_exercises() if state.is_finished(exercise)]
    if "decode" not in {exercise.name for exercise in finished}:
        raise UserError("your decoder is not finished yet: make learn, or make check STEP=03")
    modules = {file: load(file) for file in {exercise.file for exercise in finished}}
    return {exercise.name: getattr(modules[exercise.file], exercise.name) for exercise in finished}


def compare(own: Mapping[str, Callable]) -> None:
    """Holds the learner's decoder to the shipped one: the plain model, then one like quick's.

    Raises:
        UserError: their logits differ.
    """
    sizes = {"n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2}
    plain = ModelConfig(**sizes)
    like_quick = ModelConfig(
        **sizes, rope=RopeConfig(500.0), norm=NormConfig(queries_and_keys=True)
    )
    ids = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(0))
    for config, advice in ((plain, "make check STEP=03 says why"), (like_quick, LIKE_QUICK)):
        torch.manual_seed(0)
        model = Transformer(config).eval()
        with torch.no_grad():
            ours = model(ids)
            with using(own):
                theirs = model(ids)
        if not torch.allclose(ours, theirs, atol=CLOSE):
            raise UserError(f"your decoder gives other logits than ours: {advice}")


def answering(own: Mapping[str, Callable]) -> list[str]:
    """Names of those that ran while one byte of a reply was written."""
    model = Transformer(ModelConfig(n_layers=1, d_model=32, n_heads=4, n_kv_heads=2)).eval()
    with using(own) as calls:
        list(stream_ids(model, [1, 2], SamplingSettings(1.0, top_k=9, top_p=0.9, max_new_bytes=1)))
    return list(calls)


def swap_in() -> list[str]:
    """Puts the learner's functions in the place of ours until this process ends.

    It then says which of them ran, and how often.

    Returns:
        Names of those that take part in a reply, the decoder first.

    Raises:
        UserError: the decoder is not finished, or gives other logits than ours.
    """
    sys.path += sorted({str(exercise.folder) for exercise in all_exercises()})
    own = finished_functions()
    compare(own)
    names = answering(own)
    swapped = ExitStack()
    calls = swapped.enter_context(using(own))
    swapped.callback(tell, calls)
    atexit.register(swapped.close)
    return names


def tell(calls: Counter) -> None:
    """Says what ran, beside the script's output and not in it."""
    told = ", ".join(f"{name} {count:,} times" for name, count in calls.most_common())
    print(f"\nyour own functions ran: {told or 'none'}", file=sys.stderr)


def main() -> None:
    """Swaps, runs the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("script", type=Path, help="of one of the steps")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the script")
    asked = parser.parse_args()
    if not asked.script.is_file():
        raise UserError(f"{asked.script} is no file: expected such as 04_training/overfit.py")
    swap_in()
    sys.path.insert(0, str(asked.script.resolve().parent))
    sys.argv = [str(asked.script), *asked.arguments]
    runpy.run_path(str(asked.script), run_name="__main__")


if __name__ == "__main__":
    with one_line_errors():
        main()
