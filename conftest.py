"""What every test folder shares: notes run as tests, tiny fixtures, honest skips."""

import gc
import os
import runpy
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from exercise_table import exercise_named
from grading import shipped_answer
from judging import Answer, Draw
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from shared.model.config import ModelConfig, MoEConfig, NormConfig, RopeConfig
from shared.model.transformer import Transformer
from shared.text.tokenizer import ByteTokenizer
from shared.training import sitting
from shared.training.run import Run

# Beside each other, tests have a core each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

# Scripts that tests start write their token files here, not into the repository.
os.environ["TINY_LLM_DATA"] = tempfile.mkdtemp(prefix="tiny-llm-tests-")

# Where the graphics chip rounds otherwise, or is only lent in part, tests still mean the same.
os.environ.setdefault("TINY_LLM_DEVICE", "cpu")

# A shell's background job ignores Ctrl-C and so would every process that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example may take as long as the machine takes: no test looks at the clock.
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium without windows and menus of its own: six pages cost it 1.8 CPU seconds, the others 5.2.
SHELL = "chromium-headless-shell"

# What `tiny_config` can be made of otherwise: each choice once, alone or with what goes with it.
EXPERTS = MoEConfig(n_experts=4, top_k=2)
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped heads": {},
    "every head its own keys": {"n_kv_heads": None},
    "one key head": {"n_kv_heads": 1},
    "sinusoidal": {"positions": "sinusoidal"},
    "no positions": {"positions": "none"},
    "interpolation": {"rope": RopeConfig(scaling="interpolation", factor=2.0)},
    "ntk": {"rope": RopeConfig(scaling="ntk", factor=2.0)},
    "normed queries and keys": {"norm": NormConfig(queries_and_keys=True)},
    "layer norms everywhere": {"norm": NormConfig("layer", queries_and_keys=True)},
    "squared relu": {"activation": "relu2"},
    "window": {"window": 5},
    "window of one": {"window": 1},
    "window as wide as the context": {"window": 32},
    "documents": {"document_start": 30},
    "documents in a window": {"document_start": 30, "window": 16},
    "dropout": {"dropout": 0.1},
    "soft cap": {"logit_cap": 15.0},
    "large vocabulary, tied": {"vocab_size": 2048, "tied_head": True},
    "experts": {"moe": EXPERTS},
    "experts with biases": {"moe": EXPERTS, "bias": True},
    "GPT-2": {
        "n_kv_heads": None,
        "positions": "learned",
        "norm": NormConfig("layer"),
        "activation": "gelu",
        "bias": True,
        "tied_head": True,
    },
}

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    excludes=["runs/*/*.md"],  # a trained run's card is nobody's page
).pytest()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Garbage is not looked for in what imports leave: that is a fifth of collecting, and stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what only POSIX systems know."""
    if os.name == "nt" and item.get_closest_marker("posix"):
        pytest.skip("Windows has no such signals, pipes, links or names")


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """Small enough for a test, with every kind of head sharing in it: H = 4, K = 2."""
    return ModelConfig(context_length=32, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Fields that make another model of `tiny_config`; the test runs once for each variant."""
    return VARIANTS[request.param]


@pytest.fixture(scope="session")
def random_model(tiny_config: ModelConfig) -> Callable[..., Transformer]:
    """Builds `tiny_config`, or a variant of it, so that every weight matters.

    All entries are random and large, gains and biases too: an untrained model would hide
    a fault behind gains of one, biases of zero and branches that add next to nothing.
    """

    def build(**fields: Any) -> Transformer:
        torch.manual_seed(0)
        model = Transformer(replace(tiny_config, **fields)).eval()
        for parameter in model.parameters():
            is_matrix = parameter.dim() == 2
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5 if is_matrix else 0.7)
        return model

    return build


@pytest.fixture
def tiny_model(random_model: Callable[..., Transformer]) -> Transformer:
    """The model of `tiny_config` with large random weights."""
    return random_model()


@pytest.fixture
def tiny_text(tmp_path: Path) -> Path:
    """A text file of 2,700 bytes."""
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    return path


@pytest.fixture
def one_thread(monkeypatch) -> Iterator[None]:
    """Models as tiny as a test's wait for a second thread longer than they compute."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def end_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no curves and say four bytes in place of 120: the rest of a tiny run is cheap."""
    whole = Run.sample
    monkeypatch.setattr(Run, "sample", lambda run, prompt, new=4: whole(run, prompt, min(new, 4)))
    monkeypatch.setattr(sitting, "draw_curves", lambda *_: None)


@pytest.fixture
def brief_ending(monkeypatch) -> None:
    """Runs of this test end as `end_briefly` says."""
    end_briefly(monkeypatch)


@pytest.fixture(scope="session")
def tokenizer() -> ByteTokenizer:
    """The byte tokenizer."""
    return ByteTokenizer()


@pytest.fixture
def as_script(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Runs a script's last lines as `python script.py ...` does, without a process of its own.

    Returns the exit code and what was written to stderr.
    """

    def run(script: Path | str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(script), run_name="__main__")
        return left.value.code, capsys.readouterr().err

    return run


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The path of an installed Chromium or Chrome; skips, or fails where one is required."""
    return installed(SHELL, *BROWSERS)


@pytest.fixture(scope="session")
def whole_browser_path() -> str:
    """The same, for what the shell does not do, such as keeping a page for the Back button."""
    return installed(*BROWSERS)


def installed(*browsers: str) -> str:
    """The path of the first that there is."""
    found = next(filter(None, map(shutil.which, browsers)), None)
    if found is None:
        reason = f"no browser: the page was NOT tested (looked for {', '.join(browsers)})"
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
