"""Yours to write: from the surprise at one byte to a whole step of training.

    make learn                 # shows the task at hand, and grades each time you save
    make check STEP=04         # grades all of this step

Write what is missing below each docstring, in place of `raise NotImplementedError`. You
may use what you have written above, and add functions of your own. Sizes: B batch, T positions,
V vocabulary.
"""

import math

import torch
from autograd import Value
from torch import Tensor, nn
from torch.optim import Optimizer


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """How surprised the model was: the mean over all positions of -ln p(target), in nats.

    logits (B, T, V), targets (B, T) of ids -> (). PyTorch's cross_entropy is refused, its
    log_softmax is not.

    >>> logits = torch.tensor([[[math.log(3.0), 0.0], [0.0, 0.0]]])       # 3/4 and 1/4; 1/2 and 1/2
    >>> cross_entropy(logits, torch.tensor([[0, 1]]))                     # (ln 4/3 + ln 2) / 2
    tensor(0.4904)
    """
    raise NotImplementedError


def bits_per_byte(nats_per_token: float, bytes_per_token: float = 1.0) -> float:
    """The loss in bits for each byte of text, so that tokenizers can be compared.

    >>> bits_per_byte(math.log(8), bytes_per_token=1.5)
    2.0
    """
    raise NotImplementedError


def multiply(left: Value, right: Value) -> Value:
    """The product, with the rule by which each factor gets its share of the gradient.

    A `Value(data, parts, operation)` is made of its parts: pairs of a value that went in, and a
    function from the result's gradient to that value's share. `left * right` is refused, and so is
    `right * left`; `left.data` is a plain number.

    >>> product = multiply(Value(2.0), Value(5.0))
    >>> product.data
    10.0
    >>> [share(3.0) for part, share in product.made_of]
    [15.0, 6.0]
    """
    raise NotImplementedError


def in_order(result: Value) -> list[Value]:
    """All values that went into the result, and itself: each once, parts before what they make.

    `value.made_of` holds pairs of a part and its share's rule; nothing made a value whose
    `made_of` is empty.

    >>> x = Value(2.0)
    >>> [value.data for value in in_order(x * x * x)]
    [2.0, 4.0, 8.0]
    """
    raise NotImplementedError


def backward(result: Value) -> None:
    """Gives every value below the result its gradient: how fast the result rises with it.

    All gradients are 0 when it begins, that of the result becomes 1. `result.backward()` is
    refused.

    >>> x = Value(3.0)
    >>> backward(x * x + x)
    >>> x.gradient                                                        # 3 + 3 + 1
    7.0
    """
    raise NotImplementedError


def adamw_step(
    weight: Tensor,
    gradient: Tensor,
    memory: dict,
    rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
) -> None:
    """One step of AdamW; changes `weight` in place.

    `memory` is a dict of your own, empty before the first step and given again at each later one.
    `betas` are the shares that the mean and the square keep; `eps` is added to the corrected
    root. Decay: the weight shrinks by the share rate · weight_decay.

    >>> weight, memory = torch.tensor([1.0]), {}
    >>> adamw_step(weight, torch.tensor([50.0]), memory, rate=0.2)        # 1 · 0.98 - 0.2 · 1
    >>> weight
    tensor([0.7800])
    """
    raise NotImplementedError


def decay_groups(named: list[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict]:
    """Groups for an optimizer: matrices decay, gains (one axis) do not.

    Two dicts, {"params": list of parameters, "weight_decay": that of these}, matrices first; a
    group without parameters is left out.

    >>> named = [("gain", nn.Parameter(torch.ones(3)))]
    >>> [(len(group["params"]), group["weight_decay"]) for group in decay_groups(named, 0.1)]
    [(1, 0.0)]
    """
    raise NotImplementedError


def clip(gradients: list[Tensor], max_norm: float) -> float:
    """Shortens the gradients, taken as one long vector, to `max_norm` if they are longer.

    Changes them in place; returns their length before. PyTorch's clip_grad_norm_ is refused.

    >>> gradients = [torch.tensor([6.0]), torch.tensor([[0.0, 8.0]])]
    >>> clip(gradients, max_norm=5.0)
    10.0
    >>> [gradient.round(decimals=3) for gradient in gradients]
    [tensor([3.]), tensor([[0., 4.]])]
    """
    raise NotImplementedError


def warmup(progress: float, share: float) -> float:
    """A factor that rises to 1 over the first `share` of the run, and stays there.

    `progress` is 0 at the first step. A factor of 0 would waste that step, so the factor is
    (progress + 0.001) / share. A share of 0 means no warmup.

    >>> warmup(0.049, share=0.1), warmup(0.3, share=0.1), warmup(0.0, share=0.0)
    (0.5, 1.0, 1.0)
    """
    raise NotImplementedError


def warmup_cosine(progress: float, warmup_share: float = 0.02, final: float = 0.0) -> float:
    """The warmup, times half a wave of a cosine: 1 where the warmup ends, `final` at progress 1.

    >>> round(warmup_cosine(0.6, warmup_share=0.2, final=0.1), 6)         # half way, 0.2 to 1
    0.55
    """
    raise NotImplementedError


def accumulate(model: nn.Module, pieces: list[tuple[Tensor, Tensor]]) -> float:
    """Leaves in the parameters the gradient of all pieces as one batch; returns that batch's loss.

    A piece is inputs and targets, (B, T) each, and pieces have different sizes. One piece after
    another goes through the model. `model(inputs)` gives logits (B, T, V); gradients are empty at
    the beginning.

    >>> model = nn.Embedding.from_pretrained(torch.tensor([[0.0, math.log(3)]]), freeze=False)
    >>> one, three = torch.tensor([[1]]), torch.tensor([[0, 0, 0]])       # targets: p = 3/4 and 1/4
    >>> loss = accumulate(model, [(0 * one, one), (0 * three, three)])
    >>> round(loss, 4)                                                    # (ln 4/3 + 3 · ln 4) / 4
    1.1116
    """
    raise NotImplementedError


def training_step(
    model: nn.Module, optimizer: Optimizer, inputs: Tensor, targets: Tensor, max_norm: float
) -> float:
    """One step of training; returns the loss before the weights moved.

    Forward, loss, backward, clip, move, and nothing left over for the next step. Here you may
    use PyTorch's clip_grad_norm_.

    >>> model = nn.Embedding.from_pretrained(torch.zeros(1, 2), freeze=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    >>> ids = torch.tensor([[0]])
    >>> round(training_step(model, optimizer, ids, ids, max_norm=9.0), 4)
    0.6931
    >>> model.weight.data                                                 # -(1/2 - 1), -(1/2 - 0)
    tensor([[ 0.5000, -0.5000]])
    """
    raise NotImplementedError


def sharpen(count: float, total: float, kinds: float, shorter: float) -> float:
    """A counting model: the probability of a byte after a context, from what was counted there.

    `count` is how often the byte followed the context, `total` how often any did, `kinds` how
    many different ones did, and `shorter` the probability that a shorter context gave it.
    0.75 is taken from every count above 0 and shared out by `shorter`. A context that was never
    seen changes nothing.

    >>> round(sharpen(count=2, total=5, kinds=3, shorter=0.2), 6)  # (1.25 + 0.75 · 3 · 0.2) / 5
    0.34
    """
    raise NotImplementedError
