"""The parts of a run that its config alone decides: text, sizes, batches, optimizers, schedule.

Promoted by 05_full_run.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.optim import Optimizer

from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.batches import Batches
from shared.text.file_tree import OnSkip
from shared.text.own_tokenizer import tokenizer_for
from shared.text.token_file import Corpus, load_corpus
from shared.text.tokenizer_file import Tokenizer
from shared.training.checkpoint import TOKENIZER_FILE
from shared.training.checkpoint_folder import newest_whole
from shared.training.optimizer import build_adamw, build_muon
from shared.training.run_config import DataConfig, RunConfig, TrainConfig
from shared.training.schedule import warmup_cosine, warmup_stable_decay


def model_for(config: RunConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The model's config with what follows from the tokenizer: V, and where documents begin."""
    start = tokenizer.end_of_text if config.data.within_documents else None
    return replace(config.model, vocab_size=tokenizer.vocab_size, document_start=start)


def read_corpora(
    data: DataConfig,
    folder: str | Path,
    data_folder: str | Path,
    on_bytes: Callable[[int], None],
    on_skip: OnSkip,
    given: Tokenizer | None = None,
) -> tuple[Tokenizer, list[Corpus]]:
    """The run's tokenizer, its own if it has begun in `folder`, and its text as ids.

    Args:
        given: the tokenizer of the model that the run begins with.

    Raises:
        UserError: a source cannot be read, or two have one name.
    """
    sources = data.all_sources()
    begun = newest_whole(Path(folder) / "checkpoints", lambda line: None)
    own = begun and begun / TOKENIZER_FILE
    name, share = data.tokenizer, data.valid_fraction
    tokenizer = given or tokenizer_for(name, sources, data_folder, share, own)
    settings = data_folder, tokenizer, data.valid_fraction, on_bytes, on_skip
    corpora = [load_corpus(source, *settings) for source in sources]
    names = [corpus.name for corpus in corpora]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"two sources are called {twice.pop()}: rename a folder, or join them")
    return tokenizer, corpora


def build_batches(corpora: list[Corpus], config: RunConfig) -> Batches:
    """Batches of the corpora, mixed by their sources' weights."""
    arrays = [corpus.train for corpus in corpora]
    weights = [corpus.source.weight for corpus in corpora]
    sizes = config.train.batch_size, config.model.context_length
    replies = [corpus.train_replies for corpus in corpora]
    questions = [corpus.source.questions for corpus in corpora]
    return Batches(arrays, weights, *sizes, config.seed, replies, questions)


def build_optimizers(
    model: Transformer, settings: TrainConfig, dtype: torch.dtype
) -> list[Optimizer]:
    """The optimizers that `settings` name, for a run whose matrix products are in `dtype`.

    Muon's own products are in bfloat16, but for a run in float32: that is what a processor
    without bfloat16 units trains in, and there they would take three quarters of a step.
    """
    if settings.optimizer == "adamw":
        return build_adamw(model, settings.learning_rate, settings.weight_decay)
    rates = settings.learning_rate, settings.muon_learning_rate
    products = torch.float32 if dtype is torch.float32 else torch.bfloat16
    return build_muon(model, *rates, settings.weight_decay, products)


def build_schedule(settings: TrainConfig) -> Callable[[float], float]:
    """Progress -> learning-rate factor, as `settings` name it."""
    if settings.schedule == "cosine":
        return partial(warmup_cosine, warmup_share=settings.warmup)
    return partial(warmup_stable_decay, warmup_share=settings.warmup, decay_share=settings.decay)
