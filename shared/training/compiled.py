"""torch.compile behind a flag: faster steps where it works, one line where it does not.

Promoted by 05_full_run.
"""

from collections.abc import Callable

import torch
from torch import nn

from shared.training.loss import cross_entropy
from shared.training.precision import Precision


def compiled_or_eager(
    model: nn.Module,
    rows: int,
    positions: int,
    precision: Precision,
    tell: Callable[[str], object] = print,
) -> nn.Module:
    """The compiled model, tried on one batch of (rows, positions); the model itself if that fails.

    Both share weights. Compiling needs a C++ compiler on a CPU, Triton on a GPU, and half
    a minute or more; what fails there says so in many ways.
    """
    device = next(model.parameters()).device
    ids = torch.zeros(rows, positions, dtype=torch.long, device=device)
    try:
        fast = torch.compile(model)
        with torch.random.fork_rng(), precision.autocast():
            loss = cross_entropy(fast(ids), ids)
        loss.backward()
        return fast
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        tell(f"torch.compile does not work here ({reason[:100]}); training without it")
        torch._dynamo.reset()
        return model
    finally:
        model.zero_grad(set_to_none=True)
