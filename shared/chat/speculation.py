"""Speculation: guess what comes next, and let one pass of the model check all guesses.

A pass over five positions hardly takes longer than a pass over one: both read every weight once.
A guess is kept only where it is the id that the seeded sampler draws there, so the text is the
same as without; what is saved is passes.
Sources: Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding"; the
guesses are what followed the same ids last time, as in Bloom 1996, "LZP: A New Data Compression
Algorithm".
Promoted by 06_chat.
"""

from array import array
from collections.abc import Callable, Sequence
from itertools import islice

import torch

from shared.chat.kv_cache import MOST_GUESSES, KVCache
from shared.device import synchronize, work_clock
from shared.model.transformer import Transformer
from shared.text.drill_conversations import read_drills
from shared.text.primer import read_primer
from shared.text.splits import TRAIN
from shared.text.tokenizer_file import Tokenizer

CONTEXTS = (8, 5, 3)  # ids; the longest that is known decides. Six lengths guess 3 % better
PLACES = 1 << 20  # of the table: two contexts on one place cost a wrong guess, and no more
UNKNOWN = -1
MEMORY = 50  # guesses; how far back a context's chance looks
EVEN = 0.5  # a chance before anything is known
DRILLS = 300  # conversations


class Speculation:
    """What followed the last few ids when they stood there before, and how often that was right.

    It belongs to one talker, whose text it learns. Memory is 4 MB, however long the text.

    Args:
        price: what a position more costs in a pass, as a share of a pass for one id.
        known: ids of a text to begin with.
    """

    def __init__(self, price: float, known: Sequence[int] = ()) -> None:
        self.price = price
        self.followers = array("i", [UNKNOWN]) * PLACES
        self.chances = dict.fromkeys(CONTEXTS, EVEN)
        self.learn(known)

    def learn(self, ids: Sequence[int]) -> None:
        """Remembers what followed what in a text."""
        for end in range(1, len(ids)):
            self._remember(ids[max(0, end - CONTEXTS[0]) : end], ids[end])

    def follow(self, ids: Sequence[int]) -> None:
        """Takes in the last of the ids, which has just come: would it have been guessed?"""
        before, token = ids[-CONTEXTS[0] - 1 : -1], ids[-1]
        if (found := self._recall(before)) is not None:
            length, guess = found
            self.chances[length] += ((guess == token) - self.chances[length]) / MEMORY
        self._remember(before, token)

    def guess(self, ids: Sequence[int], most: int) -> list[int]:
        """The ids that may follow, as many as are worth their price; often none.

        One more is worth it while it adds more to what a pass gives than to what it costs:
        its chance, that of all before it included, divided by its price, is above ids per cost.
        """
        recent, guesses = list(ids[-CONTEXTS[0] :]), []
        chance = gain = cost = 1.0
        while len(guesses) < min(most, MOST_GUESSES) and (found := self._recall(recent)):
            length, token = found
            chance *= self.chances[length]
            if chance * cost <= self.price * gain:
                break
            gain, cost = gain + chance, cost + self.price
            guesses.append(token)
            recent = [*recent[1:], token]
        return guesses

    def _recall(self, before: Sequence[int]) -> tuple[int, int] | None:
        for length in CONTEXTS:
            if length <= len(before):
                token = self.followers[hash(tuple(before[-length:])) % PLACES]
                if token != UNKNOWN:
                    return length, token
        return None

    def _remember(self, before: Sequence[int], token: int) -> None:
        for length in CONTEXTS:
            if length <= len(before):
                self.followers[hash(tuple(before[-length:])) % PLACES] = token


class Silence:
    """What takes its place where every pass is to read one id: it guesses nothing."""

    def learn(self, ids: Sequence[int]) -> None:
        """Learns nothing."""

    def follow(self, ids: Sequence[int]) -> None:
        """Asks nothing."""

    def guess(self, ids: Sequence[int], most: int) -> list[int]:
        """Guesses nothing."""
        return []


SILENT = Silence()


def begin_speculation(model: Transformer, tokenizer: Tokenizer) -> Speculation:
    """Speculation for one talker: the price is measured, and it knows the public text."""
    return Speculation(price_of_a_guess(model), public_text(tokenizer))


def public_text(tokenizer: Tokenizer) -> list[int]:
    """Ids of what every copy of this code brings along: some drills, and the primer.

    Never the training text: nobody else has it, and nobody should.
    """
    drills = (document for document in read_drills() if document.split == TRAIN)
    documents = [*islice(drills, DRILLS), *read_primer()]
    ids: list[int] = []
    for document in documents:
        ids += [tokenizer.end_of_text, *tokenizer.encode(document.data.decode()).tolist()]
    return ids


@torch.inference_mode()
def price_of_a_guess(
    model: Transformer, rounds: int = 10, clock: Callable[[], float] | None = None
) -> float:
    """What a position more costs in a pass, as a share of a pass for one id: measured.

    Args:
        rounds: how often passes with and without guesses are timed, in turn; the quickest
            of each counts.
        clock: returns seconds; none: those of work on the model's device.
    """
    parameter = next(model.parameters())
    half = torch.zeros(1, max(1, model.config.context_length // 2), dtype=torch.long)
    guesses = min(8, model.config.context_length - half.shape[1] - 1)
    if guesses < 1:
        return 1.0
    clock = clock or work_clock(parameter.device)
    cache = KVCache(model.config, parameter.device, parameter.dtype)
    model(half.to(parameter.device), cache)
    seconds: dict[int, list[float]] = {1: [], 1 + guesses: []}
    for _ in range(rounds):
        for count, timed in seconds.items():
            ids = torch.zeros(1, count, dtype=torch.long, device=parameter.device)
            synchronize(parameter.device)
            begun = clock()
            model(ids, cache)
            synchronize(parameter.device)
            timed.append(clock() - begun)
            cache.forget(count)
    alone, together = map(min, seconds.values())
    return max(0.0, together / max(alone, 1e-9) - 1) / guesses
