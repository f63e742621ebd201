"""Atomic writes: a file or folder appears whole, or not at all.

What is being written stands under another name until then:
`.<name>.<host>-<process>.tiny-llm-partial`. Nobody else gives such names, so what a killed
process left can be told from a person's own files.
Promoted by 02_tokenizer.
"""

import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from shared.errors import UserError

MARK = ".tiny-llm-partial"
# On a shared disk a process of another machine may have a number that none has here.
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@contextmanager
def atomic_folder(place: str | Path) -> Iterator[Path]:
    """Yields an empty folder to fill; on success it becomes `place`, replacing what was there.

    If the block fails nothing is left behind and the old `place` stays. A full folder cannot
    be replaced in one move: a kill between the two leaves none. So what cannot be made again
    is written to a new place.

    Raises:
        UserError: the disk refuses (full, read-only).
    """
    place = Path(place)
    partial = _partial(place)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        sweep(place.parent, re.escape(place.name))
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                _flush_to_disk(file)
        remove_folder(place)
        partial.rename(place)
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_folder(place: Path) -> None:
    """Makes a folder and those above it; one that is there already is fine.

    Raises:
        UserError: the disk refuses.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {place}: {error.strerror}") from error


def remove_folder(place: str | Path) -> None:
    """Removes a folder so that a crash half way leaves none of its name; absent is fine."""
    place = Path(place)
    if place.exists():
        doomed = _partial(place, ".removed")
        place.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields a path to write to; on success that file becomes `path`.

    Raises:
        UserError: the disk refuses (full, read-only).
    """
    path = Path(path)
    partial = _partial(path, path.suffix)  # some writers go by the ending
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, re.escape(path.name))
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
        if "\0" in str(resolved):  # exists() says no more than that it is not there
            raise ValueError("it holds a NUL")
        resolved.exists()
        return resolved
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{str(path)[:60]!r} cannot be a path here: {error}") from error


def sweep(folder: Path, names: str) -> None:
    """Removes what killed processes of this machine left of writing `names` into the folder.

    Args:
        names: a regular expression; files and folders of other names are not touched.
    """
    ours = re.compile(rf"\.(?:{names})\.{HOST}-(\d+){re.escape(MARK)}(\.\w+)?")
    for left in folder.iterdir():
        match = ours.fullmatch(left.name)
        if match and not psutil.pid_exists(int(match[1])):
            shutil.rmtree(left, ignore_errors=True)
            with suppress(OSError):  # a file, which rmtree does not take
                left.unlink()


def _partial(place: Path, ending: str = "") -> Path:
    return place.with_name(f".{place.name}.{HOST}-{os.getpid()}{MARK}{ending}")


def _flush_to_disk(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())
