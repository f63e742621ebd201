"""The stages after the first: what each learns from, and by which loss.

    sft        conversations, replies alone count     the loss of every run
    dpo        pairs of a better and a worse reply    preference_loss
    practice   questions, and a program's yes or no   practice_loss

All are runs like any other: the same loop, budgets, checkpoints and resume.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from finetune_questions import asked, pairs_of
from torch import Tensor

from shared.chat.lora import ATTENTION, EVERY_LAYER, adapter_state, add_adapters, merged
from shared.chat.pairs import PairBatches
from shared.chat.practice import Practice, PracticeBatch, PracticeConfig, practice_loss
from shared.chat.preferences import PreferenceConfig, preference_loss
from shared.chat.reply_rows import ReplyRows
from shared.model.config import ModelConfig
from shared.model.interop_folder import is_their_folder
from shared.model.transformer import Transformer
from shared.text.batches import Batches
from shared.text.sources import CONVERSATION_KINDS, Source
from shared.training.checkpoint import RUN_FILE
from shared.training.loop import next_id_loss
from shared.training.run import Run
from shared.training.run_config import DataConfig, RunConfig, TrainConfig
from shared.training.run_parts import build_optimizers

CONVERSATIONS = {"primer", "drills", *CONVERSATION_KINDS}
MIX = {"primer": 0.15, "drills": 0.85}  # of sft without --data
TRIED = 256  # replies in a step of practice: of many questions few, or of few many
# Of a model of another engine: positions that are read, and the rate of all its weights, which
# AdamW has trained.
LENGTH_OF_OTHERS, RATE_OF_OTHERS = 512, 1e-4
LORA_LAYERS = {"all": EVERY_LAYER, "attention": ATTENTION}


class Stage(NamedTuple):
    """What belongs to a stage, whatever is asked of it."""

    about: str
    rate: float
    """peak learning rate: of Muon where it trains the whole model by sft, of AdamW elsewhere"""
    rate_beside: float
    """of AdamW, for LoRA"""
    budget: str


STAGES = {
    "sft": Stage("replies of conversations, and nothing else, count", 1e-3, 3e-3, "5m"),
    "dpo": Stage("of two replies the better one becomes likelier", 1e-5, 1e-4, "90s"),
    "practice": Stage("what a program takes becomes likelier", 1e-4, 1e-3, "10m"),
}


class StageOptions(NamedTuple):
    """What was asked for; see `finetune.py --help`."""

    stage: str
    base: Path
    data: tuple[tuple[str, float], ...]
    """sources, and their shares relative to each other"""
    pairs: str | None
    questions: int
    loss: str
    beta: float
    skill: tuple[str, ...]
    others: float
    samples: int
    only_passed: bool
    text: float
    lora: int
    lora_layers: str
    rate: float | None
    budget: str | None


def config_of(options: StageOptions, device: str, seed: int) -> RunConfig:
    """The run of a stage: it begins with the base, and its text is read like any run's."""
    stage = STAGES[options.stage]
    rate = stage.rate_beside if options.lora else stage.rate
    rate = rate if options.rate is None else options.rate
    theirs = is_their_folder(options.base)
    muon = options.stage == "sft" and not options.lora and not theirs  # as the base was trained
    if theirs and options.rate is None and not options.lora:
        rate = min(rate, RATE_OF_OTHERS)
    known = base_data(options.base)
    return RunConfig(
        data=DataConfig(
            sources_of(options),
            within_documents=options.stage == "sft",
            valid_fraction=(known or DataConfig).valid_fraction,
        ),
        train=TrainConfig(
            batch_size=8,
            optimizer="muon" if muon else "adamw",
            learning_rate=rate / 2 if muon else rate,
            muon_learning_rate=rate,
            weight_decay=0.0,
            recompute=options.stage == "practice",
            evaluation_windows=50,
        ),
        model=ModelConfig(context_length=LENGTH_OF_OTHERS),
        init=str(options.base),
        budget=options.budget or stage.budget,
        device=device,
        precision="auto" if options.stage == "sft" else "float32",
        seed=seed,
    )


def sources_of(options: StageOptions) -> list[Source]:
    """What the stage reads: its conversations, and a share of the text that the base has read.

    Stages without text of their own read the base's: dpo to see what it makes the model forget,
    practice to forget less of it.
    """
    base = base_text(options.base)
    shares = dict(options.data) or MIX
    text = options.text if base and options.stage == "sft" else 0.0
    said = (1 - text) / sum(shares.values())
    own = [Source(spec, said * share, questions_of(spec)) for spec, share in shares.items()]
    whole = sum(source.weight for source in base)
    if options.stage != "sft":
        return [*base, Source("primer", whole / 4 or 1.0, 0.0)]
    kept = [replace(source, weight=text * source.weight / whole) for source in base if text]
    return [*own, *kept]


def questions_of(spec: str) -> float:
    """0 for conversations: replies alone count; 1 for text."""
    return 0.0 if spec.partition(":")[0] in CONVERSATIONS else 1.0


def base_text(base: Path) -> list[Source]:
    """What the base has read that is no conversation; none is known of a published model."""
    every = known.all_sources() if (known := base_data(base)) else []
    return [source for source in every if questions_of(source.spec) == 1.0]


def base_data(base: Path) -> DataConfig | None:
    """What the base has read, and how much of it was held back; None where it is unknown."""
    if is_their_folder(base) or not (base / RUN_FILE).is_file():
        return None
    data = json.loads((base / RUN_FILE).read_text(encoding="utf-8"))["data"]
    return DataConfig(**(data | {"sources": [Source(**each) for each in data["sources"]]}))


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
