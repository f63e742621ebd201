"""Cross-entropy, and bits per byte: how surprised the model is by the true next id.

Promoted by 04_training.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from shared.text.batches import NOT_COUNTED


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log softmax(logits)[target] over the targets of each window, then over windows.

    So a window of which only the replies count has as much say as any other.

    Args:
        logits: (B, T, V).
        targets: (B, T), int64, below V; -100 does not count.

    Returns:
        A scalar, float32, in nats a token.
    """
    counted = targets != NOT_COUNTED  # (B, T)
    losses = token_losses(logits, targets.clamp(min=0)) * counted  # (B, T)
    return (losses.sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)).mean()


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(logits)[target] at each position, in nats: (B, T, V), (B, T) -> (B, T).

    log softmax(z)[i] = z[i] - log(sum(exp(z))), and `log_softmax` takes the largest
    logit out first, so nothing overflows. Computed in float32 whatever comes in.
    """
    log_probabilities = logits.log_softmax(dim=-1, dtype=torch.float32)
    return -log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


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
) -> Tensor:
    """The loss in nats of every target of all batches, in order: one row, float32, on the CPU.

    Args:
        batches: pairs of inputs and targets, each (up to B, T).
        autocast: makes the context that the forward pass runs in.
    """
    losses = [torch.empty(0)]
    for inputs, targets in batches:
        with autocast():
            found = token_losses(model(inputs.to(device)), targets.to(device))
        losses.append(found.flatten().cpu())
    return torch.cat(losses)
