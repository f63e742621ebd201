"""Continuous batch: texts side by side that join and leave between two steps.

One id at a time, a pass reads every weight for a single position; with 32 texts side by side it
reads them once for 32. A text that ends makes room for the next at once, whoever goes on.
Source: Yu et al. 2022, "Orca: A Distributed Serving System for Transformer-Based Generative
Models", section 3.1, where it is called iteration-level scheduling.
Promoted by 06_chat.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import torch

from shared.chat.generation import RECENT, Shorten, keep_recent_half, stream_ids
from shared.chat.row_cache import READ_AT_ONCE, RowCache
from shared.chat.sampling import SamplingSettings, next_tokens
from shared.model.transformer import Transformer

FEW = 16  # positions; fewer of a row at once take as long


class Odds(NamedTuple):
    """How likely the model itself found an id that was drawn, and which ids it found likeliest.

    Logarithms (nats) of the softmax of its logits: before penalty, temperature and cuts.
    """

    log_probability: float
    likeliest: list[tuple[int, float]]
    """id and log-probability, the likeliest first"""


@dataclass(eq=False)
class Text:
    """A text in the making: what stands in the window, and what was drawn so far."""

    ids: list[int]
    settings: SamplingSettings
    shorten: Shorten = keep_recent_half
    """as in `stream_ids`"""
    number: int = 0
    """among several with one seed, each of which draws from a seed of its own"""
    likeliest: int | None = None
    """tell `odds`, with so many of the likeliest ids; None: do not"""
    new: list[int] = field(default_factory=list)
    odds: list[Odds] = field(default_factory=list)
    """one for each id in `new`, if they are told"""
    turn: int = 0

    def __post_init__(self) -> None:
        self.generator = self.settings.generator(self.number)
        chosen = self.settings
        self.kind = (chosen.temperature, chosen.top_k, chosen.top_p, chosen.repetition_penalty)


class ContinuousBatch:
    """Up to `rows` texts, each the one that `stream_ids` writes for it alone.

    Its neighbours change nothing but rounding. What a text has to read, when it joins and when it
    has outgrown the context, goes in pieces, one between two steps: the others wait no longer.

    Args:
        stall: seconds that a piece may take, or as long as a step does where that is more, as on
            a machine that others use too; its size is doubled and halved accordingly.
        clock: returns seconds; a test passes its own.
    """

    def __init__(
        self,
        model: Transformer,
        rows: int,
        stall: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.cache, self.stall, self.clock = RowCache(model, rows), stall, clock
        self.context_length = model.config.context_length
        self.texts: list[Text] = []
        self.at_once = READ_AT_ONCE if stall == math.inf else 4 * FEW
        self._turns, self._step_seconds = count(1), 0.0

    def join(self, text: Text) -> None:
        """Takes a text in: it is read, then written."""
        text.turn = next(self._turns)
        self.cache.join()
        self.texts.append(text)

    def leave(self, text: Text) -> None:
        """Lets a text go; the last one moves into its place."""
        row = self.texts.index(text)
        self.cache.drop(row)
        self.texts[row] = self.texts[-1]
        self.texts.pop()

    @torch.inference_mode()
    def step(self) -> list[Text]:
        """Reads a piece where there is something to read; draws an id for each text that is read.

        Returns:
            The latter: the new id of each is the last one in its `new`.
        """
        self._shorten()
        self._read_a_piece()
        lengths = self.cache.lengths
        rows = [row for row, text in enumerate(self.texts) if lengths[row] == len(text.ids) - 1]
        if not rows:
            return []
        drawn = [self.texts[row] for row in rows]
        ids = [None] * len(self.texts)
        for row, text in zip(rows, drawn, strict=True):
            ids[row] = text.ids[-1]
        begun = self.clock()
        logits = self.cache.step(ids)  # (B, V)
        draw_one_each(drawn, logits[rows])
        self._step_seconds = self.clock() - begun
        return drawn

    def _shorten(self) -> None:
        for row, text in enumerate(self.texts):
            while len(text.ids) > self.context_length:
                text.ids = text.shorten(text.ids)
                self.cache.lengths[row] = 0

    def _read_a_piece(self) -> None:
        """Those that stand at the same place read on together, who waits for longest among them."""
        left = {
            row: len(text.ids) - 1 - self.cache.lengths[row] for row, text in enumerate(self.texts)
        }
        behind = sorted((row for row in left if left[row]), key=lambda row: self.texts[row].turn)
        if not behind:
            return
        start = self.cache.lengths[behind[0]]
        equal = [row for row in behind if self.cache.lengths[row] == start]
        rows = equal[: max(1, self.at_once // FEW)]
        width = min(max(left[row] for row in rows), self.at_once // len(rows))
        begun, turn = self.clock(), next(self._turns)
        self.cache.read(
            {row: self.texts[row].ids[start : start + width][: left[row]] for row in rows}
        )
        for row in rows:
            self.texts[row].turn = turn
        self._adapt(len(rows) * width, self.clock() - begun)

    def _adapt(self, positions: int, seconds: float) -> None:
        """Asks for fewer positions next time, or for more."""
        allowed = max(self.stall, self._step_seconds)
        if seconds > allowed:
            self.at_once = max(FEW, self.at_once // 2)
        elif seconds < allowed / 3 and 2 * positions > self.at_once:
            self.at_once = min(READ_AT_ONCE, 2 * self.at_once)


def draw_one_each(texts: list[Text], logits: torch.Tensor) -> None:
    """Draws an id for each text from its row of logits (B, V); equal settings go together."""
    kinds: dict[tuple, list[int]] = {}
    for row, text in enumerate(texts):
        kinds.setdefault(text.kind, []).append(row)
    for rows in kinds.values():
        alike = [texts[row] for row in rows]
        generators = [text.generator for text in alike]
        recents = [text.ids[-RECENT:] for text in alike]
        drawn = next_tokens(logits[rows], alike[0].settings, generators, recents)
        for text, token in zip(alike, drawn, strict=True):
            text.ids.append(token)
            text.new.append(token)
    rows = [row for row, text in enumerate(texts) if text.likeliest is not None]
    if rows:
        tell_odds([texts[row] for row in rows], logits[rows])


def tell_odds(texts: list[Text], logits: torch.Tensor) -> None:
    """Tells each text the odds of its newest id, which came from its row of logits (B, V)."""
    logs = logits.float().cpu().log_softmax(dim=-1)  # (B, V)
    drawn = logs.gather(1, torch.tensor([[text.new[-1]] for text in texts]))  # (B, 1)
    best = logs.topk(min(max(text.likeliest for text in texts), logs.shape[1]))  # (B, likeliest)
    told = zip(drawn.tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
    for text, ([log_probability], ids, values) in zip(texts, told, strict=True):
        likeliest = list(zip(ids, values, strict=True))[: text.likeliest]
        text.odds.append(Odds(log_probability, likeliest))


class InTurn:
    """Texts in turn, an id of each: for a learner's decoder, which takes one text.

    It stands where a `ContinuousBatch` stands, and is as slow as `stream_ids`.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.texts: list[Text] = []
        self._streams: dict[Text, Iterator[int]] = {}

    def join(self, text: Text) -> None:
        """Takes a text in."""
        self._streams[text] = stream_ids(self.model, text.ids, text.settings, text.shorten)
        self.texts.append(text)

    def leave(self, text: Text) -> None:
        """Lets a text go."""
        self.texts.remove(text)
        del self._streams[text]

    def step(self) -> list[Text]:
        """Draws an id for each text."""
        for text in self.texts:
            text.new.append(next(self._streams[text]))
        return list(self.texts)
