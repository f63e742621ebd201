"""A learner's functions take the place of ours, in every forward pass, and give the same."""

import sys
from types import SimpleNamespace

import attention
import chat
import full_run
import mine
import overfit
import pytest
import serve
import torch
from course_state import CourseState
from exercise_table import exercise_named
from learner_file import fingerprint
from mine import compare, finished_functions, using

from shared.chat import sampling
from shared.chat.generation import stream_ids
from shared.chat.sampling import SamplingSettings
from shared.chat.speculation import Speculation
from shared.chat.stacked import stacked
from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.batches import NOT_COUNTED
from shared.training import loss, schedule

pytestmark = pytest.mark.usefixtures("one_thread")
GREEDY = SamplingSettings(0.0, max_new_bytes=12)


def test_generation_by_the_plain_decoder_is_the_same_text(tiny_model):
    ours = list(stream_ids(tiny_model, [1, 2, 3], GREEDY))
    with using({"decode": attention.decode}) as calls:
        assert list(stream_ids(tiny_model, [1, 2, 3], GREEDY)) == ours
        assert calls == {"decode": 12}
        assert stacked(tiny_model) is tiny_model
        guessing = Speculation(0.0, [1, 2, 3, *ours[:6], 0, *ours[6:]])
        assert list(stream_ids(tiny_model, [1, 2, 3], GREEDY, speculation=guessing)) == ours
        assert calls["decode"] < 24
    assert list(stream_ids(tiny_model, [1, 2, 3], GREEDY)) == ours


def test_a_rule_for_one_row_of_logits_serves_for_many(tiny_model):
    settings = SamplingSettings(1.0, top_p=0.5, max_new_bytes=12, seed=3)
    ours = list(stream_ids(tiny_model, [1, 2, 3], settings))

    def for_one_row(logits: torch.Tensor, p: float) -> torch.Tensor:
        assert logits.dim() == 1
        return shipped(logits, p)

    shipped = sampling.keep_top_p
    with using({"keep_top_p": for_one_row}) as calls:
        assert list(stream_ids(tiny_model, [1, 2, 3], settings)) == ours
        both = sampling.keep_top_p(torch.tensor([[2.0, 1.0], [0.0, 9.0]]), 0.5)
    assert both.isinf().tolist() == [[False, True], [True, False]]
    assert calls == {"keep_top_p": 14}


def test_a_loss_of_whole_windows_serves_where_replies_alone_count():
    def of_whole_windows(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=draws)
    targets = torch.randint(7, (3, 5), generator=draws)
    targets[0, :3] = targets[1] = NOT_COUNTED
    expected = loss.cross_entropy(logits, targets)
    with using({"cross_entropy": of_whole_windows}) as calls:
        assert torch.allclose(loss.cross_entropy(logits, targets), expected)
        loss.cross_entropy(logits[2:], targets[2:])
    assert calls["cross_entropy"] == 3


def test_training_on_own_functions_reaches_the_goal_with_the_same_losses(monkeypatch, capsys):
    monkeypatch.setattr(overfit, "GOAL", 0.3)
    _, ours = overfit.overfit("to be or not", max_steps=60)
    own = {"decode": attention.decode, "cross_entropy": loss.cross_entropy}
    with using(own | {"warmup_cosine": schedule.warmup_cosine}) as calls:
        _, theirs = overfit.overfit("to be or not", max_steps=60)
    assert theirs[-1] < 0.3
    assert theirs == pytest.approx(ours, rel=1e-2)
    assert calls["decode"] == calls["cross_entropy"] == len(theirs)


NOWHERE = ("--checkpoint", "/nowhere")  # refused only after the course had its say


@pytest.mark.parametrize(
    ("script", "refused"),
    [(overfit, ()), (full_run, ("--stop-after", "x")), (chat, NOWHERE), (serve, NOWHERE)],
)
def test_each_script_takes_mine_names_it_and_lets_the_course_decide(
    script, refused, tmp_path, monkeypatch, capsys
):
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    assert "run on your own finished functions" in " ".join(capsys.readouterr().out.split())
    door = "from shared.errors import UserError\ndef swap_in():\n    raise UserError('asked')"
    (tmp_path / "__main__.py").write_text(door)
    monkeypatch.setattr(script, "COURSE", tmp_path)
    with pytest.raises(UserError, match="asked"):
        script.main(["--mine", *refused])


def test_a_script_with_mine_runs_on_own_functions_to_its_end_and_tells(monkeypatch, capsys):
    own = {"rms_norm": attention.rms_norm, "keep_top_p": sampling.keep_top_p}
    own |= {"decode": attention.decode, "rotate": attention.rotate}
    assert mine.answering(own) == ["decode", "rms_norm", "rotate", "keep_top_p"]
    ends = []
    monkeypatch.setattr(mine, "finished_functions", lambda: own)
    monkeypatch.setattr(mine, "atexit", SimpleNamespace(register=ends.append))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(overfit, "GOAL", 6.0)  # after one step
    try:
        overfit.main(["--mine"])
    finally:
        for end in ends:
            end()
    said = len(overfit.SAMPLE.encode()) - overfit.PROMPT_BYTES
    assert f"decode {1 + said} times" in capsys.readouterr().err
    assert Transformer.forward.__module__ == "shared.model.transformer"


@pytest.mark.parametrize("name", ["quick", "skills"])
def test_own_functions_can_be_the_models_of_these_configs(name):
    parser = full_run.command_line()
    path = str(full_run.CONFIGS / f"{name}.yaml")
    config = full_run.to_run_config(parser, parser.parse_args(["--config", path]))
    mine.refuse_relatives(config.model)


def test_finished_functions_of_one_file_call_each_other(monkeypatch):
    monkeypatch.setattr(mine, "load_state", CourseState)
    with pytest.raises(UserError, match="not finished yet"):
        finished_functions()
    file = exercise_named("decode").file
    done = {name: fingerprint(file, name) for name in ("softmax", "decode")}
    monkeypatch.setattr(mine, "load_state", lambda: CourseState(finished=done))
    own = finished_functions()
    assert own.keys() == done.keys()
    assert own["decode"].__globals__["softmax"] is own["softmax"]


def test_another_decoder_and_a_relative_of_the_model_are_refused():
    with pytest.raises(UserError, match="other logits than ours"):
        compare({"decode": lambda *given: 2 * attention.decode(*given)})
    with pytest.raises(UserError, match="QK-norm, and another base"):
        compare({"decode": attention.decode})
    compare({"decode": attention.decode, "rotate": attention.rotate})
    relative = Transformer(ModelConfig(n_layers=1, d_model=8, n_heads=1, positions="learned"))
    with using({"decode": attention.decode}), pytest.raises(UserError, match="other parts"):
        relative(torch.zeros(1, 2, dtype=torch.long))
