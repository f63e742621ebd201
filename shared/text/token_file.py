"""Token files: a corpus encoded once, kept on disk, read through a memory map.

    <folder>/train.bin  <folder>/validation.bin  <folder>/manifest.json

Ids lie one after another in the smallest unsigned type that holds the vocabulary,
each document closed by the end-of-text id. The folder is written under another
name and renamed when whole, so a half-written corpus is never used.
Promoted by 02_tokenizer.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import UserError
from shared.files import atomic_folder, user_path
from shared.privacy import without_folders
from shared.text.byte_table import ByteTable
from shared.text.corpora import Document
from shared.text.file_tree import OnSkip, ignore_skips
from shared.text.replies import ids_in_replies
from shared.text.sources import Source, fingerprint, read_source, tell_other_kinds
from shared.text.splits import TRAIN, VALIDATION, split_documents
from shared.text.tokenizer_file import Tokenizer

DATA_VARIABLE = "TINY_LLM_DATA"  # an environment variable: another folder for token files
FORMAT = 2  # raise it when the meaning of the files changes


@dataclass(frozen=True)
class Corpus:
    """One source as ids: two memory maps of shape (number of ids,), and what they hold."""

    source: Source
    train: np.ndarray
    validation: np.ndarray
    manifest: dict[str, Any]
    train_replies: np.ndarray | None = None
    """which training ids the assistant says, (ids,) bool; none: all count alike"""
    validation_replies: np.ndarray | None = None
    """the same of the validation ids"""
    reply_bytes: int = 0
    """bytes of text behind the validation ids that the assistant says"""

    @property
    def name(self) -> str:
        """The source's spec, without folders that only its owner should know."""
        return without_folders(self.source.spec)

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text for each validation id that counts (end-of-text ids carry none)."""
        if self.validation_replies is not None:
            return self.reply_bytes / max(1, np.count_nonzero(self.validation_replies))
        return self.manifest["bytes"][VALIDATION] / max(1, len(self.validation))


def data_folder(default: Path) -> Path:
    """Where token files go: where `TINY_LLM_DATA` says, else `default`."""
    return user_path(os.environ.get(DATA_VARIABLE) or default)


def load_corpus(
    source: Source,
    folder: str | Path,
    tokenizer: Tokenizer,
    valid_fraction: float,
    on_bytes: Callable[[int], None] = lambda count: None,
    on_skip: OnSkip = ignore_skips,
) -> Corpus:
    """Opens the source's token files below `folder`, writing them first if need be.

    Args:
        on_bytes: called with the bytes of each document as it is written.
        on_skip: called with name and reason of each file that was passed over then, or is now.

    Raises:
        UserError: the source cannot be read, holds no text, or no reply where replies count.
    """
    place = Path(folder) / _folder_name(source, tokenizer)
    wanted = {
        "format": FORMAT,
        "fingerprint": fingerprint(source),
        "tokenizer": tokenizer.identity,
        "valid_fraction": valid_fraction,
    }
    if not _is_whole(place, wanted):
        _write(place, source, tokenizer, wanted, on_bytes)
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    for name, reason in manifest["skipped"]:
        on_skip(name, reason)
    tell_other_kinds(source, on_skip)
    dtype = np.dtype(manifest["dtype"])
    train, validation = _open(place, TRAIN, dtype), _open(place, VALIDATION, dtype)
    if source.questions == 1:
        return Corpus(source, train, validation, manifest)
    replies = _replies(source, train, validation, ByteTable(tokenizer))
    return Corpus(source, train, validation, manifest, *replies)


def document_lengths(ids: np.ndarray, end_of_text: int) -> np.ndarray:
    """How many ids each document of a token file has, its end not counted: (documents,)."""
    return np.diff(np.flatnonzero(ids == end_of_text), prepend=-1) - 1


def id_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds ids below `vocab_size`."""
    return np.min_scalar_type(vocab_size - 1)


def _folder_name(source: Source, tokenizer: Tokenizer) -> str:
    state = json.dumps([source.reading, tokenizer.identity])
    digest = hashlib.sha256(state.encode()).hexdigest()[:8]
    return (
        re.sub(r"[^A-Za-z0-9]+", "-", without_folders(source.spec)).strip("-")[:40] + "-" + digest
    )


def _is_whole(place: Path, wanted: dict[str, Any]) -> bool:
    try:
        manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
        itemsize = np.dtype(manifest["dtype"]).itemsize
        sizes_hold = all(
            (place / f"{split}.bin").stat().st_size == itemsize * manifest["ids"][split]
            for split in (TRAIN, VALIDATION)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return sizes_hold and all(manifest.get(key) == value for key, value in wanted.items())


def _write(
    place: Path,
    source: Source,
    tokenizer: Tokenizer,
    wanted: dict[str, Any],
    on_bytes: Callable[[int], None],
) -> None:
    skipped: list[tuple[str, str]] = []
    documents = read_source(source, lambda *skip: skipped.append(skip))
    with atomic_folder(place) as partial:
        counts = _write_ids(partial, documents, tokenizer, wanted["valid_fraction"], on_bytes)
        if not counts["ids"][TRAIN]:
            raise UserError(f"source {source.spec!r} holds no text to train on")
        manifest = {"source": without_folders(source.spec), **wanted, **counts, "skipped": skipped}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def _write_ids(
    partial: Path,
    documents: Iterator[Document],
    tokenizer: Tokenizer,
    valid_fraction: float,
    on_bytes: Callable[[int], None],
) -> dict[str, Any]:
    dtype = id_dtype(tokenizer.vocab_size)
    end = np.array([tokenizer.end_of_text], dtype).tobytes()
    splits = (TRAIN, VALIDATION)
    counted = ("documents", "conversations", "bytes", "ids")
    count = {what: dict.fromkeys(splits, 0) for what in counted}
    digests = {split: hashlib.sha256() for split in splits}
    files = {split: open(partial / f"{split}.bin", "wb") for split in splits}
    try:
        for _, data, split, is_conversation in split_documents(documents, valid_fraction):
            encoded = tokenizer.encode(data).astype(dtype, copy=False).tobytes() + end
            files[split].write(encoded)
            digests[split].update(encoded)
            count["documents"][split] += 1
            count["conversations"][split] += is_conversation
            count["bytes"][split] += len(data)
            count["ids"][split] += len(encoded) // dtype.itemsize
            on_bytes(len(data))
    finally:
        for file in files.values():
            file.close()
    sha256 = {split: digest.hexdigest() for split, digest in digests.items()}
    return {"dtype": dtype.name, "sha256": sha256, **count}


def _replies(
    source: Source, train: np.ndarray, validation: np.ndarray, table: ByteTable
) -> tuple[np.ndarray, np.ndarray, int]:
    replies = ids_in_replies(train, table), ids_in_replies(validation, table)
    if not replies[0].any():
        raise UserError(
            f"source {source.spec!r}: questions is {source.questions}, but it holds no "
            "conversation with a reply of the assistant: set it to 1"
        )
    return *replies, int(table.text_lengths[validation[replies[1]]].sum())


def _open(place: Path, split: str, dtype: np.dtype) -> np.ndarray:
    path = place / f"{split}.bin"
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")
