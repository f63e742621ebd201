"""Splits: which document is for training and which for validation.

Promoted by 02_tokenizer.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from shared.text.corpora import Document

TRAIN, VALIDATION = "train", "validation"
FEW = 20  # below this, hashing can easily leave one side with nothing


def split_by_name(name: str, valid_fraction: float) -> str:
    """`"train"` or `"validation"` by a hash of the name.

    Adding a note never moves another note across the split, and no order or seed
    is involved.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return VALIDATION if share < valid_fraction else TRAIN


def split_documents(documents: Iterable[Document], valid_fraction: float) -> Iterator[Document]:
    """Gives every document a split: its own if it has one, or else by its name's hash.

    A single document is cut instead: its contiguous tail of `valid_fraction`
    validates. (Scattered pieces would let the model train on the sentences around
    each validation window.) So is each of a few documents whose hashes leave one
    side empty.
    """
    documents = iter(documents)
    few = deque(_with_split(document, valid_fraction) for document in islice(documents, FEW))
    one_sided = len({split for _, split in few}) == 1
    if valid_fraction and len(few) < FEW and one_sided and not any(d.split for d, _ in few):
        while few:
            yield from _cut(few.popleft()[0], valid_fraction)
        return
    while few:  # each is let go as soon as it is passed on
        document, split = few.popleft()
        yield document._replace(split=split)
    for document in documents:
        yield document._replace(split=_with_split(document, valid_fraction)[1])


def _with_split(document: Document, valid_fraction: float) -> tuple[Document, str]:
    return document, document.split or split_by_name(document.name, valid_fraction)


def _cut(document: Document, valid_fraction: float) -> Iterator[Document]:
    name, data, _ = document
    cut = len(data) - round(len(data) * valid_fraction)
    yield Document(name, data[:cut], TRAIN)
    yield Document(name, data[cut:], VALIDATION)
