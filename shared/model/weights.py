"""Weights on disk: a folder with `model.safetensors` and `model.json`, never pickle.

Promoted by 03_attention.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "model.json"
HEAD, EMBEDDING = "head.weight", "embedding.weight"


def save_weights(model: Transformer, folder: str | Path) -> None:
    """Writes weights and sizes into an existing folder; a tied head is written once."""
    folder = Path(folder)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tied_head:
        del tensors[HEAD]
    save_file(tensors, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(asdict(model.config), indent=2), encoding="utf-8")


def load_weights(folder: str | Path, device: torch.device | str = "cpu") -> Transformer:
    """Builds the model that `save_weights` wrote, in float32, on `device`.

    Raises:
        UserError: a file is missing, broken, or does not fit the other.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"no model in {folder}: {name} is missing")
    try:
        config = ModelConfig.from_dict(
            json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        )
        tensors = load_file(folder / WEIGHTS_FILE)
        if config.tied_head:
            tensors[HEAD] = tensors[EMBEDDING]
        model = Transformer(config)
        model.load_state_dict(tensors)
    except (ValueError, TypeError, KeyError, SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the model in {folder} is broken: {reason}") from error
    return model.float().to(device)
