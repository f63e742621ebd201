"""Batches: windows of ids in random order, and targets shifted by one.

Promoted by 02_tokenizer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.errors import UserError

NOT_COUNTED = -100  # a target that the loss passes over; PyTorch's losses know it as such


class Batches:
    """Endless batches drawn from several corpora by weight.

    Each corpus is read in rounds (epochs). A round cuts it into windows side by side, at
    other places than the round before, and goes through them once in random order. Fewer
    than T ids at either end fill no window and wait for a later round.

    Args:
        corpora: arrays of ids, each of shape (number of ids,); memory maps are fine.
        weights: how often a window comes from each corpus, relative to the others.
        batch_size: B, windows in a batch.
        context_length: T, ids in a window.
        seed: of every draw.
        replies: of each corpus, which ids are replies (number of ids,) bool; none: all count.
        questions: of each corpus, the share of its windows in which all the rest counts too.

    Raises:
        UserError: a corpus is shorter than one window and its target, T + 1 ids.
    """

    def __init__(
        self,
        corpora: Sequence[np.ndarray],
        weights: Sequence[float],
        batch_size: int,
        context_length: int,
        seed: int,
        replies: Sequence[np.ndarray | None] = (),
        questions: Sequence[float] = (),
    ) -> None:
        for index, ids in enumerate(corpora):
            if len(ids) <= context_length:
                raise UserError(
                    f"corpus {index} has {len(ids)} training ids; a window needs "
                    f"{context_length + 1}: add text or lower context_length"
                )
        self.corpora = list(corpora)
        self.replies = list(replies) or [None] * len(self.corpora)
        self.questions = list(questions) or [1.0] * len(self.corpora)
        self.seed = seed
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.batch_size, self.context_length = batch_size, context_length
        self.generator = torch.Generator().manual_seed(seed)
        self.rounds = [(0, 0)] * len(self.corpora)  # each one's round, and windows used of it
        self.orders: dict[int, np.ndarray] = {}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets, (B, T) each, int64 on the CPU; target t is the id after input t.

        A target that does not count is -100.
        """
        picks = torch.multinomial(
            self.weights, self.batch_size, replacement=True, generator=self.generator
        ).tolist()
        places = [self._next_window(pick) for pick in picks]
        rows = [self.corpora[pick][place] for pick, place in zip(picks, places, strict=True)]
        inputs, targets = shifted(torch.from_numpy(np.stack(rows).astype(np.int64)))
        counted = [self._counted(pick, place) for pick, place in zip(picks, places, strict=True)]
        return inputs, targets.where(torch.from_numpy(np.stack(counted)), NOT_COUNTED)

    def _counted(self, pick: int, place: slice) -> np.ndarray:
        """Which targets of a window count, (T,): all, or those in replies."""
        replies = self.replies[pick]
        if replies is None or torch.rand((), generator=self.generator) < self.questions[pick]:
            return np.ones(self.context_length, bool)
        return replies[place][1:]

    def _next_window(self, pick: int) -> slice:
        """Where the window (T + 1,) of that corpus whose turn it is stands."""
        number, used = self.rounds[pick]
        if pick not in self.orders:
            self.orders[pick] = self._order(pick, number)
        start = self.orders[pick][used]
        used += 1
        if used == len(self.orders[pick]):
            number, used = number + 1, 0
            del self.orders[pick]
        self.rounds[pick] = (number, used)
        return slice(start, start + self.context_length + 1)

    def _order(self, pick: int, number: int) -> np.ndarray:
        """Where the windows of one round begin, in the order in which they come."""
        generator = np.random.default_rng([self.seed, pick, number])
        length = self.context_length
        places = len(self.corpora[pick]) - self.context_length
        first = generator.integers(min(length, places))
        return generator.permutation(np.arange(first, places, length))

    def state_dict(self) -> dict[str, Any]:
        """The data position: with it, the next batch is the one that would have come."""
        rounds = [list(place) for place in self.rounds]
        return {"generator": self.generator.get_state(), "seed": self.seed, "rounds": rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a saved data position."""
        self.generator.set_state(state["generator"])
        self.seed = state.get("seed", self.seed)  # version 0.1.0 knew neither of these
        self.rounds = [tuple(place) for place in state.get("rounds", self.rounds)]
        self.orders = {}


def shifted(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Splits windows (B, T + 1) into inputs (B, T) and next-id targets (B, T)."""
    return windows[:, :-1], windows[:, 1:]


def evaluation_batches(
    ids: np.ndarray, batch_size: int, context_length: int, max_windows: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Non-overlapping windows over `ids` in order; a rest shorter than a window is left out.

    Args:
        ids: shape (number of ids,). Fewer than T + 1 make one shorter window.
        max_windows: if given, that many windows, spread evenly.

    Yields:
        inputs and targets, each (up to B, T).
    """
    length = min(context_length, len(ids) - 1)
    if length < 1:
        return
    starts = np.arange(0, len(ids) - length, length)
    if max_windows is not None and len(starts) > max_windows:
        starts = starts[np.linspace(0, len(starts) - 1, max_windows).astype(int)]
    for first in range(0, len(starts), batch_size):
        rows = [ids[s : s + length + 1] for s in starts[first : first + batch_size]]
        yield shifted(torch.from_numpy(np.stack(rows).astype(np.int64)))
