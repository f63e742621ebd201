"""A counting model: the next byte guessed from how often it followed the last few.

The oldest language model. It learns in one pass, with no gradient, and writes text too.
Source: Shannon 1948, "A Mathematical Theory of Communication", section 3, which samples
from such counts; how long and short contexts are mixed: Kneser and Ney 1995, "Improved
Backing-off for M-gram Language Modeling", in the interpolated form of Chen and Goodman 1998.
Promoted by 04_training.
"""

from dataclasses import dataclass

import numpy as np

DISCOUNT = 0.75  # taken from every count and given to what was never counted
LONGEST = 7  # bytes of context: with the next byte they fill the 64 bits of one number
BYTE = np.uint64(8)  # bits


class CountingModel:
    """Counts which byte followed which, for every context of up to `order` bytes.

    Args:
        text: (bytes,) uint8, what to count.
        order: bytes of context, 0 to 7.
    """

    def __init__(self, text: np.ndarray, order: int = 5) -> None:
        if not 0 <= order <= LONGEST:
            raise ValueError(f"order {order}: expected 0 to {LONGEST}")
        self.order = order
        grams, counts = np.unique(packed(text, order + 1), return_counts=True)
        self.levels = [counted(grams, counts)]
        for length in range(order, 0, -1):
            ending = grams & np.uint64(256**length - 1)  # without the byte furthest back
            grams, kinds = np.unique(ending, return_counts=True)
            self.levels.insert(0, counted(grams, kinds))

    def probabilities(self, text: np.ndarray) -> np.ndarray:
        """What each byte of `text` was given by those before it: (bytes,) uint8 -> (bytes,)."""
        chances = np.full(len(text), 1 / 256)
        for length, level in enumerate(self.levels):
            chances[length:] = level.sharpen(packed(text, length + 1), chances[length:])
        return chances

    def next_byte(self, context: bytes) -> np.ndarray:
        """Probabilities (256,) of the byte after `context`; only its end matters."""
        chances = np.full(256, 1 / 256)
        for length, level in enumerate(self.levels[: len(context) + 1]):
            before = int.from_bytes(context[len(context) - length :], "big") << 8
            grams = np.uint64(before) | np.arange(256, dtype=np.uint64)
            chances = level.sharpen(grams, chances)
        return chances

    def continue_text(self, prompt: bytes, new: int, generator: np.random.Generator) -> bytes:
        """The prompt and `new` bytes more, each drawn from its probabilities."""
        text = bytearray(prompt)
        for _ in range(new):
            chances = self.next_byte(bytes(text[-LONGEST:]))
            text.append(generator.choice(256, p=chances / chances.sum()))
        return bytes(text)

    def bits(self, text: np.ndarray) -> float:
        """How surprising `text` (bytes,) is as a whole, in bits."""
        return float(-np.log2(self.probabilities(text)).sum())


@dataclass(frozen=True)
class Counts:
    """What followed the contexts of one length: sorted grams, each a context and its next byte.

    Counts of the longest contexts are of occurrences. Those of shorter ones are of kinds:
    how many different bytes stood before the gram. `York` is frequent, but nearly always
    after `New `: after any other word it should not be expected.
    """

    grams: np.ndarray
    """(G,) uint64, sorted"""
    counts: np.ndarray
    """(G,)"""
    contexts: np.ndarray
    """(C,) uint64, sorted"""
    totals: np.ndarray
    """(C,) the sum of the counts of each context's grams"""
    kinds: np.ndarray
    """(C,) how many different bytes followed each context"""

    def sharpen(self, grams: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """Probabilities (grams,) of the grams' last bytes, from those that a shorter context gave.

        (count - DISCOUNT + DISCOUNT * kinds * shorter) / total: what the discount takes
        from the counted bytes is shared out as the shorter context would have it. A
        context that was never seen changes nothing.
        """
        contexts = grams >> BYTE
        totals = looked_up(contexts, self.contexts, self.totals)
        given = DISCOUNT * looked_up(contexts, self.contexts, self.kinds) * shorter
        kept = np.maximum(looked_up(grams, self.grams, self.counts) - DISCOUNT, 0)
        return np.where(totals > 0, (kept + given) / np.maximum(totals, 1), shorter)


def counted(grams: np.ndarray, counts: np.ndarray) -> Counts:
    """The counts of sorted grams, and their sums for each context."""
    contexts, first, kinds = np.unique(grams >> BYTE, return_index=True, return_counts=True)
    totals = np.add.reduceat(counts, first) if len(first) else counts
    return Counts(grams, counts, contexts, totals, kinds)


def packed(text: np.ndarray, width: int) -> np.ndarray:
    """Every run of `width` bytes as one number: (bytes,) uint8 -> (bytes - width + 1,) uint64."""
    size = max(0, len(text) - width + 1)
    numbers = np.zeros(size, np.uint64)
    for offset in range(width):
        numbers = (numbers << BYTE) | text[offset : offset + size]
    return numbers


def looked_up(keys: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of each key, 0 for one that is not known; `known` is sorted."""
    if not len(known):
        return np.zeros(len(keys))
    places = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return np.where(known[places] == keys, values[places], 0)
