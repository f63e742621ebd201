"""What a passed overfit test proves: the same test on models that are broken on purpose.

    python 04_training/overfit_broken.py

Each fault is put in, the model is overfitted on the sample of `overfit.py`, and two
questions are asked: is the loss below the goal, and does the model say the sample back?
"""

from dataclasses import dataclass

import torch
from overfit import GOAL, PROMPT_BYTES, SAMPLE
from torch import Tensor, nn
from torch.nn import functional as F

from shared.device import seed_everything
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.batches import shifted
from shared.text.tokenizer import ByteTokenizer
from shared.training.loss import cross_entropy
from shared.training.optimizer import build_adamw
from shared.training.sampler import continue_text

MAX_STEPS = 300
FAULTS = (
    "none",
    "no mask",
    "targets not shifted",
    "gradients never set to zero",
    "no positions",
    "attention switched off",
)


@dataclass(frozen=True)
class Outcome:
    """How the overfit test of one model ended."""

    steps: int
    loss: float
    """nats a byte, at the last step"""
    said: str
    """what the model makes of the sample's first bytes"""


def overfit_with(fault: str, sample: str = SAMPLE, max_steps: int = MAX_STEPS) -> Outcome:
    """Overfits a small model that has one of `FAULTS`, and lets it continue the sample."""
    seed_everything(0)
    tokenizer = ByteTokenizer()
    ids = torch.from_numpy(tokenizer.encode(sample).copy()).long()
    model = build(fault, len(ids))
    (optimizer,) = build_adamw(model, learning_rate=3e-3, weight_decay=0.0)
    inputs, targets = shifted(ids.unsqueeze(0))  # (1, T) twice
    if fault == "targets not shifted":
        targets = inputs
    losses: list[float] = []
    for _ in range(max_steps):
        loss = cross_entropy(model(inputs), targets)
        losses.append(loss.item())
        if losses[-1] < GOAL:
            break
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if fault != "gradients never set to zero":
            optimizer.zero_grad()
    said = continue_text(model.eval(), ids[:PROMPT_BYTES].tolist(), len(ids) - PROMPT_BYTES)
    return Outcome(len(losses), losses[-1], tokenizer.decode(said))


def build(fault: str, context_length: int) -> Transformer:
    """The model of the overfit test, with the faults that are faults of a model."""
    positions = "none" if fault == "no positions" else "rope"
    sizes = ModelConfig(
        context_length=context_length, n_layers=2, d_model=64, n_heads=4, positions=positions
    )
    model = Transformer(sizes)
    for block in model.blocks:
        if fault == "no mask":
            block.attention.attend = attend_without_mask
        if fault == "attention switched off":
            block.attention.output.requires_grad_(False).weight.zero_()
    return model


def attend_without_mask(queries: Tensor, keys: Tensor, values: Tensor, _documents=None) -> Tensor:
    """Three of (B, H, T, D) -> (B, H, T, D): every position looks at all, later ones too."""
    return F.scaled_dot_product_attention(queries, keys, values)


def main() -> None:
    """One line a fault."""
    print(f"{'fault':28} {'steps':>5}  {'loss':>6}  said back")
    for fault in FAULTS:
        outcome = overfit_with(fault)
        verdict = "yes" if outcome.said == SAMPLE else f"no: {outcome.said[:34]!r}"
        print(f"{fault:28} {outcome.steps:5}  {outcome.loss:6.4f}  {verdict}")


if __name__ == "__main__":
    main()
