"""Building a run: from a config to every part, untrained.

Promoted by 05_full_run.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from shared.model.interop_folder import cut_down, is_their_folder
from shared.model.transformer import ENDS_BRANCH, Transformer
from shared.text.file_tree import OnSkip, ignore_skips
from shared.text.tokenizer_file import Tokenizer
from shared.training.budget import parse_budget
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.clipping import Clipping
from shared.training.precision import Precision, pick_dtype
from shared.training.processes import pick_strategy
from shared.training.run import Run
from shared.training.run_config import RunConfig
from shared.training.run_parts import build_batches, build_optimizers, model_for, read_corpora


def build_run(
    config: RunConfig,
    folder: str | Path,
    data_folder: str | Path,
    on_bytes: Callable[[int], None] = lambda count: None,
    on_skip: OnSkip = ignore_skips,
) -> Run:
    """Reads the corpora (or their token files) and builds every part, untrained.

    Text written to token files is told to `on_bytes`, files passed over to `on_skip`.

    Raises:
        UserError: device, text or sizes are not to be had.
    """
    budget, strategy = parse_budget(config.budget), pick_strategy(config)
    device, budget.clock = strategy.device, strategy.clock
    given, tokenizer = given_model(config) if config.init else (None, None)
    reading = data_folder, on_bytes, on_skip, tokenizer
    with strategy.main_first():
        tokenizer, corpora = read_corpora(config.data, folder, *reading)
    config = replace(config, model=given.config if given else config.model)
    config = replace(config, model=model_for(config, tokenizer))
    model = first_model(config, given).to(device)
    model.recompute = config.train.recompute
    precision = Precision(device, strategy.same(pick_dtype(config.precision, device)))
    model = strategy.wrap(model, precision)
    return Run(
        config=config,
        folder=Path(folder),
        device=device,
        tokenizer=tokenizer,
        corpora=corpora,
        model=model,
        optimizers=build_optimizers(model, config.train, precision.dtype),
        batches=build_batches(corpora, config),
        budget=budget,
        precision=precision,
        clipping=Clipping(config.train.max_grad_norm, config.train.skip_above),
        strategy=strategy,
    )


def given_model(config: RunConfig) -> tuple[Transformer, Tokenizer]:
    """The model that a run begins with, and its tokenizer.

    Of another engine's, whose context a learner's machine seldom holds, `model.context_length`
    says how many positions are read.

    Raises:
        UserError: there is none, or it is not covered.
    """
    found = find_checkpoint(config.init)
    model, tokenizer = load_model(found)
    if is_their_folder(found):
        model = cut_down(model, tokenizer.vocab_size, config.model.context_length)
    return model, tokenizer


def first_model(config: RunConfig, given: Transformer | None) -> Transformer:
    """The model before its first step: random weights from the seed, or those that are given."""
    torch.manual_seed(config.seed)
    model = Transformer(config.model)
    if given:
        model.load_state_dict(given.state_dict())
    else:
        silence_branches(model)
    return model


@torch.no_grad()
def silence_branches(model: Transformer) -> None:
    """Sets the last matrix of every branch to zero: at first no block changes what it gets.

    So nothing random is in the residual stream that training must first work against, and a
    branch speaks only once it has something to say. 820 steps of `quick` end at 1.09 bits a byte
    of the drills' replies in place of 1.22.
    Source: Zhang et al. 2019, "Fixup Initialization", section 3.
    """
    for name, parameter in model.named_parameters():
        if name.endswith(ENDS_BRANCH):
            parameter.zero_()
