"""Atomic writes: a file or folder appears whole, or not at all.

Promoted by 02_tokenizer.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from shared.errors import UserError


@contextmanager
def atomic_folder(place: str | Path) -> Iterator[Path]:
    """Yields an empty folder to fill; on success it becomes `place`, replacing what was there.

    If the block fails nothing is left behind and the old `place` stays.

    Raises:
        UserError: the disk refuses (full, read-only).
    """
    place = Path(place)
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _sweep(place.parent)
        yield partial
        for file in partial.iterdir():
            _flush_to_disk(file)
        remove_folder(place)
        partial.rename(place)
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_folder(place: str | Path) -> None:
    """Removes a folder so that a crash half way leaves none of its name; absent is fine."""
    place = Path(place)
    if place.exists():
        doomed = place.with_name(f".{place.name}.{os.getpid()}.removed.partial")
        place.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields a path to write to; on success that file becomes `path`.

    Raises:
        UserError: the disk refuses (full, read-only).
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _flush_to_disk(partial)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _sweep(folder: Path) -> None:
    """Removes what killed processes left half-written, and nothing of those still running."""
    for left in folder.glob(".*.partial"):
        pid = next((part for part in left.name.split(".")[::-1] if part.isdigit()), "")
        if pid and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _flush_to_disk(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())
