"""Snapshots: a run at a few moments of its training, in small files, to look back on.

    <run>/snapshots/step-0000123.tllm    the model in int8; see `shared/model/packing.py`

They stand evenly over the logarithm of the steps, since most is learned at first: of 16 over 3,280
steps at 1, 2, 3, 5, 9, 15, 26, ... 1,912, 3,280. What else is told of them, bytes read and bits
a byte, stands in `metrics.jsonl`.
Promoted by 05_full_run.
"""

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.packing import pack_weights, why_no_browser_reads
from shared.model.transformer import Transformer
from shared.text.tokenizer_file import Tokenizer
from shared.training.budget import Budget

FOLDER = "snapshots"


class Snapshots:
    """Says when a run is to be kept, and keeps it.

    Args:
        count: files over the whole run; 0: none. The last is of the last step.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder / FOLDER, count
        self.passed = 0
        self._told = False

    def due(self, budget: Budget, over: bool = False) -> bool:
        """Whether a snapshot is to be kept at this moment; if so, its mark counts as passed.

        Args:
            over: no step will follow, which a budget in seconds does not know before.
        """
        steps = budget.step if over else budget.expected_steps
        passed = marks_passed(budget.step, steps, self.count)
        if passed <= self.passed:
            return False
        self.passed = passed
        return True

    def keep(
        self, step: int, model: Transformer, tokenizer: Tokenizer, tell: Callable[[str], object]
    ) -> None:
        """Writes a file. One that cannot be written is told, the first of them, and left out."""
        try:
            path = self.folder / f"step-{step:07d}.tllm"
            pack_weights(path, model, described(tokenizer), "int8")
        except (UserError, OSError) as error:
            if not self._told:
                tell(f"no snapshot of step {step}: {error}; the run goes on without")
            self._told = True

    def refuse_unreadable(
        self, config: ModelConfig, tokenizer: Tokenizer, tell: Callable[[str], object]
    ) -> None:
        """Keeps none, and tells so, of a model that the page, which shows them, cannot run."""
        reason = why_no_browser_reads(config.moe.n_experts, tokenizer.kind)
        if self.count and reason:
            self.count = 0
            tell(f"no snapshots: {reason}")

    def rewind(self, step: int) -> None:
        """Removes the files of later steps: a resumed run writes them again."""
        for snapshot in list_snapshots(self.folder.parent):
            if step_of(snapshot) > step:
                snapshot.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """How many marks are passed."""
        return {"passed": self.passed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on behind them."""
        self.passed = state["passed"]


def marks_passed(step: int, expected_steps: float, count: int) -> int:
    """How many of `count` marks lie at or before a step: evenly in log from 1 to the last step.

    With 3 marks and 100 steps: 1 from step 1 on, 2 from step 10 on, 3 at step 100.
    """
    if count == 0:
        return 0
    share = math.log(step) / math.log(expected_steps) if expected_steps > step else 1.0
    return 1 + math.floor(share * (count - 1) + 1e-9)


def list_snapshots(run: Path) -> list[Path]:
    """The snapshots in a run's folder, in the order of their steps."""
    found = [p for p in (run / FOLDER).glob("step-*.tllm") if p.stem[5:].isdigit()]
    return sorted(found, key=step_of)


def step_of(snapshot: Path) -> int:
    """The step of a snapshot's file: 123 for `step-0000123.tllm`."""
    return int(snapshot.stem[5:])


def described(tokenizer: Tokenizer) -> dict[str, Any]:
    """What the tokenizer's `save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)
        return json.loads(path.read_text(encoding="utf-8"))
