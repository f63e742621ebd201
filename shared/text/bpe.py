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

from shared.errors import UserError
from shared.files import atomic_file
from shared.text.pretokens import pretokens
from shared.text.tokenizer import Decodes

Pair = tuple[int, int]
# A word seen before is looked up, not merged again. All that may be kept: some 25 MB.
CACHED_WORDS, CACHED_BYTES = 1 << 16, 32
NOTHING = -1  # an id that no pair holds


class BPETokenizer(Decodes):
    """Ids of single bytes, then one for each merge, then the special tokens.

    Special tokens have ids of their own and no bytes that text could contain: no
    text is ever encoded to one.

    Args:
        merges: pairs of ids in the order they were learned; merge number n makes a
            new id out of two earlier ones.
        special: names of the special tokens; the first ends a text.
    """

    kind = "bpe"

    def __init__(self, merges: Sequence[Pair], special: Sequence[str] = ("<|endoftext|>",)) -> None:
        vocabulary = [bytes([byte]) for byte in range(256)]
        for left, right in merges:
            if not (0 <= left < len(vocabulary) and 0 <= right < len(vocabulary)):
                raise UserError(f"merge {(left, right)} names an id that does not exist yet")
            vocabulary.append(vocabulary[left] + vocabulary[right])
        ranks = {pair: (rank, 256 + rank) for rank, pair in enumerate(map(tuple, merges))}
        self._set(vocabulary, list(range(256)), ranks, special)

    def _set(
        self,
        vocabulary: list[bytes],
        byte_ids: list[int],
        ranks: dict[Pair, tuple[int, int]],
        special: Sequence[str],
    ) -> None:
        self.vocabulary, self.byte_ids, self.ranks = vocabulary, byte_ids, ranks
        self.special = {name: len(vocabulary) + n for n, name in enumerate(special)}
        self.vocab_size = len(vocabulary) + len(special)
        self.end_of_text = next(iter(self.special.values()))
        self._cache: dict[bytes, list[int]] = {}

    @classmethod
    def with_ids(
        cls,
        vocabulary: list[bytes],
        byte_ids: list[int],
        merges: Sequence[Pair],
        special: Sequence[str],
    ) -> "BPETokenizer":
        """A tokenizer whose ids are numbered by somebody else, as GPT-2's are.

        Args:
            vocabulary: the bytes of each id.
            byte_ids: the id of each of the 256 bytes.
            merges: pairs of ids in order of rank.
        """
        ids = {token: number for number, token in enumerate(vocabulary)}
        made = cls.__new__(cls)
        ranks = {
            (left, right): (rank, ids[vocabulary[left] + vocabulary[right]])
            for rank, (left, right) in enumerate(merges)
        }
        made._set(vocabulary, byte_ids, ranks, special)
        return made

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
        ids = [*(self.byte_ids[byte] for byte in word), NOTHING]
        after, before = [*range(1, end + 1), end], [end, *range(end)]
        heap: list[tuple[int, int]] = []

        def offer(left: int) -> None:
            if (found := self.ranks.get((ids[left], ids[after[left]]))) is not None:
                heappush(heap, (found[0], left))

        for left in range(end):
            offer(left)
        while heap:
            rank, left = heappop(heap)
            right = after[left]
            found = self.ranks.get((ids[left], ids[right]))
            if found is None or found[0] != rank:
                continue  # one of the two has been merged since
            ids[left], ids[right] = found[1], NOTHING
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
            partial.write_text(json.dumps(state))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "BPETokenizer":
        """The tokenizer that `save` wrote.

        Raises:
            KeyError, ValueError, TypeError: the state is broken.
        """
        vocabulary = [bytes.fromhex(token) for token in state["vocabulary"]]
        byte_ids = [vocabulary.index(bytes([byte])) for byte in range(256)]
        merges = [(int(left), int(right)) for left, right in state["merges"]]
        special = state["special"]
        if not (isinstance(special, list) and special and set(map(type, special)) == {str}):
            raise ValueError(f"special is {str(special)[:60]}; expected a list of names")
        if min(map(min, merges), default=0) < 0:
            raise ValueError("a merge names an id below 0")
        return cls.with_ids(vocabulary, byte_ids, merges, special)


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
