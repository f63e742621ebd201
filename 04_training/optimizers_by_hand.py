"""Four optimizers on a whiteboard: plain descent, momentum, AdamW and Muon.

    python 04_training/optimizers_by_hand.py

Nothing is imported from the package: every step stands here in full, on plain
tensors. A real run uses PyTorch's AdamW and Muon, which do the same faster
(`shared/training/optimizer.py` says which weight gets which); a test proves that
they agree with these.

All four take the same arguments and change `weight` in place. `memory` is a dict,
empty before the first step: whatever an optimizer remembers from step to step.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: steep at 0, and about 1 from there on
GOAL = 1e-3  # share of the first loss, for the race
RATES = [2.0**k for k in range(-6, 4)]  # every optimizer gets the best of these
RUNS = (10, 20, 30, 40, 60, 80, 120, 160, 240, 320)  # steps a run may take


def sgd_step(weight: Tensor, gradient: Tensor, memory: dict, rate: float) -> None:
    """Plain descent: against the gradient, as far as the gradient is long."""
    weight -= rate * gradient


def momentum_step(
    weight: Tensor, gradient: Tensor, memory: dict, rate: float, keep: float = 0.9
) -> None:
    """A heavy ball: each step adds to a speed that fades. Source: Polyak 1964."""
    memory["speed"] = keep * memory.get("speed", 0.0) + gradient
    weight -= rate * memory["speed"]


def adamw_step(
    weight: Tensor,
    gradient: Tensor,
    memory: dict,
    rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
) -> None:
    """The mean gradient over its own typical size, number by number.

    Source: Kingma and Ba 2014, algorithm 1; Loshchilov and Hutter 2017, algorithm 2.
    """
    fast, slow = betas
    memory["step"] = memory.get("step", 0) + 1
    memory["mean"] = fast * memory.get("mean", 0.0) + (1 - fast) * gradient
    memory["square"] = slow * memory.get("square", 0.0) + (1 - slow) * gradient**2
    mean = memory["mean"] / (1 - fast ** memory["step"])  # both began at 0: undo that
    square = memory["square"] / (1 - slow ** memory["step"])
    weight *= 1 - rate * weight_decay
    weight -= rate * mean / (square.sqrt() + eps)


def newton_schulz(matrix: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """(rows, columns) -> the same shape: every singular value brought to about 1.

    Each step sends each singular value s to a s + b s^3 + c s^5 and turns nothing.
    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers".
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(dtype)  # (short, long)
    x = x / x.norm().clamp_min(1e-7)  # now no singular value is above 1
    for _ in range(steps):
        gram = x @ x.T  # (short, short)
        x = a * x + (b * gram + c * gram @ gram) @ x  # (short, long)
    return x.T if tall else x


def muon_step(
    weight: Tensor,
    gradient: Tensor,
    memory: dict,
    rate: float,
    weight_decay: float = 0.1,
    keep: float = 0.95,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Momentum of a matrix (rows, columns), its singular values evened out.

    Source: Jordan et al. 2024, with Nesterov's look ahead: the new gradient counts twice.
    """
    memory["mean"] = keep * memory.get("mean", 0.0) + (1 - keep) * gradient
    ahead = keep * memory["mean"] + (1 - keep) * gradient
    rows, columns = weight.shape
    weight *= 1 - rate * weight_decay
    weight -= rate * math.sqrt(max(1.0, rows / columns)) * newton_schulz(ahead, dtype=dtype)


def tell_one_weight() -> None:
    """AdamW on a single number, each column by hand."""
    print("ADAMW ON ONE WEIGHT: rate 0.1, weight decay 0.1, betas 0.9 and 0.95")
    print("  gradient     mean   square  | mean^  root of square^   ratio  | weight")
    weight, memory = torch.tensor([1.0]), {}
    print(f"{weight.item():71.4f}")
    for step, gradient in enumerate((3.0, -1.0, -1.0, 300.0), start=1):
        adamw_step(weight, torch.tensor([gradient]), memory, rate=0.1)
        mean, square = memory["mean"].item(), memory["square"].item()
        fair, size = mean / (1 - 0.9**step), math.sqrt(square / (1 - 0.95**step))
        print(
            f"  {gradient:8.1f} {mean:8.3f} {square:8.2f}  |{fair:6.2f} {size:16.2f}"
            f" {fair / size:7.3f}  |{weight.item():7.4f}"
        )
    print("  ^: divided by 1 - beta^step. First step: 1 - 0.01 (decay) - 0.1 x 1 (rate x ratio);")
    print("  a first gradient of 0.003 or 3000 would have moved it as far.")


def matrix_with(strengths: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """A random matrix (rows, len(strengths)) with these singular values."""
    columns = len(strengths)
    left, _ = torch.linalg.qr(torch.randn(rows, columns, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, columns, generator=generator))
    return left * strengths @ right.T


def tell_newton_schulz() -> None:
    """A small matrix and its singular values, before and after each step."""
    strengths = torch.tensor([1.0, 0.3, 0.1, 0.03])
    momentum = matrix_with(strengths, 6, torch.Generator().manual_seed(0))
    print("\nMUON'S FIVE NEWTON-SCHULZ STEPS on a momentum matrix, shape (6, 4)")
    show_singular_values("as it is", momentum)
    for steps in range(6):
        name = "over its length" if steps == 0 else f"after step {steps}"
        show_singular_values(name, newton_schulz(momentum, steps, torch.float32))
    show_singular_values("step 5, bfloat16", newton_schulz(momentum))
    left, _, right = torch.linalg.svd(momentum, full_matrices=False)
    evened, exact = newton_schulz(momentum, dtype=torch.float32), left @ right
    print("  first two rows   before", show_rows(momentum))
    print("                   after ", show_rows(evened))
    print("    all values exactly 1:", show_rows(exact))


def show_singular_values(name: str, matrix: Tensor) -> None:
    """One line: a name and the matrix's singular values, the largest first."""
    values = torch.linalg.svdvals(matrix.float()).tolist()
    print(f"  {name:18s}", "  ".join(f"{value:6.3f}" for value in values))


def show_rows(matrix: Tensor) -> str:
    """The first two rows on one line."""
    rows = (" ".join(f"{x:5.2f}" for x in row) for row in matrix[:2].tolist())
    return "   ".join(f"[{row}]" for row in rows)


def tell_memory() -> None:
    """What each optimizer keeps for one matrix."""
    print("\nWHAT EACH REMEMBERS for a matrix of shape (64, 32) = 2,048 numbers")
    for name, step in OPTIMIZERS.items():
        memory: dict = {}
        step(torch.zeros(64, 32), torch.ones(64, 32), memory, 0.1)
        kept = {key: value for key, value in memory.items() if isinstance(value, Tensor)}
        names = ", ".join(f"{key} {tuple(value.shape)}" for key, value in kept.items())
        count = sum(tensor.numel() for tensor in kept.values())
        print(f"  {name:9s} {count:5,d} numbers: {names or 'nothing'}")


def make_bowl(turned: bool) -> tuple[Tensor, Tensor]:
    """An uneven bowl over matrices (32, 16): its curvatures (16, 16) and its bottom.

    The loss at W is the sum over all rows d of W - bottom of d @ curvatures @ d. The
    steepest direction is 10,000 times as steep as the flattest. Straight: each direction
    is one column of W. Turned: each is a mixture of all columns.
    """
    generator = torch.Generator().manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator))
    bottom = torch.randn(32, 16, generator=generator)
    curvatures = torch.diag(torch.logspace(0, -4, 16))
    return (turn.T @ curvatures @ turn if turned else curvatures), bottom


def descend(step: Callable, bowl: tuple[Tensor, Tensor], steps: int, rate: float) -> float:
    """Share of the first loss that is left after `steps`, the rate falling straight to 0."""
    curvatures, bottom = bowl
    weight, memory = torch.zeros_like(bottom), {}
    for done in range(steps):
        step(weight, (weight - bottom) @ curvatures, memory, rate * (1 - done / steps))
    start, error = -bottom, weight - bottom
    return (((error @ curvatures) * error).sum() / ((start @ curvatures) * start).sum()).item()


def race(step: Callable, turned: bool, steps: int) -> float:
    """What `descend` leaves with the best of `RATES`; a rate that diverges does not count."""
    bowl = make_bowl(turned)
    left = (descend(step, bowl, steps, rate) for rate in RATES)
    return min(share for share in left if math.isfinite(share))


def tell_race() -> None:
    """Four optimizers, two bowls, each with its own best rate."""
    print("\nA RACE DOWN A BOWL 10,000 times as steep in one direction as in another")
    print("  share of the first loss left after 100 steps     shortest run that leaves 0.1 %")
    print("             straight      turned                     straight    turned")
    for name, step in OPTIMIZERS.items():
        left = [race(step, turned, 100) for turned in (False, True)]
        shortest = [
            next((str(n) for n in RUNS if race(step, turned, n) <= GOAL), f"over {RUNS[-1]}")
            for turned in (False, True)
        ]
        print(f"  {name:9s} {left[0]:9.6f}   {left[1]:9.6f} {shortest[0]:>28} {shortest[1]:>9}")
    print("  Straight: each direction is one weight. Turned: each is a mixture of weights.")
    print("  No noise, one matrix, no layers: a race to think about, not a verdict.")


def without_decay(step: Callable) -> Callable:
    """The same step with weight decay 0: the bowl's bottom is not at 0."""
    return lambda weight, gradient, memory, rate: step(weight, gradient, memory, rate, 0.0)


OPTIMIZERS = {
    "descent": sgd_step,
    "momentum": momentum_step,
    "adamw": without_decay(adamw_step),
    "muon": without_decay(muon_step),
}


def main() -> None:
    """Tells all of it, in this order."""
    tell_one_weight()
    tell_newton_schulz()
    tell_memory()
    tell_race()


if __name__ == "__main__":
    main()
