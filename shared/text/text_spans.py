"""Shared spans: does one body of bytes repeat another's, word for word?

Promoted by 02_tokenizer.
"""

from collections.abc import Callable, Iterator

import numpy as np

SPAN = 64  # bytes: about ten words; shorter agreements happen by chance
CHUNK = 1 << 22
BASE = 0x9E3779B97F4A7C15  # an odd multiplier for the rolling hash


def window_hashes(data: np.ndarray) -> np.ndarray:
    """A 64-bit hash of every window of `SPAN` bytes: (bytes,) uint8 -> (bytes - SPAN + 1,) uint64.

    A window's hash is put together from those of its halves, so six passes over
    the data do for all windows (Karp and Rabin 1987).
    """
    hashes = data.astype(np.uint64) + np.uint64(1)
    width = 1
    power = BASE
    while width < SPAN and len(hashes) > width:
        hashes = hashes[:-width] * np.uint64(power) + hashes[width:]
        width, power = 2 * width, power * power % 2**64
    return hashes if width == SPAN else np.empty(0, np.uint64)


def first_shared_span(
    published: bytes, training: np.ndarray, decode: Callable[[list[int]], bytes] | None = None
) -> bytes | None:
    """The first `SPAN` bytes of `training` that `published` holds too, or None.

    Rules do not count: what only repeats one to four bytes, such as a line of dashes.

    Args:
        training: (ids,), a memory map is fine: it is read once, in pieces.
        decode: gives the bytes of some ids; None: the ids are bytes, uint8.
    """
    known = np.sort(window_hashes(np.frombuffer(published, np.uint8)))
    if not len(known):
        return None
    for piece in _pieces(training) if decode is None else _decoded_pieces(training, decode):
        hashes = window_hashes(piece)
        places = np.searchsorted(known, hashes).clip(max=len(known) - 1)
        for start in np.flatnonzero(known[places] == hashes):
            span = piece[start : start + SPAN].tobytes()
            is_rule = span[4:] == span[:-4]
            if not is_rule and span in published:  # equal hashes are not yet equal bytes
                return span
    return None


def _pieces(data: np.ndarray) -> Iterator[np.ndarray]:
    """Pieces that overlap by a window less one, so that no window is cut."""
    for start in range(0, max(1, len(data) - SPAN + 1), CHUNK):
        yield np.asarray(data[start : start + CHUNK + SPAN - 1])


def _decoded_pieces(ids: np.ndarray, decode: Callable[[list[int]], bytes]) -> Iterator[np.ndarray]:
    """The same of text cut into tokens: each piece begins with the last bytes of the one before."""
    step, before = CHUNK // 4, b""  # a token is about four bytes
    for start in range(0, len(ids), step):
        piece = before + decode(ids[start : start + step].tolist())
        yield np.frombuffer(piece, np.uint8)
        before = piece[-(SPAN - 1) :]
