"""Grades `write_chat.py`: each exercise by its definition, and the mistakes that it knows.

Under pytest the function under test is the shipped one; `make learn` and `make check` call the
same tests with the learner's. Whoever is still writing: what stands here tells much.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from judging import Answer, Draw, grades
from refusing import Refused
from torch import Tensor, nn

from shared.chat import sampling
from shared.chat.batch_generation import Reply
from shared.chat.candidates import Candidate, by_vote
from shared.chat.generation import stream_ids
from shared.chat.kv_cache import KVCache, LayerKV
from shared.chat.lora import attach
from shared.chat.practice import advantages
from shared.chat.preferences import dpo_loss as shipped_dpo_loss
from shared.chat.sampling import SamplingSettings, keep_top_k, keep_top_p
from shared.chat.session import _Visible
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.replies import in_replies
from shared.text.tokenizer import END_OF_TEXT
from shared.text.transcript import STOPS, Message, render

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


@grades("reply_mask")
def test_the_assistants_words_and_their_end_count(answer: Answer, draw: Draw):
    words = ["hi", "größer?", "a b", "Yes."]
    pairs = [("user", "assistant"), ("assistant", "user"), ("assistant", "assistant")]
    for first, last in pairs:
        messages = [Message("system", "Be brief."), Message(first, draw.random.choice(words))]
        messages.append(Message(last, draw.random.choice(words)))
        expected = []
        for role, content in messages:
            counts = role == "assistant"
            expected += [False] * len(f"{role}:".encode())
            expected += [counts] * len(f" {content}\n".encode())
        answer.gives([*expected, last == "assistant"], messages)


@grades("lora")
def test_a_small_change_is_added_to_the_layers_answer(answer: Answer, draw: Draw):
    wide, out, rank = draw.whole(6, 7), draw.whole(4, 5), draw.whole(2, 3)
    x, weight = draw.normal(2, 3, wide), draw.normal(out, wide)
    a, b, alpha = draw.normal(rank, wide), draw.normal(out, rank), draw.between(4, 9)
    expected = torch.einsum(
        "bti,oi->bto", x, weight + alpha / rank * torch.einsum("or,ri->oi", b, a)
    )
    answer.gives(expected, x, weight, a, b, alpha)


@grades("dpo_loss")
def test_the_margin_is_measured_from_what_the_model_was(answer: Answer, draw: Draw):
    policy, reference = 4 * draw.normal(2, 2, 5) - 20
    beta = draw.between(0.2, 0.6)
    losses = []
    for n in range(5):
        gains = [float(policy[row, n] - reference[row, n]) for row in (0, 1)]
        losses.append(math.log1p(math.exp(-beta * (gains[0] - gains[1]))))
    answer.gives(torch.tensor(sum(losses) / 5), policy, reference, beta)


@grades("advantages")
def test_a_reply_is_pushed_by_what_it_was_better_than_its_group(answer: Answer, draw: Draw):
    rewards = torch.tensor([[1.0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0], [0] * 6])
    rewards = rewards[draw.random.sample(range(3), k=3)]
    expected = torch.tensor([[float(r - sum(row) / 6) for r in row] for row in rewards.tolist()])
    answer.gives(expected, rewards)


@grades("vote")
def test_the_commonest_answer_wins_and_a_tie_goes_to_the_likelier(answer: Answer, draw: Draw):
    right, wrong, rare = (str(n) for n in draw.random.sample(range(10, 99), k=3))
    answers, likely = (
        [right, wrong, right, rare, wrong, right],
        [-0.9, -0.1, -0.6, -0.7, -0.5, -0.8],
    )
    answer.gives(2, answers, likely)
    answer.gives(1, answers[:5], likely[:5])


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


def shipped_reply_mask(messages: list[Message]) -> list[bool]:
    """The shipped mask of the rendered text, its end included."""
    return in_replies(render(messages).encode() + bytes([END_OF_TEXT])).tolist()


def shipped_lora(x: Tensor, weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """The shipped layer, filled with these numbers."""
    layer = nn.Linear(weight.shape[1], len(weight), bias=False)
    attach(layer, len(A), alpha)
    layer.weight.data, layer.adapter.A.data, layer.adapter.B.data = weight, A, B
    return layer(x).detach()


def shipped_advantages(rewards: Tensor) -> Tensor:
    """The shipped rule, with the mean taken away."""
    return advantages(rewards)


def shipped_vote(answers: list[str], log_probabilities: list[float]) -> int:
    """The shipped rule on replies that are answers alone."""
    given = zip(answers, log_probabilities, strict=True)
    return by_vote([], [Candidate(Reply(text, "stop"), p) for text, p in given])


ADAPTERS = {
    "reply_mask": shipped_reply_mask,
    "lora": shipped_lora,
    "advantages": shipped_advantages,
    "vote": shipped_vote,
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


def masked(
    messages: list[Message], roles: tuple[str, ...], unit=str.encode, end=None
) -> list[bool]:
    """The mask with other roles, counted in other units, or with another end."""
    mask = []
    for role, content in messages:
        mask += [False] * len(f"{role}:") + [role in roles] * len(unit(f" {content}\n"))
    return [*mask, messages[-1].role in roles if end is None else end]


def likeliest_of(counts: Callable[[Counter, str], int]) -> Callable:
    """A vote that counts otherwise."""

    def vote(answers: list[str], likely: list[float]) -> int:
        votes = Counter(answers)
        return max(range(len(answers)), key=lambda n: (counts(votes, answers[n]), likely[n]))

    return vote


MISTAKES = {
    "reply_mask": {
        "questions count, too: only what the assistant says has to be learned": lambda messages: (
            masked(messages, ("user", "assistant"))
        ),
        "characters are counted, and ids are bytes": lambda messages: masked(
            messages, ("assistant",), unit=str
        ),
        "the end never counts: a model that is not asked for it never learns to stop": (
            lambda messages: masked(messages, ("assistant",), end=False)
        ),
        "the end always counts: where the user spoke last there is no reply to end": (
            lambda messages: masked(messages, ("assistant",), end=True)
        ),
    },
    "lora": {
        "alpha, not alpha / r": lambda x, w, a, b, alpha: shipped_lora(x, w, a, b, alpha * len(a)),
        "the whole is multiplied by alpha / r: only the change is": lambda x, w, a, b, alpha: (
            shipped_lora(x, w, a, b, len(a)) * alpha / len(a)
        ),
        "the layer's own answer is missing": lambda x, w, a, b, alpha: shipped_lora(
            x, 0 * w, a, b, alpha
        ),
        "the change is missing": lambda x, w, a, b, alpha: shipped_lora(x, w, a, b, 0.0),
    },
    "dpo_loss": {
        "without the reference: only what the model has changed counts": lambda p, q, beta: (
            shipped_dpo_loss(p, 0 * q, beta)
        ),
        "chosen and rejected are swapped": lambda p, q, beta: shipped_dpo_loss(
            p.flip(0), q.flip(0), beta
        ),
        "beta is missing": lambda p, q, beta: shipped_dpo_loss(p, q, 1.0),
        "the sign is wrong: a loss of -log sigmoid is above 0": lambda p, q, beta: (
            -shipped_dpo_loss(p, q, beta)
        ),
        "a sum over the pairs: it must be their mean": lambda p, q, beta: (
            shipped_dpo_loss(p, q, beta) * p.shape[1]
        ),
    },
    "advantages": {
        "the mean is over all questions: each group has its own": lambda r: r - r.mean(),
        "the mean is over the questions, not over a question's replies": lambda r: (
            r - r.mean(dim=0, keepdim=True)
        ),
        "nothing is taken away: where all are right there is nothing to learn": lambda r: r,
        "divided by the spread, too: then rare and frequent success push alike": lambda r: (
            (r - r.mean(dim=1, keepdim=True)) / (r.std(dim=1, keepdim=True) + 1e-6)
        ),
    },
    "vote": {
        "the likeliest reply: what is commonest is asked for first": likeliest_of(lambda *_: 0),
        "the rarest answer": likeliest_of(lambda votes, answer: -votes[answer]),
        "the first of the commonest, not the likeliest of them": lambda answers, likely: (
            answers.index(Counter(answers).most_common(1)[0][0])
        ),
    },
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
