"""A power law of loss in parameters and tokens: fitted, and asked for the best size.

Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", section 3.3.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean

import numpy as np
import torch
from torch import Tensor

from shared.errors import UserError

FLOPS = 6  # for each parameter and token: 2 forward, 4 backward
NO_BEST = "too few token counts: no best size follows from these runs; take three by three"
HUBER_DELTA = 1e-3  # relative errors beyond this count linearly, not squared


@dataclass(frozen=True)
class Point:
    """One trained model."""

    parameters: float
    tokens: float
    loss: float
    """bits per byte on validation text"""
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class PowerLaw:
    """L = E + A / N^alpha + B / D^beta; B is 0 in a law for one D only."""

    floor: float
    """E, what no size and no amount of text removes"""
    a: float
    alpha: float
    b: float
    beta: float
    error: float
    """root mean square of the relative errors at the fitted points"""
    tokens: float | None = None
    """the one D that a law with B = 0 holds for"""

    def loss(self, parameters: float, tokens: float) -> float:
        """L at a size and a number of tokens."""
        return self.floor + self.a * parameters**-self.alpha + self.b * tokens**-self.beta

    def best(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens of the least loss for 6 N D = `flops`, in closed form.

        Raises:
            UserError: the law knows nothing of tokens.
        """
        if not self.b:
            raise UserError(NO_BEST)
        both = self.alpha + self.beta
        balance = (self.alpha * self.a / (self.beta * self.b)) ** (1 / both)
        size = balance * (flops / FLOPS) ** (self.beta / both)
        return size, flops / FLOPS / size

    def best_in(self, seconds: float, speed: Callable[[float], float]) -> tuple[float, float]:
        """Parameters and tokens of the least loss in `seconds` at `speed(parameters)` FLOP/s."""
        sizes = np.geomspace(1e3, 1e12, 9001)
        tokens = [seconds * speed(size) / FLOPS / size for size in sizes]
        best = min(range(len(sizes)), key=lambda at: self.loss(sizes[at], tokens[at]))
        return float(sizes[best]), float(tokens[best])


def fit(points: Sequence[Point]) -> PowerLaw:
    """The law of the points; without tokens where they hold too few different counts of them.

    Raises:
        UserError: too few points, sizes or token counts for what is unknown.
    """
    count = common_count({(p.parameters, p.tokens) for p in points})
    if count is None:
        return least(points, with_tokens=True)
    return least([p for p in points if p.tokens == count], with_tokens=False)


def common_count(pairs: Collection[tuple[float, float]]) -> float | None:
    """The one token count whose sizes can be fitted; None if all pairs give the whole law.

    Args:
        pairs: parameters and tokens, of models that are trained or will be.

    Raises:
        UserError: too few sizes or token counts for what is unknown.
    """
    pairs = set(pairs)
    sizes, counts = ({pair[at] for pair in pairs} for at in (0, 1))
    crossed = len(pairs) > max(len(sizes), len(counts))  # else one follows from the other
    if min(len(sizes), len(counts)) >= 3 and len(pairs) >= 6 and crossed:
        return None
    most = max(counts, key=lambda count: (len({s for s, c in pairs if c == count}), count))
    if len({s for s, c in pairs if c == most}) < 3:
        raise UserError(
            f"{len(sizes)} sizes and {len(counts)} token counts in {len(pairs)} pairs are too few: "
            "three sizes with one token count give the curve of sizes; three by three, at least "
            "six of the nine, give the whole law"
        )
    return most


def least(points: Sequence[Point], with_tokens: bool) -> PowerLaw:
    """The best of several descents: the Huber loss of log L is not convex.

    The logarithms of N and D are centred first, so that the five unknowns are of one scale.
    """
    columns = [[math.log(p.parameters), math.log(p.tokens), math.log(p.loss)] for p in points]
    n, d, loss = torch.tensor(columns, dtype=torch.float64).T
    middle_n, middle_d = n.mean(), d.mean()
    lowest = loss.min().exp().item()
    typical = loss.exp().mean().item()

    def predicted(u: Tensor) -> Tensor:
        terms = [u[0].expand_as(n), u[1] - u[2].exp() * (n - middle_n)]
        if with_tokens:
            terms.append(u[3] - u[4].exp() * (d - middle_d))
        return torch.logsumexp(torch.stack(terms), dim=0)

    def missed(u: Tensor) -> Tensor:
        distance = torch.nn.functional.huber_loss(predicted(u), loss, delta=HUBER_DELTA)
        return distance / HUBER_DELTA**2

    found = []
    for share, alpha, beta in product((0.3, 0.7, 0.95), (0.2, 0.6), (0.2, 0.6)):
        rest = math.log((typical - share * lowest) / 2)
        start = [math.log(share * lowest), rest, math.log(alpha), rest, math.log(beta)]
        found.append(descend(missed, torch.tensor(start, dtype=torch.float64)))
    u = min(found, key=lambda unknowns: missed(unknowns).nan_to_num(math.inf).item())
    alpha = u[2].exp().item()
    beta = u[4].exp().item() if with_tokens else 0.0
    b = (u[3] + beta * middle_d).exp().item() if with_tokens else 0.0
    error = (predicted(u) - loss).square().mean().sqrt().item()
    floor = u[0].exp().item()
    a = (u[1] + alpha * middle_n).exp().item()
    return PowerLaw(floor, a, alpha, b, beta, error, None if with_tokens else points[0].tokens)


def descend(missed: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where L-BFGS ends from `start`."""
    unknowns = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [unknowns],
        max_iter=400,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = missed(unknowns)
        value.backward()
        return value

    optimizer.step(closure)
    return unknowns.detach()


def measured_speed(points: Sequence[Point]) -> Callable[[float], float]:
    """FLOP/s for a number of parameters: between the measured sizes on a line of logarithms.

    Beyond them it is that of the nearest, so a larger model is not promised more.

    Raises:
        UserError: no point has a speed.
    """
    speeds: dict[float, list[float]] = {}
    for point in points:
        if point.tokens_per_second:
            flops = FLOPS * point.parameters * point.tokens_per_second
            speeds.setdefault(point.parameters, []).append(math.log(flops))
    if not speeds:
        raise UserError("no tokens_per_second in these points: give --budget-flops, not --hours")
    sizes = sorted(speeds)
    logs = [mean(speeds[size]) for size in sizes]
    return lambda size: math.exp(np.interp(math.log(size), np.log(sizes), logs))
