"""Splits: which document is for training and which for validation.

Promoted by 02_tokenizer.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator

from shared.text.corpora import Document

TRAIN, VALIDATION = "train", "validation"


def split_by_name(name: str, valid_fraction: float) -> str:
    """`"train"` or `"validation"` by a hash of the name, with no order or seed involved."""
    return VALIDATION if _share(name) < valid_fraction else TRAIN


def split_documents(documents: Iterable[Document], valid_fraction: float) -> Iterator[Document]:
    """Gives every document a split: its own if it has one, or else by its name's hash.

    If the hashes leave one side with no document, as with a single one, each is cut
    instead: its tail of `valid_fraction` validates. (Scattered pieces would let the
    model train on the sentences around each validation window.) So a document more
    moves no other, but for the first one that gives the empty side something: from
    then on all are whole. A conversation cut in two would end within a turn: of
    several the one whose hash comes nearest goes to the empty side, and a single one
    trains. Documents without text are left out.
    """
    texts = (document for document in documents if document.data)
    held: deque[Document] = deque()  # until both sides have a document
    for document in texts:
        held.append(_with_split(document, valid_fraction))
        if document.split or not valid_fraction or held[0].split != held[-1].split:
            break
    else:
        whole = any(document.is_conversation for document in held)
        yield from (_one_moved if whole else _cut_each)(held, valid_fraction)
        return
    while held:  # each is let go as soon as it is passed on
        yield held.popleft()
    for document in texts:
        yield _with_split(document, valid_fraction)


def _with_split(document: Document, valid_fraction: float) -> Document:
    return document._replace(split=document.split or split_by_name(document.name, valid_fraction))


def _share(name: str) -> float:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _one_moved(documents: deque[Document], valid_fraction: float) -> Iterator[Document]:
    """To the empty side; a single one trains."""
    nearest = min(documents, key=lambda document: abs(_share(document.name) - valid_fraction))
    all_train = nearest.split == TRAIN and len(documents) > 1
    moved = nearest._replace(split=VALIDATION if all_train else TRAIN)
    for document in documents:
        yield moved if document is nearest else document


def _cut_each(documents: deque[Document], valid_fraction: float) -> Iterator[Document]:
    tails = [round(len(document.data) * valid_fraction) for document in documents]
    if documents and not any(tails):  # all too short for a tail: the last one gives what it can
        size = len(documents[-1].data)
        tails[-1] = size if len(documents) > 1 else size // 2
    for (name, data, *_), tail in zip(documents, tails, strict=True):
        cut = len(data) - tail
        for part, split in ((data[:cut], TRAIN), (data[cut:], VALIDATION)):
            if part:
                yield Document(name, part, split)
