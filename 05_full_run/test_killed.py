"""A real run, killed without warning again and again: nothing saved is ever lost."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.files import MARK
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import list_checkpoints
from shared.training.run_log import read_metrics
from shared.training.snapshots import list_snapshots

SCRIPT = Path(__file__).with_name("full_run.py")
KILLS = 20


def newest_step(folder: Path) -> int:
    found = list_checkpoints(folder / "checkpoints")
    return int(found[-1].name[5:]) if found else 0


def kept_bytes(run: Path) -> list[bytes]:
    return [file.read_bytes() for file in list_snapshots(run)]


@pytest.mark.slow
@pytest.mark.posix
def test_a_run_killed_at_20_random_moments_ends_as_if_nothing_had_happened(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 60)
    config = tmp_path / "killed.yaml"
    config.write_text(
        f"data: {{sources: [], path: {text}}}\n"
        "model: {context_length: 32, n_layers: 1, d_model: 32, n_heads: 2}\n"
        "train: {batch_size: 4, evaluations: 40, save_minutes: 0.002, snapshots: 16}\n"
        "budget: 3000 steps\ndevice: cpu\nprecision: float32\n"
    )

    def start(folder: Path) -> subprocess.Popen:
        command = [sys.executable, str(SCRIPT), "--config", str(config), "--resume"]
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([*command, "--out", str(folder)], **told)

    moments, killed, folder = random.Random(0), 0, tmp_path / "killed"
    for _ in range(KILLS):
        before = newest_step(folder)
        process = start(folder)
        time.sleep(moments.uniform(1.5, 4.0))
        process.send_signal(signal.SIGKILL)
        shown, _ = process.communicate()
        killed += process.returncode == -signal.SIGKILL
        assert "error" not in shown.lower(), shown
        assert newest_step(folder) >= before  # work is only ever added
        for checkpoint in list_checkpoints(folder / "checkpoints"):
            load_model(checkpoint)  # every checkpoint there is whole
        read_metrics(folder)
    assert killed >= KILLS // 2
    process, whole = start(folder), start(tmp_path / "whole")
    for finished in (process, whole):
        shown, _ = finished.communicate(timeout=1200)
        assert finished.returncode == 0, shown

    weights = [
        (list_checkpoints(run / "checkpoints")[-1] / "model.safetensors").read_bytes()
        for run in (folder, tmp_path / "whole")
    ]
    assert weights[0] == weights[1]
    assert all(MARK not in path.name for path in (folder / "checkpoints").iterdir())
    assert len(kept_bytes(folder)) == 16 and kept_bytes(folder) == kept_bytes(tmp_path / "whole")
    steps = [entry["step"] for entry in read_metrics(folder) if "loss" in entry]
    assert steps == list(range(1, 3001))
