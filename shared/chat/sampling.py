"""Sampling: from logits to the next id.

Promoted by 06_chat.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.errors import UserError

COLDEST = 1e-3  # a logit divided by less may overflow; the likeliest is drawn anyway


@dataclass(frozen=True)
class SamplingSettings:
    """How bold to be, and when to stop."""

    temperature: float = 0.7
    """divides the logits: 0 always takes the likeliest byte, above 1 gets wild"""
    top_k: int = 0
    """choose only among this many likeliest bytes; 0: among all"""
    top_p: float = 0.95
    """choose only among the likeliest bytes whose shares reach this sum; 1: among all"""
    repetition_penalty: float = 1.0
    """above 1 makes bytes of the recent text less likely; 1: off"""
    max_new_bytes: int = 300
    """stop after this many bytes"""
    seed: int | None = None
    """same seed, same text; none: different every time"""

    def __post_init__(self) -> None:
        limits = {
            "temperature": (0, 10),
            "top_k": (0, math.inf),
            "top_p": (1e-6, 1),
            "repetition_penalty": (0.1, 10),
            "max_new_bytes": (1, 1_000_000),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:  # NaN compares False, so it is refused too
                raise UserError(f"{name} is {value}; expected {low:g} to {high:g}")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}; expected 0 to 2^63 - 1")

    def generator(self, row: int = 0) -> torch.Generator:
        """A generator for one reply, on the CPU so that a seed means the same everywhere.

        Args:
            row: the reply's number among many; each draws from a seed of its own.
        """
        generator = torch.Generator()
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed((self.seed + row) % 2**63)
        return generator


def next_token(
    logits: Tensor,
    settings: SamplingSettings,
    generator: torch.Generator,
    recent: Sequence[int] = (),
) -> int:
    """Draws one id from logits (V,); `recent` ids are those the penalty looks at."""
    return next_tokens(logits.unsqueeze(0), settings, [generator], [recent])[0]


def next_tokens(
    logits: Tensor,
    settings: SamplingSettings,
    generators: Sequence[torch.Generator],
    recents: Sequence[Sequence[int]],
) -> list[int]:
    """Draws an id for each row of logits (B, V), with the row's own generator and recent ids."""
    return draw(shares_of(logits, settings, recents), generators)


def shares_of(
    logits: Tensor, settings: SamplingSettings, recents: Sequence[Sequence[int]]
) -> Tensor:
    """Shares (B, V) that ids are drawn by: what the settings make of logits (B, V), on the CPU.

    At temperature 0 the likeliest id has all of it.
    """
    logits = logits.float().cpu()
    if settings.repetition_penalty != 1:
        pairs = zip(logits, recents, strict=True)
        penalized = [penalize_repetition(*pair, settings.repetition_penalty) for pair in pairs]
        logits = torch.stack(penalized)
    if settings.temperature < COLDEST:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
    logits = keep_top_k(logits / settings.temperature, settings.top_k)
    return keep_top_p(logits, settings.top_p).softmax(dim=-1)


def draw(shares: Tensor, generators: Sequence[torch.Generator]) -> list[int]:
    """Draws an id for each row of shares (B, V), each as likely as its share says.

    A race: each id sets out after a random, exponentially distributed time, divided by its
    share, and the first one wins. So does `torch.multinomial`; it takes one generator, and 64
    calls of it took 16 % of the time that 64 texts take.

    Raises:
        UserError: a share is not a number, as a diverged model's are.
    """
    times = [torch.empty_like(shares[0]).exponential_(generator=g) for g in generators]
    speeds, ids = (shares / torch.stack(times)).max(dim=-1)
    if any(map(math.isnan, speeds.tolist())):
        raise UserError("the model's logits are not numbers: its weights are broken, take others")
    return ids.tolist()


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Logits (..., V) with all but the k largest at minus infinity; k = 0 or k >= V keeps all.

    Source: Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.
    """
    if not 0 < k < logits.shape[-1]:
        return logits
    best = logits.topk(k)
    return torch.full_like(logits, -math.inf).scatter(-1, best.indices, best.values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Logits (..., V) with all but the likeliest ids whose shares reach p at minus infinity.

    The id that crosses p is kept, so at least one always remains.
    Source: Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration".
    """
    if p >= 1:
        return logits
    ordered, order = logits.sort(descending=True)
    shares = ordered.softmax(dim=-1)
    reached_before = shares.cumsum(dim=-1) - shares >= p
    return logits.masked_fill(reached_before.scatter(-1, order, reached_before), -math.inf)


def penalize_repetition(logits: Tensor, recent: Sequence[int], penalty: float) -> Tensor:
    """Logits (V,) with those of recent ids pushed down: divided if positive, else multiplied.

    Source: Keskar et al. 2019, "CTRL", section 4.1.
    """
    if penalty == 1 or not recent:
        return logits
    seen = torch.tensor(sorted(set(recent)), dtype=torch.long)
    lowered = torch.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return logits.scatter(-1, seen, lowered)
