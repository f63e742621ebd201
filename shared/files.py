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
        aside = place.with_name(f".{place.name}.{os.getpid()}.aside.partial")
        if place.exists():
            place.rename(aside)
        partial.rename(place)
        shutil.rmtree(aside, ignore_errors=True)
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
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
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


def user_path(path: str | Path) -> Path:
    """A path that a person typed, with `~` resolved; nothing need be there.

    Raises:
        UserError: it can be no path: too long, an unknown user's home, a NUL in it.
    """
    try:
        resolved = Path(path).expanduser()
        resolved.exists()
        return resolved
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{str(path)[:60]!r} cannot be a path here: {error}") from error


def _sweep(folder: Path) -> None:
    """Removes what killed processes left half-written, and nothing of those still running."""
    for left in folder.glob(".*.partial*"):
        pid = next((part for part in left.name.split(".")[::-1] if part.isdigit()), "")
        if pid and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
            with suppress(OSError):  # a file, which rmtree does not take
                left.unlink()


def _flush_to_disk(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())
