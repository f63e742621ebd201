"""Checkpoints: everything a run needs to go on, in a folder that appears whole.

    <run>/checkpoints/step-0000500/
        model.safetensors  model.json      the model, in float32
        tokenizer.json                     how its ids became text
        config.json                        what the run was asked to do
        training_state.pt                  optimizer, schedule and data position, RNG
        checksums.json                     sha256 of each file above

Promoted by 04_training.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from shared.errors import UserError
from shared.files import atomic_folder, remove_folder
from shared.model.transformer import Transformer
from shared.model.weights import WEIGHTS_FILE, load_weights, save_weights
from shared.text.tokenizer import ByteTokenizer, load_tokenizer

STATE_FILE, RUN_FILE, SUMS_FILE = "training_state.pt", "config.json", "checksums.json"
TOKENIZER_FILE = "tokenizer.json"
DEFAULT_RUN = Path(__file__).resolve().parents[2] / "05_full_run" / "runs" / "quick"


def save_checkpoint(
    folder: str | Path,
    step: int,
    model: Transformer,
    tokenizer: ByteTokenizer,
    run_config: dict[str, Any],
    parts: dict[str, Any],
    keep: int = 2,
) -> Path:
    """Writes `folder/step-<step>` atomically, then removes all but the last `keep`.

    Args:
        parts: named objects with a `state_dict` (or lists of them).

    Raises:
        UserError: the disk refuses; earlier checkpoints stay as they are.
    """
    folder = Path(folder)
    with atomic_folder(folder / f"step-{step:07d}") as place:
        save_weights(model, place)
        tokenizer.save(place / TOKENIZER_FILE)
        (place / RUN_FILE).write_text(json.dumps(run_config, indent=2))
        torch.save(collect_state(parts), place / STATE_FILE)
        sums = {file.name: _sha256(file) for file in sorted(place.iterdir())}
        (place / SUMS_FILE).write_text(json.dumps(sums, indent=2))
    for old in list_checkpoints(folder)[:-keep]:
        remove_folder(old)
    for left in folder.glob(".step-*.partial"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    return folder / f"step-{step:07d}"


def list_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints below `folder`, oldest first."""
    return sorted(p for p in Path(folder).glob("step-*") if p.name[5:].isdigit())


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
            _load_into(part, state[name])
        torch.set_rng_state(state["rng"]["cpu"])
        if torch.cuda.is_available() and "cuda" in state["rng"]:
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])
    except (KeyError, ValueError, RuntimeError, OSError, UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot resume from {checkpoint}: {reason}") from error


def load_model(
    checkpoint: str | Path, device: torch.device | str = "cpu"
) -> tuple[Transformer, ByteTokenizer]:
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


def find_checkpoint(path: str | Path) -> Path:
    """Finds the checkpoint that `path` means: itself, or the newest of the run it is.

    Raises:
        UserError: there is none.
    """
    path = Path(path).expanduser()
    if (path / WEIGHTS_FILE).is_file():
        return path
    found = list_checkpoints(path / "checkpoints") or list_checkpoints(path)
    if not found:
        raise UserError(f"no checkpoint in {path}: train one with `python 05_full_run/full_run.py`")
    return found[-1]


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
