"""The plainest sampler: look at what the model would write, while it trains.

Promoted by 04_training.
"""

import torch
from torch import nn


@torch.no_grad()
def continue_text(
    model: nn.Module, ids: list[int], new: int, temperature: float = 0.0, seed: int = 0
) -> list[int]:
    """Appends `new` ids, each drawn from softmax(logits / temperature); 0 takes the best."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    ids = list(ids)
    for _ in range(new):
        window = torch.tensor([ids[-model.config.context_length :]], dtype=torch.long)  # (1, T)
        logits = model(window.to(device))[0, -1].float().cpu()  # (V,)
        shares = (logits / max(temperature, 1e-6)).softmax(dim=-1)
        draw = torch.multinomial(shares, 1, generator=generator) if temperature else shares.argmax()
        ids.append(int(draw))
    return ids
