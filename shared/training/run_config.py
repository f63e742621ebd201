"""Run configuration: everything a training run is asked to do, typed and documented.

The sentences below each field are what `full_run.py --help` prints.
Promoted by 05_full_run.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from jsonargparse import set_parsing_settings

from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.text.sources import Source, source_of_path
from shared.training.trackers import Kind

set_parsing_settings(docstring_parse_attribute_docstrings=True)

# Where a run happens and how often it looks, not what it learns: may differ between sittings.
FREE_TO_CHANGE = {
    "device",
    "strategy",
    "out",
    "train.recompute",
    "train.evaluations",
    "train.evaluation_windows",
    "train.save_minutes",
    "train.keep",
    "train.snapshots",
    "track",
}


class NoText(UserError):
    """A config that waits for a text of yours names none."""


@dataclass(frozen=True)
class DataConfig:
    """What to read."""

    sources: list[Source] = field(
        default_factory=lambda: [Source("python-docs", 0.9), Source("primer", 0.1)]
    )
    """corpora and their shares of each batch"""
    path: str | None = None
    """your own text, joined to the sources: a folder or .zip of notes, or one file of text"""
    path_weight: float = 1.0
    """share of your own text, relative to the sources' weights"""
    tokenizer: str = "bytes"
    """bytes; bpe:8192 (or another number) learned from this text; or a tokenizer's file or name"""
    within_documents: bool = False
    """attention and positions begin anew with each document inside a window"""
    valid_fraction: float = 0.05
    """share of each corpus held back for validation, where it has no official split"""

    def all_sources(self) -> list[Source]:
        """The sources, and the person's own text if there is a path."""
        if self.path is None:
            return self.sources
        return [*self.sources, source_of_path(self.path, self.path_weight)]

    def __post_init__(self) -> None:
        if not self.sources and self.path is None:
            raise NoText("data.sources is empty: name a text of yours with --data.path FILE")
        if not 0 < self.path_weight < math.inf:
            raise UserError(f"data.path_weight is {self.path_weight}; it must be above 0")
        if not 0 <= self.valid_fraction < 1:
            raise UserError(f"data.valid_fraction is {self.valid_fraction}; expected 0 to below 1")


@dataclass(frozen=True)
class TrainConfig:
    """How to learn from it."""

    batch_size: int = 16
    """B, windows that go through the model together (a micro-batch)"""
    accumulation: int = 1
    """micro-batches whose gradients are averaged before the weights move"""
    recompute: bool = False
    """activation checkpointing: compute blocks again in the backward pass; slower, less memory"""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon for the matrices with adamw for the rest, or adamw for everything"""
    learning_rate: float = 0.003
    """peak learning rate of adamw"""
    muon_learning_rate: float = 0.02
    """peak learning rate of muon"""
    weight_decay: float = 0.1
    """how fast unused matrices shrink; gains never do"""
    schedule: Literal["cosine", "stable-decay"] = "stable-decay"
    """shape of the learning rate over the run, after the warmup"""
    warmup: float = 0.02
    """share of the run over which the learning rate rises"""
    decay: float = 0.5
    """stable-decay: share of the run, at its end, over which the rate falls to zero"""
    max_grad_norm: float = 1.0
    """longer gradients are shortened to this"""
    skip_above: float | None = None
    """skip a step whose gradient is this many times as long as is usual; none: only shorten it"""
    evaluations: int = 10
    """how often to validate, sample and save over the run"""
    evaluation_windows: int = 100
    """windows of each corpus in those validations; the final one takes all"""
    save_minutes: float = 10.0
    """save at least this often besides"""
    keep: int = 2
    """checkpoints kept, the newest ones"""
    snapshots: int = 0
    """small copies of the model kept over the run, to look back on in the page; 0: none"""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulation", "evaluations", "evaluation_windows", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is {getattr(self, name)}; it must be at least 1")
        if self.snapshots < 0 or self.snapshots == 1:
            raise UserError(
                f"train.snapshots is {self.snapshots}; it must be 0, for none, or at least 2, for "
                "the first step and the last"
            )
        if self.skip_above is not None and not self.skip_above > 1:
            raise UserError(f"train.skip_above is {self.skip_above}; it must be above 1, or none")
        ranges = {
            "learning_rate": (0, 10),
            "muon_learning_rate": (0, 10),
            "weight_decay": (0, 10),
            "warmup": (0, 0.9),
            "decay": (0.01, 1),
            "max_grad_norm": (1e-6, 1e9),
            "save_minutes": (0, 1e6),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:  # NaN compares False
                raise UserError(f"train.{name} is {getattr(self, name)}; expected {low} to {high}")


@dataclass(frozen=True)
class RunConfig:
    """One training run."""

    data: DataConfig = field(default_factory=DataConfig)
    """what to read"""
    model: ModelConfig = field(default_factory=ModelConfig)
    """sizes of the transformer"""
    train: TrainConfig = field(default_factory=TrainConfig)
    """how to learn"""
    init: str | None = None
    """a trained run or checkpoint to begin with: its weights, sizes and tokenizer; or a folder with
    a model of the Llama, Qwen3 or GPT-2 family, read with model.context_length positions at most;
    none: random weights"""
    budget: str = "170s"
    """how long to train: such as 90s, 15m, 6h or '2000 steps'"""
    device: str = "auto"
    """cuda, mps, cpu; auto: the first of these that is here"""
    strategy: Literal["auto", "one", "ddp", "fsdp"] = "auto"
    """one process, or several under torchrun: ddp, a copy in each; fsdp, a piece in each; auto: one
    or ddp"""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """dtype of the matrix products; auto: the fastest that measures right on the device"""
    compile: bool = False
    """torch.compile: half a minute or more at first, then faster steps where it works"""
    seed: int = 0
    """seeds the weights and the order of the data"""
    out: str | None = None
    """the run's folder; none: runs/ beside full_run.py, and the config's name"""
    track: Kind = "none"
    """log besides to tensorboard or wandb (extras to install; wandb stays offline by default)"""

    def __post_init__(self) -> None:
        if self.compile and self.strategy not in ("auto", "one"):
            raise UserError("compile works in one process: leave it out, or set strategy to one")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}; expected 0 to 2^63 - 1")


def differing_fields(old: dict[str, Any], new: RunConfig) -> list[str]:
    """Dotted names of the fields that differ, with both values; the free ones left out.

    A field that the older run did not have yet counts as having had its default.
    """
    old = {**old, "model": asdict(ModelConfig.from_dict(old.get("model", {})))}
    flat_old, flat_new = _flat(asdict(RunConfig())) | _flat(old), _flat(asdict(new))
    flat_old["data.sources"] = [asdict(Source(**each)) for each in flat_old["data.sources"]]
    names = sorted(flat_old.keys() | flat_new.keys())
    return [
        f"{name} was {flat_old.get(name)!r} and is now {flat_new.get(name)!r}"
        for name in names
        if name not in FREE_TO_CHANGE and flat_old.get(name) != flat_new.get(name)
    ]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
