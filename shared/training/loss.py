"""Cross-entropy, and bits per byte: how surprised the model is by the true next id.

Promoted by 04_training.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over all positions of -log softmax(logits)[target], in nats a token.

    log softmax(z)[i] = z[i] - log(sum(exp(z))), and `log_softmax` takes the largest
    logit out first, so nothing overflows. Computed in float32 whatever comes in.

    Args:
        logits: (B, T, V).
        targets: (B, T), int64, below V.

    Returns:
        A scalar, float32.
    """
    log_probabilities = logits.log_softmax(dim=-1, dtype=torch.float32)
    return -log_probabilities.gather(-1, targets.unsqueeze(-1)).mean()


def bits_per_byte(nats_per_token: float, bytes_per_token: float = 1.0) -> float:
    """Loss in a unit that every tokenizer shares: bits for each byte of text.

    8 is no model at all (every byte equally likely), English text in a good small
    model is 1 to 2. `bytes_per_token` is that of the text measured.
    """
    return nats_per_token / math.log(2) / bytes_per_token


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> float:
    """Mean loss in nats a token over all batches, each token counted once; nan if there are none.

    Args:
        batches: pairs of inputs and targets, each (up to B, T).
        autocast: makes the context that the forward pass runs in.
    """
    total, count = 0.0, 0
    for inputs, targets in batches:
        with autocast():
            loss = cross_entropy(model(inputs.to(device)), targets.to(device))
        total += loss.item() * targets.numel()
        count += targets.numel()
    return total / count if count else math.nan
