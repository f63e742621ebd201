"""Readers of local files: each yields named documents in a stable order, uncleaned.

Promoted by 02_tokenizer.
"""

import json
import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shared.errors import UserError
from shared.text.tokenizer import to_bytes

TEXT_SUFFIXES = (".txt", ".text")
MARKDOWN_SUFFIXES = (".md", ".markdown")
JSONL_SUFFIXES = (".jsonl", ".jsonl.xz")


class Document(NamedTuple):
    """One named text. `split` is set only where the corpus itself decides it."""

    name: str
    data: bytes
    split: str | None = None


def read_markdown(folder: str | Path) -> Iterator[Document]:
    """Every `.md` file below a folder, such as a Roam, Obsidian or Logseq export.

    Names are paths relative to the folder, with `/`, in byte order: the same on
    every system. Bytes are passed on as they are.

    Raises:
        UserError: no such folder, or no `.md` file in it.
    """
    return _read_files(Path(folder), MARKDOWN_SUFFIXES)


def read_text(path: str | Path) -> Iterator[Document]:
    """A `.txt` file, or every `.txt` file below a folder, in stable order.

    Raises:
        UserError: no such path, or no `.txt` file in it.
    """
    return _read_files(Path(path), TEXT_SUFFIXES)


def read_jsonl(path: str | Path, text_field: str = "text") -> Iterator[Document]:
    """A `.jsonl` or `.jsonl.xz` file: one JSON object a line, text in `text_field`.

    Documents are named by their line number.

    Raises:
        UserError: no such file, a line that is not JSON, or one without `text_field`.
    """
    path = existing(path)
    with (lzma.open if path.suffix == ".xz" else open)(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield Document(f"{number:08d}", _text_of(line, text_field, f"{path}:{number}"))


def existing(path: str | Path) -> Path:
    """The path with `~` resolved.

    Raises:
        UserError: nothing is there.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    return path


def list_files(path: str | Path, suffixes: tuple[str, ...]) -> list[tuple[str, Path]]:
    """(name, path) of every file with one of the suffixes, in byte order of the name."""
    path = existing(path)
    if path.is_file():
        return [(path.name, path)]
    found = []
    for folder, _, files in os.walk(path):  # does not follow links to folders
        for file in files:
            if file.lower().endswith(suffixes):
                full = Path(folder, file)
                found.append((full.relative_to(path).as_posix(), full))
    return sorted(found, key=lambda pair: os.fsencode(pair[0]))


def _read_files(path: Path, suffixes: tuple[str, ...]) -> Iterator[Document]:
    files = list_files(path, suffixes)
    if not files:
        raise UserError(f"no {' or '.join(suffixes)} file below {path}")
    for name, file in files:
        yield Document(name, file.read_bytes())


def _text_of(line: bytes, field: str, place: str) -> bytes:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: not a JSON object ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get(field), str):
        keys = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        raise UserError(f"{place}: no text field {field!r}; it has: {keys}. Set text_field.")
    return to_bytes(record[field])
