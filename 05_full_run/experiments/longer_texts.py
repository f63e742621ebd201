"""How well a trained model reads texts longer than those it was trained on.

python 05_full_run/experiments/longer_texts.py RUN [RUN ...]

Each run's model reads the held-back part of Python's documentation in windows of its own
context T, of 2 T and of 4 T. With RoPE it also reads them by interpolation and by NTK scaling.
"""

import math
import sys
from dataclasses import replace

import torch
from full_run_paths import DATA

from shared.errors import UserError, one_line_errors
from shared.model.transformer import Transformer
from shared.text.batches import evaluation_batches
from shared.text.sources import Source
from shared.text.token_file import Corpus, load_corpus
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.loss import bits_per_byte, evaluate
from shared.training.run_config import DataConfig
from shared.training.validation import shown

FACTORS = (1, 2, 4)  # lengths of the windows, in the context that the model was trained with
TOKENS_AT_ONCE = 16_384


def main(arguments: list[str]) -> None:
    """Prints a table: one row for each run and each way to stretch its positions."""
    if not arguments:
        raise UserError("name one run or more, such as 05_full_run/runs/quick")
    print("| positions | T | at T | at 2T | at 4T |\n|---|---|---|---|---|")
    for run in arguments:
        model, tokenizer = load_model(find_checkpoint(run))
        fraction = DataConfig().valid_fraction
        corpus = load_corpus(Source("python-docs"), DATA, tokenizer, fraction)
        turned = model.config.positions == "rope"
        for scaling in ("none", "interpolation", "ntk") if turned else ("none",):
            bits = bits_at_lengths(model, corpus, scaling)
            print(f"| {row_name(model, scaling)} | {' | '.join(map(shown, bits))} |", flush=True)


def row_name(model: Transformer, scaling: str) -> str:
    """The first two cells of a row: how positions come in, and T."""
    positions = model.config.positions
    name = positions if scaling == "none" else f"{positions}, {scaling}"
    return f"{name} | {model.config.context_length}"


def bits_at_lengths(model: Transformer, corpus: Corpus, scaling: str) -> list[float]:
    """Bits per byte of the corpus's held-back text, one for each factor; nan if unreadable."""
    found = []
    for factor in FACTORS:
        longer = stretch(model, factor, scaling)
        if longer is None:
            found.append(math.nan)
            continue
        length = longer.config.context_length
        batches = evaluation_batches(corpus.validation, max(1, TOKENS_AT_ONCE // length), length)
        nats = evaluate(longer, batches, torch.device("cpu")).double().mean().item()
        found.append(bits_per_byte(nats, corpus.bytes_per_token))
    return found


def stretch(model: Transformer, factor: int, scaling: str) -> Transformer | None:
    """The same weights with `factor` times the context, its angles scaled; none if impossible.

    A learned table has as many rows as the model was trained with, and no more.
    """
    config = model.config
    if factor == 1:
        return model
    if config.positions == "learned":
        return None
    rope = config.rope
    if scaling != "none":
        rope = replace(rope, scaling=scaling, factor=factor)
    length = factor * config.context_length
    longer = Transformer(replace(config, context_length=length, rope=rope))
    longer.load_state_dict(model.state_dict())
    return longer.eval()


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
