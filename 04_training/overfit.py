"""Overfit one tiny sample: the first proof that a training loop learns at all.

    python 04_training/overfit.py
    python 04_training/overfit.py --mine     # on your own functions, see 01_env/course/notes.md

If a model cannot learn one sentence by heart, nothing else about it can be right.
The loss must fall from ln 256 = 5.545 (no idea) to below 0.01 nats, and the model
must then say the sentence back, byte for byte.
"""

import argparse
import math
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from shared.device import seed_everything
from shared.errors import one_line_errors
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.batches import shifted
from shared.text.tokenizer import ByteTokenizer
from shared.training.loss import bits_per_byte, cross_entropy
from shared.training.optimizer import build_adamw
from shared.training.sampler import continue_text
from shared.training.schedule import warmup_cosine

SAMPLE = "Attention is a weighted sum; the weights come from a softmax. Zoë agrees 👍."
GOAL = 0.01  # nats a byte
RATE = 3e-3
PROMPT_BYTES = 8
COURSE = Path(__file__).resolve().parents[1] / "01_env" / "course"


def overfit(
    sample: str = SAMPLE, max_steps: int = 500, seed: int = 0
) -> tuple[Transformer, list[float]]:
    """Trains a small model on one sample until the loss is below the goal.

    This is the whole training loop. The promoted one, `shared/training/loop.py`, does the same
    steps and gives the same losses; around them it counts, saves, and takes larger batches in
    pieces.

    Returns:
        The model and the loss of each step, in nats a byte.
    """
    seed_everything(seed)
    ids = torch.from_numpy(ByteTokenizer().encode(sample).copy()).long()  # (T + 1,)
    model = Transformer(ModelConfig(context_length=len(ids), n_layers=2, d_model=64, n_heads=4))
    (optimizer,) = build_adamw(model, RATE, weight_decay=0.0)
    inputs, targets = shifted(ids.unsqueeze(0))  # (1, T) each: the same batch, again and again
    losses = []
    for step in range(1, max_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * warmup_cosine((step - 1) / max_steps)  # rises, then falls
        logits = model(inputs)  # (1, T) -> (1, T, V): a score for each byte that could follow
        loss = cross_entropy(logits, targets)  # (): how surprised by those that did
        loss.backward()  # for each weight: which way to move, and how much that matters
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)  # no leaps
        optimizer.step()  # every weight moves
        optimizer.zero_grad()  # or the next backward would add to this one
        losses.append(loss.item())
        if step % 20 == 1 or losses[-1] < GOAL:
            bits = bits_per_byte(losses[-1])
            print(f"step {step:3d}  loss {losses[-1]:7.4f} nats = {bits:6.3f} bits a byte")
        if losses[-1] < GOAL:
            break
    return model.eval(), losses


def main(arguments: Sequence[str] = ()) -> None:
    """Overfits, then asks for the sample back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--mine", action="store_true", help="run on your own finished functions")
    if parser.parse_args(arguments).mine:
        runpy.run_path(str(COURSE))["swap_in"]()
    print(f"no idea: ln 256 = {math.log(256):.4f} nats = 8 bits a byte")
    start = time.perf_counter()
    model, losses = overfit()
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(SAMPLE).tolist()
    said = continue_text(model, ids[:PROMPT_BYTES], len(ids) - PROMPT_BYTES)
    seconds = time.perf_counter() - start
    print(
        f"\n{model.count_parameters():,} parameters, {len(ids)} bytes, {seconds:.1f} s on the CPU"
    )
    print(f"given   {tokenizer.decode(ids[:PROMPT_BYTES])!r}")
    print(f"said    {tokenizer.decode(said)!r}")
    print(f"below {GOAL} nats: {losses[-1] < GOAL}; reproduced exactly: {said == ids}")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
