"""Snapshots: which moments of a run are kept, and that keeping them changes nothing else."""

import signal
from dataclasses import replace
from pathlib import Path

import full_run
import pytest

from conftest import end_briefly
from shared.errors import UserError
from shared.model.config import MoEConfig
from shared.model.packing import pack_weights, read_packed, unpack_model
from shared.model.transformer import Transformer
from shared.model.weights import load_weights
from shared.training.budget import Budget
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.live_progress import LiveProgress
from shared.training.loss_history import LossHistory, told_snapshots
from shared.training.run_config import TrainConfig
from shared.training.run_log import append_metrics
from shared.training.run_options import resolve_config_names, to_run_config
from shared.training.snapshots import Snapshots, list_snapshots, marks_passed

TINY = (
    "model: {context_length: 32, n_layers: 1, d_model: 32, n_heads: 2}\n"
    "train: {batch_size: 4, evaluations: 1, snapshots: 6}\n"
    "budget: 24 steps\ndevice: cpu\nprecision: float32\n"
)


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Trains the tiny config into a folder of that name; returns the folder."""
    place = tmp_path_factory.mktemp("snapshots")
    (place / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    config = place / "tiny.yaml"
    config.write_text(f"data: {{sources: [], path: {place}/text.txt, valid_fraction: 0}}\n{TINY}")

    def trained(name: str, *more: str) -> Path:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(full_run, "DATA", place / "data")
            end_briefly(patched)
            full_run.main(["--config", str(config), "--out", str(place / name), *more])
        return place / name

    return trained


@pytest.fixture(scope="module")
def whole(train) -> Path:
    """The folder of an uninterrupted run."""
    return train("whole")


def kept(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in list_snapshots(run)}


def steps_kept(budget: Budget, count: int) -> list[int]:
    snapshots = Snapshots(Path("unwritten"), count)
    steps = [step for step in budget.remaining_steps() if snapshots.due(budget)]
    return steps + [budget.step] * snapshots.due(budget, over=True)


def test_marks_stand_evenly_over_the_logarithm_of_the_steps():
    assert [marks_passed(step, 100, 3) for step in (1, 9, 10, 99, 100)] == [1, 1, 2, 2, 3]
    expected = [1, 2, 3, 6, 9, 15, 26, 44, 76, 129, 221, 379, 650, 1115, 1912, 3280]
    assert steps_kept(Budget(steps=3280), 16) == expected


@pytest.mark.parametrize(("steps", "expected"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4])])
def test_a_run_of_few_steps_keeps_each_once(steps, expected):
    assert steps_kept(Budget(steps=steps), 16) == expected


def test_a_budget_in_seconds_keeps_nearly_the_steps_of_one_in_steps_and_its_last():
    """The pace is not known before the first step, and the first one is slow."""
    now = [0.0]
    budget = Budget(seconds=100, clock=lambda: now[0])
    snapshots, steps = Snapshots(Path("unwritten"), 5), []
    for step in budget.remaining_steps():
        now[0] += 3.0 if step == 1 else 0.1
        steps += [step] * snapshots.due(budget)
    steps += [budget.step] * snapshots.due(budget, over=True)
    assert len(steps) == 5 and (steps[0], steps[-1]) == (1, budget.step)
    for step, share in zip(steps[1:-1], (0.25, 0.5, 0.75), strict=True):
        ideal = budget.step**share
        assert 0.5 * ideal < step < 1.5 * ideal + 1


def test_an_interrupted_run_has_the_snapshots_of_an_uninterrupted_one(train, whole, one_thread):
    def stop_after_9(self, record):
        if record.step == 9:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LiveProgress, "show", stop_after_9)
        run = train("parts")
    assert list(kept(run)) == list(kept(whole))[:4]
    lost = run / "snapshots" / "step-0000011.tllm"  # of a sitting whose checkpoint never came
    lost.write_bytes(b"")
    train("parts", "--resume")
    assert kept(run) == kept(whole) and len(kept(whole)) == 6 and not lost.exists()


def test_a_disk_that_takes_no_snapshot_is_one_line_and_changes_nothing_else(
    train, whole, one_thread, capsys
):
    (whole.parent / "full").mkdir()
    (whole.parent / "full" / "snapshots").write_text("in the way of the folder")
    run = train("full")
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("no snapshot of step 1:") == shown.count("no snapshot") == 1
    one, other = (find_checkpoint(each) / "model.safetensors" for each in (run, whole))
    assert one.read_bytes() == other.read_bytes()
    assert ["## Snapshots" in (each / "card.md").read_text() for each in (run, whole)] == [0, 1]


def test_the_last_snapshot_is_the_runs_model(whole):
    last = unpack_model(read_packed(list_snapshots(whole)[-1]))
    for name, weight in load_weights(find_checkpoint(whole)).state_dict().items():
        step = weight.abs().max() / 127  # int8 rounds to steps no larger than this
        assert (last.state_dict()[name] - weight).abs().max() <= step, name
    first, *_, last = told_snapshots(whole)
    assert last["bits_per_byte"] < first["bits_per_byte"] and last["step"] == 24


def test_without_snapshots_no_step_is_due():
    assert steps_kept(Budget(steps=20), 0) == []


def test_a_model_that_no_browser_runs_has_none_and_says_so(tiny_config, tokenizer):
    snapshots, told = Snapshots(Path("unwritten"), 16), []
    snapshots.refuse_unreadable(tiny_config, tokenizer, told.append)
    assert snapshots.count == 16 and not told
    experts = replace(tiny_config, moe=MoEConfig(n_experts=4))
    snapshots.refuse_unreadable(experts, tokenizer, told.append)
    assert snapshots.count == 0 and told[0].startswith("no snapshots: a mixture of experts")


def test_figures_are_those_of_the_log(tmp_path):
    for step in range(1, 101):
        entry = {"step": step, "loss": 2 * 0.6931, "bits_per_byte": float(step), "tokens": 10}
        append_metrics(tmp_path, entry | {"skipped": step == 95})
    history = LossHistory(tmp_path)
    assert history.bits_at(5) == 5
    assert history.bits_at(100) == pytest.approx((sum(range(91, 101)) - 95) / 9)
    curve = history.curve()
    assert curve[0] == (1, 1.0) and curve[-1][0] == 100
    assert [step for step, _ in curve] == sorted({step for step, _ in curve})
    assert LossHistory(tmp_path / "nowhere").curve() == []


def test_sixteen_snapshots_of_quick_are_no_more_than_15_mb(tmp_path):
    parser = full_run.command_line()
    named = resolve_config_names(["--config", "quick"], full_run.CONFIGS)
    config = to_run_config(parser, parser.parse_args(named))
    assert config.train.snapshots == 16
    tokenizer = {"kind": "bytes", "end_of_text": 30}
    pack_weights(tmp_path / "one", Transformer(config.model), tokenizer, "int8")
    assert 16 * (tmp_path / "one").stat().st_size <= 15_000_000


@pytest.mark.parametrize("count", [-1, 1])
def test_a_number_of_snapshots_that_makes_no_sense_is_refused(count):
    with pytest.raises(UserError, match=rf"train\.snapshots is {count}; it must be 0"):
        TrainConfig(snapshots=count)
