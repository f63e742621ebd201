"""Validation: how well each corpus's held-back text is predicted, and what that is worth.

Promoted by 05_full_run.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from shared.text.batches import evaluation_batches
from shared.text.byte_table import ByteTable
from shared.text.repeats import overlapping_pieces, repeated_bytes, tokens_with_any
from shared.text.token_file import Corpus
from shared.text.tokenizer_file import Tokenizer
from shared.training.loss import bits_per_byte
from shared.training.yardsticks import yardsticks

MB = 1_000_000
MOST_TRAINING, MOST_VALIDATION = 4 * MB, MB  # bytes that a yardstick reads


@dataclass(frozen=True)
class Scores:
    """What is known about the validation text of one corpus."""

    corpus: str
    """its name"""
    figures: dict[str, float]
    """who predicts it -> bits per byte; nan if there is no text to measure"""
    repeated: float | None = None
    """share of its bytes, 0 to 1, that stand in training text too, in spans of 64 or more"""
    cut: bool = False
    """whether the corpus is large: then all figures but the first are of its beginning"""


def corpus_losses(
    corpus: Corpus,
    ask: Callable[[Iterable[tuple[Tensor, Tensor]]], Tensor],
    batch_size: int,
    context_length: int,
    max_windows: int | None = None,
) -> Tensor:
    """Nats of a corpus's validation ids after the first, or of those in replies: (ids,).

    Args:
        ask: inputs and targets of all batches -> the loss of every target, in order.
    """
    sizes = batch_size, context_length, max_windows
    losses = ask(evaluation_batches(corpus.validation, *sizes))
    if corpus.validation_replies is None:
        return losses
    marks = evaluation_batches(corpus.validation_replies, *sizes)  # shifted as the ids are
    return losses[torch.cat([after.flatten() for _, after in marks]).bool()]


def mean_bits(corpora: Sequence[Corpus], losses: dict[str, Tensor]) -> dict[str, float]:
    """Bits per byte of each corpus, by its name, from the nats of its validation ids.

    A corpus of whose ids none was measured has no figure.
    """
    means = {name: each.double().mean().item() for name, each in losses.items() if len(each)}
    sizes = {corpus.name: corpus.bytes_per_token for corpus in corpora}
    return {name: bits_per_byte(mean, sizes[name]) for name, mean in means.items()}


def score_corpora(
    tokenizer: Tokenizer, corpora: Sequence[Corpus], losses: dict[str, Tensor]
) -> list[Scores]:
    """The model beside the yardsticks, for each corpus that has validation text.

    All training text is searched for repeats, whatever its size. For the rest a large
    corpus stands by its first 4 MB of training text and its first MB of validation text.
    Where replies alone count, nothing else stands beside the model: the others read all.

    Args:
        losses: by a corpus's name, nats of its validation ids from the second on, (ids,).
    """
    table = ByteTable(tokenizer)
    means = mean_bits(corpora, losses)
    scored = [corpus for corpus in corpora if corpus.name in losses]
    evaluated = [corpus for corpus in scored if corpus.validation_replies is None]
    heads = [head(corpus.validation, table, MOST_VALIDATION) for corpus in evaluated]
    texts = [table.decode(ids) for ids in heads]
    found = []
    for corpus, ids, text, repeats in zip(
        evaluated, heads, texts, find_repeats(texts, corpora, table), strict=True
    ):
        training = head(corpus.train, table, MOST_TRAINING)
        cut = len(training) < len(corpus.train) or len(ids) < len(corpus.validation)
        first, fresh = score_tokens(ids, losses[corpus.name], repeats, table)
        figures = {"this model": means[corpus.name]}
        figures |= {"this model, first MB": first} if cut else {}
        figures |= {"this model, without repeats": fresh}
        figures |= yardsticks(table.decode(training), text)
        found.append(Scores(corpus.name, figures, float(repeats.mean()), cut))
    replying = {corpus.name for corpus in scored if corpus.validation_replies is not None}
    alone = {name: bits for name, bits in means.items() if name in replying}
    return found + [Scores(name, {"this model, replies": bits}) for name, bits in alone.items()]


def head(ids: np.ndarray, table: ByteTable, most: int) -> np.ndarray:
    """The first ids, (up to N,), as many as stand for `most` bytes."""
    ids = np.asarray(ids[:most])
    return ids[np.cumsum(table.lengths[ids]) <= most]


def find_repeats(
    texts: list[np.ndarray], corpora: Sequence[Corpus], table: ByteTable
) -> list[np.ndarray]:
    """Which bytes of each text stand in training text too: one pass over it for all texts."""
    pieces = chain.from_iterable(overlapping_pieces(corpus.train, table) for corpus in corpora)
    joined = np.concatenate([np.empty(0, np.uint8), *texts])
    ends = np.cumsum([len(text) for text in texts], dtype=int)
    return np.split(repeated_bytes(joined, pieces), ends)[: len(texts)]


def score_tokens(
    ids: np.ndarray, losses: Tensor, repeats: np.ndarray, table: ByteTable
) -> tuple[float, float]:
    """Bits per byte of all measured tokens, and of those with no repeated byte; nan if none.

    Args:
        ids: (ids,).
        losses: nats of the ids from the second on; there may be more or fewer of them.
        repeats: (bytes,) bool, one for each byte behind `ids`.
    """
    fresh = ~tokens_with_any(repeats, table.lengths[ids])[1:]
    sizes = table.text_lengths[ids[1:]]
    nats = losses.double().numpy()[: len(sizes)]
    fresh, sizes = fresh[: len(nats)], sizes[: len(nats)]
    return per_byte(nats, sizes), per_byte(nats[fresh], sizes[fresh])


def per_byte(nats: np.ndarray, sizes: np.ndarray) -> float:
    """Bits per byte of tokens: (tokens,), (tokens,) -> a number, nan if they hold no byte."""
    return nats.sum() / math.log(2) / sizes.sum() if sizes.any() else math.nan


def shown(bits: float) -> str:
    """A figure with three decimals; a dash if there was nothing to measure."""
    return "–" if math.isnan(bits) else f"{bits:.3f}"
