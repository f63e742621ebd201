"""Text -> bytes -> ids -> batches, and back: what a model eats.

python 02_tokenizer/text_to_batches.py
python 02_tokenizer/text_to_batches.py markdown:~/notes
"""

import sys
import tempfile

import torch

from shared.errors import one_line_errors
from shared.text.batches import Batches
from shared.text.sources import Source
from shared.text.token_file import load_corpus
from shared.text.tokenizer import ByteTokenizer
from shared.text.transcript import Message, render, render_prompt

SENTENCE = "Zoë says: hi 👋"


def main(arguments: list[str]) -> None:
    """Tells the story with real values, from one sentence to one batch."""
    tokenizer = ByteTokenizer()
    show_one_sentence(tokenizer)
    show_decoding_as_it_comes(tokenizer)
    show_transcript()
    spec = arguments[0] if arguments else "python-docs"
    with tempfile.TemporaryDirectory() as folder:
        show_corpus(Source(spec), folder, tokenizer)


def show_one_sentence(tokenizer: ByteTokenizer) -> None:
    """Characters, bytes and ids of one sentence, and the way back."""
    ids = tokenizer.encode(SENTENCE)
    print(f"text        {SENTENCE!r}: {len(SENTENCE)} characters")
    for character in ("Z", "ë", "👋"):
        values = tokenizer.encode(character).tolist()
        print(f"  {character!r:6} is {len(values)} byte{'s' * (len(values) > 1)}: {values}")
    print(f"ids         shape {ids.shape}, dtype {ids.dtype}: {ids.tolist()}")
    print(f"and back    {tokenizer.decode(ids)!r}, lossless: {tokenizer.decode(ids) == SENTENCE}")


def show_decoding_as_it_comes(tokenizer: ByteTokenizer) -> None:
    """A model writes bytes one by one; characters appear when they are whole."""
    print("\none byte at a time, as a model writes:")
    decoder = tokenizer.decoder()
    for byte in tokenizer.encode("ë👋"):
        print(f"  byte {byte:3d} -> {decoder.feed(int(byte))!r}")


def show_transcript() -> None:
    """A conversation is text too."""
    messages = [Message("user", "hello"), Message("assistant", "Hi there!")]
    print(f"\na conversation as text:    {render(messages)!r}")
    print(f"and one to be continued:   {render_prompt(messages[:1])!r}")


def show_corpus(source: Source, folder: str, tokenizer: ByteTokenizer) -> None:
    """A corpus as ids on disk, and one batch of it."""
    skipped: list[str] = []
    corpus = load_corpus(
        source,
        folder,
        tokenizer,
        valid_fraction=0.05,
        on_skip=lambda name, reason: skipped.append(f"{reason}: {name}"),
    )
    manifest = corpus.manifest
    print(f"\ncorpus      {corpus.name}")
    for split in ("train", "validation"):
        documents, size = manifest["documents"][split], manifest["bytes"][split]
        print(f"  {split:10} {documents:6,} documents, {size:10,} bytes of text")
    for line in sorted(skipped)[:20]:
        print(f"  passed over, {line}")
    if len(skipped) > 20:
        print(f"  ... and {len(skipped) - 20:,} more")
    print(f"  train ids   shape {corpus.train.shape}, dtype {corpus.train.dtype}, on disk")
    batches = Batches([corpus.train], [1.0], batch_size=4, context_length=8, seed=0)
    inputs, targets = next(batches)
    print(f"\nbatch       inputs (B, T) = {tuple(inputs.shape)}, targets {tuple(targets.shape)}")
    for row in range(2):
        print(f"  row {row}: after {tokenizer.decode(inputs[row])!r}", end=" ")
        print(f"comes {tokenizer.decode(targets[row, -1:])!r}; ids {inputs[row].tolist()}")
    print(f"  targets are inputs shifted by one: {torch.equal(inputs[:, 1:], targets[:, :-1])}")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
