"""Tokenizers on disk: one JSON file that says which kind it is and restores all of it.

Promoted by 02_tokenizer.
"""

import json
import re
from pathlib import Path

from shared.errors import UserError
from shared.files import user_path
from shared.text.bpe import BPETokenizer
from shared.text.bpe_files import UNREADABLE, read_gpt2_files
from shared.text.pretrained import PretrainedTokenizer, download_tokenizer
from shared.text.tokenizer import ByteTokenizer

Tokenizer = ByteTokenizer | BPETokenizer | PretrainedTokenizer
HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")  # gpt2, or meta-llama/Llama-3.2-1B


def pick_tokenizer(name: str) -> Tokenizer:
    """The tokenizer that a person named.

    Args:
        name: "bytes"; a file or folder that is here; else a model on the Hugging Face hub.
            A file is one of ours or a `tokenizer.json`; a folder holds one of them, or
            GPT-2's `vocab.json` and `merges.txt`, which our own BPE reads.

    Raises:
        UserError: no such tokenizer, it is broken, or it is not to be had.
    """
    if name == ByteTokenizer.kind:
        return ByteTokenizer()
    path = user_path(name)
    if path.is_dir():
        return _from_folder(path)
    if path.exists() or name.endswith(".json") or not HUB_NAME.fullmatch(name):
        return load_tokenizer(path)
    return load_tokenizer(download_tokenizer(name))


def _from_folder(folder: Path) -> Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder / "tokenizer.json")
    gpt2_files = folder / "vocab.json", folder / "merges.txt"
    if all(file.is_file() for file in gpt2_files):
        return read_gpt2_files(*gpt2_files)
    raise UserError(f"the folder {folder} holds no tokenizer.json, nor vocab.json and merges.txt")


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Reads what a tokenizer's `save` wrote, or a `tokenizer.json` of the `tokenizers` library.

    Raises:
        UserError: the file is missing or broken, of a kind this version does not have, or
            it needs the `tokenizers` package.
    """
    try:
        state = json.loads(user_path(path).read_text(encoding="utf-8"))
        if "model" in state and "kind" not in state:
            return PretrainedTokenizer(state)
        kind = state["kind"]
        if kind == PretrainedTokenizer.kind:
            return PretrainedTokenizer(state["tokenizer"])
        if kind == BPETokenizer.kind:
            return BPETokenizer.from_state(state)
    except UNREADABLE as error:
        raise UserError(f"cannot read the tokenizer {path}: {error!r}") from error
    if kind != ByteTokenizer.kind:
        raise UserError(
            f"{path} holds a {kind!r} tokenizer; this version knows bytes, bpe and pretrained"
        )
    return ByteTokenizer()
