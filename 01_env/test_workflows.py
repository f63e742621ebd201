"""The workflows of the hosting site parse, and what they run is here."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def jobs_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def commands(path: Path) -> list[str]:
    steps = (step for job in jobs_of(path).values() for step in job["steps"])
    return [line for step in steps for line in step.get("run", "").splitlines()]


def targets() -> set[str]:
    """What make can make by name; `$(QUICK)` stands for a file."""
    names = re.findall(r"^([\w$()/.-]+):", MAKEFILE, flags=re.MULTILINE)
    quick = re.search(r"^QUICK = (\S+)", MAKEFILE, flags=re.MULTILINE)[1]
    return {name.replace("$(QUICK)", quick) for name in names}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_step_uses_a_pinned_action_or_runs_something(path):
    for name, job in jobs_of(path).items():
        assert job["timeout-minutes"] <= 120, name
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1")), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_command_names_what_is_here(path):
    assert commands(path)
    for line in commands(path):
        for target in re.findall(r"\bmake (\S+)", line):
            assert target in targets(), line
        for script in re.findall(r"\b0\d_\w+/[\w/]+\.py\b", line):
            assert (ROOT / script).is_file(), line
        for config in re.findall(r"--config (\w+)", line):
            assert (ROOT / "05_full_run" / "configs" / f"{config}.yaml").is_file(), line
        assert re.search(r"\bmake |\.py\b|pytest", line), f"{line!r} is not known to this test"


def test_three_systems_run_the_quick_tests_and_linux_the_slow_ones_weekly():
    whole = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    systems = whole["jobs"]["quick"]["strategy"]["matrix"]["os"]
    assert [name.partition("-")[0] for name in systems] == ["ubuntu", "macos", "windows"]
    assert whole["jobs"]["slow"]["runs-on"].startswith("ubuntu")
    assert re.fullmatch(r"\d+ \d+ \* \* \d", whole[True]["schedule"][0]["cron"])  # `on` is True
