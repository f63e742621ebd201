"""Which checkpoints a run has: listed, checked against their checksums, the best remembered.

    <run>/checkpoints/step-0000500/    one of them; see `shared/training/checkpoint.py`
    <run>/checkpoints/best.json        which one validated best

Promoted by 04_training.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.files import atomic_file, user_path
from shared.model.interop_folder import is_their_folder
from shared.model.weights import WEIGHTS_FILE

SUMS_FILE, BEST_FILE = "checksums.json", "best.json"


def warn(line: str) -> None:
    """Tells on stderr, where a reply that is piped on does not go."""
    print(line, file=sys.stderr)


def find_checkpoint(path: str | Path, tell: Callable[[str], object] = warn) -> Path:
    """Finds the checkpoint that `path` means.

    That is `path` itself if it is one, or another engine's folder; the best of a run for
    `RUN/best`; else the newest of a run that is whole. Broken ones on the way are told.

    Raises:
        UserError: there is none.
    """
    path = user_path(path)
    if (path / WEIGHTS_FILE).is_file() or is_their_folder(path):
        return path
    if path.name == "best" and (name := best_checkpoint(path.parent / "checkpoints")):
        return path.parent / "checkpoints" / name
    found = newest_whole(path / "checkpoints", tell) or newest_whole(path, tell)
    if found is None:
        raise UserError(f"no checkpoint in {path}: train one first, with full_run.py")
    return found


def newest_whole(folder: str | Path, tell: Callable[[str], object]) -> Path | None:
    """The newest checkpoint below `folder` that is not broken, broken ones told; None: it has none.

    Raises:
        UserError: all of them are broken.
    """
    found = list_checkpoints(folder)
    for checkpoint in reversed(found):
        try:
            verify(checkpoint)
            return checkpoint
        except UserError as error:
            tell(f"{error}; going back to the one before")
    if found:
        names = ", ".join(checkpoint.name for checkpoint in found)
        raise UserError(
            f"every checkpoint in {folder} is broken ({names}): put a copy of one back, or train "
            "anew (--fresh sets this run aside)"
        )
    return None


def list_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints below `folder`, in the order of their steps."""
    found = [p for p in Path(folder).glob("step-*") if p.name[5:].isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint's folder: 500 for `step-0000500`."""
    return int(checkpoint.name[5:])


def is_whole(checkpoint: str | Path) -> bool:
    """Whether it is there with its checksums, and they hold."""
    try:
        verify(checkpoint)
    except UserError:
        return False
    return (Path(checkpoint) / SUMS_FILE).is_file()


def verify(checkpoint: str | Path) -> None:
    """Compares every file with the checksum saved beside it; silent where there is none.

    Raises:
        UserError: a file is missing or has changed; it is named.
    """
    checkpoint = Path(checkpoint)
    if not (checkpoint / SUMS_FILE).is_file():
        return
    try:
        sums = json.loads((checkpoint / SUMS_FILE).read_text(encoding="utf-8"))
        broken = [name for name, value in sums.items() if sha256(checkpoint / name) != value]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"the checkpoint {checkpoint} is broken: {error}") from error
    if broken:
        raise UserError(
            f"the checkpoint {checkpoint} is broken: {', '.join(broken)} changed since it was saved"
        )


def sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_best(folder: str | Path, checkpoint: str, bits_per_byte: float) -> None:
    """Remembers the checkpoint's name in `folder/best.json` if no earlier one was as good."""
    best = _read_best(Path(folder))
    if best is None or bits_per_byte < best["bits_per_byte"]:
        with atomic_file(Path(folder) / BEST_FILE) as partial:
            partial.write_text(
                json.dumps({"name": checkpoint, "bits_per_byte": bits_per_byte}), encoding="utf-8"
            )


def best_checkpoint(folder: str | Path) -> str | None:
    """The name that `note_best` remembered, if any."""
    best = _read_best(Path(folder))
    return None if best is None else best["name"]


def _read_best(folder: Path) -> dict[str, Any] | None:
    try:
        best = json.loads((folder / BEST_FILE).read_text(encoding="utf-8"))
        return best if isinstance(best["name"], str) and best["bits_per_byte"] > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
