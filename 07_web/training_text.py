"""Which text a model was trained on, and whether a file repeats some of it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shared.errors import UserError
from shared.text.drill_conversations import are_shipped_words
from shared.text.primer import is_shipped_primer
from shared.text.sources import Source
from shared.text.text_spans import SPAN, first_shared_span
from shared.text.token_file import Corpus, load_corpus
from shared.text.tokenizer import ByteTokenizer
from shared.text.tokenizer_file import Tokenizer
from shared.training.checkpoint import RUN_FILE, TOKENIZER_FILE
from shared.training.checkpoint_folder import is_whole
from shared.training.run_config import DataConfig


def training_corpora(checkpoint: Path, data_folder: Path, tokenizer: Tokenizer) -> list[Corpus]:
    """The corpora a checkpoint was trained on, but for what is public with the code.

    Of a published folder, none: it was compared when it was published, and has not changed.

    Raises:
        UserError: they are gone or have changed, so nothing could be compared.
    """
    if not (checkpoint / RUN_FILE).is_file() and is_whole(checkpoint):
        return []
    try:
        saved = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8"))
        hashes = saved["corpora"]
        data = dict(saved["data"])
        data["sources"] = [Source(**source) for source in data["sources"]]
        config = DataConfig(**data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{checkpoint} does not tell what it was trained on: {error}") from error
    sources = config.all_sources()
    corpora = [load_corpus(s, data_folder, tokenizer, config.valid_fraction) for s in sources]
    for corpus in corpora:
        if hashes.get(corpus.name) != corpus.manifest["sha256"]["train"]:
            raise UserError(
                f"the text of {corpus.name} has changed since the run: nothing can be compared. "
                "Put it back, or train again"
            )
    return [corpus for corpus in corpora if not is_public(corpus.source.kind)]


def is_public(kind: str) -> bool:
    """Whether all the text of such a source stands in, or is made by, the public code."""
    if kind == "drills":
        return are_shipped_words() and is_shipped_primer()
    return kind == "primer" and is_shipped_primer()


def repeated(
    data: bytes, corpora: list[Corpus], decode: Callable[[list[int]], bytes] | None
) -> str | None:
    """The name of a corpus that `data` repeats a span of, if any."""
    for corpus in corpora:
        for ids in (corpus.train, corpus.validation):
            if first_shared_span(data, np.asarray(ids), decode) is not None:
                return corpus.name
    return None


def decoder(tokenizer: Tokenizer) -> Callable[[list[int]], bytes] | None:
    """What makes bytes of ids; None where ids are bytes."""
    return None if tokenizer.kind == ByteTokenizer.kind else tokenizer.decode_bytes


def refuse_training_text(file: Path, corpora: list[Corpus], tokenizer: Tokenizer) -> None:
    """Compares one file, and of a tokenizer the tokens themselves, which its file encodes.

    Raises:
        UserError: it holds a span of training text.
    """
    data = file.read_bytes()
    if file.name == TOKENIZER_FILE:
        data += all_tokens(tokenizer)
    if (name := repeated(data, corpora, decoder(tokenizer))) is not None:
        raise UserError(f"{file.name} holds {SPAN} bytes of {name}, word for word: not published")


def all_tokens(tokenizer: Tokenizer) -> bytes:
    """Every token's bytes and the special tokens' names, one after another."""
    if tokenizer.kind == ByteTokenizer.kind:
        return b""
    return b"\0".join([*tokenizer.vocabulary, *map(str.encode, tokenizer.special)])
