"""Runs at odd moments: broken checkpoints, a full disk, a folder that cannot be written."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import full_run
import pytest

from shared.errors import UserError
from shared.files import MARK
from shared.text import bpe_training, own_tokenizer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import (
    best_checkpoint,
    find_checkpoint,
    list_checkpoints,
    note_best,
)
from shared.training.run_log import read_metrics

pytestmark = pytest.mark.usefixtures("brief_ending")
CONFIG = """
model: {context_length: 32, n_layers: 1, d_model: 32, n_heads: 2}
train: {batch_size: 4, evaluations: 4, keep: 2}
budget: 24 steps
device: cpu
precision: float32
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    text = folder / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 60)
    path = folder / "odd.yaml"
    path.write_text(f"data: {{sources: [], path: {text}, valid_fraction: 0.2}}{CONFIG}")
    return path


@pytest.fixture(scope="module")
def trained(config_file) -> Path:
    """The folder of a finished run, not to be changed."""
    folder = config_file.with_name("trained")
    full_run.main(["--config", str(config_file), "--out", str(folder)])
    return folder


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """The folder of a finished run."""
    return shutil.copytree(trained, tmp_path / "run")


def break_newest(run: Path, how: str) -> Path:
    newest = list_checkpoints(run / "checkpoints")[-1]
    weights = newest / "model.safetensors"
    data = bytearray(weights.read_bytes())
    if how == "flipped bit":
        data[len(data) // 2] ^= 1
    else:
        del data[-100:]
    weights.write_bytes(bytes(data))
    return newest


@pytest.mark.parametrize("how", ["flipped bit", "truncated"])
def test_a_broken_newest_checkpoint_is_told_and_the_one_before_is_used(how, finished):
    before, newest = list_checkpoints(finished / "checkpoints")
    break_newest(finished, how)
    told: list[str] = []
    assert find_checkpoint(finished, told.append) == before
    assert str(newest) in told[0] and "model.safetensors changed" in told[0]
    load_model(before)
    with pytest.raises(UserError, match=r"model\.safetensors changed since it was saved"):
        load_model(newest)


def test_a_run_resumes_from_the_checkpoint_before_a_broken_one(
    finished, config_file, tmp_path, capsys
):
    expected = (break_newest(finished, "truncated") / "checksums.json").read_text()
    (finished / "card.md").unlink()
    full_run.main(["--config", str(config_file), "--out", str(finished), "--resume"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "going back to the one before" in shown and "resuming after step 18" in shown
    again = json.loads(
        (list_checkpoints(finished / "checkpoints")[-1] / "checksums.json").read_text()
    )
    assert again["model.safetensors"] == json.loads(expected)["model.safetensors"]
    steps = [entry["step"] for entry in read_metrics(finished) if "loss" in entry]
    assert steps == list(range(1, 25))


def test_a_run_keeps_its_learned_tokenizer_when_the_rules_change(
    config_file, tmp_path, monkeypatch, capsys
):
    arguments = ["--config", str(config_file), "--out", str(tmp_path / "run")]
    arguments += ["--data.tokenizer", "bpe:300"]
    full_run.main(arguments)
    break_newest(tmp_path / "run", "truncated")
    (tmp_path / "run" / "card.md").unlink()
    monkeypatch.setattr(own_tokenizer, "LONGEST_TOKEN", 3)
    monkeypatch.setattr(bpe_training, "LONGEST_TOKEN", 3)
    full_run.main([*arguments, "--resume"])
    assert "resuming after step 18" in " ".join(capsys.readouterr().out.split())


def test_when_every_checkpoint_is_broken_nothing_is_loaded_resumed_or_wiped(finished, config_file):
    for checkpoint in list_checkpoints(finished / "checkpoints"):
        (checkpoint / "model.json").write_text("{}")
    (finished / "card.md").unlink()
    before = (finished / "metrics.jsonl").read_text()
    named = r"every checkpoint in .* is broken \(step-0000018, step-0000024\)"
    with pytest.raises(UserError, match=named):
        find_checkpoint(finished, lambda line: None)
    with pytest.raises(UserError, match=named):
        full_run.main(["--config", str(config_file), "--out", str(finished), "--resume"])
    assert (finished / "metrics.jsonl").read_text() == before


def test_the_best_checkpoint_is_kept_beside_the_newest(
    finished, config_file, monkeypatch, tmp_path
):
    values = iter([3.0, 1.0, 2.0, 2.5, 2.6, 2.7, 2.8, 2.9])
    name = "text:text.txt"
    monkeypatch.setattr(full_run.Run, "validate", lambda *a: {name: next(values)})
    out = tmp_path / "other"
    full_run.main(
        ["--config", str(config_file), "--out", str(out), "--train.evaluations", "6"]
    )  # saves at steps 4, 8, ..., 24
    kept = [path.name for path in list_checkpoints(out / "checkpoints")]
    assert kept == ["step-0000008", "step-0000020", "step-0000024"]
    assert best_checkpoint(out / "checkpoints") == "step-0000008"
    assert find_checkpoint(out / "best").name == "step-0000008"
    assert find_checkpoint(out).name == "step-0000024"


def test_the_last_checkpoint_can_be_the_best(finished):
    """It is looked at on the windows of the other looks, and this loss falls to the end."""
    assert best_checkpoint(finished / "checkpoints") == "step-0000024"


def test_the_best_is_only_replaced_by_a_better_one(tmp_path):
    for name, value in (("a", 2.0), ("b", 3.0), ("c", float("nan")), ("d", 1.0)):
        note_best(tmp_path, name, value)
    assert best_checkpoint(tmp_path) == "d"
    (tmp_path / "best.json").write_text("{")
    assert best_checkpoint(tmp_path) is None


@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """No file can grow beyond `most` bytes, as if the disk were full."""
    import resource  # which Windows lacks

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("most", [2_000, pytest.param(60_000, marks=pytest.mark.slow), 150_000])
@pytest.mark.posix
def test_a_full_disk_is_one_line_and_leaves_earlier_checkpoints_whole(
    most, finished, config_file, as_script
):
    """Small limits hit the log, the weights, or the optimizer's state."""
    (finished / "card.md").unlink()
    newest = list_checkpoints(finished / "checkpoints")[-1]
    break_newest(finished, "truncated")
    whole = list_checkpoints(finished / "checkpoints")[0]
    with full_disk(most):
        command = ["--config", str(config_file), "--out", str(finished), "--resume"]
        code, told = as_script(full_run.__file__, *command)
    assert code == 2
    assert told.startswith("error: cannot write") and told.count("\n") == 1
    load_model(whole)
    left = {path.name for path in (finished / "checkpoints").iterdir()}
    assert left <= {whole.name, newest.name, "best.json"}


def test_a_folder_that_cannot_be_made_is_a_mistake_of_the_users(config_file, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    out = str(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="cannot make the folder"):
        full_run.main(["--config", str(config_file), "--out", out])


def test_a_disk_that_became_read_only_is_one_line(finished, config_file, monkeypatch):
    (finished / "card.md").unlink()
    break_newest(finished, "truncated")
    original = Path.mkdir

    def refuse(self, *arguments, **options):
        if MARK in self.name:
            raise OSError(30, "Read-only file system")
        original(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"cannot write .*: Read-only file system"):
        full_run.main(["--config", str(config_file), "--out", str(finished), "--resume"])
    load_model(list_checkpoints(finished / "checkpoints")[0])


def test_a_run_that_ended_before_its_first_checkpoint_starts_its_log_anew(config_file, tmp_path):
    out = tmp_path / "early"
    out.mkdir()
    (out / "metrics.jsonl").write_text('{"step": 1, "loss": 9}\n{"step": 2, "loss": 9}\n')
    full_run.main(["--config", str(config_file), "--out", str(out), "--resume"])
    steps = [entry["step"] for entry in read_metrics(out) if "loss" in entry]
    assert steps == list(range(1, 25))


@pytest.mark.parametrize(
    "wrong",
    [
        "--train.decay 0",
        "--train.learning_rate -1",
        "--train.warmup 1",
        "--data.path_weight .nan",
        "--seed 99999999999999999999999",
        f"--out {'x' * 5000}",
        "--config ~nosuch/x.yaml",
    ],
)
def test_values_out_of_range_are_mistakes_of_the_users(wrong, config_file, tmp_path):
    out = ["--out", str(tmp_path / "run")]
    with pytest.raises(UserError):
        full_run.main(["--config", str(config_file), *out, *wrong.split()])


def test_two_sources_of_one_name_are_refused(config_file, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / "notes").mkdir(parents=True)
        (tmp_path / folder / "notes" / "n.md").write_text("text " * 100)
    sources = [{"spec": f"markdown:{tmp_path / folder / 'notes'}"} for folder in ("a", "b")]
    data = ["--data.sources", json.dumps(sources), "--out", str(tmp_path / "run")]
    with pytest.raises(UserError, match="two sources are called markdown:notes"):
        full_run.main(["--config", str(config_file), *data])
