"""Adapter file: the A and B of LoRA, and which model they belong to.

A safetensors file: the tensors under their names in the model, and beside them the rank,
alpha, and a digest of the weights that the adapter was trained beside. Beside other
weights it would say nonsense, so there it is refused.
Promoted by 06_chat.
"""

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shared.chat.lora import (
    MARK,
    adapted_layers,
    adapter_state,
    attach,
    base_state,
    linear_layers,
    merged,
)
from shared.errors import UserError
from shared.files import atomic_file, user_path
from shared.model.transformer import Transformer


class AdapterFile(NamedTuple):
    """What stands in one."""

    tensors: dict[str, Tensor]
    rank: int
    alpha: float
    base: str


def base_digest(model: Transformer) -> str:
    """sha256 of a model's names, shapes and weights in float32; an adapter changes nothing."""
    digest = hashlib.sha256()
    for name, tensor in sorted(base_state(model).items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


def save_adapter(model: Transformer, path: str | Path) -> None:
    """Writes the model's adapters, in float32, and nothing else of it.

    Raises:
        UserError: it has none, or the disk refuses.
    """
    layers = adapted_layers(model).values()
    if not layers:
        raise UserError(f"cannot write {path}: the model has no adapter")
    first = next(iter(layers)).adapter
    rank = len(first.A)
    facts = {"rank": str(rank), "alpha": repr(first.scale * rank), "base": base_digest(model)}
    tensors = {n: t.float().cpu().contiguous() for n, t in adapter_state(model).items()}
    with atomic_file(path) as place:
        save_file(tensors, place, facts)


def load_adapter(model: Transformer, path: str | Path) -> None:
    """Puts the adapters of a file beside the model's layers and freezes the rest, in place.

    Raises:
        UserError: the model has adapters already; the file is missing or broken, belongs to
            another model, or holds another shape or rank than it says.
    """
    if adapted_layers(model):
        raise UserError(f"cannot load {path}: the model has an adapter already")
    found = read_adapter(path)
    if found.base != (own := base_digest(model)):
        raise UserError(
            f"{path} was trained beside another model: its weights have the digest "
            f"{found.base[:12]}, these {own[:12]}; load the model that it was made from"
        )
    _refuse_misfits(model, found, path)
    model.requires_grad_(False)
    for name in sorted({name.partition(MARK)[0] for name in found.tensors}):
        attach(model.get_submodule(name), found.rank, found.alpha)
    model.load_state_dict(found.tensors, strict=False)


def with_adapter(model: Transformer, path: str | Path | None) -> Transformer:
    """The model that base and adapter make together, in evaluation mode; none: the base itself.

    Raises:
        UserError: see `load_adapter`.
    """
    if path is None:
        return model
    load_adapter(model, user_path(path))
    return merged(model).eval()


def read_adapter(path: str | Path) -> AdapterFile:
    """Reads a file that `save_adapter` wrote.

    Raises:
        UserError: it is missing, or no such file.
    """
    if not Path(path).is_file():
        raise UserError(f"no adapter at {path}: expected a file that a LoRA stage wrote")
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        found = AdapterFile(tensors, int(facts["rank"]), float(facts["alpha"]), facts["base"])
        if found.rank < 1 or not math.isfinite(found.alpha) or not found.tensors:
            said = f"rank {found.rank}, alpha {found.alpha}"
            raise ValueError(f"{said}, {len(found.tensors)} tensors")
        return found
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        raise UserError(f"{path} is no adapter, or broken: {reason}") from error


def _refuse_misfits(model: Transformer, found: AdapterFile, path: str | Path) -> None:
    """Each adapted layer needs an A (r, in) and a B (out, r), all numbers."""
    expected, layers = {}, linear_layers(model)
    for name in layers.keys() & {name.partition(MARK)[0] for name in found.tensors}:
        expected[f"{name}{MARK}A"] = (found.rank, layers[name].in_features)
        expected[f"{name}{MARK}B"] = (layers[name].out_features, found.rank)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if shapes.get(name) != expected.get(name):
            got, wanted = shapes.get(name, "nothing"), expected.get(name, "nothing")
            raise UserError(f"{path}: {name} is {got}; expected {wanted} for this model")
        if not found.tensors[name].isfinite().all():
            raise UserError(f"{path}: {name} holds values that are not numbers: train it again")
