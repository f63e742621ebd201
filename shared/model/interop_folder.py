"""A folder that other people's engines read: `config.json` and `model.safetensors`; and back.

transformers reads such a folder, MLX, vLLM and many others; what the files of a language model are
called there has become a common tongue. Which classes go, says `interop`.
Promoted by 03_attention.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from shared.errors import UserError
from shared.model.interop import CLASSES, from_transformers, library, to_transformers
from shared.model.interop_settings import our_config
from shared.model.transformer import Transformer
from shared.model.weights import CONFIG_FILE, EMBEDDING, HEAD

POSITIONS = "position_embedding.weight"
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
    with _quiet(library().utils.logging):
        theirs.save_pretrained(folder)
    config = json.loads((folder / THEIR_CONFIG).read_text(encoding="utf-8"))
    config |= _older_names(config)
    (folder / THEIR_CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


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


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Their bars and tables are kept from a screen that has its own."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


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
        our_config(theirs.config_class.from_pretrained(folder, local_files_only=True))
        with _quiet(transformers.utils.logging):
            model, told = theirs.from_pretrained(folder, dtype=torch.float32, **options)
    except RuntimeError as error:  # of many lines, none of which says this
        raise UserError(f"the model in {folder} has other sizes than its config says") from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the model in {folder} cannot be read: {reason}") from error
    if missing := sorted(told["missing_keys"]):
        raise UserError(f"the model in {folder} is broken: {missing[0]} is missing")
    return from_transformers(model).eval()


def cut_down(model: Transformer, vocab_size: int, context_length: int | None = None) -> Transformer:
    """The model with the first `vocab_size` ids only, and at most `context_length` positions.

    Many models have more ids than their tokenizer: a round number is faster on their hardware.

    Raises:
        UserError: it has fewer ids.
    """
    have, have_length = model.config.vocab_size, model.config.context_length
    if have < vocab_size:
        raise UserError(
            f"the model has {have} ids, its tokenizer {vocab_size}: they do not belong together"
        )
    length = min(context_length or have_length, have_length)
    smaller = Transformer(replace(model.config, vocab_size=vocab_size, context_length=length))
    sizes = {EMBEDDING: vocab_size, HEAD: vocab_size, POSITIONS: length}
    state = model.state_dict()
    smaller.load_state_dict({name: rows[: sizes.get(name)] for name, rows in state.items()})
    return smaller.train(model.training)
