"""Comparisons: what is trained and what is not again, how variants are made, what is reported."""

import json
import shutil
import signal
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import compare
import comparison
import comparison_jobs
import comparison_progress
import full_run
import pytest
from variants import Range, budget_in_steps, expand, name_variants, read_named, read_vary

from shared.errors import UserError
from shared.training.checkpoint_folder import find_checkpoint, list_checkpoints
from shared.training.run_config import RunConfig, TrainConfig
from shared.training.run_log import read_metrics

pytestmark = pytest.mark.usefixtures("one_thread", "brief_ending")


@pytest.fixture
def config_file(tmp_path: Path, tiny_text: Path) -> Path:
    """A config that trains in less than a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"data: {{sources: [], path: {tiny_text}, valid_fraction: 0.2, within_documents: true}}\n"
        "model: {context_length: 32, n_layers: 1, d_model: 16, n_heads: 1}\n"
        "train: {batch_size: 4, evaluations: 2}\n"
        "budget: 9 steps\ndevice: cpu\nprecision: float32\n"
    )
    return path


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Trains in this process, which is faster; lists what was trained."""
    names = []

    def train(job, show, stopped) -> str | None:
        names.append(f"{job.variant.name}/{job.seed}")
        show(job)
        try:
            full_run.main(job.arguments)
        except UserError as error:
            return str(error)
        assert job.expected() == (job.row()["parameters"], job.row()["tokens"])

    monkeypatch.setattr(compare, "train", train)
    return names


def rows_in(out: Path) -> list[dict]:
    return json.loads((out / "results.json").read_text())["runs"]


# --- training and going on


def test_a_comparison_trains_all_reports_and_a_second_call_changes_nothing(
    config_file, trained, tmp_path
):
    out = tmp_path / "out"
    command = ["--config", str(config_file), "--vary", "model.d_model=16,32", "--seeds", "0,1"]
    command += ["--budget", "1k tokens", "--train.learning_rate", "0.01", "--out", str(out)]
    compare.main(command)
    assert trained == ["d_model=16/0", "d_model=32/0", "d_model=16/1", "d_model=32/1"]
    rows = rows_in(out)
    assert [row["steps"] for row in rows] == [8] * 4  # 1000 tokens / (4 * 32), to the nearest
    assert [row["tokens"] for row in rows] == [1024] * 4
    assert rows[0]["parameters"] < rows[1]["parameters"] == rows[3]["parameters"]
    assert rows[0]["bits_per_byte"] != rows[2]["bits_per_byte"]  # another seed
    config = list_checkpoints(out / "d_model=32" / "seed-1" / "checkpoints")[-1] / "config.json"
    assert json.loads(config.read_text())["train"]["learning_rate"] == 0.01
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (
        str(tmp_path) not in (out / "results.md").read_text() + (out / "results.json").read_text()
    )
    written = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert written.keys() == {"results.json", "results.md", "figure.png"}
    trained.clear()
    compare.main(command)
    assert trained == []
    assert written == {name: (out / name).read_bytes() for name in written}
    with pytest.raises(UserError, match="started differently: budget was '8 steps'"):
        compare.main([*command, "--budget", "9 steps"])
    assert trained == []


@pytest.mark.slow
def test_ctrl_c_ends_between_runs_and_the_same_command_goes_on(
    config_file, trained, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    command = ["--config", str(config_file), "--vary", "model.n_layers=1,2", "--out", str(out)]
    train = compare.train

    def stop_in_the_second(job, show, stopped):
        if not trained:
            return train(job, show, stopped)
        signal.raise_signal(signal.SIGINT)
        return "ended early"

    monkeypatch.setattr(compare, "train", stop_in_the_second)
    compare.main(command)
    assert "stopped with 1 of 2 runs to go; the same command goes on" in capsys.readouterr().out
    assert [row["variant"] for row in rows_in(out)] == ["n_layers=1"]
    first = rows_in(out)[0]
    monkeypatch.setattr(compare, "train", train)
    compare.main(command)
    assert trained == ["n_layers=1/0", "n_layers=2/0"]
    assert rows_in(out)[0] == first and len(rows_in(out)) == 2


@pytest.mark.slow
def test_a_stopped_run_has_saved_what_it_learned(config_file, tmp_path):
    """In a real process, as Ctrl-C in the middle of a long run."""
    out, variant = tmp_path / "out", name_variants([str(config_file)], [("", {})])
    job = comparison_jobs.plan_jobs(variant, [0], [], "50000 steps", out)[0]
    seen = []
    comparison_jobs.train(job, seen.append, lambda: comparison_progress.progress_of(job)[0] > 0)
    assert not job.finished and seen
    saved = list_checkpoints(job.folder / "checkpoints")[-1]
    assert read_metrics(job.folder)[-1]["step"] == int(saved.name[5:]) < 50000
    assert 0 < comparison_progress.progress_of(job)[0] < 1
    assert "with --resume" in (job.folder / "log.txt").read_text()


@pytest.mark.slow
def test_a_variant_that_fails_is_reported_and_the_others_still_train(config_file, tmp_path, capsys):
    out = tmp_path / "out"
    lost = tmp_path / "nowhere" / "lost.txt"
    variants = [f"lost: data.path={lost}", "odd: model.n_heads=5", "good:"]
    options = [part for variant in variants for part in ("--variant", variant)]
    compare.main(["--config", str(config_file), "--out", str(out), *options])
    failed, odd, good = rows_in(out)
    assert failed["failed"] == "no such file or folder: lost.txt"
    assert "does not divide into n_heads 5" in odd["failed"] and good["bits_per_byte"] < 8
    table = (out / "results.md").read_text()
    assert (
        "| lost (seed 0) | – | – | – | – | failed: no such file or folder: lost.txt | – |" in table
    )
    assert str(tmp_path) not in table
    assert "odd, seed 0 failed: model.d_model 16 does not" in capsys.readouterr().out


def test_a_folder_in_which_a_process_still_trains_is_left_alone(monkeypatch, tmp_path):
    command = ["python", str(comparison_jobs.SCRIPT), "--out", str(tmp_path)]
    process = SimpleNamespace(pid=77, info={"cmdline": command})
    monkeypatch.setattr(comparison_jobs.psutil, "process_iter", lambda fields: [process])
    with pytest.raises(UserError, match="process 77 still trains in"):
        comparison_jobs.refuse_busy(tmp_path)
    comparison_jobs.refuse_busy(tmp_path / "other")


def test_the_reason_of_a_failure_is_its_own_line_or_its_signal():
    assert comparison_jobs.reason_of(["error: no disk", "bye"], 2) == "no disk"
    assert comparison_jobs.reason_of(["all well"], -9).startswith("ended by signal 9")
    assert comparison_jobs.reason_of(["x", "KeyError: 'a'", ""], 1).endswith("KeyError: 'a'")


# --- variants


def test_a_grid_is_every_combination_in_order():
    axes = [read_vary("model.d_model=8,16"), read_vary("train.optimizer=muon,adamw")]
    named = expand(axes, None, 0)
    assert [label for label, _ in named] == [
        "d_model=8,optimizer=muon",
        "d_model=8,optimizer=adamw",
        "d_model=16,optimizer=muon",
        "d_model=16,optimizer=adamw",
    ]
    assert named[1][1] == {"model.d_model": "8", "train.optimizer": "adamw"}


def test_fields_of_a_named_variant_change_together():
    small, large = read_named("small: a.b=1 c='x y'"), read_named("large:a.b=2")
    assert small == ("small", {"a.b": "1", "c": "x y"})
    both = expand([[small, large], read_vary("d=1,2")], None, 0)
    assert [label for label, _ in both] == ["small,d=1", "small,d=2", "large,d=1", "large,d=2"]
    assert both[3][1] == {"a.b": "2", "d": "2"}


def test_commas_inside_brackets_separate_nothing():
    choices = read_vary("data.sources=[{spec: primer, weight: 1}],[]")
    assert [fields["data.sources"] for _, fields in choices] == [
        "[{spec: primer, weight: 1}]",
        "[]",
    ]


def test_a_random_search_draws_different_members_and_more_draws_begin_with_fewer():
    axes = [read_vary("a=1,2,3"), read_vary("b=log:1e-4..1e-2"), read_vary("c=2..5")]
    few, many = expand(axes, 5, 7), expand(axes, 40, 7)
    assert many[:5] == few and len({str(member) for member in many}) == 40
    assert few != expand(axes, 5, 8)
    assert {fields["c"] for _, fields in many} == {"2", "3", "4", "5"}
    rates = [float(fields["b"]) for _, fields in many]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 12 <= sum(rate < 1e-3 for rate in rates) <= 28  # half of them, if drawn in the log
    grid = [read_vary("a=1,2,3"), read_vary("b=1,2")]
    assert sorted(map(str, expand(grid, 99, 0))) == sorted(map(str, expand(grid, None, 0)))


def test_ranges_are_told_from_paths_and_whole_from_broken_numbers():
    assert read_vary("x=log:1e-4..1e-2") == Range("x", 1e-4, 1e-2, log=True, whole=False)
    assert read_vary("m.x=2..8") == Range("m.x", 2, 8, log=False, whole=True)
    assert isinstance(read_vary("data.path=../notes,..\\other"), list)


def test_names_are_folders_of_their_own():
    choices = [("path=a/b", {"p": "a/b"}), ("path=a-b", {"p": "a-b"}), ("path=a/b", {"p": "a/b"})]
    assert [v.name for v in name_variants(["x/quick.yaml"], choices)] == ["path=a-b", "path=a-b-2"]
    names = [v.name for v in name_variants(["quick", "laptop"], [("d=1", {"d": "1"})])]
    assert names == ["quick,d=1", "laptop,d=1"]
    assert name_variants([], [("..", {})])[0].name == "-"
    assert len(name_variants([], [("n" * 400, {})])[0].name) <= 100


def test_names_that_some_systems_take_for_one_folder_are_told_apart():
    """Macs and Windows see no capitals; Windows drops a dot at the end."""
    names = [v.name for v in name_variants([], [("A", {"seed": "1"}), ("a.", {"seed": "2"})])]
    assert names == ["A", "a-2"]


def test_tokens_become_steps_of_the_config():
    config = RunConfig(train=TrainConfig(batch_size=8, accumulation=2))  # 256 positions
    assert budget_in_steps("10M tokens", config) == f"{round(1e7 / 4096)} steps"
    assert budget_in_steps("40960 tokens", config) == "10 steps"
    assert budget_in_steps("1 token", config) == "1 steps"
    assert budget_in_steps("15m", config) == "15m"
    with pytest.raises(UserError, match="or '10M tokens'"):
        budget_in_steps("10 lines", config)


# --- the table


def row(variant: str, seed: int, bits: float, **more) -> dict:
    curve = [{"step": 1, "tokens": 5, "seconds": s, "bits_per_byte": bits} for s in (1.0, 2.0)]
    return {
        "variant": variant,
        "overrides": {},
        "seed": seed,
        "parameters": 1000,
        "steps": 3,
        "tokens": 500,
        "seconds": 2.0,
        "tokens_per_second": 250.0,
        "validation": {"t": bits},
        "bits_per_byte": bits,
        "curve": curve,
        "device": "cpu",
        "versions": "torch 2",
        **more,
    }


def test_the_table_holds_means_spread_and_the_difference_to_the_first(tmp_path):
    rows = [row("a", 0, 2.0), row("b", 0, 1.5), row("a", 1, 2.2), row("b", 1, 1.9)]
    broken = {"variant": "z", "overrides": {}, "seed": 0, "failed": "no disk"}
    assert comparison.table_lines([broken, *rows]) == [
        ("z (seed 0)", "–", "–", "–", "–", "failed: no disk", "–"),
        ("a", "1,000", "500", "2", "250", "2.1000 ± 0.1000", "–"),
        ("b", "1,000", "500", "2", "250", "1.7000 ± 0.2000", "-0.4000"),
    ]
    comparison.write_report(rows, tmp_path, "python x")
    assert (
        "| b | 1,000 | 500 | 2 | 250 | 1.7000 ± 0.2000 | -0.4000 |"
        in (tmp_path / "results.md").read_text()
    )
    assert comparison.rows_of(tmp_path) == rows


def test_different_validation_text_is_told():
    rows = [row("a", 0, 2.0), row("b", 0, 2.0, validation={"other": 2.0})]
    assert any("same corpora" in note for note in comparison.table_notes(rows))
    assert not any("same corpora" in note for note in comparison.table_notes(rows[:1]))


def test_a_curve_counts_the_tokens_and_seconds_before_each_validation():
    entries = [
        {"step": 1, "loss": 1, "tokens": 10, "seconds": 0.5},
        {"step": 1, "validation": {"a": 2.0, "b": 4.0}},
        {"step": 2, "loss": 1, "tokens": 10, "seconds": 0.9},
        {"step": 2, "validation": {}},
        {"step": 2, "validation": {"a": 1.0, "b": 2.0}},
    ]
    assert comparison.curve_of(entries) == [
        {"step": 1, "tokens": 10, "seconds": 0.5, "bits_per_byte": 3.0},
        {"step": 2, "tokens": 20, "seconds": 0.9, "bits_per_byte": 1.5},
    ]


def test_a_card_without_the_checkpoint_that_it_tells_of_is_no_finished_run(tmp_path):
    job = comparison_jobs.Job(None, 0, tmp_path, [])
    (tmp_path / "card.md").write_text("| trained | 1,200 steps, 9 tokens |")
    assert not job.finished
    (tmp_path / "checkpoints" / "step-0000400").mkdir(parents=True)
    assert not job.finished
    (tmp_path / "checkpoints" / "step-0001200").mkdir()
    assert job.finished


@pytest.mark.slow
def test_finished_runs_join_a_table_under_the_name_above_their_seeds(config_file, tmp_path, capsys):
    folders = [str(tmp_path / "mine" / f"seed-{seed}") for seed in (3, 4)]
    for seed, folder in enumerate(folders, start=3):
        full_run.main(["--config", str(config_file), "--seed", str(seed), "--out", folder])
    out = tmp_path / "out"
    compare.main(["--runs", *folders, folders[0], "--out", str(out)])
    rows = rows_in(out)
    assert [(r["variant"], r["seed"]) for r in rows] == [("mine", 3), ("mine", 4), ("mine-2", 3)]
    last = [e for e in read_metrics(Path(folders[0])) if "validation" in e][-1]
    assert rows[0]["bits_per_byte"] == mean(last["validation"].values())
    compare.main(["--runs", str(out), "--out", str(tmp_path / "again")])
    assert rows_in(tmp_path / "again") == rows
    published = tmp_path / "published"
    shutil.copytree(find_checkpoint(folders[0]), published)
    (published / "config.json").unlink()  # what publish.py leaves at home
    shutil.copy(Path(folders[0]) / "card.md", published)
    with pytest.raises(UserError, match="is a published model, without its log"):
        compare.main(["--runs", str(published), "--out", str(out)])


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "nothing to compare"),
        (["--config", "nonsense"], "no config 'nonsense': pick one of"),
        (["--config", "quick", "laptop"], "budgets of their own: give one to all with --budget"),
        (["--config", "quick", "--vary", "model.n_layers"], "expected field=value,value"),
        (["--config", "quick", "--vary", "model.n_layres=1,2"], "n_layres=1.*n_layres"),
        (["--config", "quick", "--vary", "model.n_layers=few"], "Expected a <class 'int'>"),
        (["--config", "quick", "--vary", "seed=1,2"], "it is --seeds for all runs"),
        (["--config", "quick", "--vary", "train.decay=0.1..0.5"], "how many to draw with --random"),
        (["--config", "quick", "--vary", "train.decay=log:0..0.5"], "above 0 after log:"),
        (["--config", "quick", "--variant", "wide"], "expected 'name: field=value"),
        (["--config", "quick", "--random", "0"], "--random is 0"),
        (["--config", "quick", "--random", "few"], "invalid int value.*--help lists"),
        (["--config", "quick", "--seeds", "a"], "expected whole numbers such as 0,1,2"),
        (["--config", "quick", "--seed", "3"], "give --seeds 0,1"),
        (["--config", "quick", "--budget", "soon"], "budget 'soon'.*'10M tokens'"),
        (["--config", "quick", "--model.n_heads", "5"], "does not divide into n_heads 5"),
        (["--config", "quick", "stray"], "stray"),
        (["--runs", "/no/where"], "neither a finished run nor a comparison's folder"),
        (["--train.decay", "0.2"], "changes nothing: there is no --config"),
    ],
)
def test_a_users_mistake_is_refused_before_anything_is_trained(arguments, line, trained, tmp_path):
    with pytest.raises(UserError, match=line):
        compare.main([*arguments, "--out", str(tmp_path / "out")])
    assert trained == [] and not (tmp_path / "out").exists()


def test_a_broken_results_file_is_refused(tmp_path):
    (tmp_path / "results.json").write_text('{"runs": [{"variant": "a"}]}')
    with pytest.raises(UserError, match=r"is no results\.json of compare\.py"):
        comparison.rows_of(tmp_path)


def test_the_script_ends_with_one_line_and_exit_code_2(as_script):
    code, told = as_script(compare.__file__, "--config", "quick", "--budget", "soon")
    assert code == 2
    assert told.startswith("error: budget 'soon'") and told.count("\n") == 1
