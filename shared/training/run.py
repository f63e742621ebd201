"""A run: the parts of one training run, built from its config, and what is done to them.

Promoted by 05_full_run.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from shared.device import keep_freed_memory, steady_threads
from shared.errors import UserError
from shared.files import remove_folder
from shared.model.transformer import Transformer
from shared.model.weights import load_weights
from shared.text.batches import Batches
from shared.text.token_file import Corpus
from shared.text.tokenizer_file import Tokenizer
from shared.training.budget import Budget, parse_budget
from shared.training.checkpoint import RUN_FILE, restore_state, save_checkpoint
from shared.training.checkpoint_folder import list_checkpoints, newest_whole, step_of
from shared.training.clipping import Clipping
from shared.training.compiled import compiled_or_eager
from shared.training.loop import Loss, next_id_loss
from shared.training.loss import evaluate
from shared.training.precision import Precision
from shared.training.run_config import RunConfig, differing_fields
from shared.training.run_log import rewind_metrics
from shared.training.run_parts import build_schedule
from shared.training.sampler import continue_text
from shared.training.schedule import warmup
from shared.training.snapshots import Snapshots
from shared.training.strategy import OneProcess
from shared.training.validation import corpus_losses, mean_bits


@dataclass
class Run:
    """Everything one training run holds."""

    config: RunConfig
    folder: Path
    device: torch.device
    tokenizer: Tokenizer
    corpora: list[Corpus]
    model: Transformer
    optimizers: list[Optimizer]
    batches: Batches
    budget: Budget
    precision: Precision
    clipping: Clipping
    strategy: OneProcess
    loss: Loss = next_id_loss
    """what a batch is learned by"""
    beside: Any = None
    """small weights that train beside frozen ones; has their state, and makes one model of both"""
    save_seconds: float = 0.0
    """what the last saving took"""
    closing_seconds: float = 0.0
    """what the samples and curves at the end will take"""

    def __post_init__(self) -> None:
        self.snapshots = Snapshots(self.folder, self.config.train.snapshots)

    def for_training(self, tell: Callable[[str], object] = print) -> dict[str, Any]:
        """The arguments of `shared.training.loop.train`, ready; what does not compile is told."""
        settings, model = self.config.train, self.model
        keep_freed_memory()
        if self.config.compile:
            sizes, begun = (settings.batch_size, model.config.context_length), time.monotonic()
            model = compiled_or_eager(model, *sizes, self.precision, tell)
            self.budget.spend(time.monotonic() - begun)
        return {
            "model": model,
            "optimizers": self.optimizers,
            "batches": self.batches,
            "budget": self.budget,
            "schedule": build_schedule(settings),
            "precision": self.precision,
            "strategy": self.strategy,
            "clipping": self.clipping,
            "loss": self.loss,
        }

    def save(self) -> Path:
        """Writes a checkpoint of this moment, the main process for all; returns its folder."""
        begun = self.strategy.clock()
        config = asdict(self.config) | {"corpora": self.corpus_hashes()}
        place = save_checkpoint(
            self.folder / "checkpoints",
            self.budget.step,
            self.whole_model(),
            self.tokenizer,
            config,
            self._parts(),
            self.config.train.keep,
        )
        self.strategy.barrier()
        self.save_seconds = self.strategy.clock() - begun
        return place

    def whole_model(self) -> Transformer | None:
        """All weights as one model; None in a process that writes nothing."""
        return self.beside.merged() if self.beside else self.strategy.whole(self.model)

    def snapshot_if_due(self, tell: Callable[[str], object] = print, over: bool = False) -> None:
        """Keeps a snapshot of this moment if it is time for one, or the run is over."""
        if not self.snapshots.due(self.budget, over):
            return
        if (model := self.whole_model()) is not None:
            self.snapshots.keep(self.budget.step, model, self.tokenizer, tell)

    def resume(self, tell: Callable[[str], object] = print) -> bool:
        """Goes on from the newest whole checkpoint, telling of broken ones; False if none.

        The budget may be another one as long as the learning rate has not begun to fall.

        Raises:
            UserError: all are broken; or the config or a corpus is not the one the run was
                started with.
        """
        found = newest_whole(self.folder / "checkpoints", tell)
        if found is None:
            return False
        saved = json.loads((found / RUN_FILE).read_text(encoding="utf-8"))
        hashes = saved.pop("corpora")
        budget = saved.pop("budget", self.config.budget)
        changes = differing_fields({**saved, "budget": self.config.budget}, self.config)
        if hashes != self.corpus_hashes():
            changes.append("the text of its corpora has changed")
        self._refuse(changes)
        # Building a model draws random numbers, so the generators are restored after it.
        if not self.beside:
            self.strategy.load(self.model, load_weights(found).state_dict())
        restore_state(found, self._parts())
        if budget != self.config.budget and self._rate_falls(budget):
            change = f"budget was {budget!r} and is now {self.config.budget!r}"
            self._refuse([f"{change}, and the learning rate falls already"])
        self.strategy.barrier()
        if self.strategy.is_main:
            for checkpoint in list_checkpoints(found.parent):
                if step_of(checkpoint) > step_of(found):  # a broken one must not count as newest
                    remove_folder(checkpoint)
            rewind_metrics(self.folder, self.budget.step)
            self.snapshots.rewind(self.budget.step)
        return True

    def _refuse(self, changes: list[str]) -> None:
        if changes:
            raise UserError(
                f"{self.folder} was started differently: {'; '.join(changes)}. "
                "Put that back, or start another run with --out"
            )

    def _rate_falls(self, earlier_budget: str) -> bool:
        """Whether it does at this moment, under that budget or under the one of now."""
        earlier, settings = parse_budget(earlier_budget), self.config.train
        earlier.load_state_dict(self.budget.state_dict())
        schedule = build_schedule(settings)
        return any(
            schedule(progress) < warmup(progress, settings.warmup)
            for progress in (earlier.progress, self.budget.progress)
        )

    def validate(self, max_windows: int | None = None) -> dict[str, float]:
        """Bits per byte of each corpus that has validation text, by the corpus's name."""
        return mean_bits(self.corpora, self.validation_losses(max_windows))

    def validation_losses(self, max_windows: int | None = None) -> dict[str, torch.Tensor]:
        """Nats of the ids after the first, (ids,), of each corpus that has validation text.

        Of a corpus whose replies count, those in replies: its questions cannot be guessed.
        """
        self.model.eval()
        sizes = self.config.train.batch_size, self.config.model.context_length, max_windows
        settings = {"device": self.device, "autocast": self.precision.autocast}
        ask = partial(evaluate, self.model, **settings)
        known = [corpus for corpus in self.corpora if len(corpus.validation) > 1]
        losses = {corpus.name: corpus_losses(corpus, ask, *sizes) for corpus in known}
        self.strategy.barrier()
        return losses

    def validation_windows(self, max_windows: int | None = None) -> int:
        """How many windows `validate` looks at; at least 1."""
        length = self.config.model.context_length
        counts = [max(0, len(corpus.validation) - 1) // length for corpus in self.corpora]
        return max(1, sum(min(count, max_windows or count) for count in counts))

    def sample(self, prompt: str, new: int = 120, temperature: float = 0.7) -> str:
        """What the model writes after a prompt that opens a document."""
        self.model.eval()
        start = [self.tokenizer.end_of_text, *self.tokenizer.encode(prompt).tolist()]
        window = torch.tensor([start[-self.model.config.context_length :]])  # (1, T)
        with steady_threads(torch.no_grad()(lambda: self.model(window.to(self.device))), rounds=2):
            ids = continue_text(self.model, start, new, temperature, seed=self.config.seed)
        return self.tokenizer.decode(ids[1:])

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text for each id of a batch, corpora counted by their weights."""
        weights = [corpus.source.weight for corpus in self.corpora]
        sizes = [c.manifest["bytes"]["train"] / len(c.train) for c in self.corpora]
        return sum(w * s for w, s in zip(weights, sizes, strict=True)) / sum(weights)

    def corpus_hashes(self) -> dict[str, str]:
        """sha256 of each corpus's training ids, by the corpus's name."""
        return {corpus.name: corpus.manifest["sha256"]["train"] for corpus in self.corpora}

    def _parts(self) -> dict[str, object]:
        beside = {"beside": self.beside} if self.beside else {}
        return beside | {
            "optimizers": [self.strategy.part(optimizer) for optimizer in self.optimizers],
            "batches": self.batches,
            "budget": self.budget,
            "precision": self.precision,
            "clipping": self.clipping,
            "snapshots": self.snapshots,
        }
