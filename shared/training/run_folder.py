"""The folder of a run: what stands there already, and whether to go on with it.

Promoted by 05_full_run.
"""

import time
from collections.abc import Callable
from pathlib import Path

from shared.errors import UserError
from shared.files import make_folder
from shared.training.card import CARD_FILE, trained_steps
from shared.training.checkpoint_folder import list_checkpoints
from shared.training.run import Run
from shared.training.run_log import rewind_metrics

Tell = Callable[[str], object]


def make_room(folder: Path, resume: bool, fresh: bool, tell: Tell = print) -> None:
    """Sets an earlier run in the folder aside, if `fresh`.

    Raises:
        UserError: it holds a run, and neither `resume` nor `fresh` says what to do; or the
            disk refuses.
    """
    earlier = list_checkpoints(folder / "checkpoints")
    if earlier and fresh:
        aside = folder.with_name(f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            folder.rename(aside)
        except OSError as error:
            raise UserError(f"cannot rename {folder} to {aside}: {error.strerror}") from error
        tell(f"the earlier run is now {aside}")
    elif earlier and not resume:
        raise UserError(
            f"{folder} already holds a run: --resume goes on with it, --fresh sets it aside, "
            "--out FOLDER trains elsewhere"
        )


def begin(run: Run, resume: bool, tell: Tell = print) -> bool:
    """Goes on from the newest checkpoint if `resume`; False if there is nothing left to do."""
    if run.strategy.is_main:
        make_folder(run.folder)
    run.snapshots.refuse_unreadable(run.config.model, run.tokenizer, tell)
    if resume and run.resume(tell):
        if trained_steps(run.folder) == run.budget.step:  # a card is the last thing a run writes
            tell(f"{run.folder} is finished already; nothing to do")
            return False
        tell(f"resuming after step {run.budget.step}")
    elif run.strategy.is_main:
        rewind_metrics(run.folder, 0)  # of a run that ended before its first checkpoint
        run.snapshots.rewind(0)
    if run.strategy.is_main:
        (run.folder / CARD_FILE).unlink(missing_ok=True)  # of another end than this run will have
    return True
