"""The chat primer: short handwritten conversations that teach the transcript format.

Promoted by 02_tokenizer.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from shared.text.conversations import split_transcripts
from shared.text.corpora import Document
from shared.text.transcript import Message, render

PRIMER_PATH = Path(__file__).with_name("primer.txt")
SHIPPED_SHA256 = "c496872f9ab17e57195342142aa360c1d7ddca570e9518c23b126175ea0d2315"
CHAIN_STEPS = (31, 13)  # how far up the file the two conversations before it stand


def read_primer() -> Iterator[Document]:
    """The conversations of `primer.txt` in three spellings, alone and chained; all for training.

    People write "hello", "Hello" and leave question marks out: a byte model sees
    three different texts there, so it is shown all three. And people ask again:
    each conversation also comes last in a chain of three, so that what was said
    before it does not keep the model from answering.
    """
    conversations = primer_conversations()
    for number, messages in enumerate(conversations):
        for spelling in SPELLINGS:
            yield _document(f"{number:03d}{spelling.__name__}", messages, spelling)
        before = [conversations[number - step] for step in CHAIN_STEPS]
        chain = [message for part in before for message in _turns(part)]
        spelling = SPELLINGS[number % len(SPELLINGS)]
        yield _document(
            f"{number:03d}_chained", _system(messages) + chain + _turns(messages), spelling
        )


def primer_conversations() -> list[list[Message]]:
    """The conversations of `primer.txt`, which stand there with a blank line between them."""
    text = PRIMER_PATH.read_text(encoding="utf-8")
    return [messages for _, messages in split_transcripts(text, PRIMER_PATH.name)]


def is_shipped_primer() -> bool:
    """True if `primer.txt` is the one that is public with the code, and not edited since."""
    text = PRIMER_PATH.read_text(encoding="utf-8")  # whatever line ends a checkout gave it
    return hashlib.sha256(text.encode()).hexdigest() == SHIPPED_SHA256


def _document(name: str, messages: list[Message], spelling: Callable[[str], str]) -> Document:
    respelt = [
        Message(role, spelling(content) if role == "user" else content)
        for role, content in messages
    ]
    return Document(f"primer/{name}", render(respelt).encode(), "train")


def _system(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.role == "system"]


def _turns(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.role != "system"]


def _as_written(text: str) -> str:
    return text


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _unpunctuated(text: str) -> str:
    return text.rstrip("?!.")


SPELLINGS = (_as_written, _capitalised, _unpunctuated)
