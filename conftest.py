"""What every test folder shares: notes run as tests, tiny fixtures, honest skips."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from exercise_table import exercise_named
from grading import shipped_answer
from judging import Answer, Draw
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.tokenizer import ByteTokenizer

# Scripts that tests start write their token files here, not into the repository.
os.environ["TINY_LLM_DATA"] = tempfile.mkdtemp(prefix="tiny-llm-tests-")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    excludes=["runs/*/*.md"],  # a trained run's card is nobody's page
).pytest()


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """Small enough for a test, with every kind of head sharing in it: H = 4, K = 2."""
    return ModelConfig(context_length=32, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2)


@pytest.fixture
def tiny_model(tiny_config: ModelConfig) -> Transformer:
    """An untrained model whose every weight matters: large random entries, none zero."""
    torch.manual_seed(0)
    model = Transformer(tiny_config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return model


@pytest.fixture
def tiny_text(tmp_path: Path) -> Path:
    """A text file of 2,700 bytes."""
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60)
    return path


@pytest.fixture
def one_thread(monkeypatch) -> Iterator[None]:
    """Models as tiny as a test's wait for a second thread longer than they compute."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> ByteTokenizer:
    """The byte tokenizer."""
    return ByteTokenizer()


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The path of an installed Chromium or Chrome; skips, or fails where one is required."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        reason = f"no browser: the page was NOT tested (looked for {', '.join(BROWSERS)})"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def answer(request: pytest.FixtureRequest, one_thread: None) -> Answer:
    """The shipped code, for a grading test of the course; `make learn` passes the learner's."""
    return shipped_answer(exercise_named(request.function.grades))


@pytest.fixture
def draw() -> Draw:
    """Inputs of a grading test, here always the same."""
    return Draw(0)


def pytest_unconfigure() -> None:
    """Removes the token files of this session."""
    shutil.rmtree(os.environ["TINY_LLM_DATA"], ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says in the last lines, in yellow, what was skipped and why."""
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(
            f"NOT TESTED  {report.nodeid}: {reason}", yellow=True, bold=True
        )
