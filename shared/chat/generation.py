"""Generation: a stream of new ids after a prompt, with the KV cache.

Promoted by 06_chat.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from shared.chat.kv_cache import KVCache
from shared.chat.sampling import SamplingSettings, draw, shares_of
from shared.chat.speculation import SILENT, Speculation
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
    speculation: Speculation = SILENT,
) -> Iterator[int]:
    """Yields up to `settings.max_new_bytes` new ids, each as soon as it is drawn.

    Args:
        model: in evaluation mode; its weights are only read, so threads may share it.
        prompt: at least one id. If it is longer than the context it is shortened first.
        shorten: turns the new ids so far, when the window is full, into the shorter
            list of ids to go on from. It is given prompt and new ids together.
        over: asked before each id; once it is true no id follows.
        speculation: guesses ids that one pass checks together; the text is the same.
    """
    ids, context_length = list(prompt), model.config.context_length
    generator, cache, left = settings.generator(), None, settings.max_new_bytes
    speculation.learn(ids)
    while left > 0 and not over():
        unread = ids[-1:]
        if cache is None or len(ids) > context_length:
            while len(ids) > context_length:
                ids = shorten(ids)
            cache, unread = _new_cache(model), ids
        guesses = speculation.guess(ids, min(left - 1, context_length - len(ids)))
        logits = _forward(model, [*unread, *guesses], cache)[-1 - len(guesses) :]
        shares = _shares(logits, ids, guesses, settings)  # (1 + guesses, V)
        for kept, guess in enumerate([*guesses, None]):
            ids += draw(shares[kept : kept + 1], [generator])
            left -= 1
            speculation.follow(ids)
            yield ids[-1]
            if ids[-1] != guess or over():
                break
        cache.forget(len(guesses) - kept)


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
    cache = _new_cache(model)
    return cache, _forward(model, ids, cache)[-1]


def _new_cache(model: Transformer) -> KVCache:
    parameter = next(model.parameters())
    return KVCache(model.config, parameter.device, parameter.dtype)


def _forward(model: Transformer, ids: list[int], cache: KVCache) -> Tensor:
    batch = torch.tensor([ids], dtype=torch.long, device=cache.device)  # (1, T)
    return model(batch, cache)[0]  # (T, V)


def _shares(
    logits: Tensor, ids: list[int], guesses: list[int], settings: SamplingSettings
) -> Tensor:
    """Shares (1 + guesses, V) of the id after these, and after each guess if it is right."""
    told = [*ids, *guesses]
    recents = [told[:end][-RECENT:] for end in range(len(ids), len(told) + 1)]
    return shares_of(logits, settings, recents)
