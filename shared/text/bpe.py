"""Byte-level BPE tokenizer: bytes, and longer tokens for what stands together often.

The verbs are the byte tokenizer's. It does not learn its merges: `bpe_training` does.
Source: Sennrich et al. 2015, "Neural Machine Translation of Rare Words with Subword
Units"; on bytes, Radford et al. 2019.
Promoted by 02_tokenizer.
"""

import hashlib
import json
from collections.abc import Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np

from shared.files import atomic_file
from shared.text.pretokens import pretokens
from shared.text.tokenizer import Decodes

Pair = tuple[int, int]
# A word seen before is looked up, not merged again. All that may be kept: some 25 MB.
CACHED_WORDS, CACHED_BYTES = 1 << 16, 32
NOTHING = -1  # an id that no pair holds


class BPETokenizer(Decodes):
    """Ids of single bytes and of longer tokens, then the special tokens.

    Special tokens have ids of their own and no bytes that text could contain: no
    text is ever encoded to one.

    Args:
        vocabulary: the bytes of each id; the 256 single bytes are among them.
        merges: pairs of ids in the order they were learned; a pair becomes the token
            that has its bytes.
        special: names of the special tokens; the first ends a text.

    Raises:
        KeyError, IndexError: a single byte or a merge's token is missing.
    """

    kind = "bpe"

    def __init__(
        self,
        vocabulary: Sequence[bytes],
        merges: Sequence[Pair],
        special: Sequence[str] = ("<|endoftext|>",),
    ) -> None:
        self.vocabulary = list(vocabulary)
        self.special = {name: len(vocabulary) + n for n, name in enumerate(special)}
        self.vocab_size = len(vocabulary) + len(special)
        self.end_of_text = len(vocabulary)
        ids = {token: number for number, token in enumerate(vocabulary)}
        self.byte_ids = [ids[bytes([byte])] for byte in range(256)]
        self.ranks: dict[Pair, tuple[int, int]] = {}  # pair -> (rank, id that it becomes)
        for rank, (left, right) in enumerate(merges):
            self.ranks[left, right] = rank, ids[vocabulary[left] + vocabulary[right]]
        self._cache: dict[bytes, list[int]] = {}

    @property
    def merges(self) -> list[Pair]:
        """The pairs in the order they were learned."""
        return sorted(self.ranks, key=lambda pair: self.ranks[pair][0])

    def encode(self, text: str | bytes) -> np.ndarray:
        """Ids of `text`, shape (number of tokens,), in the smallest unsigned type. Never raises."""
        ids: list[int] = []
        for word in pretokens(text):
            known = self._cache.get(word)
            if known is None:
                known = self._merge_word(word)
                if len(word) <= CACHED_BYTES and len(self._cache) < CACHED_WORDS:
                    self._cache[word] = known
            ids += known
        return np.array(ids, dtype=np.min_scalar_type(self.vocab_size - 1))

    def _merge_word(self, word: bytes) -> list[int]:
        """Its ids; of the merges that fit, the one learned first goes first, from left to right.

        The pairs that fit wait in a heap, so n bytes take n log n steps. A merged token
        stands where its first byte stood; `end` is the place before the first and after the last.
        """
        end = len(word)
        ids = [self.byte_ids[byte] for byte in word]
        ids.append(NOTHING)
        after = [*range(1, end + 1), end]
        before = [end, *range(end)]
        heap: list[tuple[int, int]] = []

        def offer(left: int) -> None:
            found = self.ranks.get((ids[left], ids[after[left]]))
            if found is not None:
                heappush(heap, (found[0], left))

        for left in range(end):
            offer(left)
        while heap:
            rank, left = heappop(heap)
            right = after[left]
            found = self.ranks.get((ids[left], ids[right]))
            if found is None or found[0] != rank:
                continue  # one of the two has been merged since
            ids[left] = found[1]
            ids[right] = NOTHING
            after[left] = after[right]
            before[after[right]] = left
            offer(before[left])
            offer(left)
        return [token for token in ids if token != NOTHING]

    @property
    def identity(self) -> str:
        """A name that differs between tokenizers that give other ids."""
        state = repr((self.vocabulary, self.merges, self.special)).encode()
        return f"bpe-{hashlib.sha256(state).hexdigest()[:16]}"

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id; a special token has none."""
        return self.vocabulary[token] if token < len(self.vocabulary) else b""

    def save(self, path: str | Path) -> None:
        """Writes everything that `from_state` needs, as JSON."""
        state = {
            "kind": self.kind,
            "vocabulary": [token.hex() for token in self.vocabulary],
            "merges": self.merges,
            "special": list(self.special),
        }
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(state), encoding="utf-8")

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "BPETokenizer":
        """The tokenizer that `save` wrote.

        Raises:
            KeyError, ValueError, TypeError: the state is broken.
        """
        vocabulary = [bytes.fromhex(token) for token in state["vocabulary"]]
        merges = [(int(left), int(right)) for left, right in state["merges"]]
        special = state["special"]
        if not (isinstance(special, list) and special and set(map(type, special)) == {str}):
            raise ValueError(f"special is {str(special)[:60]}; expected a list of names")
        if min(map(min, merges), default=0) < 0:
            raise ValueError("a merge names an id below 0")
        return cls(vocabulary, merges, special)


def merge_pair(ids: list[int], pair: Pair, new: int) -> list[int]:
    """The ids with each `pair` replaced by `new`, from left to right."""
    merged, at = [], 0
    while at < len(ids):
        if at + 1 < len(ids) and (ids[at], ids[at + 1]) == pair:
            merged.append(new)
            at += 2
        else:
            merged.append(ids[at])
            at += 1
    return merged
