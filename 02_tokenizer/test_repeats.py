"""Repeats: found by hash as by plain search, across pieces, and the same with every tokenizer."""

import numpy as np
import pytest

from shared.text import repeats
from shared.text.bpe_training import train_bpe
from shared.text.byte_table import ByteTable
from shared.text.text_spans import SPAN
from shared.text.tokenizer import ByteTokenizer

RANDOM = np.random.default_rng(0).integers(97, 123, 1000, dtype=np.uint8).tobytes()


def as_array(text: bytes) -> np.ndarray:
    return np.frombuffer(text, np.uint8)


@pytest.mark.parametrize("piece", [7, 64, 100, 5000])
@pytest.mark.parametrize("length", [SPAN - 1, SPAN, 150])
def test_repeated_bytes_are_those_a_plain_search_finds(length, piece, monkeypatch):
    """The same span twice, once at the very end; whatever the pieces, which may cut it."""
    monkeypatch.setattr(repeats, "PIECE", piece)
    span = RANDOM[300 : 300 + length]
    text = b"A" * 80 + span + b"B" * 30 + span
    expected = np.zeros(len(text), bool)
    for start in range(len(text) - SPAN + 1):
        expected[start : start + SPAN] |= text[start : start + SPAN] in RANDOM
    pieces = repeats.overlapping_pieces(as_array(RANDOM), ByteTable(ByteTokenizer()))
    marked = repeats.repeated_bytes(as_array(text), pieces)
    assert (marked == expected).all() and marked.sum() == (2 * length if length >= SPAN else 0)


@pytest.mark.parametrize("text", [b"", b"short"])
def test_a_text_shorter_than_a_span_repeats_nothing(text):
    assert not repeats.repeated_bytes(as_array(text), [as_array(RANDOM)]).any()
    assert not repeats.repeated_bytes(as_array(RANDOM), [as_array(text)]).any()


def test_the_table_gives_the_bytes_that_decoding_gives_and_one_byte_for_the_end():
    text = "the quick brown fox, höher und höher. " * 5
    bpe = train_bpe([text], 280)
    for tokenizer in (ByteTokenizer(), bpe):
        ids, table = tokenizer.encode(text), ByteTable(tokenizer)
        assert table.decode(ids).tobytes() == tokenizer.decode_bytes(ids) == text.encode()
        assert table.decode(np.array([tokenizer.end_of_text])).tobytes() == b"\x1e"
        assert table.lengths[ids].sum() == len(text.encode())


def test_a_token_counts_as_repeated_if_any_of_its_bytes_is():
    marked = np.array([0, 1, 1, 0, 0, 0], bool)  # tokens: ab, c, (none), def
    assert repeats.tokens_with_any(marked, np.array([2, 1, 0, 3])).tolist() == [1, 1, 0, 0]
