"""Tokenizers on disk: one JSON file that says which kind it is and restores all of it.

Promoted by 02_tokenizer.
"""

import json
from pathlib import Path

from shared.errors import UserError
from shared.text.bpe import BPETokenizer
from shared.text.tokenizer import ByteTokenizer

Tokenizer = ByteTokenizer | BPETokenizer


def pick_tokenizer(name: str) -> Tokenizer:
    """The byte tokenizer for "bytes", else the one saved in the file `name`.

    Raises:
        UserError: no such file, or it is broken.
    """
    return ByteTokenizer() if name == ByteTokenizer.kind else load_tokenizer(name)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Reads what a tokenizer's `save` wrote.

    Raises:
        UserError: the file is missing or broken, or of a kind this version does not have.
    """
    try:
        state = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        kind = state["kind"]
        if kind == BPETokenizer.kind:
            return BPETokenizer.from_state(state)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"cannot read the tokenizer {path}: {error!r}") from error
    if kind != ByteTokenizer.kind:
        raise UserError(f"{path} holds a {kind!r} tokenizer; this version knows bytes and bpe")
    return ByteTokenizer()
