"""Checkpoints: everything a run needs to go on, in a folder that appears whole.

    <run>/checkpoints/step-0000500/
        model.safetensors  model.json      the model, in float32
        tokenizer.json                     how its ids became text
        config.json                        what the run was asked to do
        training_state.pt                  optimizer, schedule and data position, RNG
        checksums.json                     sha256 of each file above
    <run>/checkpoints/best.json            which of them validated best

Promoted by 04_training.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from shared.errors import UserError
from shared.files import atomic_file, atomic_folder, remove_folder, sweep, user_path
from shared.model.transformer import Transformer
from shared.model.weights import WEIGHTS_FILE, load_weights, save_weights
from shared.text.tokenizer_file import Tokenizer, load_tokenizer

STATE_FILE, RUN_FILE, SUMS_FILE = "training_state.pt", "config.json", "checksums.json"
BEST_FILE = "best.json"
TOKENIZER_FILE = "tokenizer.json"
DEFAULT_RUN = Path(__file__).resolve().parents[2] / "05_full_run" / "runs" / "quick"

NEW_PARTS = ("clipping",)  # a checkpoint of version 0.1.0 lacks them: they start as built


def save_checkpoint(
    folder: str | Path,
    step: int,
    model: Transformer | None,
    tokenizer: Tokenizer,
    run_config: dict[str, Any],
    parts: dict[str, Any],
    keep: int = 2,
) -> Path:
    """Writes `folder/step-<step>` atomically; then removes all but the last `keep` and the best.

    A whole checkpoint of this step stays as it is: the same step has the same weights, and
    while a folder is replaced there is a moment without either.

    Args:
        model: None in a process that writes nothing and only helps to collect `parts`.
        parts: named objects with a `state_dict` (or lists of them).

    Raises:
        UserError: the disk refuses; earlier checkpoints stay as they are.
    """
    folder, name = Path(folder), f"step-{step:07d}"
    state = collect_state(parts)
    if model is None or is_whole(folder / name):
        return folder / name
    try:
        with atomic_folder(folder / name) as place:
            sweep(folder, r"step-\d+")
            save_weights(model, place)
            tokenizer.save(place / TOKENIZER_FILE)
            (place / RUN_FILE).write_text(json.dumps(run_config, indent=2))
            torch.save(state, place / STATE_FILE)
            sums = {file.name: _sha256(file) for file in sorted(place.iterdir())}
            (place / SUMS_FILE).write_text(json.dumps(sums, indent=2))
    except (SafetensorError, RuntimeError) as error:  # how those libraries say "disk full"
        raise UserError(f"cannot write {folder / name}: {str(error).splitlines()[0]}") from error
    for old in list_checkpoints(folder)[:-keep]:
        if old.name not in (name, best_checkpoint(folder)):
            remove_folder(old)
    return folder / name


def note_best(folder: str | Path, checkpoint: str, bits_per_byte: float) -> None:
    """Remembers the checkpoint's name in `folder/best.json` if no earlier one was as good."""
    best = _read_best(Path(folder))
    if best is None or bits_per_byte < best["bits_per_byte"]:
        with atomic_file(Path(folder) / BEST_FILE) as partial:
            partial.write_text(json.dumps({"name": checkpoint, "bits_per_byte": bits_per_byte}))


def best_checkpoint(folder: str | Path) -> str | None:
    """The name that `note_best` remembered, if any."""
    best = _read_best(Path(folder))
    return None if best is None else best["name"]


def _read_best(folder: Path) -> dict[str, Any] | None:
    try:
        best = json.loads((folder / BEST_FILE).read_text())
        return best if isinstance(best["name"], str) and best["bits_per_byte"] > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def list_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints below `folder`, in the order of their steps."""
    found = [p for p in Path(folder).glob("step-*") if p.name[5:].isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint's folder: 500 for `step-0000500`."""
    return int(checkpoint.name[5:])


def collect_state(parts: dict[str, Any]) -> dict[str, Any]:
    """State of every part and of PyTorch's global generators."""
    state = {name: _state_of(part) for name, part in parts.items()}
    state["rng"] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["rng"]["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_state(checkpoint: str | Path, parts: dict[str, Any]) -> None:
    """Puts every part where it was when the checkpoint was saved.

    Raises:
        UserError: the checkpoint is broken, or from a run of another shape.
    """
    verify(checkpoint)
    try:
        state = torch.load(Path(checkpoint) / STATE_FILE, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            if name in state or name not in NEW_PARTS:
                _load_into(part, state[name])
        torch.set_rng_state(state["rng"]["cpu"])
        if torch.cuda.is_available() and "cuda" in state["rng"]:
            here = torch.cuda.device_count()  # perhaps fewer than where it was saved
            torch.cuda.set_rng_state_all(state["rng"]["cuda"][:here])
    except (KeyError, ValueError, RuntimeError, OSError, UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot resume from {checkpoint}: {reason}") from error


def load_model(
    checkpoint: str | Path, device: torch.device | str = "cpu"
) -> tuple[Transformer, Tokenizer]:
    """The model of a checkpoint in evaluation mode, and its tokenizer.

    Raises:
        UserError: a part is missing or broken, or vocabularies differ.
    """
    checkpoint = Path(checkpoint)
    verify(checkpoint)
    model, tokenizer = load_weights(checkpoint, device), load_tokenizer(checkpoint / TOKENIZER_FILE)
    if model.config.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"{checkpoint}: the model has {model.config.vocab_size} ids, "
            f"its tokenizer {tokenizer.vocab_size}: they do not belong together"
        )
    return model.eval(), tokenizer


def warn(line: str) -> None:
    """Tells on stderr, where a reply that is piped on does not go."""
    print(line, file=sys.stderr)


def find_checkpoint(path: str | Path, tell: Callable[[str], object] = warn) -> Path:
    """Finds the checkpoint that `path` means.

    That is `path` itself if it is one; the best of a run for `RUN/best`; else the
    newest of a run that is whole. Broken ones on the way are told.

    Raises:
        UserError: there is none.
    """
    path = user_path(path)
    if (path / WEIGHTS_FILE).is_file():
        return path
    if path.name == "best" and (name := best_checkpoint(path.parent / "checkpoints")):
        return path.parent / "checkpoints" / name
    found = newest_whole(path / "checkpoints", tell) or newest_whole(path, tell)
    if found is None:
        raise UserError(f"no checkpoint in {path}: train one with `python 05_full_run/full_run.py`")
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
        sums = json.loads((checkpoint / SUMS_FILE).read_text())
        broken = [name for name, value in sums.items() if _sha256(checkpoint / name) != value]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"the checkpoint {checkpoint} is broken: {error}") from error
    if broken:
        raise UserError(
            f"the checkpoint {checkpoint} is broken: {', '.join(broken)} changed since it was saved"
        )


def _state_of(part: Any) -> Any:
    return [_state_of(p) for p in part] if isinstance(part, Sequence) else part.state_dict()


def _load_into(part: Any, state: Any) -> None:
    if isinstance(part, Sequence):
        for one, its_state in zip(part, state, strict=True):
            _load_into(one, its_state)
    else:
        part.load_state_dict(state)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
