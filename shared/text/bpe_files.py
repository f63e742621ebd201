"""BPE files of others: reads GPT-2's `vocab.json` and `merges.txt`, writes `tokenizer.json`.

Those files hold text, and a token may be any bytes. So each byte is shown as one
printable character: itself where that is printable, else one from 256 upwards.
Promoted by 02_tokenizer.
"""

import json
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.files import atomic_file
from shared.text.bpe import BPETokenizer

# What a file of JSON can fail with that is missing, cut off, nested without end, or another's.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
SHOWN = {byte: chr(byte) for byte in PRINTABLE} | {
    byte: chr(256 + n) for n, byte in enumerate(b for b in range(256) if b not in set(PRINTABLE))
}
BYTE_OF = {character: byte for byte, character in SHOWN.items()}


def show(token: bytes) -> str:
    """A token's bytes as printable characters: a space becomes `Ġ`."""
    return "".join(SHOWN[byte] for byte in token)


def unshow(text: str) -> bytes:
    """The bytes behind printable characters; `unshow(show(token)) == token`."""
    return bytes(BYTE_OF[character] for character in text)


def read_gpt2_files(vocab_file: str | Path, merges_file: str | Path) -> BPETokenizer:
    """The tokenizer that GPT-2 published, with its own numbering.

    Tokens that are no result of a merge, such as `<|endoftext|>`, become special.

    Raises:
        UserError: a file is missing or not of that form.
    """
    try:
        ids = json.loads(Path(vocab_file).read_text(encoding="utf-8"))
        lines = Path(merges_file).read_text(encoding="utf-8").split("\n")
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        merged = {left + right for left, right in pairs} | set(BYTE_OF)
        ordinary = sorted((t for t in ids if t in merged), key=ids.get)
        special = sorted((t for t in ids if t not in merged), key=ids.get)
        if [ids[token] for token in ordinary + special] != list(range(len(ids))):
            raise ValueError("ids are not 0, 1, 2, ... with the special ones last")
        vocabulary = [unshow(token) for token in ordinary]
        merges = [(ids[left], ids[right]) for left, right in pairs]
        return BPETokenizer(vocabulary, merges, special or ["<|endoftext|>"])
    except UNREADABLE as error:
        raise UserError(f"cannot read {vocab_file} and {merges_file}: {error!r}") from error


def write_tokenizers_json(tokenizer: BPETokenizer, path: str | Path) -> None:
    """Writes the `tokenizer.json` that the `tokenizers` library loads and encodes with alike."""
    shown = [show(token) for token in tokenizer.vocabulary]
    names = {token: number for number, token in enumerate(shown)} | tokenizer.special
    merges = [(shown[left], shown[right]) for left, right in tokenizer.merges]
    content = tokenizers_state(names, tokenizer.special, merges)
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def tokenizers_state(
    names: dict[str, int], special: dict[str, int], merges: list[tuple[str, str]]
) -> dict[str, Any]:
    """The content of a `tokenizer.json`: a byte-level BPE.

    Args:
        names: of all ids; each byte shown as one character, but for special tokens.
        special: those names that are no text.
        merges: pairs of names, in the order they were learned.
    """
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    as_it_stands = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": name, **as_it_stands, "special": True}
            for name, number in special.items()
        ],
        "pre_tokenizer": byte_level | {"use_regex": True},
        "decoder": byte_level | {"use_regex": True},
        "model": {"type": "BPE", "vocab": names, "merges": [list(pair) for pair in merges]},
    }
