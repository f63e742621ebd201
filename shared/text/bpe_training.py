"""Learning BPE merges, with counts that are kept up to date and not taken anew.

The plain version counts every pair again after each merge. Here only words that
hold the merged pair are touched, and a heap knows the most frequent pair.
Promoted by 02_tokenizer.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise

from shared.errors import UserError
from shared.text.bpe import BPETokenizer, Pair, merge_pair
from shared.text.pretokens import pretokens

SEEN_ENOUGH = 2  # what stands only once is no pattern, and may be somebody's secret
LONGEST_TOKEN = 16  # bytes: longer ones are links and passwords, which a vocabulary would tell

Candidate = tuple[int, tuple[int, ...], tuple[int, ...], Pair]


def train_bpe(
    texts: Iterable[str | bytes],
    vocab_size: int,
    on_merge: Callable[[int], None] = lambda count: None,
) -> BPETokenizer:
    """Learns merges until there are `vocab_size` ids, end of text included.

    The most frequent pair is merged first; of equally frequent ones that with the
    larger bytes: the left tokens are compared, then the right ones. A pair that stands
    only once is never merged, nor one of more than `LONGEST_TOKEN` bytes: a vocabulary
    is published with its model. It stops early when no pair is left.

    Args:
        on_merge: called with the number of merges so far.

    Raises:
        UserError: `vocab_size` leaves no room for bytes and end of text.
    """
    if vocab_size < 257:
        raise UserError(f"vocab_size is {vocab_size}; 256 bytes and end of text need 257")
    counts = Counter(word for text in texts for word in pretokens(text))
    words = _Words([list(word) for word in counts], list(counts.values()))
    merges: list[Pair] = []
    while len(merges) < vocab_size - 257 and (pair := words.most_frequent_pair()) is not None:
        words.merge(pair, 256 + len(merges))
        merges.append(pair)
        on_merge(len(merges))
    return BPETokenizer(words.vocabulary, merges)


class _Words:
    """Distinct words as ids, how often each occurs, and where each pair stands."""

    def __init__(self, words: list[list[int]], counts: list[int]) -> None:
        self.words, self.counts = words, counts
        self.vocabulary = [bytes([byte]) for byte in range(256)]
        self.order = [_larger_first(token) for token in self.vocabulary]
        self.pair_counts: dict[Pair, int] = defaultdict(int)
        self.places: dict[Pair, set[int]] = defaultdict(set)
        for index in range(len(words)):
            self._add(index, +1)
        self.heap: list[Candidate] = []
        self._offer(self.pair_counts)

    def most_frequent_pair(self) -> Pair | None:
        """The pair to merge next; entries whose count has changed since are thrown away."""
        while self.heap:
            count, *_, pair = self.heap[0]
            if self.pair_counts.get(pair) == -count:
                return pair
            heapq.heappop(self.heap)
        return None

    def merge(self, pair: Pair, new: int) -> None:
        """Replaces the pair in every word that holds it."""
        left, right = pair
        self.vocabulary.append(self.vocabulary[left] + self.vocabulary[right])
        self.order.append(_larger_first(self.vocabulary[new]))
        changed: set[Pair] = set()
        for index in list(self.places[pair]):
            changed |= self._add(index, -1)
            self.words[index] = merge_pair(self.words[index], pair, new)
            changed |= self._add(index, +1)
        self._offer(changed)
        for touched in changed:
            if not self.pair_counts[touched]:
                del self.pair_counts[touched]
                self.places.pop(touched, None)

    def _add(self, index: int, sign: int) -> set[Pair]:
        word, count = self.words[index], sign * self.counts[index]
        pairs = list(pairwise(word))
        for pair in pairs:
            self.pair_counts[pair] += count
            if sign > 0:
                self.places[pair].add(index)
            else:
                self.places[pair].discard(index)
        return set(pairs)

    def _offer(self, pairs: Iterable[Pair]) -> None:
        """Puts those pairs into the heap that may be merged."""
        for pair in pairs:
            left, right = pair
            length = len(self.vocabulary[left]) + len(self.vocabulary[right])
            if self.pair_counts[pair] >= SEEN_ENOUGH and length <= LONGEST_TOKEN:
                entry = -self.pair_counts[pair], self.order[left], self.order[right], pair
                heapq.heappush(self.heap, entry)


def _larger_first(token: bytes) -> tuple[int, ...]:
    """A sort key: the larger bytes come first, since a heap gives the smallest."""
    return (*(-byte for byte in token), 1)  # the 1 puts a token after those that go on from it
