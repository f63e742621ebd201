"""Trackers: read back what TensorBoard and Weights & Biases were given, and what they were not."""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import UserError
from shared.training import trackers
from shared.training.trackers import numbers_of, open_tracker

CONFIG = {
    "data": {"path": "/home/somebody/diary", "sources": [{"spec": "markdown:/home/somebody/n/"}]},
    "train": {"batch_size": 16},
    "out": None,
    "seed": 0,
}


def entry(step: int, loss: float) -> dict:
    return {"step": step, "loss": loss, "skipped": step == 2, "sample": "user: hello"}


def log_steps(tracker: trackers.Tracker, steps: range, add: float = 0.0) -> None:
    """A loss of `add + step` at each step, and a validation at the last."""
    for step in steps:
        tracker.log(entry(step, add + step))
    tracker.log({"step": steps[-1], "validation": {"text:notes": 1.5}})
    tracker.close()


# --- TensorBoard


def read_events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def test_tensorboard_reads_back_the_numbers(tmp_path):
    log_steps(open_tracker("tensorboard", tmp_path, "quick", CONFIG), range(1, 5))
    events = read_events(tmp_path)
    assert set(events.Tags()["scalars"]) == {"loss", "skipped", "validation/text_notes"}
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(n, n) for n in range(1, 5)]
    assert [e.value for e in events.Scalars("skipped")] == [0, 1, 0, 0]
    assert [(e.step, e.value) for e in events.Scalars("validation/text_notes")] == [(4, 1.5)]


def test_tensorboard_holds_the_config_and_no_path_nor_text(tmp_path):
    log_steps(open_tracker("tensorboard", tmp_path, "quick", CONFIG), range(1, 3))
    written = b"".join(file.read_bytes() for file in (tmp_path / "tensorboard").iterdir())
    assert b'"batch_size": 16' in written and b'"path": "diary"' in written
    assert b"somebody" not in written and b"hello" not in written
    assert str(tmp_path).encode() not in written


def test_tensorboard_shows_a_resumed_run_without_repetitions(tmp_path):
    log_steps(open_tracker("tensorboard", tmp_path, "quick", CONFIG), range(1, 6))
    log_steps(open_tracker("tensorboard", tmp_path, "quick", CONFIG, after=3), range(4, 8), 100)
    losses = [(e.step, e.value) for e in read_events(tmp_path).Scalars("loss")]
    assert losses == [(1, 1), (2, 2), (3, 3), (4, 104), (5, 105), (6, 106), (7, 107)]


def test_tensorboard_forgets_a_run_that_starts_anew(tmp_path):
    log_steps(open_tracker("tensorboard", tmp_path, "quick", CONFIG), range(1, 6))
    log_steps(open_tracker("tensorboard", tmp_path, "quick", CONFIG), range(1, 3), 100)
    assert [e.value for e in read_events(tmp_path).Scalars("loss")] == [101, 102]


# --- Weights & Biases

TWO_SITTINGS = """
import sys
from pathlib import Path
from test_trackers import CONFIG, log_steps
from shared.training.trackers import open_tracker

log_steps(open_tracker("wandb", Path(sys.argv[1]), "quick", CONFIG), range(1, 6))
log_steps(open_tracker("wandb", Path(sys.argv[1]), "quick", CONFIG, after=3), range(4, 8), 100)
"""


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """Stands where a proxy would: whoever uses the network by HTTP comes here first."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        yield listening


@pytest.fixture(scope="module")
def sittings(tmp_path_factory, listener) -> Path:
    """The folder of a run tracked by wandb in two sittings, the second from step 3 on."""
    folder, home = tmp_path_factory.mktemp("tracked"), tmp_path_factory.mktemp("home")
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    environment = {k: v for k, v in os.environ.items() if not k.upper().startswith("WANDB_")}
    environment = {k: v for k, v in environment.items() if not k.upper().endswith("_PROXY")}
    environment |= {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy")}
    environment |= {f"WANDB_{name}_DIR": str(home) for name in ("CACHE", "CONFIG", "DATA")}
    environment |= {"PYTHONPATH": str(Path(__file__).parent), "https_proxy": proxy}
    done = subprocess.run(
        [sys.executable, "-c", TWO_SITTINGS, str(folder)],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return folder


def records_of(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format after seven bytes of header.

    Blocks of 32 KiB hold pieces, each behind checksum (4), length (2) and kind (1):
    whole 1, first 2, middle 3, last 4.
    """
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # too little room for a piece: padded
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def all_records(folder: Path) -> list:
    """What all sittings stored, in order."""
    from wandb.proto.wandb_internal_pb2 import Record

    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    return [Record.FromString(record) for file in files for record in records_of(file)]


def runs_of(folder: Path) -> list:
    """What the sittings said about the run: id, config, host."""
    return [record.run for record in all_records(folder) if record.HasField("run")]


def rows_of(folder: Path) -> list[dict]:
    """The rows of the history, all sittings together."""
    histories = [r.history.item for r in all_records(folder) if r.HasField("history")]
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
        for items in histories
    ]


def test_wandb_offline_holds_the_numbers_and_the_public_config(sittings):
    config = {i.key: json.loads(i.value_json) for i in runs_of(sittings)[0].config.update}
    rows = rows_of(sittings)
    assert config["data"] == {"path": "diary", "sources": [{"spec": "markdown:n"}]}
    assert config["train"] == {"batch_size": 16} and config["seed"] == 0
    assert rows[1]["loss"] == 2.0 and rows[1]["skipped"] == 1.0
    assert rows[4]["validation/text_notes"] == 1.5
    assert all(
        set(row) <= {"loss", "skipped", "validation/text_notes", "_step", "_timestamp", "_runtime"}
        for row in rows
    )


def test_wandb_sittings_are_one_run_with_each_step_once(sittings):
    ids, rows = [run.run_id for run in runs_of(sittings)], rows_of(sittings)
    assert len(list(sittings.glob("wandb/offline-run-*"))) == 2 and len(set(ids)) == 1
    assert ids[0] == json.loads((sittings / "wandb.json").read_text())["id"]
    assert [row["_step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["loss"] for row in rows] == [1, 2, 3, 4, 5, 106, 107]


def test_wandb_stores_no_text_path_or_name_of_the_machine(sittings):
    files = [path for path in sittings.rglob("*") if path.is_file() and path.suffix != ".log"]
    written = b"".join(path.read_bytes() for path in files)  # logs stay here, they are not uploaded
    assert b"tiny-llm-from-scratch" in written
    for word in ("somebody", "hello", str(sittings), sys.executable, str(Path(__file__).parent)):
        assert word.encode() not in written, word
    assert all(not run.host for run in runs_of(sittings))


def test_wandb_offline_uses_no_network(sittings, listener):
    with pytest.raises(TimeoutError):
        listener.accept()


# --- whatever the backend


class Broken:
    """A backend whose disk is full from the second step on."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def log(self, step: int, numbers: dict) -> None:
        if self.steps:
            raise OSError(28, "No space left\non device")
        self.steps.append(step)

    def close(self) -> None:
        raise AssertionError("a broken backend is left alone")


def test_a_tracker_that_fails_warns_once_and_is_off(tmp_path):
    told, backend = [], Broken()
    tracker = trackers.Tracker("wandb", lambda: backend, told.append)
    log_steps(tracker, range(1, 6))
    assert backend.steps == [1]
    assert len(told) == 1 and "\n" not in told[0]
    assert told[0].startswith("wandb failed and is off from here") and "No space left" in told[0]


def test_a_tracker_that_cannot_open_warns_once_and_is_off(tmp_path):
    told = []
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    log_steps(open_tracker("tensorboard", tmp_path, "quick", {}, tell=told.append), range(1, 4))
    assert len(told) == 1 and told[0].startswith("tensorboard failed")


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"--track {kind} .*pip install .*'\.\[{kind}\]'"):
        open_tracker(kind, tmp_path, "quick", {})
    assert list(tmp_path.iterdir()) == []


def test_no_tracker_writes_nothing(tmp_path):
    log_steps(open_tracker("none", tmp_path, "quick", CONFIG), range(1, 3))
    assert list(tmp_path.iterdir()) == []


def test_only_numbers_of_an_entry_are_tracked():
    given = {"step": 3, "loss": 2, "skipped": True, "note": "text", "validation": {"a b:c/d": 0.5}}
    assert numbers_of(given) == {"loss": 2.0, "skipped": 1.0, "validation/a_b_c_d": 0.5}
