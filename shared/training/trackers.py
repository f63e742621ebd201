"""Trackers: a run's numbers in TensorBoard or Weights & Biases, besides `metrics.jsonl`.

Both are extras to install. What Weights & Biases may upload is numbers and the config:
no text, no code, no folder, no name of the machine or its user.
Promoted by 05_full_run.
"""

import json
import os
import re
import secrets
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from shared.errors import UserError
from shared.privacy import without_folders

Kind = Literal["none", "tensorboard", "wandb"]
PROJECT = "tiny-llm-from-scratch"
TENSORBOARD_FOLDER, WANDB_FILE = "tensorboard", "wandb.json"


class TensorBoard:
    """Writes event files into the run's folder; look with `tensorboard --logdir RUNS`."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any], after: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = str(folder / TENSORBOARD_FOLDER)
        # Readers drop what an earlier sitting wrote at purge_step or later.
        purge = after + 1 if after else 0
        self._writer = SummaryWriter(place, purge_step=purge, flush_secs=10)
        if not after:
            shown = json.dumps(config, indent=2)
            self._writer.add_text("config", f"{name}\n\n```\n{shown}\n```")

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Adds one point to each curve."""
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """Writes what is still in memory."""
        self._writer.close()


class WeightsAndBiases:
    """Logs to `wandb`, offline unless the environment's `WANDB_MODE` says otherwise.

    A run keeps its id in `wandb.json`, so that sittings make one run, and the last
    step logged: a wandb run cannot go back, so steps trained again are not logged again.
    """

    def __init__(self, folder: Path, name: str, config: dict[str, Any], after: int) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would report paths
        import wandb

        self._file = folder / WANDB_FILE
        self._id, self._earlier = self._read() if after else (secrets.token_hex(4), 0)
        self._run = wandb.init(
            project=PROJECT,
            name=name,
            id=self._id,
            config=config,
            dir=folder,
            resume="allow",
            allow_val_change=True,
            save_code=False,
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(
                silent=True,
                console="off",  # the samples that a run prints are text
                disable_code=True,
                disable_git=True,
                host="",
                username="",
                program="",
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )

    def _read(self) -> tuple[str, int]:
        try:
            saved = json.loads(self._file.read_text(encoding="utf-8"))
            return str(saved["id"]), int(saved["step"])
        except (OSError, ValueError, KeyError, TypeError):  # tracked from here on only
            return secrets.token_hex(4), 0

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Logs one step, if an earlier sitting has not."""
        if step > self._earlier:
            self._run.log(numbers, step=step)
            partial = self._file.with_suffix(".partial")
            partial.write_text(json.dumps({"id": self._id, "step": step}), encoding="utf-8")
            partial.replace(self._file)

    def close(self) -> None:
        """Writes, or uploads, what is still in memory."""
        self._run.finish()


class Tracker:
    """Passes numbers on to a backend until that fails: it says so once, and training goes on."""

    def __init__(
        self,
        kind: Kind,
        open_backend: Callable[[], TensorBoard | WeightsAndBiases | None],
        tell: Callable[[str], object] = print,
    ) -> None:
        self.kind, self._tell = kind, tell
        self._backend = self._guarded(open_backend)

    def log(self, entry: dict[str, Any]) -> None:
        """Logs the numbers of a line of `metrics.jsonl`, at its step."""
        if self._backend is not None:
            self._guarded(self._backend.log, entry["step"], numbers_of(entry))

    def close(self) -> None:
        """Ends the tracking; more than once is fine."""
        if self._backend is not None:
            self._guarded(self._backend.close)
        self._backend = None

    def _guarded(self, act: Callable[..., Any], *arguments: object) -> Any:
        try:
            return act(*arguments)
        except Exception as error:  # whatever a library throws, a run must not end by it
            self._backend = None
            why = " ".join(str(error).split()) or type(error).__name__
            self._tell(f"{self.kind} failed and is off from here, training goes on: {why}")
            return None


def open_tracker(
    kind: Kind,
    folder: Path,
    name: str,
    config: dict[str, Any],
    after: int = 0,
    tell: Callable[[str], object] = print,
) -> Tracker:
    """Opens the tracker of a run's folder.

    Args:
        config: fields of the run's config; folders are cut to their last part.
        after: the step a resumed run goes on from; 0 begins a new track.

    Raises:
        UserError: its package is not installed.
    """
    require_package(kind)
    if kind == "none":
        return Tracker(kind, lambda: None, tell)
    backend = TensorBoard if kind == "tensorboard" else WeightsAndBiases
    return Tracker(kind, lambda: backend(folder, name, without_folders(config), after), tell)


def require_package(kind: Kind) -> None:
    """Checks that the tracker can be used here, before any work is done.

    Raises:
        UserError: its package is not installed.
    """
    if kind != "none" and find_spec(kind) is None:
        raise UserError(
            f"--track {kind} needs a package that is not installed: "
            f"pip install --constraint constraints.txt --editable '.[{kind}]'"
        )


def numbers_of(entry: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line of `metrics.jsonl`, flat: `validation/NAME`; the step left out."""
    flat = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            flat |= {f"{key}/{inner}": number for inner, number in numbers_of(value).items()}
        elif isinstance(value, int | float) and key != "step":
            flat[re.sub(r"[^\w.-]", "_", key)] = float(value)
    return flat
