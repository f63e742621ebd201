"""What is asked of a stage after the first, and the run that it becomes: settings and text."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from shared.model.config import ModelConfig
from shared.model.interop_folder import is_their_folder
from shared.text.sources import CONVERSATION_KINDS, Source
from shared.training.checkpoint import RUN_FILE
from shared.training.run_config import DataConfig, RunConfig, TrainConfig

CONVERSATIONS = {"primer", "drills", *CONVERSATION_KINDS}
MIX = {"primer": 0.15, "drills": 0.85}  # of sft without --data
# Of a model of another engine: positions that are read, and the rate of all its weights, which
# AdamW has trained.
LENGTH_OF_OTHERS, RATE_OF_OTHERS = 512, 1e-4


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
