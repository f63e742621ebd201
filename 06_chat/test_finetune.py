"""Stages after the first: each trains, resumes to the same weights, and refuses by name."""

import io
import random
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import chat
import finetune
import finetune_stages
import pytest
import torch
from finetune_config import config_of, sources_of
from finetune_questions import PAIRS_FILE, asked

from shared.chat.adapter_file import with_adapter
from shared.chat.practice import Practice, PracticeBatch, practice_loss
from shared.chat.reply_rows import side_by_side
from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.interop_folder import write_their_folder
from shared.model.transformer import Transformer
from shared.text.batches import NOT_COUNTED
from shared.text.bpe_files import write_tokenizers_json
from shared.text.bpe_training import train_bpe
from shared.text.drills import SKILLS
from shared.text.sources import Source
from shared.text.transcript import render_prompt
from shared.training import run_log, sitting
from shared.training.checkpoint import RUN_FILE, load_model
from shared.training.checkpoint_folder import find_checkpoint, list_checkpoints
from shared.training.live_progress import LiveProgress
from shared.training.loop import next_id_loss
from shared.training.run_building import build_run
from shared.training.run_config import DataConfig, RunConfig, TrainConfig
from shared.training.run_folder import begin
from shared.training.sitting import open_log, train_and_log

pytestmark = pytest.mark.usefixtures("one_thread", "brief_ending")
STAGES = {
    "sft": ("--data", "primer"),
    "sft with LoRA": ("--data", "primer", "--lora", "2"),
    "dpo": ("--questions", "4", "--skill", "repeating", "--loss", "orpo"),
    "practice": ("--skill", "repeating", "--samples", "4"),
}


LONG = ("sft", "dpo", "practice")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Token files that the tests here share."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def base(data, tmp_path_factory) -> Path:
    """A run that has learned little more than how a line ends."""
    folder = tmp_path_factory.mktemp("runs") / "base"
    text = folder.with_name("text.txt")
    text.write_text("".join(f"the {n}th line of it is short\n" for n in range(900)))
    sources = [Source("primer"), Source(f"text:{text}", 0.5)]
    config = RunConfig(
        DataConfig(sources, valid_fraction=0.1),
        ModelConfig(context_length=128, n_layers=1, d_model=32, n_heads=2),
        train=TrainConfig(batch_size=8, evaluations=1),
        budget="90 steps",
        device="cpu",
        precision="float32",
    )
    run = build_run(config, folder, data)
    begin(run, resume=False)
    with open_log(run) as log:
        train_and_log(run, log)
    return folder


@pytest.fixture
def tune(base, data, tmp_path, monkeypatch):
    """Calls the script for a stage; returns the folder it wrote."""
    monkeypatch.setattr(finetune, "DATA", data)
    monkeypatch.setattr(sitting, "measured_peak", lambda run: None)
    monkeypatch.setattr(finetune, "config_of", lambda *given: looking_once(config_of(*given)))
    takes_every_other = partial(Practice, judge=lambda exercise, reply: len(reply) % 2 == 0)
    monkeypatch.setattr(finetune_stages, "Practice", takes_every_other)

    def call(stage: str, *more: str, out: str = "out", steps: int = 6) -> Path:
        command = ["--stage", stage.split()[0], "--from", str(base)]
        command += [*STAGES.get(stage, ()), "--device", "cpu", "--budget", f"{steps} steps"]
        finetune.main([*command, "--out", str(tmp_path / out), *more])
        return tmp_path / out

    return call


def looking_once(config: RunConfig) -> RunConfig:
    """The same run, with little time spent on looking at it."""
    return replace(config, train=replace(config.train, evaluations=1, evaluation_windows=2))


def weights_of(folder: Path) -> bytes:
    return (list_checkpoints(folder / "checkpoints")[-1] / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "stage", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in STAGES]
)
def test_a_stage_moves_the_model_and_resumes_to_the_same_weights(stage, tune, base, monkeypatch):
    whole = tune(stage, out="whole")
    assert weights_of(whole) != weights_of(base)
    card = (whole / "card.md").read_text()
    assert "| began with | step-0000090 |" in card
    assert "| command | `python 06_chat/finetune.py --stage" in card

    def stop_after_3(self, record):
        if record.step == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(LiveProgress, "show", stop_after_3)
        tune(stage, out="parts")
    assert not (whole.with_name("parts") / "card.md").exists()
    parts = tune(stage, "--resume", out="parts")
    assert weights_of(parts) == weights_of(whole)
    losses = [[e["loss"] for e in run_log.read_metrics(f) if "loss" in e] for f in (whole, parts)]
    assert losses[0] == losses[1] and len(losses[0]) == 6
    if "LoRA" in stage:  # base and adapter are the model that was saved
        ids = torch.arange(40, 60).unsqueeze(0)
        model, _ = load_model(find_checkpoint(base))
        model = with_adapter(model, parts / "adapter.safetensors")
        both, _ = load_model(find_checkpoint(whole))
        assert torch.allclose(model(ids), both(ids), atol=1e-5)


def test_a_chat_takes_an_adapter_and_refuses_one_of_another_base(tune, base, capsys, monkeypatch):
    adapter = str(tune("sft with LoRA", steps=1) / "adapter.safetensors")
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    chat.main(["--checkpoint", str(base), "--adapter", adapter, "--max_new_bytes", "5"])
    assert "user: hello\nassistant:" in capsys.readouterr().out
    with pytest.raises(UserError, match="was trained beside another model"):
        chat.main(["--checkpoint", str(tune("sft", steps=1, out="other")), "--adapter", adapter])


def test_base_text_is_mixed_in_by_its_share_and_replies_alone_count(tune, base):
    options = finetune.command_line().parse_args(["--stage", "sft", "--text", "0.25"])
    stage = finetune.stage_options(options, find_checkpoint(base))
    found = {s.spec.partition(":")[0]: (s.weight, s.questions) for s in sources_of(stage)}
    assert found == {"primer": (0.75 * 0.15, 0), "drills": (0.75 * 0.85, 0), "text": (0.25, 1)}
    alone = sources_of(stage._replace(text=0.0))
    assert {source.spec for source in alone} == {"primer", "drills"}


@pytest.mark.parametrize("stage", ["sft", "dpo", "practice"])
def test_what_the_base_held_back_no_stage_trains_on(stage, base):
    options = finetune.command_line().parse_args(["--stage", stage])
    asked_for = finetune.stage_options(options, find_checkpoint(base))
    assert config_of(asked_for, "cpu", 0).data.valid_fraction == 0.1


def test_of_a_base_that_says_nothing_of_its_text_a_stage_reads_its_own_sources_alone(
    base, tmp_path
):
    silent = tmp_path / "model"
    shutil.copytree(find_checkpoint(base), silent)
    (silent / RUN_FILE).unlink()
    options = finetune.command_line().parse_args(["--stage", "sft"])
    data = config_of(finetune.stage_options(options, silent), "cpu", 0).data
    assert {source.spec for source in data.sources} == {"primer", "drills"}
    assert data.valid_fraction == DataConfig.valid_fraction


def test_each_source_has_the_share_that_stands_behind_it(base):
    named = ["drills=3", "transcripts:a=b.txt", "messages:c.jsonl=1"]
    line = ["--stage", "sft", "--text", "0"] + [each for n in named for each in ("--data", n)]
    stage = finetune.stage_options(finetune.command_line().parse_args(line), find_checkpoint(base))
    assert {source.spec: source.weight for source in sources_of(stage)} == {
        "drills": pytest.approx(0.6),
        "transcripts:a=b.txt": pytest.approx(0.2),
        "messages:c.jsonl": pytest.approx(0.2),
    }


@pytest.mark.parametrize(
    ("skills", "others", "share"),
    [(("adding",), 0.25, 0.25), (("adding", "larger"), 0.0, 0.0), (tuple(SKILLS), 0.9, 0.0)],
)
def test_practice_asks_for_other_skills_by_their_share(skills, others, share):
    rng = random.Random(0)
    drawn = [asked(skills, others, 255, rng).skill for _ in range(400)]
    rest = [skill for skill in drawn if skill not in skills]
    assert len(rest) / 400 == pytest.approx(share, abs=0.05)
    assert not rest or set(rest) == set(SKILLS) - set(skills)


def test_no_question_is_longer_than_the_context_leaves_room_for():
    rng = random.Random(0)
    drawn = [asked(tuple(SKILLS), 0.0, 127, rng) for _ in range(400)]
    lengths = [len((render_prompt(each.messages) + each.reply).encode()) for each in drawn]
    assert 115 < max(lengths) <= 127
    with pytest.raises(UserError, match="none of 1,000 questions has room in 40 bytes: take"):
        asked(("who has what",), 0.0, 40, rng)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_practice_learns_so_much_from_text_beside_what_it_tried(tiny_model, weight):
    rows = side_by_side([[1, 2, 3]] * 2, [[4, 5], [6]])
    tried = PracticeBatch(rows, torch.tensor([0.5, -0.5]), 2, right=0.75)
    text = torch.tensor([[7, 8, 9]]), torch.tensor([[8, 9, NOT_COUNTED]])
    batch = (*rows, tried.advantages, torch.tensor(2), torch.tensor(0.75), *text)
    found = finetune_stages.loss_of_tries(weight, tiny_model, batch)
    assert found.item() == pytest.approx(0.25)  # the share of wrong replies
    expected = practice_loss(tiny_model, tried) + weight * next_id_loss(tiny_model, text)
    weights = list(tiny_model.parameters())
    pairs = [torch.autograd.grad(each, weights) for each in (found, expected)]
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_conversations_do_not_see_each_other_in_sft(tune):
    model, tokenizer = load_model(find_checkpoint(tune("sft", steps=1)))
    assert model.config.document_start == tokenizer.end_of_text


def test_pairs_of_the_models_own_are_made_once(tune, capsys):
    folder = tune("dpo", steps=1)
    made = (folder / PAIRS_FILE).read_bytes()
    assert "60 pairs by hand" in capsys.readouterr().out
    tune("dpo", "--resume", steps=1)
    assert (folder / PAIRS_FILE).read_bytes() == made


@pytest.mark.parametrize(
    "other", [("--beta", "0.5"), ("--skill", "spelling"), ("--lora", "2"), ("--loss", "dpo")]
)
def test_a_stage_goes_on_only_as_it_was_asked_for(other, tune, monkeypatch):
    def stop_after_1(self, record):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(LiveProgress, "show", stop_after_1)
        folder = tune("dpo", "--questions", "0")
    before = weights_of(folder)
    with pytest.raises(UserError, match=f"{other[0][2:]} was .* and is now"):
        tune("dpo", "--questions", "0", "--resume", *other)
    assert weights_of(folder) == before


def test_practice_without_any_right_reply_says_so_and_has_changed_nothing(tune, monkeypatch):
    monkeypatch.setattr(finetune_stages, "Practice", partial(Practice, judge=lambda *_: False))
    with pytest.raises(UserError, match=r"nothing to learn: in 16 groups of 128.*0% right"):
        tune("practice", "--samples", "128")


def test_a_stage_stands_beside_its_base(base):
    checkpoint = find_checkpoint(base)
    assert finetune.beside(checkpoint, "sft") == base.with_name("base-sft")
    assert finetune.beside(Path("models/night"), "dpo") == Path("models/night-dpo")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "/nowhere"), "no checkpoint in /nowhere"),
        (("--data", "messages:/nowhere.jsonl"), "nowhere.jsonl"),
        (("--text", "1.5"), "--text is 1.5"),
        (("--data", "drills=0"), "the share '0' must be"),
        (("--others", "1"), "--others is 1.0"),
        (("--lora", "-1"), "--lora"),
        (("--lora-layers", "attention"), "--lora-layers belongs to --lora"),
        (("--stop-after", "200 steps"), "--stop-after '200 steps': expected a time"),
        (("--stage", "dpo"), "--data belongs to --stage sft"),
    ],
)
def test_bad_input_gets_one_line(arguments, said, tune):
    with pytest.raises(UserError, match=said):
        tune("sft", *arguments)


def test_a_missing_file_of_pairs_is_refused(tune):
    with pytest.raises(UserError, match="cannot read pairs from /nowhere"):
        tune("dpo", "--pairs", "/nowhere.txt")


def test_an_empty_file_of_conversations_is_refused(tune, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(UserError, match=r"none\.jsonl"):
        tune("sft", "--data", f"messages:{tmp_path / 'none.jsonl'}")


def test_a_model_whose_tokenizer_is_another_one_is_refused(tune, base, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(find_checkpoint(base), other)
    (other / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="tokenizer"):
        tune("sft", "--from", str(other))


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--lora", "2")], ids=["all weights", "LoRA"])
def test_a_model_in_another_engines_folder_is_tuned_with_its_own_tokenizer(
    more, tune, base, tmp_path
):
    model, _ = load_model(find_checkpoint(base))
    tokenizer = train_bpe(["the first line of it is short, user: and assistant: "] * 9, 270)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    write_their_folder(widened(model, tokenizer.vocab_size + 5), theirs, [tokenizer.end_of_text])
    write_tokenizers_json(tokenizer, theirs / "tokenizer.json")
    folder = tune("sft", "--from", str(theirs), "--data", "primer", *more)
    tuned, own = load_model(find_checkpoint(folder))
    assert own.encode("user: line").tolist() == tokenizer.encode("user: line").tolist()
    assert (tuned.config.vocab_size, tuned.config.context_length) == (own.vocab_size, 128)
    assert "began with | theirs |" in (folder / "card.md").read_text()


def widened(model: Transformer, vocab_size: int) -> Transformer:
    """A model of the same sizes with more ids, untrained."""
    return Transformer(replace(model.config, vocab_size=vocab_size))
