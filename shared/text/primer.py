"""The chat primer: short handwritten conversations that teach the transcript format.

Promoted by 02_tokenizer.
"""

from collections.abc import Iterator
from pathlib import Path

from shared.text.corpora import Document
from shared.text.transcript import Message, parse, render

PRIMER_PATH = Path(__file__).with_name("primer.txt")


def read_primer() -> Iterator[Document]:
    """Each conversation of `primer.txt`, in three spellings; all of them are for training.

    People write "hello", "Hello" and leave question marks out. A byte model sees
    three different texts there, so it is shown all three.
    """
    for number, messages in enumerate(primer_conversations()):
        for spelling in (_as_written, _capitalised, _unpunctuated):
            respelt = [
                Message(role, spelling(content) if role == "user" else content)
                for role, content in messages
            ]
            name = f"primer/{number:03d}{spelling.__name__}"
            yield Document(name, render(respelt).encode(), "train")


def primer_conversations() -> list[list[Message]]:
    """The conversations of `primer.txt`, which stand there with a blank line between them."""
    blocks = PRIMER_PATH.read_text(encoding="utf-8").split("\n\n")
    return [parse(block.strip() + "\n") for block in blocks if block.strip()]


def _as_written(text: str) -> str:
    return text


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _unpunctuated(text: str) -> str:
    return text.rstrip("?!.")
