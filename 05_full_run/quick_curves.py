"""Draws `figures/curves.png` for the notes, from the log of a finished run.

python 05_full_run/quick_curves.py
python 05_full_run/quick_curves.py RUN
"""

import sys
from pathlib import Path

from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.training.run_log import METRICS_FILE, draw_curves

QUICK_RUN = Path(__file__).with_name("runs") / "quick"
FIGURE = Path(__file__).with_name("figures") / "curves.png"


def main(arguments: list[str]) -> None:
    """Draws the curves of the run named, or of the quick one."""
    run = user_path(arguments[0] if arguments else QUICK_RUN)
    if not (run / METRICS_FILE).is_file():
        raise UserError(f"no {METRICS_FILE} in {run}: train with 05_full_run/full_run.py first")
    print(f"drawn: {draw_curves(run, run.name, FIGURE)}")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
