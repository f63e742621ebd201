"""Tokenizers for other people's engines: the same ids, in the files that those read.

They know byte-level BPE: each byte is shown as one printable character (`bpe_files.SHOWN`), and
merges join them. Bytes alone are such a BPE with nothing to merge. What ends a text must be a
token of its own there, with a name that no text contains. A byte's ends a text with 0x1E: that
id is named by the very character, which text has no use for, and not by what it is shown as:
that is a letter (`Ğ`), and every `Ğ` of a Turkish text would end it.
Promoted by 02_tokenizer.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import UserError
from shared.text.bpe_files import UNREADABLE, show, tokenizers_state
from shared.text.pretrained import PretrainedTokenizer
from shared.text.tokenizer import ByteTokenizer
from shared.text.tokenizer_file import Tokenizer, pick_tokenizer


class EngineTokens(NamedTuple):
    """A byte-level BPE as those engines name its parts."""

    names: dict[str, int]
    """what each id is called: its bytes as printable characters, or a special token's name"""
    special: dict[str, int]
    """those that are no text; the first ends one"""
    merges: list[tuple[str, str]]
    """pairs of names, in the order they were learned"""


def engine_tokens(tokenizer: Tokenizer) -> EngineTokens:
    """The parts of a tokenizer of ours.

    Raises:
        UserError: it is another's, or two of its tokens would have one name.
    """
    if tokenizer.kind == PretrainedTokenizer.kind:
        raise UserError("a pretrained tokenizer is no tokenizer of ours: take its own files")
    bytes_only = tokenizer.kind == ByteTokenizer.kind
    end = tokenizer.end_of_text
    special = {chr(end): end} if bytes_only else dict(tokenizer.special)
    spoken = (i for i in range(tokenizer.vocab_size) if i not in special.values())
    names = {show(tokenizer.token_bytes(i)): i for i in spoken} | special
    if len(names) < tokenizer.vocab_size:
        raise UserError("two tokens would have one name: a special token is called like a text's")
    shown = {} if bytes_only else [show(token) for token in tokenizer.vocabulary]
    merges = [] if bytes_only else [(shown[a], shown[b]) for a, b in tokenizer.merges]
    names = dict(sorted(names.items(), key=lambda item: item[1]))
    return EngineTokens(names, special, merges)


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a `tokenizer.json`; a text gets the end-of-text id in front, as in training.

    Raises:
        UserError: see `engine_tokens`.
    """
    if tokenizer.kind == PretrainedTokenizer.kind:
        state, end = tokenizer.state, end_name(tokenizer)
    else:
        tokens = engine_tokens(tokenizer)
        state, end = tokenizers_state(*tokens), end_name(tokenizer)
    return state | {"post_processor": begins_with(end, tokenizer.end_of_text)}


def end_name(tokenizer: Tokenizer) -> str:
    """What the id that ends a text is called there."""
    if tokenizer.kind == ByteTokenizer.kind:
        return chr(tokenizer.end_of_text)
    return next(n for n, number in tokenizer.special.items() if number == tokenizer.end_of_text)


def begins_with(name: str, number: int) -> dict[str, Any]:
    """The part of a `tokenizer.json` that puts a special token in front of a text."""
    first, text = {"SpecialToken": {"id": name, "type_id": 0}}, {"id": "A", "type_id": 0}
    other = {"Sequence": {"id": "B", "type_id": 0}}
    single = [first, {"Sequence": text}]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, other],
        "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]}},
    }


def read_engine_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder that those engines read; the bytes' comes back as the bytes'.

    Raises:
        UserError: the folder holds none, or one that is broken or not covered.
    """
    try:
        state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        if state["model"]["vocab"] == engine_tokens(ByteTokenizer()).names:
            return ByteTokenizer()
    except UNREADABLE:
        pass  # then the next line says what is wrong
    return pick_tokenizer(str(folder))
