"""One look of a trained model's head, with its own numbers: what `attention.py --run` prints.

    python 03_attention/attention.py --text "the cat sat on the m" --run 05_full_run/runs/quick
    python 03_attention/attention.py --text "the cat sat on the m" --run RUN --layer 2 --head 1

The stages are those of the whiteboard, for the last position of the text.
The matrices, norms and positions are the run's. Browsers show the same with every number: step 07.
"""

import argparse
import math
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from attention import hide_future, score, softmax
from torch import Tensor, nn

from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.model.sliding_window import window_mask
from shared.model.transformer import Transformer
from shared.model.weights import WEIGHTS_FILE, load_weights
from shared.text.tokenizer_file import Tokenizer, load_tokenizer

SHADES = " .:-=+*#%@"  # of a map, from 0 to 1
WIDEST, SHOWN = 48, 5  # columns of a map; numbers of a vector, and ids of a lens


@dataclass
class Inside:
    """What one layer's attention did with a text; layers count from 0."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    """input, normed, output (T, C); query, as it leaves its matrix, merged (T, H D); queries, keys
    (both turned), values, mixed (H, T, D); scores, weights (H, T, T)"""
    streams: list[Tensor] = field(default_factory=list)
    """(T, C) each: the embedding, then behind each layer"""
    logits: Tensor | None = None
    """(T, V)"""


@torch.no_grad()
def look_inside(model: Transformer, ids: list[int], layer: int) -> Inside:
    """Reads ids (T,) once and keeps what passes the layer; the model is as before, after it."""
    inside, attention = Inside(), model.blocks[layer].attention
    tensors, own = inside.tensors, attention.attend

    def keep(name: str, _module: nn.Module, given: tuple[Tensor, ...], came: Tensor) -> None:
        tensors[name] = came[0]
        tensors["normed"] = given[0][0]  # the query's input, and attention's

    def keep_stream(_module: nn.Module, given: tuple[Tensor, ...], came: Tensor) -> None:
        inside.streams.extend((given[0][0], came[0]) if not inside.streams else (came[0],))

    def keep_merged(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        tensors["merged"] = given[0][0]

    attention.attend = partial(attend_and_keep, tensors, model.config.window)
    hooks = [block.register_forward_hook(keep_stream) for block in model.blocks]
    hooks += [attention.query.register_forward_hook(partial(keep, "query"))]
    hooks += [attention.register_forward_hook(partial(keep, "output"))]
    hooks += [attention.output.register_forward_pre_hook(keep_merged)]
    try:
        inside.logits = model(torch.tensor([ids]))[0]
    finally:
        attention.attend = own
        for hook in hooks:
            hook.remove()
    tensors["input"] = inside.streams[layer]
    return inside


def attend_and_keep(
    tensors: dict[str, Tensor],
    window: int | None,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    _documents: Tensor | None = None,
) -> Tensor:
    """The whiteboard's attention on three of (1, H, T, D); keeps all, without the batch axis."""
    scores = score(queries, keys)  # (1, H, T, T)
    masked = hide_future(scores)
    if window is not None:
        seen = window_mask(*scores.shape[-2:], window, scores.device)
        masked = masked.masked_fill(~seen, -math.inf)
    weights = softmax(masked)
    mixed = weights @ values  # (1, H, T, D)
    named = {"queries": queries, "keys": keys, "values": values, "mixed": mixed}
    named |= {"scores": scores, "weights": weights}
    tensors.update({name: tensor[0] for name, tensor in named.items()})
    return mixed


def lens(model: Transformer, stream: Tensor) -> Tensor:
    """What the head would say to a stream (..., C) if no layer followed: shares (..., V)."""
    logits, cap = model.head(model.final_norm(stream)), model.config.logit_cap
    return softmax(logits if cap is None else cap * (logits / cap).tanh())


def main() -> None:
    """What `attention.py` runs where it is given arguments."""
    with one_line_errors():
        tell_run(sys.argv[1:])


def tell_run(arguments: list[str]) -> None:
    """Parses the command line, reads the run, prints the stages, the map and the lens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--run", required=True, help="a finished run's folder, or a checkpoint's")
    parser.add_argument("--text", required=True, help="what the model reads")
    parser.add_argument("--layer", type=int, default=1, help="counted from 1")
    parser.add_argument("--head", type=int, default=1, help="counted from 1")
    options = parser.parse_args(arguments)
    checkpoint = newest_checkpoint(user_path(options.run))
    model = load_weights(checkpoint).eval()
    tokenizer = load_tokenizer(checkpoint / "tokenizer.json")
    ids = tokenizer.encode(options.text).tolist()
    check(model, ids, options.layer, options.head)
    layer, head = options.layer - 1, options.head - 1
    inside = look_inside(model, ids, layer)
    letters = [letter_of(tokenizer, id) for id in ids]
    print(f"{options.text!r} is T = {len(ids)} ids, read by {checkpoint}\n")
    tell_head(inside, model, letters, layer, head)
    tell_map(inside.tensors["weights"][head], letters)
    tell_lens(inside, model, tokenizer)


def newest_checkpoint(run: Path) -> Path:
    """The folder with the newest weights of a run; or `run` itself, if they lie there.

    Raises:
        UserError: there are none.
    """
    found = [run, *sorted(run.glob("checkpoints/step-*"), reverse=True)]
    for folder in found:
        if (folder / WEIGHTS_FILE).is_file():
            return folder
    raise UserError(f"no trained model in {run}: train one first, 05_full_run/full_run.py")


def check(model: Transformer, ids: list[int], layer: int, head: int) -> None:
    """Refuses what cannot be looked at.

    Raises:
        UserError: no such layer or head; no text, or more than the model can see.
    """
    sizes = model.config
    for name, given, end in (("layer", layer, sizes.n_layers), ("head", head, sizes.n_heads)):
        if not 1 <= given <= end:
            raise UserError(f"--{name} is {given}; this model has 1 to {end}")
    if not 1 <= len(ids) <= sizes.context_length:
        raise UserError(f"--text is {len(ids)} ids; expected 1 to {sizes.context_length}")


def letter_of(tokenizer: Tokenizer, id: int) -> str:
    """An id as it looks by itself."""
    text = tokenizer.token_bytes(id).decode("utf-8", errors="replace")
    return "".join("⏎" if c == "\n" else c if c.isprintable() else "�" for c in text)


def tell_head(
    inside: Inside, model: Transformer, letters: list[str], layer: int, head: int
) -> None:
    """The stages of one head, for the last position."""
    which = f"layer {layer + 1}, head {head + 1}"
    print(f"ONE HEAD of a trained model: {which}, at the last, {letters[-1]!r}")
    kept = {name: tensor[-1] for name, tensor in inside.tensors.items() if tensor.dim() == 2}
    own = {name: tensor[head] for name, tensor in inside.tensors.items() if tensor.dim() == 3}
    tell("input", "(C,)", kept["input"])
    tell("normed", "(C,)", kept["normed"])
    width = model.config.head_width
    tell("query   = normed @ Wq.T", "(D,)", kept["query"][head * width :][:width])
    tell("query, turned", "(D,)", own["queries"][-1])
    tell("keys, turned", "(T, D)", own["keys"])
    tell("values", "(T, D)", own["values"])
    tell("scores  = query @ keys.T", "(T,)", own["scores"][-1] * math.sqrt(width))
    tell("scores / sqrt(D)", "(T,)", own["scores"][-1])
    tell("weights = softmax(masked scores)", "(T,)", own["weights"][-1])
    tell("mixed   = weights @ values", "(D,)", own["mixed"][-1])
    tell("merged: all heads side by side", "(H D,)", kept["merged"])
    tell("output  = merged @ Wo.T", "(C,)", kept["output"])
    most = own["weights"][-1].topk(min(SHOWN, len(letters)))
    looked = zip(most.values.tolist(), most.indices.tolist(), strict=True)
    print("  it looks at", ", ".join(f"{letters[at]!r} at {at} ({w:.2f})" for w, at in looked))


def tell(name: str, axes: str, tensor: Tensor) -> None:
    """One line: what a tensor is, its shape and its first numbers."""
    numbers = " ".join(f"{value:7.3f}" for value in tensor.flatten()[:SHOWN].tolist())
    more = " ..." if tensor.numel() > SHOWN else ""
    print(f"  {name:34} {axes:7} = {tuple(tensor.shape)!s:11} {numbers}{more}")


def tell_map(weights: Tensor, letters: list[str]) -> None:
    """The head's weights (T, T) as shades, a row for each position that looks; the last ones."""
    first = max(0, len(letters) - WIDEST)
    print(f"\nTHE MAP: a row looks at columns; {SHADES[1]!r} is little, {SHADES[-1]!r} is all")
    signs = [letter[:1] or " " for letter in letters]
    print("    " + "".join(signs[first:]))
    for at in range(first, len(letters)):
        row = weights[at, first : at + 1].tolist()
        print(f"  {signs[at]} {''.join(SHADES[round(w * (len(SHADES) - 1))] for w in row)}")


def tell_lens(inside: Inside, model: Transformer, tokenizer: Tokenizer) -> None:
    """What each layer would say comes next."""
    print("\nTHE LENS: what would come next, if the head read the stream already here")
    for layer, stream in enumerate(inside.streams):
        most = lens(model, stream[-1]).topk(SHOWN)
        pairs = zip(most.indices.tolist(), most.values.tolist(), strict=True)
        said = "  ".join(f"{letter_of(tokenizer, id)!r} {share:.2f}" for id, share in pairs)
        print(f"  {f'layer {layer}' if layer else 'embedding':10} {said}")
