"""The stages after the first: what each learns from, and by which loss.

    sft        conversations, replies alone count     the loss of every run
    dpo        pairs of a better and a worse reply    preference_loss
    practice   questions, and a program's yes or no   practice_loss

All are runs like any other: the same loop, budgets, checkpoints and resume.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from finetune_config import StageOptions
from finetune_questions import asked, pairs_of
from torch import Tensor

from shared.chat.lora import ATTENTION, EVERY_LAYER, adapter_state, add_adapters, merged
from shared.chat.pairs import PairBatches
from shared.chat.practice import Practice, PracticeBatch, PracticeConfig, practice_loss
from shared.chat.preferences import PreferenceConfig, preference_loss
from shared.chat.reply_rows import ReplyRows
from shared.model.transformer import Transformer
from shared.text.batches import Batches
from shared.training.loop import next_id_loss
from shared.training.run import Run
from shared.training.run_parts import build_optimizers

TRIED = 256  # replies in a step of practice: of many questions few, or of few many
LORA_LAYERS = {"all": EVERY_LAYER, "attention": ATTENTION}


class Beside:
    """LoRA in a run: what its checkpoints hold of it, and the one model that they save."""

    def __init__(self, model: Transformer) -> None:
        self.model = model

    def merged(self) -> Transformer:
        """Base and adapters as one plain model."""
        return merged(self.model)

    def state_dict(self) -> dict[str, Tensor]:
        """Every A and B."""
        return adapter_state(self.model)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Puts them back; the base is the one that the run began with."""
        self.model.load_state_dict(state, strict=False)


def add_lora(run: Run, options: StageOptions) -> None:
    """Gives the run's model adapters, and optimizers for nothing else."""
    generator = torch.Generator().manual_seed(run.config.seed)
    layers = LORA_LAYERS[options.lora_layers]
    add_adapters(run.model, options.lora, generator=generator, layers=layers)
    run.beside = Beside(run.model)
    run.optimizers = build_optimizers(run.model, run.config.train, run.precision.dtype)


def prepare(run: Run, options: StageOptions, tell: Callable[[str], object]) -> None:
    """Gives the run the batches and the loss of its stage."""
    if options.stage == "dpo":
        reference = deepcopy(run.model).eval().requires_grad_(False)
        config = PreferenceConfig(options.loss, options.beta)
        pairs = pairs_of(run, options.skill, options.questions, options.pairs, tell)
        sizes = run.config.train.batch_size, run.model.config.context_length
        run.batches = PairBatches(pairs, run.tokenizer, *sizes, run.config.seed)
        run.loss = partial(loss_of_pairs, reference, config)
    if options.stage == "practice":
        groups = max(1, TRIED // options.samples)
        config = PracticeConfig(groups, options.samples, only_passed=options.only_passed)
        longest = run.model.config.context_length - 1  # the end of the reply takes a place
        ask = partial(asked, options.skill, options.others, longest)
        practice = Practice(run.model, run.tokenizer, ask, config, run.config.seed)
        run.batches = Tries(practice, run.batches)
        run.loss = partial(loss_of_tries, options.text)


def loss_of_pairs(
    reference: Transformer, config: PreferenceConfig, model: Transformer, batch: ReplyRows
) -> Tensor:
    """`preference_loss` as the loop wants it."""
    return preference_loss(model, reference, ReplyRows(*batch), config)


class Tries:
    """Batches of practice as plain tensors: ids, marks (B, T), advantages (B,), tried, right ().

    Behind them a batch of text, inputs and targets (B', T') each: what is practised alone
    pushes aside what nobody asks for.
    """

    def __init__(self, practice: Practice, text: Batches) -> None:
        self.practice, self.text = practice, text

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return self

    def __next__(self) -> tuple[Tensor, ...]:
        batch = self.practice.next_to_learn()
        numbers = torch.tensor(batch.tried), torch.tensor(batch.right)
        return *batch.rows, batch.advantages, *numbers, *next(self.text)

    def state_dict(self) -> dict[str, Any]:
        """The positions in questions and text."""
        return {"practice": self.practice.state_dict(), "text": self.text.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.practice.load_state_dict(state["practice"])
        self.text.load_state_dict(state["text"])


def loss_of_tries(weight: float, model: Transformer, batch: tuple[Tensor, ...]) -> Tensor:
    """`practice_loss` as the loop wants it, and so much of the text's own loss.

    Only their gradients count. The value is what practice makes small: the share of wrong replies.
    """
    ids, replies, advantages, tried, right, *text = batch
    rows = ReplyRows(ids, replies)
    pushed = practice_loss(model, PracticeBatch(rows, advantages, int(tried), float(right)))
    if weight:
        pushed = pushed + weight * next_id_loss(model, tuple(text))
    return 1 - float(right) + (pushed - pushed.detach())
