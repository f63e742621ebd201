"""What a look inside the model should show, by PyTorch.

The package's own model, with hooks on its modules; only attention's sum is replaced, by the plain
functions of step 03, which keep their weights. Changes are those of `page/glass/changes.js`.
"""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from attention import hide_future, score, softmax
from einops import rearrange
from torch import Tensor, nn
from what_breaks import LONGER, remove_norms, remove_residuals, share_in_turn

from shared.model import causal_attention
from shared.model.positions import Angles, leave_unturned
from shared.model.sliding_window import window_mask
from shared.model.transformer import Transformer

Change = dict[str, Any]
Kept = dict[tuple[str, int], Tensor]


@torch.no_grad()
def seen_by_pytorch(model: Transformer, ids: list[int], changes: list[Change]) -> Kept:
    """(what, layer) -> tensor of all positions, without the batch axis; logits are layer -1's.

    stream (T, C), from layer -1 on; normed, output (T, C); queries, merged (T, H D); query, keys,
    values (H, T, D); scores, scaled, weights (H, T, T); lens (T, V), from layer -1 on.
    """
    model = copy.deepcopy(model).eval()
    switches = {change["off"] for change in changes}
    for change in changes:
        switch_off(model, change)
    kept: Kept = {}
    for layer, block in enumerate(model.blocks):
        keep = partial(keep_under, kept, layer)
        block.attention.register_forward_pre_hook(keep("normed", before=True))
        block.attention.query.register_forward_hook(keep("queries"))
        block.attention.output.register_forward_pre_hook(keep("merged", before=True))
        block.attention.register_forward_hook(keep("output"))
        block.register_forward_hook(keep("stream"))
        block.attention.attend = partial(attend, kept, layer, switches, model.config.window)
    model.blocks[0].register_forward_pre_hook(keep_under(kept, -1, "stream", before=True))
    shared = patch.object(causal_attention, "share_heads", share_in_turn)
    with shared if "sharing" in switches else nullcontext():
        kept["logits", -1] = model(torch.tensor([ids]))[0]
    for layer in range(-1, len(model.blocks)):
        kept["lens", layer] = lens(model, kept["stream", layer])
    return kept


def lens(model: Transformer, stream: Tensor) -> Tensor:
    """What the stream (T, C) behind a layer would say: shares (T, V)."""
    logits, cap = model.head(model.final_norm(stream)), model.config.logit_cap
    return (logits if cap is None else cap * (logits / cap).tanh()).softmax(dim=-1)


def keep_under(kept: Kept, layer: int, name: str, before: bool = False) -> Callable[..., None]:
    """A hook that keeps what a module gives, or what it is given, as `name`."""

    def hook(_module: nn.Module, given: tuple[Tensor, ...], came: Tensor | None = None) -> None:
        kept[name, layer] = (given[0] if before else came)[0]

    return hook


def attend(
    kept: Kept,
    layer: int,
    switches: set[str],
    window: int | None,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    _documents: Tensor | None = None,
) -> Tensor:
    """Step 03's attention on three of (1, H, T, D), with a window and some switches."""
    if "query size" in switches:
        queries = queries * LONGER
    scores = queries @ keys.mT  # (1, H, T, T)
    scaled = scores if "scale" in switches else score(queries, keys)
    masked = scaled
    if "mask by one" in switches:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(2)
        masked = scaled.masked_fill(ahead, -math.inf)
    elif "mask" not in switches:
        masked = hide_future(scaled)
    if window is not None:
        seen = window_mask(*scores.shape[-2:], window, scores.device)
        masked = masked.masked_fill(~(seen | torch.ones_like(seen).triu(1)), -math.inf)
    weights = softmax(masked)
    named = {"query": queries, "keys": keys, "values": values, "scores": scores}
    for name, tensor in (named | {"scaled": scaled, "weights": weights}).items():
        kept[name, layer] = tensor[0]
    return weights @ values


def switch_off(model: Transformer, change: Change) -> None:
    """Changes a model; what concerns scores is done in `attend`."""
    off, layer = change["off"], change.get("layer")
    inside = model.blocks if layer is None else [model.blocks[layer]]
    for block in inside:
        attention = block.attention
        if off == "head":
            blanked = partial(blank_head, change["head"], model.config.head_width)
            attention.output.register_forward_pre_hook(blanked)
        if off in ("attention", "layer"):
            attention.register_forward_hook(blank)
        if off in ("feedforward", "layer"):
            block.feedforward.register_forward_hook(blank)
        if off == "positions":
            attention.turn = leave_unturned
        if off == "pairs" and attention.turn is not leave_unturned:
            attention.turn = turn_neighbours
        if off == "head norms":
            attention.query_norm, attention.key_norm = nn.Identity(), nn.Identity()
        if off == "norm" and layer is not None:
            setattr(block, f"{change['of']}_norm", nn.Identity())
    if off == "positions":
        model.position_embedding = None
    if off == "norm" and layer is None:
        model.final_norm = nn.Identity()
    if off == "norms":
        remove_norms(model)
    if off == "residual":
        remove_residuals(model)


def blank(_module: nn.Module, _given: tuple[Tensor, ...], came: Tensor) -> Tensor:
    """A branch that has nothing to say."""
    return torch.zeros_like(came)


def blank_head(
    head: int, width: int, _module: nn.Module, given: tuple[Tensor, ...]
) -> tuple[Tensor]:
    """One head's channels of what is merged, (1, T, H D), set to zero."""
    merged = given[0].clone()
    merged[..., head * width : (head + 1) * width] = 0
    return (merged,)


def turn_neighbours(x: Tensor, angles: Angles) -> Tensor:
    """RoPE on x (1, heads, T, D), which pairs channel 2i with 2i + 1."""
    cos, sin = angles
    first, second = x[..., ::2], x[..., 1::2]  # (1, heads, T, D/2) each
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return rearrange(turned, "batch heads positions pairs two -> batch heads positions (pairs two)")
