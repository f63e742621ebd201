"""Repeats: which bytes of a text stand in other text too, in spans of 64 bytes and more.

Validation text that repeats training text measures memory, not understanding.
Promoted by 02_tokenizer.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from shared.text.byte_table import ByteTable
from shared.text.text_spans import SPAN, window_hashes

PIECE = 1 << 20  # ids read at a time


def repeated_bytes(text: np.ndarray, pieces: Iterable[np.ndarray]) -> np.ndarray:
    """Which bytes of `text` stand in a span of `SPAN` bytes that a piece holds too.

    All of the pieces are read, 10 to 20 MB a second on one core. Equal hashes are taken
    for equal spans: among 64-bit hashes of 10 million windows here and 500 million there,
    one chance agreement is to be expected in three thousand such comparisons.

    Args:
        text: (bytes,) uint8.
        pieces: each (bytes,) uint8, and small enough for eight times its size in memory.

    Returns:
        (bytes,) bool.
    """
    hashes = window_hashes(text)
    known, where = np.unique(hashes, return_inverse=True)
    found = np.zeros(len(known), bool)
    for piece in pieces:
        theirs = np.sort(window_hashes(piece))
        if len(theirs):
            places = np.searchsorted(theirs, known).clip(max=len(theirs) - 1)
            found |= theirs[places] == known
    begins = np.flatnonzero(found[where])
    depth = np.zeros(len(text) + 1, np.int64)  # how many repeated spans begin less end here
    depth[begins] += 1
    depth[begins + SPAN] -= 1
    return np.cumsum(depth[:-1]) > 0


def overlapping_pieces(ids: np.ndarray, table: ByteTable) -> Iterator[np.ndarray]:
    """The bytes of `ids` (a memory map is fine), in pieces that cut no span in two."""
    before = np.empty(0, np.uint8)
    for start in range(0, len(ids), PIECE):
        piece = np.concatenate([before, table.decode(ids[start : start + PIECE])])
        yield piece
        before = piece[-(SPAN - 1) :]


def tokens_with_any(marked: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Which tokens hold a marked byte: (bytes,) bool and (tokens,) lengths -> (tokens,) bool."""
    ends = np.cumsum(lengths)
    so_far = np.concatenate([[0], np.cumsum(marked)])
    return so_far[ends] > so_far[ends - lengths]
