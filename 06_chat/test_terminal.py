"""The terminal at odd moments: a real pseudo-terminal, wrong checkpoints, huge and odd input."""

import io
import json
import os
import re
import runpy
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chat
import generate
import pytest
import torch

from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.tokenizer import END_OF_TEXT
from shared.text.transcript import parse
from shared.training.checkpoint import save_checkpoint

SCRIPTS = Path(chat.__file__).parent
CHECKPOINT = "--device cpu --seed 1 --checkpoint".split()
STRICT_UTF8 = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}  # as in most terminals


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


def command_line(name: str, checkpoint: Path, options: str = "") -> list[str]:
    """The command that runs a script of this folder."""
    script = [sys.executable, str(SCRIPTS / name), "--checkpoint", str(checkpoint)]
    return [*script, *"--device cpu --seed 1".split(), *options.split()]


def test_piped_input_is_answered_line_by_line_whatever_its_bytes(talker, tmp_path):
    saved = tmp_path / "talk.txt"
    pasted = ("long text é " * 8000).encode()
    lines = [b"hello", b"caf\xe9 \xff", pasted, b"/set temperature 0", b"/system Be brief."]
    lines += [b"what are you?", f"/save {saved}".encode(), b"/nonsense", b"/quit", b"unsaid"]
    command = command_line("chat.py", talker, "--max_new_bytes 10")
    told = {"input": b"\n".join([*lines, b""]), "env": STRICT_UTF8}
    done = subprocess.run(command, capture_output=True, timeout=120, **told)
    assert done.returncode == 0, done.stderr.decode()
    shown = done.stdout.decode(errors="replace")
    assert shown.count("assistant: ") == 4 and "(temperature is now 0)" in shown
    assert "unknown command /nonsense" in done.stderr.decode()
    transcript = saved.read_bytes()
    assert len(transcript) > len(pasted) > 100_000 and b"caf\xe9 \xff" in transcript
    roles = [message.role for message in parse(transcript.decode(errors="surrogateescape"))]
    assert roles == ["system", *["user", "assistant"] * 4]


def test_the_end_of_the_input_ends_a_chat_as_quit_does(talker, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello\n"), encoding="utf-8"))
    chat.main([*CHECKPOINT, str(talker), "--max_new_bytes", "5"])
    assert capsys.readouterr().out.count("assistant: ") == 1


def test_generate_explains_and_continues(talker, capsys):
    generate.main([*CHECKPOINT, str(talker), *"--prompt abc --max_new_bytes 12".split()])
    shown = capsys.readouterr().out
    assert "cache, layer  (B, K, T, D) = (1, 2, 128, 32), 4 filled" in shown
    assert "12 bytes, " in shown


def test_generate_takes_prompts_of_any_bytes_until_the_input_ends(talker, monkeypatch, capsys):
    typed = io.TextIOWrapper(io.BytesIO(b"one\n\xff\xfe\n"), encoding="utf-8")
    options = "--interactive --max_new_bytes 5".split()
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys, "argv", ["generate.py", *CHECKPOINT, str(talker), *options])
    runpy.run_path(generate.__file__, run_name="__main__")
    assert capsys.readouterr().out.count("5 bytes, ") == 2


def test_a_long_prompt_is_continued_and_a_narrow_terminal_is_not_overrun(
    talker, monkeypatch, capsys
):
    monkeypatch.setattr(generate.console, "_width", 30)
    generate.main([*CHECKPOINT, str(talker), "--prompt", "x" * 500, "--max_new_bytes", "10"])
    shown = capsys.readouterr().out
    assert "128 filled" in shown and "10 bytes, " in shown
    assert 20 < max(len(line) for line in shown.splitlines() if "┃" in line) <= 30


class Terminal:
    """chat.py behind a pseudo-terminal of 20 columns."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.folder = folder
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            command_line("chat.py", checkpoint, "--max_new_bytes 100000"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=STRICT_UTF8 | {"COLUMNS": "20", "TERM": "dumb"},
            start_new_session=True,
        )
        os.close(slave)
        self.shown, self.seen = "", 0

    def wait_for(self, pattern: str, seconds: float = 60) -> None:
        """Reads until the pattern is on the screen, behind the end of the one before."""
        deadline = time.monotonic() + seconds
        while not (found := re.compile(pattern).search(self.shown, self.seen)):
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if ready:
                try:
                    self.shown += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:  # the other side has closed
                    break
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.shown[-500:]!r}"
        self.seen = found.end() if found else len(self.shown)

    def type(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.master, data[:512]) :]

    def limit(self, count: int) -> None:
        """Replies are of so many bytes from here on."""
        self.type(f"/set max_new_bytes {count}\n".encode())
        self.wait_for(rf"is now {count}\)[\s\S]*user: ")


@pytest.fixture(scope="module")
def terminal(talker, tmp_path_factory) -> Iterator[Terminal]:
    """One process for the tests of this file, each of which finds it at its prompt."""
    terminal = Terminal(talker, tmp_path_factory.mktemp("typed"))
    terminal.wait_for("user: ")
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.master)


@pytest.mark.posix
def test_ctrl_c_stops_the_reply_and_keeps_the_transcript(terminal):
    terminal.type(b"hello\n")
    terminal.wait_for("assistant: .+")
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for(r"\[stopped\][\s\S]*user: ")
    terminal.type(b"/save talk.txt\n")
    terminal.wait_for(r"saved 2\s+turns[\s\S]*user: ")
    saved = terminal.folder / "talk.txt"
    user, assistant = parse(saved.read_text(errors="surrogateescape"))
    assert user.content == "hello" and len(assistant.content) > 0


@pytest.mark.posix
def test_a_narrow_terminal_still_shows_everything(terminal):
    terminal.limit(30)
    terminal.type("grüß 👋\n".encode())
    terminal.wait_for(r"assistant: [\s\S]*user: ")
    terminal.type(b"/help\n")
    terminal.wait_for(r"Ctrl-C stops[\s\S]*user: ")


@pytest.mark.posix
def test_100_kilobytes_pasted_into_the_terminal_are_answered(terminal):
    terminal.limit(10)
    for _ in range(25):
        terminal.type(b"x" * 4000 + b"\n")
        terminal.wait_for("assistant: ")
        terminal.wait_for("user: ")


@pytest.mark.posix
def test_ctrl_c_at_the_prompt_leaves_quietly(terminal):
    time.sleep(0.5)  # a signal between the prompt and the read would only be noted
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(timeout=30) == 0 and "Traceback" not in terminal.shown


@pytest.mark.parametrize("script", [chat, generate])
def test_no_checkpoint_is_one_line(script, tmp_path, as_script):
    code, told = as_script(script.__file__, "--checkpoint", str(tmp_path))
    assert code == 2
    assert told.startswith("error: no checkpoint in") and told.count("\n") == 1


@pytest.mark.parametrize("script", [chat, generate])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("a file", "no checkpoint in"),
        ("another folder", "no checkpoint in"),
        ("corrupted", "model.safetensors"),
        ("other tokenizer", "'words' tokenizer"),
    ],
)
def test_a_wrong_checkpoint_is_a_mistake_of_the_users(
    script, wrong, message, tiny_model, tokenizer, tmp_path
):
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
    with pytest.raises(UserError, match=message):
        script.main([*CHECKPOINT, str(place)])


@pytest.mark.posix
def test_a_reader_that_leaves_early_is_no_error(talker):
    """As in `generate.py | head -c 20`."""
    command = command_line("generate.py", talker, "--max_new_bytes 3000")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(20)
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.wait(timeout=60)
    assert "Traceback" not in errors, errors
