"""File trees: the files of a folder or a .zip, in one order on every system.

People's notes are wild: links that loop or dangle, names in any script, files
that cannot be read. What cannot be read is passed over and told, never fatal.
Promoted by 02_tokenizer.
"""

import os
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from shared.errors import UserError
from shared.files import user_path

OnSkip = Callable[[str, str], None]


@dataclass(frozen=True)
class TreeFile:
    """One file: its name in the tree, what tells whether it changed, and how to open it."""

    name: str
    """path below the root, with `/`"""
    stamp: tuple[int, int]
    """size, and modification time (folder) or checksum (.zip)"""
    open: Callable[[], IO[bytes]]


def ignore_skips(name: str, reason: str) -> None:
    """An `OnSkip` for those who do not ask."""


def existing(path: str | Path) -> Path:
    """The path with `~` resolved.

    Raises:
        UserError: nothing is there, or the path is "", which would mean the current folder.
    """
    if not str(path):
        raise UserError("the path is empty: name a file or folder (is a shell variable not set?)")
    path = user_path(path)
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    return path


def is_tree(path: Path) -> bool:
    """True for what holds many files: a folder or a .zip."""
    return path.is_dir() or path.suffix.lower() == ".zip"


def list_tree(
    path: str | Path, suffixes: tuple[str, ...], on_skip: OnSkip = ignore_skips
) -> list[TreeFile]:
    """The files with one of the suffixes below a folder or in a .zip, or one file alone.

    The order is that of the names' bytes in Unicode form NFC, so that systems which
    store "é" as one character or as two agree. Links to folders are not followed
    (they may loop); hidden folders, such as Obsidian's `.trash`, are left out.

    Args:
        on_skip: called with the name and the reason of whatever is passed over.

    Raises:
        UserError: nothing is there, or the .zip is broken.
    """
    path = existing(path)
    if path.is_dir():
        found = list(_in_folder(path, suffixes, on_skip))
    elif path.suffix.lower() == ".zip":
        found = list(_in_zip(path, suffixes, on_skip))
    else:
        size, changed = path.stat().st_size, path.stat().st_mtime_ns
        found = [TreeFile(path.name, (size, changed), partial(path.open, "rb"))]
    return sorted(found, key=lambda file: _order(file.name))


def stable_name(name: str) -> str:
    """The name in Unicode form NFC: what order and split go by."""
    return unicodedata.normalize("NFC", name)


def _order(name: str) -> tuple[bytes, bytes]:
    return tuple(os.fsencode(n) for n in (stable_name(name), name))


def _in_folder(root: Path, suffixes: tuple[str, ...], on_skip: OnSkip) -> Iterator[TreeFile]:
    def cannot_list(error: OSError) -> None:
        on_skip(os.path.relpath(error.filename, root), f"cannot be listed ({error.strerror})")

    for folder, folders, files in os.walk(root, onerror=cannot_list):
        here = Path(folder)
        for name in list(folders):
            below = (here / name).relative_to(root).as_posix()
            if name.startswith("."):
                folders.remove(name)
                on_skip(below, "hidden folder")
            elif (here / name).is_symlink():  # os.walk does not enter it
                on_skip(below, "link to a folder")
        for name in files:
            if name.lower().endswith(suffixes):
                yield from _one_file(root, here / name, on_skip)


def _one_file(root: Path, path: Path, on_skip: OnSkip) -> Iterator[TreeFile]:
    name = path.relative_to(root).as_posix()
    try:
        facts = path.stat()
    except OSError as error:
        dangling = path.is_symlink()
        on_skip(name, "dangling link" if dangling else f"unreadable ({error.strerror})")
        return
    if stat.S_ISREG(facts.st_mode):  # a pipe would be waited on for ever
        yield TreeFile(name, (facts.st_size, facts.st_mtime_ns), partial(path.open, "rb"))
    else:
        on_skip(name, "not a regular file")


def _in_zip(path: Path, suffixes: tuple[str, ...], on_skip: OnSkip) -> Iterator[TreeFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"cannot read the .zip {path}: {error}") from error
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    entries = [entry for entry in entries if not entry.filename.startswith("__MACOSX/")]
    # A folder packed as a whole stands in the .zip under its own name, `notes.zip: notes/...`.
    packed_whole = all(entry.filename.startswith(f"{path.stem}/") for entry in entries)
    for entry in entries:
        name = entry.filename.removeprefix(f"{path.stem}/") if packed_whole else entry.filename
        if not name.lower().endswith(suffixes):
            continue
        if any(part.startswith(".") for part in name.split("/")[:-1]):
            on_skip(name, "hidden folder")
        elif entry.flag_bits & 1:
            on_skip(name, "encrypted")
        else:
            stamp = (entry.file_size, entry.CRC)
            yield TreeFile(name, stamp, partial(archive.open, entry))
