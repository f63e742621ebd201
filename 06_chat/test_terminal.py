"""The terminal at odd moments: a real pseudo-terminal, wrong checkpoints, huge and odd input."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import chat
import pytest
import torch

from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.tokenizer import END_OF_TEXT
from shared.text.transcript import parse
from shared.training.checkpoint import save_checkpoint

SCRIPTS = Path(chat.__file__).parent


@pytest.fixture(scope="module")
def talker(tokenizer, tmp_path_factory) -> Path:
    """A model that never ends its turn: its end-of-text logit is as low as it can be."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(context_length=128, n_layers=6, d_model=64, n_heads=2))
    with torch.no_grad():
        direction = torch.randn(64)
        model.embedding.weight += 3 * direction  # every position leans this way
        model.head.weight[END_OF_TEXT] = -direction
    return save_checkpoint(tmp_path_factory.mktemp("talker"), 1, model, tokenizer, {}, {})


class Terminal:
    """chat.py behind a pseudo-terminal of a given width."""

    def __init__(self, checkpoint: Path, *arguments: str, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        environment = os.environ | {"COLUMNS": str(columns), "TERM": "dumb", "PYTHONUTF8": "1"}
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(SCRIPTS / "chat.py"),
                "--checkpoint",
                str(checkpoint),
                "--device",
                "cpu",
                "--seed",
                "1",
                *arguments,
            ],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def wait_for(self, pattern: str, seconds: float = 60) -> None:
        """Reads until the pattern is on the screen after what was seen before."""
        deadline, start = time.monotonic() + seconds, len(self.shown)
        while not re.search(pattern, self.shown[start:]):
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if ready:
                try:
                    self.shown += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:  # the other side has closed
                    break
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.shown[-500:]!r}"

    def type(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.master, data[:512]) :]

    def end(self) -> int:
        code = self.process.wait(timeout=30)
        os.close(self.master)
        return code


def test_ctrl_c_stops_the_reply_and_keeps_the_transcript(talker, tmp_path):
    saved = tmp_path / "talk.txt"
    terminal = Terminal(talker, "--max_new_bytes", "100000")
    terminal.wait_for("user: ")
    terminal.type(b"hello\n")
    terminal.wait_for("assistant: .+")
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for(r"\[stopped\][\s\S]*user: ")
    terminal.type(f"/save {saved}\n".encode())
    terminal.wait_for("saved 2 turns")
    terminal.type(b"\x04")  # Ctrl-D
    assert terminal.end() == 0
    user, assistant = parse(saved.read_text(errors="surrogateescape"))
    assert user.content == "hello" and len(assistant.content) > 0


def test_ctrl_c_and_ctrl_d_at_the_prompt_leave_quietly(talker):
    for leave in ("signal", "end of file"):
        terminal = Terminal(talker)
        terminal.wait_for("user: ")
        if leave == "end of file":
            terminal.type(b"\x04")
        else:
            time.sleep(0.5)  # a signal between the prompt and the read would only be noted
            terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
        assert "Traceback" not in terminal.shown


def test_a_narrow_terminal_still_shows_everything(talker):
    terminal = Terminal(talker, "--max_new_bytes", "30", columns=20)
    terminal.wait_for("user: ")
    terminal.type("grüß 👋\n".encode())
    terminal.wait_for(r"assistant: [\s\S]*user: ")
    terminal.type(b"/help\n")
    terminal.wait_for("Ctrl-C stops")
    terminal.type(b"/quit\n")
    assert terminal.end() == 0


def run(name: str, checkpoint: Path, *arguments: str, stdin: bytes = b"", **environment: str):
    return subprocess.run(
        [
            sys.executable,
            str(SCRIPTS / name),
            "--checkpoint",
            str(checkpoint),
            "--device",
            "cpu",
            *arguments,
        ],
        input=stdin,
        capture_output=True,
        timeout=120,
        env=os.environ | environment,
    )


def test_100_kilobytes_in_one_message_are_answered(talker):
    pasted = ("long text é " * 8000).encode()
    done = run("chat.py", talker, "--max_new_bytes", "10", stdin=pasted + b"\nhello\n")
    assert len(pasted) > 100_000
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"assistant: ") == 2


def test_100_kilobytes_pasted_into_the_terminal_are_answered(talker):
    terminal = Terminal(talker, "--max_new_bytes", "10")
    terminal.wait_for("user: ")
    for _ in range(25):
        terminal.type(b"x" * 4000 + b"\n")
        terminal.wait_for("assistant: ")
        terminal.wait_for("user: ")
    terminal.type(b"\x04")
    assert terminal.end() == 0


def test_a_prompt_longer_than_the_context_is_continued(talker):
    done = run("generate.py", talker, "--prompt", "x" * 500, "--max_new_bytes", "10")
    assert done.returncode == 0, done.stderr.decode()


def test_generate_fits_a_narrow_terminal_and_survives_odd_bytes(talker):
    done = run("generate.py", talker, "--max_new_bytes", "10", COLUMNS="30", TERM="dumb")
    assert done.returncode == 0, done.stderr.decode()
    assert max(len(line) for line in done.stdout.decode().splitlines() if "┃" in line) <= 30
    odd = run("generate.py", talker, "--interactive", "--max_new_bytes", "5", stdin=b"\xff\xfe\n")
    assert odd.returncode == 0, odd.stderr.decode()


@pytest.mark.parametrize("name", ["chat.py", "generate.py"])
@pytest.mark.parametrize("wrong", ["a file", "another folder", "corrupted", "other tokenizer"])
def test_a_wrong_checkpoint_is_one_line(name, wrong, tiny_model, tokenizer, tmp_path):
    place = save_checkpoint(tmp_path, 1, tiny_model, tokenizer, {}, {})
    if wrong == "a file":
        place = tmp_path / "model.bin"
        place.write_bytes(b"x")
    elif wrong == "another folder":
        place = tmp_path / "photos"
        place.mkdir()
    elif wrong == "corrupted":
        weights = place / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-5])
    else:
        (place / "tokenizer.json").write_text(json.dumps({"kind": "words"}))
        (place / "checksums.json").unlink()
    done = run(name, place)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ") and done.stderr.count(b"\n") == 1


def test_a_reader_that_leaves_early_is_no_error(talker):
    """As in `generate.py | head -c 20`."""
    process = subprocess.Popen(
        [
            sys.executable,
            str(SCRIPTS / "generate.py"),
            "--checkpoint",
            str(talker),
            "--device",
            "cpu",
            "--max_new_bytes",
            "3000",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(20)
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.wait(timeout=60)
    assert "Traceback" not in errors, errors
