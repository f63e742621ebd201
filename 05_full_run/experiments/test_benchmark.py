"""The benchmark: arithmetic by hand, fair contenders, honest rows; no test looks at a clock."""

import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import benchmark
import benchmark_contenders as contenders
import benchmark_results as results
import pytest
import step_profile
import time_to_loss
import torch

from shared.errors import UserError, one_line_errors
from shared.training.loop import train
from shared.training.run_config import RunConfig

NANOGPT = "import time\n" + "".join(
    f"print('iter {n}: loss 4.1{n}00, time {ms:.2f}ms, mfu 0.10%')\n"
    for n, ms in enumerate([9000, 700, 200, 100, 300])
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def arguments(tmp_path: Path, tiny_text: Path) -> list[str]:
    """A config that trains a step in milliseconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"data: {{sources: [], path: {tiny_text}}}\n"
        "model: {context_length: 32, n_layers: 1, d_model: 16, n_heads: 2}\n"
        "train: {batch_size: 2}\ndevice: cpu\nprecision: bfloat16\n"
    )
    return ["--config", str(path)]


@pytest.fixture
def config(arguments) -> RunConfig:
    return benchmark.settled_config(arguments)


@pytest.fixture
def in_this_process(monkeypatch) -> None:
    """No process of its own for each turn, which is faster; no measuring of peaks."""
    monkeypatch.setattr(benchmark, "in_own_process", lambda work, *given: work(*given))
    monkeypatch.setattr(benchmark, "matmul_gflops", lambda device, dtype: 50.0)


def command_of(script: str) -> str:
    return shlex.join([sys.executable, "-c", script])


def baseline_of(script: str, warmup: int = 2, tokens: int = 1000) -> contenders.Baseline:
    return contenders.Baseline(command_of(script), None, benchmark.NANOGPT_LINE, tokens, warmup)


# --- arithmetic


def test_a_turn_counts_its_median_step():
    assert contenders.Turn([0.5, 0.1, 0.2], tokens=1000, memory=None).rate == 1000 / 0.2


def test_the_ratio_is_that_of_the_medians_and_its_range_that_of_the_rounds():
    ratio, low, high = results.ratio_of([300, 100, 200], [100, 50, 80])
    assert (ratio, low, high) == (200 / 80, 100 / 50, 300 / 100)


def test_mfu_is_the_share_of_the_peak():
    # 1,000 tokens/s at 2 MFLOPs each are 2 GFLOP/s, of 8
    assert results.mfu(1000, 2e6, 8) == 0.25


def test_shares_sum_to_a_hundred_and_what_no_operation_took_is_the_rest():
    seconds = dict.fromkeys(step_profile.GROUPS[:-1], 0.0) | {"loss": 1.0, "attention": 2.0}
    shares = step_profile.group_shares(seconds, wall=4.0)
    assert shares["loss"] == 25 and shares["attention"] == 50 and shares[step_profile.REST] == 25
    longer = step_profile.group_shares(seconds, wall=2.9)  # clocks differ a little
    assert sum(longer.values()) == pytest.approx(100) and longer[step_profile.REST] == 0


# --- where a step's time goes


def test_an_operation_belongs_to_what_called_it():
    group = step_profile.group_of
    assert group(["aten::bmm", "aten::matmul", "RowBlockAttention"]) == step_profile.ATTENTION
    assert group(["aten::mm", "aten::linear"]) == step_profile.MATRICES
    assert group(["aten::copy_", "aten::_to_copy", "aten::linear"]) == step_profile.CASTS
    assert group(["aten::copy_", "RowBlockAttentionBackward"]) == step_profile.ATTENTION
    assert group(["aten::mul", "aten::rms_norm"]) == step_profile.NORMS_AND_ACTIVATIONS
    assert group(["aten::mul", "benchmark: optimizer"]) == step_profile.OPTIMIZER
    assert group(["MulBackward0"]) == step_profile.REST


def test_the_loss_has_its_backward_pass_and_no_other_operation_has():
    seconds = step_profile.group_seconds(
        [
            (["aten::mm"], 6, 6, 5e6),
            (["aten::exp", "benchmark: loss"], -1, 7, 1e6),
            (["aten::mul", "autograd::engine::evaluate_function: ExpBackward0"], 7, -1, 2e6),
            (["aten::mm", "autograd::engine::evaluate_function: MmBackward0"], 6, -1, 4e6),
            (["aten::mul"], 7, 7, 8e6),  # forward, and not under the label
        ]
    )
    assert (seconds["loss"], seconds["matrix products"]) == (3.0, 9.0)
    assert seconds[step_profile.NORMS_AND_ACTIVATIONS] == 8.0


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])  # row blocks; PyTorch's kernel
def test_a_real_step_has_every_group(config, precision):
    shares = step_profile.step_shares(replace(config, precision=precision), steps=2)
    assert tuple(shares) == step_profile.GROUPS
    assert sum(shares.values()) == pytest.approx(100)
    assert all(share > 0 for share in shares.values())


# --- contenders


def test_ours_and_the_plain_loop_begin_with_the_same_weights_and_windows(config):
    config = replace(config, precision="float32")
    ours = next(train(**contenders.our_run(config, 1).for_training()))
    theirs = next(contenders.plain_steps(config, 1))
    assert ours.loss == pytest.approx(theirs, rel=1e-5)
    assert ours.tokens == contenders.their_turn(config, 1).tokens == 2 * 32


def test_all_ways_to_generate_write_the_same_text(config, monkeypatch):
    rates, same = contenders.generation_rounds(config, rounds=2)
    assert same and all(len(each) == 2 and min(each) > 0 for each in rates.values())
    wrong = contenders.continue_text
    monkeypatch.setattr(
        contenders, "continue_text", lambda model, ids, new: [*wrong(model, ids, new)[:-1], 999]
    )
    assert not contenders.generation_rounds(config, rounds=1)[1]


def test_a_short_context_gets_a_shorter_prompt_and_text():
    assert contenders.generation_lengths(256) == (64, 128)
    assert contenders.generation_lengths(128) == (42, 86)


def test_a_process_that_dies_is_one_line():
    with pytest.raises(UserError, match="the process was killed"):
        contenders.in_own_process(os._exit, 9)


# --- a baseline given as a command


def test_a_baseline_is_read_from_its_lines_and_ended_when_enough_is_known():
    turn = contenders.baseline_turn(baseline_of(NANOGPT + "time.sleep(600)"), steps=3)
    assert turn.seconds == [0.2, 0.1, 0.3] and turn.rate == 1000 / 0.2
    early = contenders.baseline_turn(baseline_of(NANOGPT, warmup=1), steps=9)
    assert early.seconds == [0.7, 0.2, 0.1, 0.3]  # it ended by itself


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit('no such data set')", "told of 0 steps, 3 .* no such data set"),
        ("print('iter 0: loss 4.1, time 5.00ms')", "told of 1 steps, 3 are needed"),
    ],
)
def test_a_baseline_that_tells_too_little_is_one_line_with_its_last(script, reason):
    with pytest.raises(UserError, match=reason):
        contenders.baseline_turn(baseline_of(script), steps=1)


def test_a_baseline_that_is_not_there_is_one_line():
    baseline = replace(baseline_of(""), command="no-such-program --fast")
    with pytest.raises(UserError, match="does not start"):
        contenders.baseline_turn(baseline, steps=1)


@pytest.mark.parametrize(
    ("pattern", "line", "seconds"),
    [
        (r"(?P<seconds>[\d.]+) s/step", "0.25 s/step", 0.25),
        (r"(?P<rate>[\d.]+) tok/s", "step 3 | 4000 tok/s", 0.25),
        (benchmark.NANOGPT_LINE, "iter 3: loss 2.0, time 250.00ms, mfu -100.00%", 0.25),
    ],
)
def test_a_pattern_finds_seconds_or_a_rate(arguments, config, pattern, line, seconds):
    given = ["--baseline", "x", "--baseline-pattern", pattern, "--baseline-tokens", "1000"]
    options = benchmark.options_parser().parse_args([*arguments, *given])
    baseline = benchmark.read_baseline(options, config)
    match = contenders.re.search(baseline.pattern, line)
    assert contenders.step_seconds(match, baseline.tokens) == seconds


# --- time to a loss


@pytest.fixture
def trained(monkeypatch) -> dict:
    """Stands in for `full_run.py`: writes a log in which 4 bits come after 3 s, 2 after 6 s."""
    outcome = {"status": 0, "stderr": ""}

    def run(command: list[str], **_) -> SimpleNamespace:
        log = Path(command[command.index("--out") + 1]) / "metrics.jsonl"
        lines = []
        for step, bits in ((1, 4.0), (2, 2.0)):
            lines.append({"step": step, "seconds": 3.0 * step, "tokens": 9, "loss": bits * 2})
            lines[-1]["bits_per_byte"] = bits
            lines.append({"step": step, "validation": {"text": bits}})
        log.write_text("\n".join(map(json.dumps, lines)))
        return SimpleNamespace(returncode=outcome["status"], stderr=outcome["stderr"])

    monkeypatch.setattr(time_to_loss.subprocess, "run", run)
    return outcome


def test_time_to_loss_is_that_of_the_first_validation_so_good(trained):
    assert time_to_loss.loss_row([], 4.5, nats=False).values == [3.0]
    assert time_to_loss.loss_row([], 4.0, nats=True).values == [6.0]  # 2 nats are a bit here
    assert "lowest was 2.000" in time_to_loss.loss_row([], 1.5, nats=False).failed
    trained.update(status=2, stderr="error: no such corpus")
    assert time_to_loss.loss_row([], 1.5, nats=False).failed == "no such corpus"


# --- the whole command


def test_one_run_gives_one_table_on_screen_in_markdown_and_in_json(
    arguments, in_this_process, tmp_path, capsys
):
    out = tmp_path / "table.md"
    given = ["--baseline", command_of(NANOGPT), "--rounds", "2", "--steps", "1"]
    benchmark.main([*arguments, *given, "--out", str(out)])
    shown, table = capsys.readouterr().out, out.read_text()
    for name in (
        "ours, bfloat16, AdamW",
        "ours, bfloat16, Muon",
        "ours, float32, AdamW",
        "baseline",
        "transformers, float32",
        "transformers, bfloat16",
        "ours, KV cache",
        "ours, no cache",
        "transformers generate",
        "attention",
        "Python and bookkeeping",
        "load average",
        "seed",
    ):
        assert name in shown and name in table, name
    assert str(tmp_path) not in table and sys.executable not in table
    rows = {row["who"]: row for row in json.loads(out.with_suffix(".json").read_text())["rows"]}
    assert rows["baseline"]["values"] == [2 * 32 / 0.2] * 2
    assert len(rows["ours, float32, AdamW"]["values"]) == 2 and rows["baseline"]["mfu"] is None
    assert rows["transformers, float32"]["ratio"][1] <= rows["transformers, float32"]["ratio"][2]
    assert rows["ours, bfloat16, AdamW"]["ratio"] == [1, 1, 1]


def test_what_fails_loses_no_other_row_and_ends_with_its_reason(
    arguments, in_this_process, tmp_path, capsys
):
    out = tmp_path / "table.md"
    given = ["--only", "train", "--baseline", "/nowhere/train --fast", "--rounds", "1"]
    with pytest.raises(SystemExit) as ended, one_line_errors():
        benchmark.main([*arguments, *given, "--steps", "1", "--out", str(out)])
    told = capsys.readouterr()
    assert ended.value.code == 2 and told.err.count("\n") == 1
    assert "baseline: the baseline does not start" in told.err
    assert "ours, float32, AdamW" in told.out and "| baseline | failed |" in out.read_text()
    assert "/nowhere" not in out.read_text() + out.with_suffix(".json").read_text()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--only", "speed"], "pick some of train,generate,loss,profile"),
        (["--only", "loss"], "give --until"),
        (["--rounds", "0"], "--rounds is 0; it must be at least 1"),
        (["--batch", "0"], "train.batch_size is 0"),
        (["--preset", "huge"], "invalid choice"),
        (["--model.nothing", "1"], "nothing"),
        (["--out", "table.txt"], "ends in .md"),
        (["--baseline-pattern", "("], "--baseline-pattern"),
        (["--baseline-pattern", "time"], "needs a group"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_measured(
    arguments, given, reason, monkeypatch
):
    monkeypatch.setattr(benchmark, "take_turns", None)
    with pytest.raises(UserError, match=reason):
        benchmark.main([*arguments, *given])


def test_where_no_cpu_computes_the_profile_is_left_out_unless_asked_for(
    arguments, in_this_process, monkeypatch, capsys
):
    monkeypatch.setattr(benchmark, "pick_device", lambda requested: torch.device("cuda"))
    for section in ("train", "generate", "profile"):
        row = results.Row(f"{section} was measured", "ours", [1.0])
        monkeypatch.setattr(benchmark, f"{section}_rows", lambda *given, row=row: [row])
    benchmark.main(arguments)
    shown = capsys.readouterr().out
    assert "train was measured" in shown and "generate was measured" in shown
    assert "profile was measured" not in shown
    with pytest.raises(UserError, match="the profile is of CPUs"):
        benchmark.main([*arguments, "--only", "train,profile"])


def test_without_a_config_it_is_nanogpts_shape(monkeypatch):
    options, passed_on = benchmark.options_parser().parse_known_args(["--device", "cpu"])
    given = benchmark.arguments_of_run(options, [*passed_on, "--precision", "float32"])
    config = benchmark.settled_config(given)
    model, train = config.model, config.train
    assert (model.n_layers, model.n_heads, model.d_model, model.context_length) == (6, 6, 384, 256)
    assert (train.batch_size, train.accumulation, model.dropout) == (64, 1, 0)


def test_the_command_is_shown_without_folders_and_with_its_pattern():
    given = ["--baseline", "/home/me/py /home/me/x/train.py --n 1", "--baseline-pattern", r"a/b\d"]
    shown = benchmark.public_command([*given, "--out", "/home/me/t.md"])
    assert "/home" not in shown and "'py train.py --n 1'" in shown and r"'a/b\d'" in shown
    assert shlex.split(shown)[:2] == ["python", "05_full_run/experiments/benchmark.py"]
