"""Readers of local files: each yields named documents in a stable order, uncleaned.

Promoted by 02_tokenizer.
"""

import json
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import UserError
from shared.text.conversations import MESSAGES, messages_of, split_transcripts
from shared.text.file_tree import (
    OnSkip,
    TreeFile,
    existing,
    ignore_skips,
    is_tree,
    list_tree,
    stable_name,
)
from shared.text.tokenizer import to_bytes
from shared.text.transcript import Message, render

TEXT_SUFFIXES = (".txt", ".text")
MARKDOWN_SUFFIXES = (".md", ".markdown")
JSONL_SUFFIXES = (".jsonl", ".jsonl.xz")

# What a file, or an entry of a .zip in any of its compressions, can fail with.
UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


class Document(NamedTuple):
    """One named text."""

    name: str
    data: bytes
    split: str | None = None
    """set only where the corpus itself decides it"""
    is_conversation: bool = False
    """never cut"""


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


def read_jsonl(
    path: str | Path, text_field: str = "text", on_skip: OnSkip = ignore_skips
) -> Iterator[Document]:
    """A `.jsonl` or `.jsonl.xz` file, or those of a folder or .zip: a JSON object a line.

    Documents are named by their line number, and below a root by the file's path before it.

    Raises:
        UserError: no such file, a broken one, a line that is not JSON, or one without
            `text_field`.
    """
    for name, place, row in _rows(path, on_skip):
        yield Document(name, _text_of(row, text_field, place))


def read_conversations(path: str | Path, on_skip: OnSkip = ignore_skips) -> Iterator[Document]:
    """The same files with `{"messages": [{"role", "content"}, ...]}` on each line.

    Raises:
        UserError: no such file, a broken one, or a line that is no conversation.
    """
    for name, place, row in _rows(path, on_skip):
        yield conversation(name, messages_of(row, place))


def read_transcripts(path: str | Path, on_skip: OnSkip = ignore_skips) -> Iterator[Document]:
    """The conversations of a `.txt` file, or of those of a folder or .zip: see `transcript.py`.

    Documents are named by their first line's number, and the file's path before it.

    Raises:
        UserError: no such path, no `.txt` file in it, or one that holds something else.
    """
    for name, data, *_ in read_text(path, on_skip):
        text = data.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n")
        for line, messages in split_transcripts(text, name):
            yield conversation(f"{name}/{line:08d}", messages)


def conversation(name: str, messages: list[Message], split: str | None = None) -> Document:
    """A conversation as the document that a model reads."""
    return Document(name, to_bytes(render(messages)), split, is_conversation=True)


def holds_messages(path: str | Path) -> bool:
    """True if the first row of these `.jsonl` files has messages, and no text beside them."""
    try:
        _, _, row = next(_rows(path), (None, None, None))
    except UserError:  # the reader will tell
        return False
    return isinstance(row, dict) and MESSAGES in row and "text" not in row


def _rows(path: str | Path, on_skip: OnSkip = ignore_skips) -> Iterator[tuple[str, str, Any]]:
    """Name, place and value of each line that is not blank."""
    path = existing(path)
    for file in _listed(path, JSONL_SUFFIXES, on_skip):
        below, place = "", path
        if is_tree(path):
            below, place = f"{stable_name(file.name)}/", path / file.name
        try:
            with file.open() as raw:
                lines = lzma.open(raw) if file.name.lower().endswith(".xz") else raw
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        here = f"{place}:{number}"
                        yield f"{below}{number:08d}", here, _parsed(line, here)
        except UNREADABLE as error:
            raise UserError(f"cannot read {place}: {error}") from error


def _parsed(line: bytes, place: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not a JSON object ({error})") from error


def _text_of(row: Any, field: str, place: str) -> bytes:
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        keys = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise UserError(f"{place}: no text field {field!r}; it has: {keys}. Set text_field.")
    return to_bytes(row[field])


def _read_files(path: str | Path, suffixes: tuple[str, ...], on_skip: OnSkip) -> Iterator[Document]:
    for file in _listed(path, suffixes, on_skip):
        try:
            with file.open() as opened:
                data = opened.read()
        except UNREADABLE as error:
            on_skip(file.name, f"unreadable ({getattr(error, 'strerror', None) or error})")
            continue
        if data:
            yield Document(stable_name(file.name), data)
        else:
            on_skip(file.name, "empty")


def _listed(path: str | Path, suffixes: tuple[str, ...], on_skip: OnSkip) -> list[TreeFile]:
    files = list_tree(path, suffixes, on_skip)
    if not files:
        raise UserError(f"no {' or '.join(suffixes)} file below {path}")
    return files
