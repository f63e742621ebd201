"""Byte tokenizer: every byte of UTF-8 text is one id, 0 to 255.

It does not compress: one token is one byte, so an English word costs about six.
In return nothing is ever unknown and nothing is ever lost.
Promoted by 02_tokenizer.
"""

import codecs
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

# ASCII has had a "record separator" since 1963 and text has no other use for it.
END_OF_TEXT = 0x1E


class Decodes(ABC):
    """What every tokenizer can do that knows the bytes of an id."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes behind `ids`."""
        return b"".join(self.token_bytes(int(token)) for token in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Text behind `ids`; a byte run that is not UTF-8 shows as U+FFFD. Never raises."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decoder(self) -> "IncrementalDecoder":
        """A fresh decoder for ids that arrive one at a time."""
        return IncrementalDecoder(self.token_bytes)


class ByteTokenizer(Decodes):
    """Turns text into byte ids and back; `encode` then `decode` loses nothing."""

    kind = "bytes"
    vocab_size = 256
    end_of_text = END_OF_TEXT
    identity = "bytes"  # differs between tokenizers that give other ids

    def encode(self, text: str | bytes) -> np.ndarray:
        """Ids of `text`, shape (number of bytes,), dtype uint8.

        Bytes are taken as they are. A lone surrogate in a `str` (Python's way to
        carry a byte that is not UTF-8) becomes that byte again. Never raises.
        """
        return np.frombuffer(to_bytes(text), dtype=np.uint8)

    def token_bytes(self, token: int) -> bytes:
        """The byte of one id."""
        return bytes([token])

    def save(self, path: str | Path) -> None:
        """Writes what `load_tokenizer` needs, as JSON."""
        Path(path).write_text(
            json.dumps({"kind": self.kind, "end_of_text": self.end_of_text}), encoding="utf-8"
        )


def to_bytes(text: str | bytes) -> bytes:
    """UTF-8 bytes of any `str`, even one with lone surrogates; bytes as they are."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON can carry it
        return text.encode("utf-8", "surrogatepass")


class IncrementalDecoder:
    """Decodes ids as they come and never emits half a character.

    A character outside ASCII is two to four bytes, and a token may end inside one.
    `feed` holds bytes back until their character is whole; `flush` gives up on a
    broken tail and shows U+FFFD.
    """

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Takes one id; returns the characters that are whole now, often none."""
        return self._decoder.decode(self._token_bytes(token))

    def flush(self) -> str:
        """Ends the stream; returns U+FFFD if a character was left unfinished."""
        return self._decoder.decode(b"", final=True)
