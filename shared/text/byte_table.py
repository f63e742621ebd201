"""Byte table: the bytes behind many ids at once, whatever the tokenizer.

Promoted by 02_tokenizer.
"""

import numpy as np

from shared.text.tokenizer import END_OF_TEXT
from shared.text.tokenizer_file import Tokenizer


class ByteTable:
    """Every token's bytes in one row, with each one's place and length.

    The end of a text is the byte 0x1E here, as the byte tokenizer has it, so that a
    text is the same bytes after every tokenizer. It counts in `lengths` (V,), and not
    in `text_lengths` (V,).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        tokens[tokenizer.end_of_text] = bytes([END_OF_TEXT])
        self.lengths = np.array([len(token) for token in tokens])  # (V,)
        self.text_lengths = self.lengths.copy()
        self.text_lengths[tokenizer.end_of_text] = 0
        self._places = np.cumsum(self.lengths) - self.lengths  # (V,)
        self._row = np.frombuffer(b"".join(tokens), np.uint8)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """The bytes behind `ids`: (ids,) -> (bytes,) uint8."""
        if (self.lengths == 1).all():  # a byte an id: a tenth of the time
            return self._row[ids]
        lengths = self.lengths[ids]
        begins = np.cumsum(lengths) - lengths  # where in the text each token begins
        shifts = np.repeat(self._places[ids] - begins, lengths)  # (bytes,)
        return self._row[shifts + np.arange(len(shifts))]
