"""The README's commands are those that tests run, or say when they were last run."""

import re
from pathlib import Path

import pytest
from test_workflows import targets

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DATED = re.compile(r"# .*\b(?:last run|run on) \d{4}-\d\d-\d\d")
TESTS = "\n".join(
    path.read_text(encoding="utf-8")
    for pattern in ("0*/**/test_*.py", "0*/testing/*.py")
    for path in ROOT.glob(pattern)
)


def commands() -> list[str]:
    """Lines of code blocks and pieces of sentences that begin as a command does."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    lines = [line for kind, block in blocks if not kind for line in block.splitlines()]
    pieces = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.M | re.S))
    return [
        line for line in lines + pieces if re.match(r"(\w+=\S+ )?(make|\S*python|torchrun) ", line)
    ]


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_is_run_by_a_test_or_dated(command):
    if DATED.search(command):
        return
    if target := re.match(r"(?:\w+=\S+ )?make (\S+)", command):
        assert target[1] in targets()
        return
    if "-m venv" in command:
        return  # Python's own
    script = ROOT / re.search(r"\b0\d_\w+/[\w/]+\.py\b", command)[0]
    run = rf"^(?:import {script.stem}\b|from {script.stem} import)|\b{script.stem}\.py\b"
    assert script.is_file() and re.search(run, TESTS, flags=re.MULTILINE), "no test runs it"


def test_every_option_in_the_readme_is_one_of_its_script():
    """Fields of a run are known to the parser of `full_run.py`; other options stand in a source."""
    from full_run import command_line

    known = "\n".join(p.read_text(encoding="utf-8") for p in ROOT.glob("0*/**/*.py"))
    fields = {f"--{name}" for name in command_line().get_defaults(skip_validation=True).keys()}
    for command in commands():
        for option in re.findall(r"(?<!\S)--[\w.-]+", command.partition("#")[0]):
            assert option in fields or f'"{option}"' in known, f"{option} in {command}"


def test_the_first_screen_is_a_sentence_a_picture_and_two_commands():
    title, sentence, picture, block = README.split("\n\n")[:4]
    assert title.startswith("# ") and sentence.count(".") == 1 and picture.startswith("![")
    assert len(block.strip("`\n").splitlines()) == 2
