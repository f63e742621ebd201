"""Overfit one tiny sample: the first proof that a training loop learns at all.

    python 04_training/overfit.py

If a model cannot learn one sentence by heart, nothing else about it can be right.
The loss must fall from ln 256 = 5.545 (no idea) to below 0.01 nats, and the model
must then say the sentence back, byte for byte.
"""

import math
import time

import torch

from shared.device import seed_everything
from shared.errors import one_line_errors
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.batches import shifted
from shared.text.tokenizer import ByteTokenizer
from shared.training.budget import Budget
from shared.training.loop import train
from shared.training.loss import bits_per_byte
from shared.training.optimizer import build_adamw
from shared.training.precision import Precision
from shared.training.sampler import continue_text
from shared.training.schedule import warmup_cosine
from shared.training.strategy import OneProcess

SAMPLE = "Attention is a weighted sum; the weights come from a softmax. Zoë agrees 👍."
GOAL = 0.01  # nats a byte
PROMPT_BYTES = 8


def overfit(sample: str = SAMPLE, max_steps: int = 500, seed: int = 0) -> tuple[Transformer, float]:
    """Trains a small model on one sample until the loss is below the goal.

    Returns:
        The model and its last loss in nats a byte.
    """
    seed_everything(seed)
    ids = torch.from_numpy(ByteTokenizer().encode(sample).copy()).long()
    model = Transformer(ModelConfig(context_length=len(ids), n_layers=2, d_model=64, n_heads=4))
    batch = shifted(ids.unsqueeze(0))  # (1, T) twice: the same batch, again and again
    device = torch.device("cpu")
    records = train(
        model,
        build_adamw(model, learning_rate=3e-3, weight_decay=0.0),
        iter(lambda: batch, None),
        Budget(steps=max_steps),
        warmup_cosine,
        Precision(device),
        OneProcess(device),
    )
    for record in records:
        if record.step % 20 == 1 or record.loss < GOAL:
            bits = bits_per_byte(record.loss)
            print(f"step {record.step:3d}  loss {record.loss:7.4f} nats = {bits:6.3f} bits a byte")
        if record.loss < GOAL:
            break
    return model.eval(), record.loss


def main() -> None:
    """Overfits, then asks for the sample back."""
    print(f"no idea: ln 256 = {math.log(256):.4f} nats = 8 bits a byte")
    start = time.perf_counter()
    model, loss = overfit()
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(SAMPLE).tolist()
    said = continue_text(model, ids[:PROMPT_BYTES], len(ids) - PROMPT_BYTES)
    seconds = time.perf_counter() - start
    print(
        f"\n{model.count_parameters():,} parameters, {len(ids)} bytes, {seconds:.1f} s on the CPU"
    )
    print(f"given   {tokenizer.decode(ids[:PROMPT_BYTES])!r}")
    print(f"said    {tokenizer.decode(said)!r}")
    print(f"below {GOAL} nats: {loss < GOAL}; reproduced exactly: {said == ids}")


if __name__ == "__main__":
    with one_line_errors():
        main()
