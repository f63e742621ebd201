"""Grades `write_training.py`: each exercise against PyTorch or by hand, and the mistakes it knows.

Under pytest the function under test is the shipped one; `make learn` and `make check` call the
same tests with the learner's. Whoever is still writing: what stands here tells much.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from autograd import Value
from autograd import in_order as parts_first
from judging import Answer, Draw, grades
from optimizers_by_hand import adamw_step
from refusing import Refused
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from shared.training import loop
from shared.training import loss as shipped_loss
from shared.training.budget import Budget
from shared.training.clipping import Clipping
from shared.training.counting_model import Counts
from shared.training.optimizer import decay_groups, remember_rates
from shared.training.precision import Precision
from shared.training.schedule import warmup, warmup_cosine
from shared.training.strategy import OneProcess

CPU = torch.device("cpu")


@grades("cross_entropy")
def test_the_loss_is_pytorchs_and_does_not_overflow(answer: Answer, draw: Draw):
    vocabulary = draw.whole(4, 7)
    targets = draw.ids(3, 5, below=vocabulary)
    for size in (1, 100):
        logits = size * draw.normal(3, 5, vocabulary)
        answer.gives(F.cross_entropy(logits.flatten(0, 1), targets.flatten()), logits, targets)


@grades("bits_per_byte")
def test_a_bit_is_ln_2_nats(answer: Answer, draw: Draw):
    bits, length = draw.between(1, 8), draw.between(2, 5)
    answer.gives(bits, math.log(2**bits) * length, length)


@grades("multiply")
def test_each_factor_gets_the_gradient_times_the_other(answer: Answer, draw: Draw):
    left, right, above = (draw.between(2, 5) for _ in range(3))

    def shares(function: Callable) -> tuple:
        product = function(NoProduct(left), NoProduct(right))
        return product.data, [(part.data, share(above)) for part, share in product.made_of]

    expected = left * right, [(left, right * above), (right, left * above)]
    answer.used(shares, expected, "the data, and each part with its share")


@grades("in_order")
def test_parts_stand_before_what_they_make(answer: Answer, draw: Draw):
    result, _ = expression(draw)

    def orderly(function: Callable) -> dict[str, bool]:
        ordered = function(result)
        places = {id(value): place for place, value in enumerate(ordered)}
        found = [(places.get(id(p)), places[id(v)]) for v in ordered for p, _ in v.made_of]
        return {
            "all there, each once": len(places) == len(ordered) == len(parts_first(result)),
            "the result last": ordered[-1] is result,
            "parts before what they make": all(p is not None and p < v for p, v in found),
        }

    names = ("all there, each once", "the result last", "parts before what they make")
    answer.used(orderly, dict.fromkeys(names, True))


@grades("backward")
def test_gradients_equal_pytorchs(answer: Answer, draw: Draw):
    seed = draw.whole(0, 10**6)
    result, leaves = expression(Draw(seed), torch.tensor)
    expected = torch.autograd.grad(result, leaves)

    def gradients(function: Callable) -> list[float]:
        result, leaves = expression(Draw(seed))
        result.backward = refuse("result.backward()")
        function(result)
        return [leaf.gradient for leaf in leaves]

    answer.used(gradients, [gradient.item() for gradient in expected], "the gradients of x and y")


@grades("adamw_step")
def test_several_steps_of_adamw_equal_pytorchs(answer: Answer, draw: Draw):
    start, gradients = draw.normal(3, 4), draw.normal(3, 3, 4) + 0.5
    rate, decay, eps = draw.between(0.1, 0.3), draw.between(0.3, 0.6), 0.05
    weight = nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([weight], rate, (0.8, 0.9), eps, decay)
    for weight.grad in gradients.clone():
        optimizer.step()

    def stepped(function: Callable) -> Tensor:
        moved, memory = start.clone(), {}
        for gradient in gradients.clone():
            function(moved, gradient, memory, rate, decay, (0.8, 0.9), eps)
        return moved

    answer.used(stepped, weight.detach(), "the weight after three steps")


@grades("decay_groups")
def test_matrices_decay_and_gains_do_not(answer: Answer, draw: Draw):
    shapes = {"embedding": (5, 4), "norm": (4,), "down": (4, 6), "last_norm": (4,)}
    names = draw.random.sample(sorted(shapes), k=len(shapes))
    named = [(name, nn.Parameter(torch.ones(shapes[name]))) for name in names]
    decay = draw.between(0.1, 0.5)

    def decays(function: Callable) -> list[tuple[list[str], float]]:
        known = {id(parameter): name for name, parameter in named}
        return [
            (sorted(known[id(p)] for p in group["params"]), group["weight_decay"])
            for group in function(named, decay)
        ]

    expected = [(["down", "embedding"], decay), (["last_norm", "norm"], 0.0)]
    answer.used(decays, expected, "the names in each group, and its decay")


@grades("clip")
def test_gradients_are_clipped_as_one_vector(answer: Answer, draw: Draw):
    gradients = [draw.normal(3, 4), draw.normal(5)]
    length = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients))
    for limit in (draw.between(0.3, 0.8), length + 1):
        expected = length, [gradient * min(1, limit / length) for gradient in gradients]
        answer.used(clipped_by(gradients, limit), expected, f"limit {limit:.3f}")


def clipped_by(gradients: list[Tensor], limit: float) -> Callable:
    """Uses a function on copies; gives the length and what has become of them."""

    def use(function: Callable) -> tuple[float, list[Tensor]]:
        copies = [gradient.clone() for gradient in gradients]
        return function(copies, limit), copies

    return use


@grades("warmup")
def test_the_factor_rises_to_one_and_stays(answer: Answer, draw: Draw):
    share = draw.between(0.1, 0.4)
    for progress in (0.0, share * draw.between(0.2, 0.8), share + 0.1, 1.0):
        answer.gives(min(1.0, (progress + 0.001) / share), progress, share)
    answer.gives(1.0, draw.between(0, 1), 0.0)


@grades("warmup_cosine")
def test_the_wave_begins_where_the_warmup_ends(answer: Answer, draw: Draw):
    share, final = draw.between(0.1, 0.4), draw.between(0.1, 0.3)
    answer.gives((share / 2 + 0.001) / share, share / 2, share, final)
    for fallen, wave in ((1 / 3, 3 / 4), (1 / 2, 1 / 2), (2 / 3, 1 / 4), (1.0, 0.0)):
        answer.gives(final + (1 - final) * wave, share + fallen * (1 - share), share, final)


@grades("accumulate")
def test_pieces_leave_the_gradient_of_one_batch(answer: Answer, draw: Draw):
    model = tiny(draw)
    inputs, targets = draw.ids(2, 6, 3, below=5)
    whole = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    expected = whole.item(), list(torch.autograd.grad(whole, list(model.parameters())))
    cuts = [draw.whole(1, 2), 1, 1]
    cuts.append(6 - sum(cuts))
    pieces = list(zip(inputs.split(cuts), targets.split(cuts), strict=True))

    def accumulated(function: Callable) -> tuple[float, list[Tensor]]:
        model.zero_grad()
        return function(model, pieces), [parameter.grad for parameter in model.parameters()]

    answer.used(accumulated, expected, "the loss, and the gradient of each parameter")


@grades("training_step")
def test_three_steps_move_the_weights_as_pytorchs_own_lines_do(answer: Answer, draw: Draw):
    seed, (inputs, targets) = draw.whole(0, 10**6), draw.ids(2, 4, 3, below=5)
    limit = draw.between(0.05, 0.1)

    def trained(function: Callable) -> tuple[list[float], list[Tensor]]:
        model = tiny(Draw(seed))
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
        losses = [function(model, optimizer, inputs, targets, limit) for _ in range(3)]
        return losses, [parameter.detach() for parameter in model.parameters()]

    expected = trained(other_step)
    answer.used(trained, expected, "three losses, and the weights after them")


@grades("sharpen")
def test_what_is_taken_from_counts_is_shared_out(answer: Answer, draw: Draw):
    kinds, shorter = draw.whole(2, 5), draw.between(0.01, 0.2)
    total = kinds + draw.whole(3, 9)
    for count in (draw.whole(1, 3), 0):
        kept = max(count - 0.75, 0)
        answer.gives((kept + 0.75 * kinds * shorter) / total, count, total, kinds, shorter)
    answer.gives(shorter, 0, 0, 0, shorter)


class NoProduct(Value):
    """A value whose own product is refused."""

    def __mul__(self, other: object) -> Value:
        raise Refused("the product of two values is refused here: it is the answer itself")

    __rmul__ = __mul__


def refuse(call: str) -> Callable:
    """A function that raises."""

    def raises(*_: object) -> None:
        raise Refused(f"{call} is refused here: it is the answer itself")

    return raises


def expression(draw: Draw, number: Callable = Value) -> tuple:
    """A result in which values are used twice, at several depths; and its two leaves."""
    x, y = draw.between(1, 2), draw.between(1, 2)
    x, y = (number(v, requires_grad=True) if number is not Value else Value(v) for v in (x, y))
    inner = x * y + x
    return inner * inner * y + inner + x, [x, y]


def tiny(draw: Draw) -> nn.Module:
    """A model of five ids."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(draw.normal(*parameter.shape))
    return model


def other_step(
    model: nn.Module,
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    max_norm: float,
    order: str = "backward clip move forget",
) -> float:
    """A step in a given order; what is not named is not done."""
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    acts = {
        "backward": loss.backward,
        "clip": lambda: nn.utils.clip_grad_norm_(model.parameters(), max_norm),
        "move": optimizer.step,
        "forget": optimizer.zero_grad,
    }
    for act in order.split():
        acts[act]()
    return loss.item()


def shipped_step(
    model: nn.Module, optimizer: Optimizer, inputs: Tensor, targets: Tensor, max_norm: float
) -> float:
    """One step of the promoted loop."""
    (record,) = loop.train(
        model,
        remember_rates([optimizer]),
        iter([(inputs, targets)]),
        Budget(steps=1),
        lambda progress: 1.0,
        Precision(CPU),
        OneProcess(CPU),
        Clipping(max_norm),
    )
    return record.loss


class ByTokens(OneProcess):
    """Pieces of different sizes, each with the share of its tokens."""

    def micro_batches(self, batches: Iterator) -> Iterator[tuple[tuple[Tensor, Tensor], float]]:
        """All there are."""
        pieces = list(batches)
        total = sum(targets.numel() for _, targets in pieces)
        for inputs, targets in pieces:
            yield (inputs, targets), targets.numel() / total


def shipped_accumulate(model: nn.Module, pieces: list[tuple[Tensor, Tensor]]) -> float:
    """The promoted loop's gradient."""
    return loop.gradient(model, iter(pieces), Precision(CPU), ByTokens(CPU))[0]


def accumulated_with(shares: Callable[[list[int]], list[float]], forget: bool = False) -> Callable:
    """Accumulation with other shares, or one that forgets each piece at the next."""

    def accumulate(model: nn.Module, pieces: list[tuple[Tensor, Tensor]]) -> float:
        total = 0.0
        for (inputs, targets), share in zip(
            pieces, shares([len(t) for _, t in pieces]), strict=True
        ):
            if forget:
                model.zero_grad()
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()) * share
            loss.backward()
            total += loss.item()
        return total

    return accumulate


def by_tokens(sizes: list[int]) -> list[float]:
    """Each piece's share of the tokens."""
    return [size / sum(sizes) for size in sizes]


def shipped_clip(gradients: list[Tensor], max_norm: float) -> float:
    """The promoted clipping, on parameters with these gradients."""
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return Precision(CPU).clip([], parameters, max_norm).item()


def shipped_sharpen(count: float, total: float, kinds: float, shorter: float) -> float:
    """The promoted counts, of one gram."""
    gram, context = np.array([97], np.uint64), np.array([0], np.uint64)
    counts = Counts(gram, np.array([count]), context, np.array([total]), np.array([kinds]))
    return float(counts.sharpen(gram, np.array([shorter]))[0])


def shipped_product(left: Value, right: Value) -> Value:
    """The shipped operator, whatever the values' own may be."""
    return Value.__mul__(left, right)


def shipped_backward(result: Value) -> None:
    """The shipped method, whatever the value's own may be."""
    Value.backward(result)


ADAPTERS = {
    "multiply": shipped_product,
    "backward": shipped_backward,
    "clip": shipped_clip,
    "accumulate": shipped_accumulate,
    "training_step": shipped_step,
    "sharpen": shipped_sharpen,
}


def product_with(shares: Callable[[float, float], tuple[Callable, Callable]]) -> Callable:
    """A product whose factors get other shares."""

    def multiply(left: Value, right: Value) -> Value:
        rules = shares(left.data, right.data)
        return Value(left.data * right.data, list(zip((left, right), rules, strict=True)), "×")

    return multiply


def walked(order: Callable, add: bool = True, start: float = 1.0) -> Callable:
    """A walk back in another order, or one that overwrites."""

    def backward(result: Value) -> None:
        result.gradient = start
        for value in order(result):
            for part, share in value.made_of:
                part.gradient = share(value.gradient) + (part.gradient if add else 0.0)

    return backward


def every_use(result: Value) -> list[Value]:
    """Parts first, but a value once for each use."""
    return [v for part, _ in result.made_of for v in every_use(part)] + [result]


def levels(result: Value) -> list[Value]:
    """Level by level from the result down, each value where it was met first."""
    found = [result]
    for value in found:
        for part, _ in value.made_of:
            found += [part] if all(part is not known for known in found) else []
    return found


def other_adamw(
    weight: Tensor,
    gradient: Tensor,
    memory: dict,
    rate: float,
    decay: float,
    betas: tuple[float, float],
    eps: float,
    fair: bool = True,
    inside: bool = False,
    coupled: bool = False,
) -> None:
    """AdamW with one thing done otherwise."""
    fast, slow = betas
    gradient = gradient + decay * weight if coupled else gradient
    memory["step"] = step = memory.get("step", 0) + 1
    memory["mean"] = fast * memory.get("mean", 0.0) + (1 - fast) * gradient
    memory["square"] = slow * memory.get("square", 0.0) + (1 - slow) * gradient**2
    mean = memory["mean"] / (1 - fast**step if fair else 1)
    square = memory["square"] / (1 - slow**step if fair else 1)
    weight *= 1 if coupled else 1 - rate * decay
    weight -= rate * mean / ((square + eps).sqrt() if inside else square.sqrt() + eps)


def each_clipped(gradients: list[Tensor], limit: float) -> float:
    """Every tensor by its own length."""
    return max(shipped_clip([gradient], limit) for gradient in gradients)


def always_scaled(gradients: list[Tensor], limit: float) -> float:
    """To the limit, also what is shorter."""
    length = shipped_clip(gradients, math.inf)
    for gradient in gradients:
        gradient *= limit / length
    return length


def by_value(gradients: list[Tensor], limit: float) -> float:
    """Each number cut off."""
    length = shipped_clip(gradients, math.inf)
    for gradient in gradients:
        gradient.clamp_(-limit, limit)
    return length


def wave(fallen: float, final: float) -> float:
    """From 1 to `final`."""
    return final + (1 - final) * (1 + math.cos(math.pi * fallen)) / 2


MISTAKES = {
    "cross_entropy": {
        "summed over positions, not their mean": lambda z, y: shipped_loss.token_losses(z, y).sum(),
        "the sign: -ln p is positive": lambda z, y: -shipped_loss.cross_entropy(z, y),
        "p itself, not its logarithm": lambda z, y: (
            -z.softmax(-1).gather(-1, y[..., None]).squeeze(-1).mean()
        ),
        "the logits are no logarithms of shares yet: log_softmax is missing": lambda z, y: (
            -z.gather(-1, y[..., None]).mean()
        ),
        "softmax goes over positions, not over the vocabulary": lambda z, y: (
            -z.log_softmax(1).gather(-1, y[..., None]).mean()
        ),
        "in bits: nats are asked for": lambda z, y: shipped_loss.cross_entropy(z, y) / math.log(2),
    },
    "bits_per_byte": {
        "multiplied by ln 2: a bit is 0.693 nats, so there are more bits than nats": (
            lambda nats, length: nats * math.log(2) / length
        ),
        "a token's bits, not a byte's": lambda nats, length: nats / math.log(2),
        "multiplied by the bytes of a token: its bits are shared among them": (
            lambda nats, length: nats / math.log(2) * length
        ),
    },
    "multiply": {
        "each factor gets the other one's share": product_with(
            lambda a, b: (lambda g: g * a, lambda g: g * b)
        ),
        "the result's gradient is missing: the chain rule multiplies with it": product_with(
            lambda a, b: (lambda g: b, lambda g: a)
        ),
        "that is the rule of a sum: it hands its gradient on as it is": product_with(
            lambda a, b: (lambda g: g, lambda g: g)
        ),
    },
    "in_order": {
        "the result comes first: parts stand before what they make": lambda result: parts_first(
            result
        )[::-1],
        "a value that is used twice stands there twice": every_use,
        "level by level does not do: a value may be used at two levels": lambda result: levels(
            result
        )[::-1],
    },
    "backward": {
        "`=` for `+=`: of a value that is used twice only one share is kept": walked(
            lambda result: parts_first(result)[::-1], add=False
        ),
        "walked from the leaves: begin at the result": walked(parts_first),
        "the result's own gradient is 1, not 0": walked(
            lambda result: parts_first(result)[::-1], start=0.0
        ),
        "it goes on below a value before all its shares have come": walked(levels),
    },
    "adamw_step": {
        "the bias correction is missing: both means began at 0": lambda *given: other_adamw(
            *given, fair=False
        ),
        "decay goes into the gradient, where the division undoes it: shrink the weight itself": (
            lambda *given: other_adamw(*given, coupled=True)
        ),
        "eps stands under the root: it is added after it": lambda *given: other_adamw(
            *given, inside=True
        ),
        "the two betas are swapped": lambda weight, gradient, memory, rate, decay, betas, eps: (
            adamw_step(weight, gradient, memory, rate, decay, betas[::-1], eps)
        ),
        "decay is not multiplied by the rate": lambda weight, g, memory, rate, decay, betas, eps: (
            adamw_step(weight, g, memory, rate, decay / rate, betas, eps)
        ),
        "the weight moves with its gradient, not against it": lambda weight, gradient, *rest: (
            adamw_step(weight, -gradient, *rest)
        ),
    },
    "decay_groups": {
        "gains decay, too: at zero they would switch a channel off": lambda named, decay: [
            group | {"weight_decay": decay} for group in decay_groups(named, decay)
        ],
        "the other way round: matrices decay, gains do not": lambda named, decay: [
            group | {"weight_decay": decay - group["weight_decay"]}
            for group in decay_groups(named, decay)
        ],
        "the embedding is a matrix, too": lambda named, decay: [
            {"params": [p for n, p in named if n == "down"], "weight_decay": decay},
            {"params": [p for n, p in named if n != "down"], "weight_decay": 0.0},
        ],
    },
    "clip": {
        "each tensor is clipped by itself: the length is that of all together": each_clipped,
        "short gradients are lengthened: only those above the limit change": always_scaled,
        "each number is cut off, which turns the direction": by_value,
        "nothing has changed: multiply in place": lambda gradients, limit: shipped_clip(
            gradients, math.inf
        ),
    },
    "warmup": {
        "the first step has a rate of 0 and is wasted": lambda progress, share: (
            min(1.0, progress / share) if share else 1.0
        ),
        "it goes on above 1": lambda progress, share: (progress + 0.001) / share if share else 1.0,
        "progress is a share of the whole run, and the warmup a share of it, too: divide": (
            lambda progress, share: min(1.0, progress + 0.001)
        ),
    },
    "warmup_cosine": {
        "the wave begins at 0, not where the warmup ends": lambda progress, share, final: (
            warmup(progress, share) * wave(progress, final)
        ),
        "a straight line, not a wave": lambda progress, share, final: (
            warmup(progress, share) * (1 - (1 - final) * max(0.0, (progress - share) / (1 - share)))
        ),
        "it falls to 0, not to `final`": lambda progress, share, final: warmup_cosine(
            progress, share
        ),
        "the warmup is missing": lambda progress, share, final: wave(
            max(0.0, (progress - share) / (1 - share)), final
        ),
    },
    "accumulate": {
        "a mean of means: tokens of short pieces count too much; a piece's share is its tokens'": (
            accumulated_with(lambda sizes: [1 / len(sizes)] * len(sizes))
        ),
        "the losses are summed, not averaged": accumulated_with(lambda sizes: [1.0] * len(sizes)),
        "each piece forgets the gradients of those before": accumulated_with(
            by_tokens, forget=True
        ),
    },
    "training_step": {
        "gradients pile up: zero_grad is missing": lambda *given: other_step(
            *given, order="backward clip move"
        ),
        "not clipped, or not in time: between backward and the move": lambda *given: other_step(
            *given, order="clip backward move forget"
        ),
        "the weights do not move: optimizer.step() is missing": lambda *given: other_step(
            *given, order="backward clip forget"
        ),
    },
    "sharpen": {
        "0.75 is taken but not shared out": lambda count, total, kinds, shorter: (
            max(count - 0.75, 0) / total if total else shorter
        ),
        "0.75 is taken once for each kind: times `kinds`": lambda count, total, kinds, shorter: (
            (max(count - 0.75, 0) + 0.75 * shorter) / total if total else shorter
        ),
        "a count of 0 goes below 0": lambda count, total, kinds, shorter: (
            (count - 0.75 + 0.75 * kinds * shorter) / total if total else shorter
        ),
        "nothing is taken from the counts: the shares sum to more than 1": (
            lambda count, total, kinds, shorter: (
                (count + 0.75 * kinds * shorter) / total if total else shorter
            )
        ),
    },
}
