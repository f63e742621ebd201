"""Pre-tokens: GPT-2's cut of a text into words, which byte-pair merges never cross.

Promoted by 02_tokenizer.
"""

from collections.abc import Iterator

import regex

from shared.text.tokenizer import to_bytes

# In order of preference: an English ending ('s, 'll, ...); letters, with the one space
# before them; digits, likewise; other signs, likewise; white space, but not the last
# space of a run, for it belongs to the word after it.
# Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", 2.2.
GPT2_PATTERN = regex.compile(
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


def pretokens(text: str | bytes) -> Iterator[bytes]:
    """The words of a text, in order; together they are the whole text, byte for byte."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    for match in GPT2_PATTERN.finditer(text):
        yield to_bytes(match[0])
