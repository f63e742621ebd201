"""Where the full run lies that every experiment starts: its script, configs, runs, token files."""

from pathlib import Path

from shared.text.token_file import data_folder

FOLDER = Path(__file__).resolve().parents[1]
SCRIPT = FOLDER / "full_run.py"
CONFIGS = FOLDER / "configs"
RUNS = FOLDER / "runs"
DATA = data_folder(FOLDER / "data")
