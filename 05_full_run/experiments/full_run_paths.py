"""Where the full run lies that every experiment starts: its script, configs, runs, token files."""

from pathlib import Path

from shared.text.token_file import data_folder

FOLDER = Path(__file__).resolve().parents[1]
SCRIPT, CONFIGS, RUNS = FOLDER / "full_run.py", FOLDER / "configs", FOLDER / "runs"
DATA = data_folder(FOLDER / "data")
