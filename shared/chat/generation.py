"""Generation: a stream of new ids after a prompt, with the KV cache.

Promoted by 06_chat.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from shared.chat.kv_cache import KVCache
from shared.chat.sampling import SamplingSettings, next_token
from shared.device import steady_threads
from shared.model.transformer import Transformer

RECENT = 64  # ids the repetition penalty looks back on

Shorten = Callable[[list[int]], list[int]]
Over = Callable[[], bool]


def never() -> bool:
    """Nobody wants it to end early."""
    return False


def keep_recent_half(ids: list[int]) -> list[int]:
    """Forgets the older half: plain text has no better place to cut."""
    return ids[-(len(ids) // 2) :]


@torch.inference_mode()
def stream_ids(
    model: Transformer,
    prompt: list[int],
    settings: SamplingSettings,
    shorten: Shorten = keep_recent_half,
    over: Over = never,
) -> Iterator[int]:
    """Yields up to `settings.max_new_bytes` new ids, each as soon as it is drawn.

    Args:
        model: in evaluation mode; its weights are only read, so threads may share it.
        prompt: at least one id. If it is longer than the context it is shortened first.
        shorten: turns the new ids so far, when the window is full, into the shorter
            list of ids to go on from. It is given prompt and new ids together.
        over: asked before each pass through the model; once it is true no id follows.
    """
    ids = list(prompt)
    generator = settings.generator()
    cache = None
    for _ in range(settings.max_new_bytes):
        if over():
            return
        if cache is None or len(ids) > model.config.context_length:
            while len(ids) > model.config.context_length:
                ids = shorten(ids)
            cache, logits = prefill(model, ids)
        else:
            logits = _forward(model, ids[-1:], cache)
        ids.append(next_token(logits, settings, generator, ids[-RECENT:]))
        yield ids[-1]


def steady_generation(model: Transformer) -> AbstractContextManager[int]:
    """A block that writes one id at a time on as many CPU threads as serve that best.

    See `shared.device.steady_threads`; threads that begin inside the block do likewise.
    """
    device = next(model.parameters()).device
    if device.type != "cpu":
        return nullcontext(torch.get_num_threads())
    one_id = torch.zeros(1, 1, dtype=torch.long)  # (1, 1)
    return steady_threads(torch.inference_mode()(lambda: model(one_id)))


def prefill(model: Transformer, ids: list[int]) -> tuple[KVCache, Tensor]:
    """Reads all ids in one pass; returns a fresh cache of them and the next logits, (V,)."""
    parameter = next(model.parameters())
    cache = KVCache(model.config, parameter.device, parameter.dtype)
    return cache, _forward(model, ids, cache)


def _forward(model: Transformer, ids: list[int], cache: KVCache) -> Tensor:
    device = next(model.parameters()).device
    batch = torch.tensor([ids], dtype=torch.long, device=device)  # (1, T)
    return model(batch, cache)[0, -1]  # (V,)
