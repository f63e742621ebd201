"""Grades `write_chat.py`: each exercise by its definition, and the mistakes that it knows.

Under pytest the function under test is the shipped one; `make learn` and `make check` call the
same tests with the learner's. Whoever is still writing: what stands here tells much.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from judging import Answer, Draw, grades
from refusing import Refused
from torch import Tensor

from shared.chat import sampling
from shared.chat.generation import stream_ids
from shared.chat.kv_cache import KVCache, LayerKV
from shared.chat.sampling import SamplingSettings, keep_top_k, keep_top_p
from shared.chat.session import _Visible
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.transcript import STOPS

CPU = torch.device("cpu")


@grades("next_token")
def test_a_temperature_divides_the_logits(answer: Answer, draw: Draw):
    logits, seed = draw.normal(8), draw.whole(0, 10**6)
    for temperature in (draw.between(0.4, 0.6), draw.between(1.5, 2.5), 0.0):

        def drawn(function: Callable, temperature: float = temperature) -> list[int]:
            generator = torch.Generator().manual_seed(seed)
            return [function(logits.clone(), temperature, generator) for _ in range(40)]

        generator = torch.Generator().manual_seed(seed)
        shares = (logits / (temperature or 1.0)).softmax(-1)
        expected = [int(torch.multinomial(shares, 1, generator=generator)) for _ in range(40)]
        expected = expected if temperature else [int(logits.argmax())] * 40
        answer.used(drawn, expected, f"40 draws at temperature {temperature:.2f}")


@grades("keep_top_k")
def test_the_k_likeliest_are_left(answer: Answer, draw: Draw):
    logits, k = draw.normal(9), draw.whole(3, 6)
    kept = sorted(range(9), key=lambda n: -logits[n])[:k]
    expected = torch.tensor([logits[n] if n in kept else -math.inf for n in range(9)])
    answer.gives(expected, logits, k)
    answer.gives(logits, logits, 0)


@grades("keep_top_p")
def test_the_fewest_that_reach_p_are_left(answer: Answer, draw: Draw):
    order = draw.random.sample(range(4), k=4)
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()[order]
    reached = (0.2, 1), (draw.between(0.55, 0.7), 2), (draw.between(0.8, 0.88), 3), (1.0, 4)
    for p, number in reached:
        answer.gives(logits.masked_fill(torch.tensor(order) >= number, -math.inf), logits, p)


@grades("extend")
def test_the_cache_holds_all_that_came(answer: Answer, draw: Draw):
    sizes = [draw.whole(2, 3), 1, 2]
    keys, values = draw.normal(2, 2, 2, sum(sizes), 3)

    def held(function: Callable) -> list[tuple]:
        cache, found = LayerKV((2, 2, 9, 3), CPU, torch.float32), []
        cache.extend = refuse
        for new in zip(keys.split(sizes, 2), values.split(sizes, 2), strict=True):
            found.append(([part.clone() for part in function(cache, *new)], cache.length))
        return found

    ends = [sum(sizes[: n + 1]) for n in range(3)]
    expected = [([keys[:, :, :end], values[:, :, :end]], end) for end in ends]
    answer.used(held, expected, "keys, values and cache.length after each of three calls")


@grades("generate")
def test_each_id_goes_through_the_model_once(answer: Answer, draw: Draw):
    model, prompt, count = Counted(draw), draw.ids(draw.whole(3, 5)).tolist(), draw.whole(3, 5)
    expected = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            expected.append(int(model(torch.tensor([expected]))[0, -1].argmax()))

    def written(function: Callable) -> tuple[list[int], int]:
        model.positions = 0
        return function(model, list(prompt), count), model.positions

    read = len(prompt) + count - 1
    what = f"the new ids, and how many positions went through the model (prompt {len(prompt)})"
    answer.used(written, (expected[len(prompt) :], read), what)


@grades("visible")
def test_half_a_mark_is_held_back_and_a_whole_one_ends_the_reply(answer: Answer, draw: Draw):
    said = draw.random.choice(["I see", "Hello", "A user: yes", "One\nmore line"])
    first, second = draw.random.sample(STOPS, k=2)
    answer.gives((said, True), f" {said}{first} hi{second}")
    answer.gives((said, False), f" {said}{first[: draw.whole(2, len(first) - 1)]}")
    answer.gives((f"{said}\n{first[1:-1]}s", False), f"{said}\n{first[1:-1]}s")


class Counted(Transformer):
    """A small model that counts the positions it reads, its weights large enough to matter."""

    def __init__(self, draw: Draw) -> None:
        super().__init__(ModelConfig(context_length=16, n_layers=2, d_model=16, n_heads=2))
        self.positions = 0
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(2 * draw.normal(*parameter.shape) / parameter.shape[-1] ** 0.5)
        self.eval()

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """As ever."""
        self.positions += ids.shape[1]
        return super().forward(ids, cache)


def refuse(*_: object) -> None:
    """What a cache's own `extend` does here."""
    raise Refused("cache.extend is refused here: it is the answer itself")


def shipped_next_token(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    """The shipped draw with all but the temperature switched off."""
    return sampling.next_token(logits, SamplingSettings(temperature, top_p=1.0), generator)


def shipped_generate(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """The shipped stream, greedy."""
    return list(stream_ids(model, prompt, SamplingSettings(0.0, max_new_bytes=count)))


def shipped_extend(cache: LayerKV, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The shipped step, without the mask that it may have."""
    return LayerKV.extend(cache, keys, values)[:2]


def shipped_visible(text: str) -> tuple[str, bool]:
    """The shipped filter, given all at once."""
    shown = _Visible()
    return shown.add(text), shown.stopped


ADAPTERS = {
    "next_token": shipped_next_token,
    "extend": shipped_extend,
    "generate": shipped_generate,
    "visible": shipped_visible,
}


def extended(advance: bool = True, all_of_it: bool = False, at_start: bool = False) -> Callable:
    """A cache step with one thing done otherwise."""

    def extend(cache: LayerKV, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        start = 0 if at_start else cache.length
        end = start + keys.shape[2]
        cache.keys[:, :, start:end], cache.values[:, :, start:end] = keys, values
        cache.length += keys.shape[2] if advance else 0
        shown = None if all_of_it else max(end, cache.length)
        return cache.keys[:, :, :shown], cache.values[:, :, :shown]

    return extend


def written_without_cache(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """Reads everything anew for each id."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def written(
    row: int = -1, fresh: bool = False, over: int = 0, whole: bool = True
) -> Callable[[Transformer, list[int], int], list[int]]:
    """Generation with one thing done otherwise."""

    def generate(model: Transformer, prompt: list[int], count: int) -> list[int]:
        cache, given, new = KVCache(model.config), list(prompt) if whole else prompt[-1:], []
        for _ in range(count + over):
            new.append(int(model(torch.tensor([given]), cache)[0, row].argmax()))
            cache, given = KVCache(model.config) if fresh else cache, new[-1:]
        return new[:count]

    return generate


def without_crossing(logits: Tensor, p: float) -> Tensor:
    """Only ids whose own share still fits below p."""
    ordered, order = logits.sort(descending=True)
    over = ordered.softmax(-1).cumsum(-1) > p + 1e-4
    return logits.masked_fill(over.scatter(-1, order, over), -math.inf)


def in_place_of_order(logits: Tensor, p: float) -> Tensor:
    """The sorted answer, not put back."""
    return keep_top_p(logits, p).sort(descending=True).values


def cut_at(
    text: str, marks: tuple[str, ...], pick: Callable, held: bool = True
) -> tuple[str, bool]:
    """The stop rule with other marks, or another one picked, or nothing held back."""
    text = text.lstrip(" ")
    ends: list[Any] = [place for place in map(text.find, marks) if place >= 0]
    if ends:
        return text[: pick(ends)], True
    tails = [n for mark in marks for n in range(1, len(mark)) if text.endswith(mark[:n])]
    return text[: len(text) - max(tails, default=0)] if held else text, False


MISTAKES = {
    "next_token": {
        "multiplied by the temperature: it divides": lambda z, t, g: shipped_next_token(
            z, 1 / t if t else 0.0, g
        ),
        "the shares are divided, not the logits: that changes no draw": lambda z, t, g: (
            shipped_next_token(z, 1.0 if t else 0.0, g)
        ),
        "always the likeliest: nothing is drawn": lambda z, t, g: int(z.argmax()),
        "temperature 0 means the likeliest, the limit of ever lower ones": lambda z, t, g: (
            shipped_next_token(z, t or 1.0, g)
        ),
    },
    "keep_top_k": {
        "0 hides nothing: e^0 is a share like any other; minus infinity does": lambda z, k: (
            z.masked_fill(keep_top_k(z, k).isinf(), 0.0)
        ),
        "one too many": lambda z, k: keep_top_k(z, k + 1) if k else z,
        "the smallest are kept, not the largest": lambda z, k: (
            -keep_top_k(-z, k).where(keep_top_k(-z, k).isfinite(), torch.tensor(math.inf))
        ),
        "the first k ids, not the k likeliest": lambda z, k: (
            z.masked_fill(torch.arange(len(z)) >= k, -math.inf) if k else z
        ),
        "k = 0 keeps all": lambda z, k: keep_top_k(z, k) if k else torch.full_like(z, -math.inf),
    },
    "keep_top_p": {
        "the id that crosses p is dropped: with one likely id nothing would be left": (
            without_crossing
        ),
        "in the order of likelihood: each must stand at its own place again": in_place_of_order,
        "each share by itself is held against p: it is their sum, from the likeliest down": (
            lambda z, p: z.masked_fill(z.softmax(-1) < p, -math.inf)
        ),
        "0 hides nothing; minus infinity does": lambda z, p: z.masked_fill(
            keep_top_p(z, p).isinf(), 0.0
        ),
    },
    "extend": {
        "the position is not advanced: the next call overwrites what this one wrote": extended(
            advance=False
        ),
        "the whole buffer is returned, with places that are still free": extended(all_of_it=True),
        "every call writes at the beginning: begin where the filled places end": extended(
            at_start=True
        ),
        "keys and values are swapped": lambda *given: shipped_extend(*given)[::-1],
        "only the new ones are returned: queries look at all of them": lambda cache, keys, values: [
            held[:, :, -keys.shape[2] :] for held in shipped_extend(cache, keys, values)
        ],
    },
    "generate": {
        "the whole text goes through the model for each id: the cache has what came before": (
            written_without_cache
        ),
        "the first row of the logits: the last one says what comes next": written(row=0),
        "a fresh cache for each id: it has forgotten what came before": written(fresh=True),
        "the last id goes through the model, too, and nobody asks what follows it": written(over=1),
        "only the end of the prompt is read": written(whole=False),
    },
    "visible": {
        "half a mark is shown: it must wait until it is clear what it becomes": lambda text: cut_at(
            text, STOPS, min, held=False
        ),
        "a role in the middle of a line ends nothing: a mark begins with a newline": lambda text: (
            cut_at(text, tuple(mark[1:] for mark in STOPS), min)
        ),
        "the last mark, not the first one: the reply ends at the first": lambda text: cut_at(
            text, STOPS, max
        ),
        "the space at the beginning is the transcript's, not the reply's": lambda text: (
            text[: text.index(shipped_visible(text)[0])] + shipped_visible(text)[0],
            shipped_visible(text)[1],
        ),
    },
}
