"""Checkpoints: everything a run needs to go on, in a folder that appears whole.

    <run>/checkpoints/step-0000500/
        model.safetensors  model.json      the model, in float32
        tokenizer.json                     how its ids became text
        config.json                        what the run was asked to do
        training_state.pt                  optimizer, schedule and data position, RNG
        checksums.json                     sha256 of each file above

Promoted by 04_training.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from shared.errors import UserError
from shared.files import atomic_folder, remove_folder, sweep
from shared.model.interop_folder import cut_down, is_their_folder, read_their_folder
from shared.model.transformer import Transformer
from shared.model.weights import load_weights, save_weights
from shared.text.engine_tokenizer import read_engine_tokenizer
from shared.text.tokenizer_file import Tokenizer, load_tokenizer
from shared.training.checkpoint_folder import (
    SUMS_FILE,
    best_checkpoint,
    is_whole,
    list_checkpoints,
    sha256,
    verify,
)

STATE_FILE, RUN_FILE = "training_state.pt", "config.json"
TOKENIZER_FILE = "tokenizer.json"

NEW_PARTS = ("clipping", "snapshots")  # older checkpoints lack them: they start as built


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
            (place / RUN_FILE).write_text(json.dumps(run_config, indent=2), encoding="utf-8")
            torch.save(state, place / STATE_FILE)
            sums = {file.name: sha256(file) for file in sorted(place.iterdir())}
            (place / SUMS_FILE).write_text(json.dumps(sums, indent=2), encoding="utf-8")
    except (SafetensorError, RuntimeError) as error:  # how those libraries say "disk full"
        raise UserError(f"cannot write {folder / name}: {str(error).splitlines()[0]}") from error
    for old in list_checkpoints(folder)[:-keep]:
        if old.name not in (name, best_checkpoint(folder)):
            remove_folder(old)
    return folder / name


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

    A folder of another engine's is taken, too: of ids that the tokenizer lacks no row is kept.

    Raises:
        UserError: a part is missing or broken, or vocabularies differ.
    """
    checkpoint = Path(checkpoint)
    if is_their_folder(checkpoint):
        tokenizer = read_engine_tokenizer(checkpoint)
        theirs = read_their_folder(checkpoint)
        return cut_down(theirs, tokenizer.vocab_size).to(device), tokenizer
    verify(checkpoint)
    model = load_weights(checkpoint, device)
    tokenizer = load_tokenizer(checkpoint / TOKENIZER_FILE)
    if model.config.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"{checkpoint}: the model has {model.config.vocab_size} ids, "
            f"its tokenizer {tokenizer.vocab_size}: they do not belong together"
        )
    return model.eval(), tokenizer


def _state_of(part: Any) -> Any:
    return [_state_of(p) for p in part] if isinstance(part, Sequence) else part.state_dict()


def _load_into(part: Any, state: Any) -> None:
    if isinstance(part, Sequence):
        for one, its_state in zip(part, state, strict=True):
            _load_into(one, its_state)
    else:
        part.load_state_dict(state)
