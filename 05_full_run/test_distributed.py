"""Many processes train as one does: the same losses, one checkpoint, and none lost for long."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from shared.errors import UserError
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import list_checkpoints
from shared.training.distributed import share_of
from shared.training.processes import lost_processes, pick_strategy
from shared.training.run_config import FREE_TO_CHANGE, RunConfig
from shared.training.run_log import read_metrics
from shared.training.strategy import OneProcess

HERE = Path(__file__).parent
SCRIPT = HERE / "full_run.py"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Ten steps of 2 micro-batches of 4 windows each: 80 windows, however many processes."""
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog, and seven wizards box. " * 200)
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"data: {{sources: [], path: {text}, valid_fraction: 0.2}}\n"
        "model: {context_length: 32, n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2}\n"
        "train: {batch_size: 4, accumulation: 2, optimizer: adamw, evaluations: 1}\n"
        "budget: 10 steps\ndevice: cpu\nprecision: float32\n"
    )
    return path


def command(processes: int, *arguments: object) -> list[str]:
    """The command line of a run in that many processes; one: without `torchrun`."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start = torchrun if processes > 1 else []
    return [sys.executable, *start, str(SCRIPT), *map(str, arguments)]


def train(processes: int, folder: Path, config: Path, *arguments: object) -> str:
    """Runs to the end; returns what was printed."""
    done = subprocess.run(
        command(processes, "--config", config, "--out", folder, *arguments),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def losses(folder: Path) -> list[float]:
    entries = [entry for entry in read_metrics(folder) if "loss" in entry]
    assert [entry["step"] for entry in entries] == list(range(1, len(entries) + 1))
    return [entry["loss"] for entry in entries]


@pytest.mark.parametrize(
    ("processes", "accumulation", "rows"),
    [(1, 3, 2), (2, 4, 1), (2, 1, 4), (8, 4, 16), (6, 4, 3), (12, 8, 6)],
)
def test_every_window_of_a_step_belongs_to_exactly_one_process(processes, accumulation, rows):
    taken = []
    for rank in range(processes):
        mine, part = share_of(rank, processes, accumulation, rows)
        taken.append([(batch, row) for batch in mine for row in range(rows)[part]])
    assert len({len(pairs) for pairs in taken}) == 1  # equal shares
    everything = [(batch, row) for batch in range(accumulation) for row in range(rows)]
    assert sorted(pair for pairs in taken for pair in pairs) == everything


def test_a_batch_that_cannot_be_shared_equally_is_refused_with_what_to_do():
    with pytest.raises(UserError, match="batch_size a multiple of 3, or"):
        share_of(0, 3, accumulation=2, rows=4)


def test_auto_is_one_process_without_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(pick_strategy(RunConfig(device="cpu")), OneProcess)


def test_a_strategy_that_does_not_go_with_the_start_is_refused(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ddp", "fsdp"):
        with pytest.raises(UserError, match="torchrun --nproc-per-node"):
            pick_strategy(RunConfig(strategy=name))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 times the same"):
        pick_strategy(RunConfig(strategy="one"))


def test_a_run_may_go_on_with_another_strategy():
    assert "strategy" in FREE_TO_CHANGE


def test_an_error_of_one_process_alone_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="Connection closed"), lost_processes():
        raise RuntimeError("Connection closed by peer")


@pytest.mark.slow
def test_two_processes_lose_what_one_does(config_file, tmp_path):
    """AdamW, float32, the same global batch: whole micro-batches each, or rows of one."""
    train(1, tmp_path / "one", config_file)
    expected = losses(tmp_path / "one")
    assert len(expected) == 10 and expected[-1] < expected[0] - 0.5
    for strategy in ("ddp", "fsdp"):
        for batch, accumulation in ((4, 2), (8, 1)):
            sizes = ("--train.batch_size", batch, "--train.accumulation", accumulation)
            folder = tmp_path / f"{strategy}-{accumulation}"
            shown = train(2, folder, config_file, "--strategy", strategy, *sizes)
            if accumulation == 2:  # the same batches as the single process
                assert losses(folder) == pytest.approx(expected, abs=1e-4)
            else:
                train(1, tmp_path / "rows", config_file, "--fresh", *sizes)
                assert losses(folder) == pytest.approx(losses(tmp_path / "rows"), abs=1e-4)
            assert shown.count("parameters ·") == 1  # one process speaks for all


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_muon_and_experts_train_in_two_processes(strategy, config_file, tmp_path):
    """Muon evens out what rounding left, so its losses agree less closely than AdamW's."""
    model = ("--model.moe.n_experts", 2, "--model.tied_head", "true")
    more = ("--train.optimizer", "muon", "--train.recompute", "true", *model)
    train(1, tmp_path / "one", config_file, *more)
    train(2, tmp_path / "two", config_file, "--strategy", strategy, *more)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=5e-3)


@pytest.mark.slow
def test_pieces_are_saved_as_one_model_without_pickle(config_file, tmp_path):
    train(1, tmp_path / "one", config_file)
    train(2, tmp_path / "two", config_file, "--strategy", "fsdp")
    places = [list_checkpoints(tmp_path / run / "checkpoints")[-1] for run in ("one", "two")]
    assert {p.name for p in places[0].iterdir()} == {p.name for p in places[1].iterdir()}
    one, two = (load_file(place / "model.safetensors") for place in places)
    assert {n: t.shape for n, t in one.items()} == {n: t.shape for n, t in two.items()}
    for name, tensor in one.items():
        assert two[name].numpy() == pytest.approx(tensor.numpy(), abs=1e-3)
    load_model(places[1])


@pytest.mark.slow
def test_a_budget_in_seconds_ends_all_processes_at_the_same_step(config_file, tmp_path):
    """Were one to make a step more, it would wait for the others' gradients for ever."""
    train(2, tmp_path / "run", config_file, "--budget", "3s", "--train.save_minutes", 0.01)
    steps = [entry["step"] for entry in read_metrics(tmp_path / "run") if "loss" in entry]
    assert steps == list(range(1, len(steps) + 1))
    last = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert int(last.name.removeprefix("step-")) == steps[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "processes"), [("fsdp", "one", 1), ("ddp", "fsdp", 3)])
@pytest.mark.posix
def test_a_killed_process_ends_the_job_and_resume_goes_on(
    before, after, processes, config_file, tmp_path
):
    longer = ("--budget", "30 steps", "--train.accumulation", 6, "--train.save_minutes", 0)
    train(1, tmp_path / "whole", config_file, *longer)
    folder = tmp_path / "killed"
    start = command(2, "--config", config_file, "--out", folder, "--strategy", before, *longer)
    process = subprocess.Popen(
        start,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while len(list_checkpoints(folder / "checkpoints")) < 2:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    second = next(
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.environ().get("RANK") == "1"
    )
    second.send_signal(signal.SIGKILL)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "lost another process of this run" in shown and "--resume" in shown, shown
    assert "Traceback" not in shown.split("lost another process")[0], shown

    shown = train(processes, folder, config_file, "--resume", "--strategy", after, *longer)
    assert re.search(r"resuming after step \d+", shown)
    assert losses(folder) == pytest.approx(losses(tmp_path / "whole"), abs=2e-3)
    saved = json.loads((list_checkpoints(folder / "checkpoints")[-1] / "config.json").read_text())
    assert saved["strategy"] == after
