"""Readers of local files: each yields named documents in a stable order, uncleaned.

Promoted by 02_tokenizer.
"""

import json
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shared.errors import UserError
from shared.text.file_tree import OnSkip, existing, ignore_skips, list_tree, stable_name
from shared.text.tokenizer import to_bytes

TEXT_SUFFIXES = (".txt", ".text")
MARKDOWN_SUFFIXES = (".md", ".markdown")
JSONL_SUFFIXES = (".jsonl", ".jsonl.xz")

# What a file, or an entry of a .zip in any of its compressions, can fail with.
UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


class Document(NamedTuple):
    """One named text. `split` is set only where the corpus itself decides it."""

    name: str
    data: bytes
    split: str | None = None


def read_markdown(path: str | Path, on_skip: OnSkip = ignore_skips) -> Iterator[Document]:
    """Every `.md` file of a folder or .zip, such as a Roam, Obsidian or Logseq export.

    Names are paths below the root, with `/`. Bytes are passed on as they are. Files
    that cannot be read, and empty ones, are passed over and told to `on_skip`.

    Raises:
        UserError: no such path, or no `.md` file in it.
    """
    return _read_files(path, MARKDOWN_SUFFIXES, on_skip)


def read_text(path: str | Path, on_skip: OnSkip = ignore_skips) -> Iterator[Document]:
    """A `.txt` file, or every `.txt` file of a folder or .zip, in stable order.

    Raises:
        UserError: no such path, or no `.txt` file in it.
    """
    return _read_files(path, TEXT_SUFFIXES, on_skip)


def read_jsonl(path: str | Path, text_field: str = "text") -> Iterator[Document]:
    """A `.jsonl` or `.jsonl.xz` file: one JSON object a line, text in `text_field`.

    Documents are named by their line number.

    Raises:
        UserError: no such file, a broken one, a line that is not JSON, or one without
            `text_field`.
    """
    path = existing(path)
    try:
        with (lzma.open if path.suffix == ".xz" else open)(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    text = _text_of(line, text_field, f"{path}:{number}")
                    yield Document(f"{number:08d}", text)
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _read_files(path: str | Path, suffixes: tuple[str, ...], on_skip: OnSkip) -> Iterator[Document]:
    files = list_tree(path, suffixes, on_skip)
    if not files:
        raise UserError(f"no {' or '.join(suffixes)} file below {path}")
    for file in files:
        try:
            data = file.read()
        except UNREADABLE as error:
            on_skip(file.name, f"unreadable ({getattr(error, 'strerror', None) or error})")
            continue
        if data:
            yield Document(stable_name(file.name), data)
        else:
            on_skip(file.name, "empty")


def _text_of(line: bytes, field: str, place: str) -> bytes:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not a JSON object ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get(field), str):
        keys = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        raise UserError(f"{place}: no text field {field!r}; it has: {keys}. Set text_field.")
    return to_bytes(record[field])
