"""A folder that other people's engines read: `config.json` and `model.safetensors`; and back.

transformers reads such a folder, MLX, vLLM and many others; what the files of a language model are
called there has become a common tongue. Which classes go, says `interop`.
Promoted by 03_attention.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from shared.errors import UserError
from shared.model.interop import CLASSES, from_transformers, library, to_transformers
from shared.model.transformer import Transformer
from shared.model.weights import CONFIG_FILE, EMBEDDING, HEAD

THEIR_CONFIG = "config.json"  # in a checkpoint of ours, which has CONFIG_FILE too, it is the run's


def write_their_folder(model: Transformer, folder: Path, ends: list[int]) -> None:
    """Writes weights in float32, config and generation config into an existing folder.

    What ends a reply there is an id. Strings could be named, too, as `stop_strings`, but then
    their `generate` and their pipeline stop with an error unless they are handed a tokenizer.

    Args:
        ends: ids that end a reply; the first begins a text and ends one.

    Raises:
        UserError: no class there computes what this one does, or the library is missing.
    """
    theirs = to_transformers(model)
    special = {"bos_token_id": ends[0], "pad_token_id": ends[0]}
    special["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    theirs.config.update(special)
    theirs.generation_config = library().GenerationConfig(**special, do_sample=False)
    library().utils.logging.disable_progress_bar()
    theirs.save_pretrained(folder)
    config = json.loads((folder / THEIR_CONFIG).read_text())
    config |= _older_names(config)
    (folder / THEIR_CONFIG).write_text(json.dumps(config, indent=2))


def _older_names(config: dict[str, Any]) -> dict[str, Any]:
    """What transformers 5 calls otherwise, under the names of version 4, which many engines read.

    Who finds no RoPE base takes 10,000 and says nothing: the words come, and mean less.
    """
    older = {"torch_dtype": config["dtype"]}
    if rope := config.get("rope_parameters"):
        stretched = rope["rope_type"] != "default"
        scaling = {k: v for k, v in rope.items() if k != "rope_theta"} if stretched else None
        older |= {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}
    return older


def is_their_folder(folder: str | Path) -> bool:
    """Whether a folder holds a model as those engines keep it, and not one of ours."""
    folder = Path(folder)
    if (folder / CONFIG_FILE).is_file():
        return False
    try:
        return "model_type" in json.loads((folder / THEIR_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def read_their_folder(folder: str | Path) -> Transformer:
    """Our model with the weights of such a folder, in float32, in evaluation mode.

    Only safetensors are read, and no code of the folder's is run.

    Raises:
        UserError: the family or a setting is not covered, a weight is missing, the folder is
            broken, or the library is not installed.
    """
    folder, transformers = Path(folder), library()
    kind = json.loads((folder / THEIR_CONFIG).read_text(encoding="utf-8"))["model_type"]
    if kind not in CLASSES:
        raise UserError(f"{folder} holds a {kind!r} model; read are {', '.join(CLASSES)}")
    theirs = getattr(transformers, CLASSES[kind])
    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        model, told = theirs.from_pretrained(folder, dtype=torch.float32, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the model in {folder} cannot be read: {reason}") from error
    if missing := sorted(told["missing_keys"]):
        raise UserError(f"the model in {folder} is broken: {missing[0]} is missing")
    return from_transformers(model).eval()


def cut_vocabulary(model: Transformer, size: int) -> Transformer:
    """The model with the first `size` ids only; many are padded with some that name no token.

    Raises:
        UserError: it has fewer.
    """
    have = model.config.vocab_size
    if have < size:
        raise UserError(
            f"the model has {have} ids, its tokenizer {size}: they do not belong together"
        )
    if have == size:
        return model
    state = model.state_dict()
    state |= {name: state[name][:size] for name in (EMBEDDING, HEAD)}
    smaller = Transformer(replace(model.config, vocab_size=size))
    smaller.load_state_dict(state)
    return smaller.train(model.training)
