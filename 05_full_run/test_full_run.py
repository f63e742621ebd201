"""The full run: a config in, a run folder out; interrupted, resumed, refused by name."""

import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from itertools import islice
from pathlib import Path

import batch_search
import full_run
import plan_table
import pytest
import torch
from jsonargparse import ArgumentParser

from shared.errors import UserError
from shared.text.bpe_training import train_bpe
from shared.text.sources import Source
from shared.training import run_log, sitting
from shared.training.checkpoint import RUN_FILE, load_model
from shared.training.checkpoint_folder import find_checkpoint, list_checkpoints
from shared.training.live_progress import LiveProgress
from shared.training.loop import TrainingDiverged, train
from shared.training.plan import Plan, measure_plan
from shared.training.run_building import build_run
from shared.training.run_config import RunConfig, TrainConfig, differing_fields
from shared.training.run_options import build_parser, resolve_config_names, to_run_config
from shared.training.run_parts import build_schedule
from shared.training.stop_signal import send_stop, start_apart

HERE = Path(full_run.__file__).parent
CONFIGS = HERE / "configs"


@pytest.fixture
def config_file(tmp_path: Path, tiny_text: Path) -> Path:
    """A config that trains in two seconds on a little text of its own."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"data: {{sources: [{{spec: primer}}], path: {tiny_text}, valid_fraction: 0.2}}\n"
        "model: {context_length: 32, n_layers: 1, d_model: 32, n_heads: 2}\n"
        "train: {batch_size: 4, evaluations: 4}\n"
        "budget: 24 steps\ndevice: cpu\nprecision: float32\n"
    )
    return path


@pytest.fixture
def folders(tmp_path, monkeypatch, brief_ending) -> Path:
    """Runs and token files go below tmp_path."""
    monkeypatch.setattr(full_run, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(full_run, "DATA", tmp_path / "data")
    return tmp_path / "runs"


@cache
def parser_of_runs() -> ArgumentParser:
    """Built once: that takes as long as parsing."""
    return build_parser(CONFIGS)


def parse(*arguments: str) -> RunConfig:
    parser = parser_of_runs()
    return to_run_config(parser, parser.parse_args(resolve_config_names(list(arguments), CONFIGS)))


def test_a_run_leaves_checkpoint_metrics_curves_and_card(config_file, tmp_path, capsys):
    folder = tmp_path / "tiny"
    full_run.main(["--config", str(config_file), "--out", str(folder)])
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints",
        "metrics.jsonl",
        "curves.png",
        "card.md",
    }
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    entries = run_log.read_metrics(folder)
    assert [e["step"] for e in entries if "loss" in e] == list(range(1, 25))
    validated = [e["validation"]["text:text.txt"] for e in entries if "validation" in e]
    assert len(validated) == 4 and validated[-1] < validated[0] < 8
    card = (folder / "card.md").read_text()
    for fact in (
        "text:text.txt",
        "primer",
        "sha256",
        "24 steps, 3,072 tokens",
        "seed",
        "user: hello",
    ):
        assert fact in card
    assert str(config_file.parent) not in card  # a card is published: no folder of its owner
    last_lines = capsys.readouterr().out.partition("validation of text:text.txt,")[2]
    for told in (card.replace("|", " "), last_lines):  # the text is one sentence, again and again
        for who, bits in {
            "this model": f"{validated[-1]:.3f}",
            "this model, without repeats": "–",
            "counting model, order 5": r"\d\.\d{3}",
            "xz, training text first": r"\d\.\d{3}",
            "counting bytes": r"4\.\d{3}",
            "knowing nothing": "8.000",
        }.items():
            assert re.search(rf"^ *{who} +{bits} *$", told, re.MULTILINE), who
        assert "100.0%" in told


def test_conversations_that_no_window_shows_whole_are_counted(
    config_file, folders, tmp_path, capsys
):
    chats = tmp_path / "chats.txt"
    sizes = (4, 8, 9, 12)  # 24 ids more each, and a window has 32
    chats.write_text("\n".join(f"user: hello\nassistant: {'x' * size}\n" for size in sizes))
    data = {"sources": [Source("primer"), Source(f"transcripts:{chats}")], "path": None}
    config = parse("--config", str(config_file), "--data.valid_fraction", "0")
    config = replace(config, data=replace(config.data, **data))
    full_run.tell_long_conversations(full_run.read_and_build(config, folders / "chats"))
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("conversations in") == 1  # the primer is not one's own
    expected = "2 of 4 conversations in transcripts:chats.txt are longer than the context of 32 ids"
    assert f"{expected}, the longest 36" in printed


def test_a_run_is_tracked_in_tensorboard_alike_and_over_a_resume(config_file, folders):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command = ["--config", str(config_file), "--track", "tensorboard"]
    full_run.main([*command, "--stop-after", "0.001s"])
    full_run.main([*command, "--resume"])
    entries = [e for e in run_log.read_metrics(folders / "tiny") if "loss" in e]
    events = EventAccumulator(str(folders / "tiny" / "tensorboard")).Reload()
    for name in ("loss", "bits_per_byte", "tokens_per_second", "mfu", "memory"):
        assert [e.step for e in events.Scalars(name)] == list(range(1, 25))
        assert [e.value for e in events.Scalars(name)] == pytest.approx([e[name] for e in entries])
    assert len(events.Scalars("validation/text_text.txt")) == 4


def test_a_run_on_longer_tokens_measures_in_the_same_unit(config_file, folders, tmp_path):
    """With BPE the loss is per token, and bits per byte still counts bytes of text."""
    text = (tmp_path / "text.txt").read_text()
    train_bpe([text], 300).save(tmp_path / "bpe.json")
    more = ["--data.tokenizer", str(tmp_path / "bpe.json")]
    full_run.main(["--config", str(config_file), *more, "--train.learning_rate", "0"])
    folder = folders / "tiny"
    model, tokenizer = load_model(find_checkpoint(folder))
    assert model.config.vocab_size == tokenizer.vocab_size > 257
    first = next(e for e in run_log.read_metrics(folder) if "loss" in e)
    assert first["loss"] == pytest.approx(math.log(tokenizer.vocab_size), rel=0.02)
    assert first["bits_per_byte"] < 8 / 2  # over two bytes a token in so simple a text


def test_bits_per_byte_of_a_uniform_model_does_not_depend_on_the_tokenizer(config_file, tmp_path):
    """Every id equally likely: the bits of a text are its ids times log2 of the vocabulary."""
    text = (tmp_path / "text.txt").read_text()
    train_bpe([text], 300).save(tmp_path / "bpe.json")
    for name in ("bytes", str(tmp_path / "bpe.json")):
        run = build_run(
            parse("--config", str(config_file), "--data.tokenizer", name),
            tmp_path / "r",
            tmp_path / "d",
        )
        torch.nn.init.zeros_(run.model.head.weight)
        corpus = next(c for c in run.corpora if c.name == "text:text.txt")
        size, ids = corpus.manifest["bytes"]["validation"], len(corpus.validation)
        expected = ids * math.log2(run.tokenizer.vocab_size) / size
        assert run.validate()["text:text.txt"] == pytest.approx(expected, rel=1e-3)


def test_a_context_shorter_than_the_prompts_of_the_samples_is_enough(config_file, folders):
    full_run.main(
        ["--config", str(config_file), "--model.context_length", "8", "--budget", "1 steps"]
    )
    assert "user: what are you?" in (folders / "tiny" / "card.md").read_text()


def test_both_losses_fall(config_file, folders):
    full_run.main(["--config", str(config_file), "--budget", "120 steps"])
    entries = run_log.read_metrics(folders / "tiny")
    losses = [e["loss"] for e in entries if "loss" in e]
    validated = [e["validation"]["text:text.txt"] for e in entries if "validation" in e]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert validated[-1] < 0.8 * validated[0]


@pytest.mark.parametrize("dropout", [pytest.param("0.0", marks=pytest.mark.slow), "0.2"])
def test_an_interrupted_run_resumes_to_the_same_weights(
    dropout, config_file, folders, tmp_path, monkeypatch
):
    command = ["--config", str(config_file), "--model.dropout", dropout]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    full_run.main([*command, "--out", whole])

    def stop_after_9(self, record):
        if record.step == 9:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(LiveProgress, "show", stop_after_9)
        full_run.main([*command, "--out", parts])
    assert not (Path(parts) / "card.md").exists()
    full_run.main([*command, "--out", parts, "--resume"])

    weights = [
        list_checkpoints(Path(folder) / "checkpoints")[-1] / "model.safetensors"
        for folder in (whole, parts)
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    losses = [
        [e["loss"] for e in run_log.read_metrics(Path(folder)) if "loss" in e]
        for folder in (whole, parts)
    ]
    assert losses[0] == losses[1]  # and the log has neither gaps nor repetitions


def test_ctrl_c_in_a_real_process_saves_and_says_how_to_resume(config_file, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(HERE / "full_run.py"), "--config", str(config_file)]
    process = start_apart(
        [*command, "--out", str(out), "--budget", "100000 steps"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    send_stop(process)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert "with --resume" in shown
    assert list_checkpoints(out / "checkpoints")


def test_an_existing_run_is_neither_overwritten_nor_forgotten(config_file, folders):
    full_run.main(["--config", str(config_file)])
    before = (folders / "tiny" / "card.md").read_text()
    with pytest.raises(UserError, match="already holds a run: --resume"):
        full_run.main(["--config", str(config_file)])
    full_run.main(["--config", str(config_file), "--fresh"])
    aside = next(path for path in folders.iterdir() if re.fullmatch(r"tiny-\d+-\d+", path.name))
    assert (aside / "card.md").read_text() == before
    assert (folders / "tiny" / "card.md").exists()


def test_fresh_in_the_folder_itself_sets_it_aside_by_its_name(config_file, tmp_path, monkeypatch):
    (tmp_path / "here" / "checkpoints" / "step-0000001").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    full_run.main(["--config", str(config_file), "--out", ".", "--fresh", "--budget", "1 steps"])
    assert (tmp_path / "here" / "card.md").exists()
    assert [path.name[:5] for path in tmp_path.glob("here-*")] == ["here-"]


def test_resuming_a_finished_run_does_nothing(config_file, folders, capsys):
    full_run.main(["--config", str(config_file)])
    before = (folders / "tiny" / "metrics.jsonl").read_bytes()
    full_run.main(["--config", str(config_file), "--resume"])
    assert "finished already" in capsys.readouterr().out
    assert (folders / "tiny" / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_card_of_an_earlier_run_ends_no_later_one(config_file, folders):
    """Its checkpoints are gone and its card is left; the new run is stopped after a step."""
    full_run.main(["--config", str(config_file)])
    card = (folders / "tiny" / "card.md").read_text()
    shutil.rmtree(folders / "tiny" / "checkpoints")
    full_run.main(["--config", str(config_file), "--stop-after", "0.001s"])
    (folders / "tiny" / "card.md").write_text(card)  # and if it comes back, it tells of 24 steps
    full_run.main(["--config", str(config_file), "--resume", "--stop-after", "0.001s"])
    assert not (folders / "tiny" / "card.md").exists()
    full_run.main(["--config", str(config_file), "--resume"])
    assert "| trained | 24 steps" in (folders / "tiny" / "card.md").read_text()


@pytest.mark.slow
def test_a_budget_may_change_until_the_learning_rate_falls(config_file, folders, capsys):
    """Stable-decay is flat up to step 12 of 24: a run stopped there goes on for 80 steps."""
    command = ["--config", str(config_file), "--train.evaluations", "24"]
    full_run.main([*command, "--stop-after", "0.001s"])
    flat = folders / "tiny" / "checkpoints"
    longer = [*command, "--resume", "--budget", "80 steps"]
    full_run.main([*longer, "--stop-after", "0.001s"])
    assert [path.name for path in list_checkpoints(flat)][-1] == "step-0000002"
    with pytest.raises(UserError, match="budget was '80 steps' and is now '3 steps', and the lear"):
        full_run.main([*command, "--resume", "--budget", "3 steps"])
    with pytest.raises(UserError, match=r"was started differently: train\.schedule"):
        full_run.main([*longer, "--train.schedule", "cosine"])
    full_run.main([*command, "--resume", "--budget", "6 steps"])
    factors = [e["lr_factor"] for e in run_log.read_metrics(folders / "tiny") if "loss" in e]
    assert len(factors) == 6 and factors[2] == 1 > factors[-1]


@pytest.mark.slow
def test_a_run_that_ended_before_its_card_was_written_gets_one(config_file, folders):
    full_run.main(["--config", str(config_file)])
    weights = list_checkpoints(folders / "tiny" / "checkpoints")[-1] / "model.safetensors"
    before = weights.read_bytes()
    (folders / "tiny" / "card.md").unlink()
    full_run.main(["--config", str(config_file), "--resume"])
    assert (folders / "tiny" / "card.md").exists() and weights.read_bytes() == before


def test_resuming_under_another_config_names_the_fields(config_file, folders):
    full_run.main(["--config", str(config_file)])
    with pytest.raises(UserError, match=r"train\.learning_rate was 0\.003 and is now 0\.1"):
        full_run.main(["--config", str(config_file), "--resume", "--train.learning_rate", "0.1"])


def test_resuming_on_changed_text_is_refused(config_file, folders, tmp_path):
    full_run.main(["--config", str(config_file)])
    (tmp_path / "text.txt").write_text("quite another text. " * 200)
    with pytest.raises(UserError, match="the text of its corpora has changed"):
        full_run.main(["--config", str(config_file), "--resume"])


def test_a_save_comes_before_every_validation(config_file, folders, monkeypatch):
    """A crash in validation must find the work already on disk."""

    def crash(*arguments):
        raise RuntimeError("validation crashed")

    monkeypatch.setattr(full_run.Run, "validate", crash)
    with pytest.raises(RuntimeError, match="validation crashed"):
        full_run.main(["--config", str(config_file)])
    saved = list_checkpoints(folders / "tiny" / "checkpoints")
    assert [path.name for path in saved] == ["step-0000006"]


def test_divergence_names_the_step_and_the_last_good_checkpoint(config_file, folders, monkeypatch):
    def explode(**parts):
        yield from islice(train(**parts), 7)
        raise TrainingDiverged("step 8: loss nan, gradient norm nan")

    monkeypatch.setattr(sitting, "train", explode)
    with pytest.raises(
        UserError, match=r"step 8: loss nan.*last good checkpoint is .*step-0000006"
    ):
        full_run.main(["--config", str(config_file)])


def test_stop_after_ends_a_piece_that_resume_goes_on_from(config_file, folders, capsys):
    """With --stop-after 0.001s every piece is one step long; the last has nothing to stop."""
    command = ["--config", str(config_file), "--budget", "3 steps"]
    full_run.main([*command, "--stop-after", "0.001s"])
    assert "to go on, run the same command" in " ".join(capsys.readouterr().out.split())
    full_run.main([*command, "--resume", "--stop-after", "0.001s"])
    assert "resuming after step 1" in capsys.readouterr().out
    full_run.main([*command, "--resume", "--stop-after", "0.001s"])
    assert "trained 3 steps" in capsys.readouterr().out


def test_stop_after_is_a_time(config_file):
    with pytest.raises(UserError, match="--stop-after '5 steps': expected a time"):
        full_run.main(["--config", str(config_file), "--stop-after", "5 steps"])


# --- configs and the command line


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_every_shipped_config_is_whole(name):
    config = parse(
        "--config", name, *(["--data.path", "text.txt"] if name == "shakespeare" else [])
    )
    assert config.model.vocab_size == 256
    if name not in (
        "compare",
        "shakespeare",
    ):  # these measure; the others make something to chat with
        assert any(source.spec == "primer" for source in config.data.sources)
    schedule = build_schedule(config.train)
    assert schedule(0.2) > 0.5 > schedule(1.0)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml")))
def test_every_data_config_replaces_the_sources_of_a_run(name):
    config = parse("--config", "quick", "--data", name, "--data.path_weight", "2")
    hub, primer = config.data.sources
    assert hub.kind == "hub" and primer.spec == "primer" and config.data.path_weight == 2
    assert config.model == parse("--config", "quick").model
    assert hub.max_bytes is None or hub.streaming
    for page in (HERE.parent / "README.md", HERE / "notes.md"):
        assert f"{name}`" in page.read_text(encoding="utf-8")


def test_tiny_shakespeare_holds_back_what_the_race_does():
    by_name = parse("--config", "quick", "--data", "tinyshakespeare")
    race = parse("--config", "shakespeare", "--data.path", "tinyshakespeare.txt")
    assert by_name.data.valid_fraction == race.data.valid_fraction


def test_an_unknown_data_config_lists_the_known_ones():
    with pytest.raises(UserError, match="pick one of bookscorpus, openwebtext, pg-19"):
        parse("--config", "quick", "--data", "the-web")


def test_a_field_wins_over_a_file_or_preset_wherever_it_stands():
    before = parse("--budget", "20s", "--model.window=128", "--config", "quick", "--model", "base")
    assert before.budget == "20s" and before.model.window == 128
    assert before == parse(
        "--model", "base", "--config=quick", "--model.window", "128", "--budget", "20s"
    )
    data = parse("--data.valid_fraction", "0.3", "--data=wikitext-2", "--config", "quick")
    assert data.data.valid_fraction == 0.3 and data.data.sources[0].kind == "hub"


def test_any_field_can_be_set_on_the_command_line():
    config = parse("--config", "quick", "--model.n_layers", "8", "--train.optimizer=adamw")
    assert config.model.n_layers == 8 and config.train.optimizer == "adamw"
    assert config.model.d_model == parse("--config", "quick").model.d_model


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--model.n_layer", "8"], "n_layer"),
        (["--model.n_layers", "many"], "n_layers"),
        (["--train.optimizer", "sgd"], "optimizer"),
        (["--precision", "int8"], "precision"),
    ],
)
def test_unknown_and_ill_typed_fields_are_refused_by_name_with_exit_code_2(
    arguments, named, capsys
):
    with pytest.raises(SystemExit) as left:
        parse("--config", "quick", *arguments)
    assert left.value.code == 2
    assert named in capsys.readouterr().err


def test_an_unknown_field_in_a_file_is_refused_by_name(tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text("model: {n_layres: 3}\n")
    with pytest.raises(SystemExit) as left:
        parse("--config", str(path))
    assert left.value.code == 2
    assert "n_layres" in capsys.readouterr().err


def test_an_unknown_config_lists_the_known_ones():
    with pytest.raises(UserError, match="pick one of compare, gpu, gpu-16gb"):
        parse("--config", "enormous")


def test_help_explains_every_field(capsys):
    with pytest.raises(SystemExit, match="0"):
        full_run.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for sentence in (
        "blocks, one after another",
        "peak learning rate of muon",
        "how long to train",
        "your own text, joined to the sources",
        "wavelengths run from",
    ):
        assert sentence in shown, sentence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--device tpu", "no device 'tpu' here"),
        ("--budget soon", "budget 'soon'"),
        ("--data.path /no/where", "no such file or folder"),
        ("--model.n_heads 5", "does not divide into n_heads 5"),
    ],
)
def test_a_users_mistake_is_told_before_a_folder_is_made(options, message, folders):
    with pytest.raises(UserError, match=message):
        full_run.main(["--config", "quick", *options.split()])
    assert not folders.exists()


def test_a_users_mistake_is_one_line_and_exit_code_2(as_script):
    code, told = as_script(HERE / "full_run.py", "--config", "nonsense")
    assert code == 2
    assert told.startswith("error: no config 'nonsense'") and told.count("\n") == 1


def test_differing_fields_ignores_where_a_run_happens():
    config = RunConfig()
    saved = json.loads(json.dumps(asdict(config)))
    saved |= {"device": "cuda", "out": "elsewhere"}
    saved["train"] |= {"save_minutes": 1.0, "evaluations": 3}
    assert differing_fields(saved, config) == []
    for source in saved["data"]["sources"]:
        del source["questions"]  # a run of an earlier version had no such field
    assert differing_fields(saved, config) == []
    saved["model"]["n_layers"] = 99
    assert differing_fields(saved, config) == ["model.n_layers was 99 and is now 4"]
    other = replace(config, data=replace(config.data, sources=[Source("primer", questions=0)]))
    assert "data.sources" in differing_fields(saved, other)[0]


# --- the log and the plan


def test_a_torn_last_line_of_the_log_is_survived(tmp_path):
    run_log.append_metrics(tmp_path, {"step": 1, "loss": 2.0})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert run_log.read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]
    run_log.rewind_metrics(tmp_path, 1)
    run_log.append_metrics(tmp_path, {"step": 2, "loss": 1.0})
    assert [e["step"] for e in run_log.read_metrics(tmp_path)] == [1, 2]


def test_a_plan_measures_and_judges(config_file):
    plan = measure_plan(parse("--config", str(config_file)), steps=2)
    assert plan.tokens_per_second > 0
    assert plan.tokens_seen(6) == pytest.approx(plan.tokens_per_second * 21600)
    assert plan.tokens_per_parameter(6) == pytest.approx(plan.tokens_seen(6) / plan.parameters)
    assert plan.fits and plan.memory > 16 * plan.parameters
    assert not Plan(1, 1.0, fixed=41, per_window=10, windows=4, available=100).fits


def test_a_plan_of_all_configs_has_a_row_for_each(monkeypatch, capsys):
    """One that lacks text says so, and is measured like the others."""
    plan = Plan(1000, 7.0, fixed=41, per_window=10, windows=4, available=100)
    monkeypatch.setattr(plan_table, "measured", lambda config: plan)
    full_run.main(["--plan", "--batch", "auto", "--stop-after", "9m"])
    shown = capsys.readouterr().out
    for path in CONFIGS.glob("*.yaml"):
        assert path.stem in shown
    row = next(line for line in shown.splitlines() if "│ shakespeare" in line)
    assert "1,000" in row and " - " not in row
    assert "shakespeare: data.sources is empty: name a text of yours with --data.path" in shown
    assert f"{7 * 6 * 3600 / 1000:.1f}" in shown  # tokens a parameter
    full_run.main(["--plan", "--config", "shakespeare", "--model.n_heads", "7"])
    assert "shakespeare: model.d_model 128 does not divide" in capsys.readouterr().out


def test_the_largest_micro_batch_fits_and_divides_the_step():
    plan = Plan(1, 1.0, fixed=10, per_window=10, windows=8, available=100)
    assert plan.largest_batch(together=32) == 4  # 7 would fit, but 7 does not divide 32
    assert plan.largest_batch(together=3) == 3
    with pytest.raises(UserError, match=r"--train\.recompute true"):
        Plan(1, 1.0, fixed=75, per_window=10, windows=8, available=100).largest_batch(8)


def test_batch_auto_is_found_once_and_keeps_the_windows_of_a_step(
    config_file, folders, monkeypatch, capsys
):
    """Four windows a step, memory for three: two micro-batches of two, also after --resume."""
    plan = Plan(1, 1.0, fixed=10, per_window=20, windows=4, available=100)
    monkeypatch.setattr(batch_search, "measure_plan", lambda config: plan)
    monkeypatch.setattr(batch_search, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    command = ["--config", str(config_file), "--batch", "auto", "--budget", "2 steps"]
    full_run.main([*command, "--stop-after", "0.001s"])
    assert "micro-batch 2, 2 a step" in capsys.readouterr().out
    monkeypatch.setattr(batch_search, "measure_plan", lambda config: pytest.fail("measured again"))
    full_run.main([*command, "--resume"])
    assert "micro-batch 2, 2 a step" in capsys.readouterr().out
    saved = json.loads((find_checkpoint(folders / "tiny") / RUN_FILE).read_text())
    assert (saved["train"]["batch_size"], saved["train"]["accumulation"]) == (2, 2)


def test_plan_prints_one_row_for_the_config(config_file, capsys):
    full_run.main(["--config", str(config_file), "--plan"])
    shown = capsys.readouterr().out
    assert "tiny" in shown and "yes" in shown


def test_the_run_begins_from_its_seed(config_file, tmp_path):
    config = parse("--config", str(config_file))
    one, two = (build_run(config, tmp_path / n, tmp_path / "data") for n in "ab")
    assert torch.equal(one.model.head.weight, two.model.head.weight)
    assert torch.equal(next(one.batches)[0], next(two.batches)[0])


def test_train_settings_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"train\.batch_size is 0"):
        TrainConfig(batch_size=0)
