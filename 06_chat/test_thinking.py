"""Thinking longer is measured on held-out questions, and each way is counted by its own rule."""

import re

import pytest
import thinking

from shared.chat.batch_generation import Reply
from shared.chat.candidates import Candidate, by_likelihood, by_vote
from shared.errors import UserError
from shared.text.drills import is_held_out
from shared.text.operands import pair_key
from shared.training.checkpoint import save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def test_questions_are_held_out_and_their_sizes_take_turns():
    asked = thinking.questions("adding", 10, seed=0, working=True)
    assert [each.size for each in asked[:4]] == [2, 3, 2, 3]
    for each in asked:
        a, b = (int(n) for n in re.findall(r"\d+", each.messages[-1].content))
        assert is_held_out(pair_key(a, b))


def test_a_verifier_needs_one_right_reply_and_a_vote_the_most():
    [exercise] = thinking.questions("adding", 1, seed=0, working=True)
    right = Candidate(Reply(exercise.reply, "stop"), -0.5)
    wrong = Candidate(Reply("1+1=3 = 3", "stop"), -0.1)
    group = [wrong, right, wrong]
    assert thinking.found(exercise, group, None)
    assert not thinking.found(exercise, group, by_vote)
    assert not thinking.found(exercise, group, by_likelihood)
    assert thinking.found(exercise, [right, wrong, right], by_vote)


def test_the_script_prints_each_way_and_draws(
    random_model, tokenizer, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(thinking, "COUNTS", (1, 2))
    monkeypatch.setattr(thinking, "LONGEST", 4)
    model = random_model(context_length=96)
    run = save_checkpoint(tmp_path, 1, model, tokenizer, {}, {})
    figure = tmp_path / "drawn.png"
    thinking.main([str(run), "--questions", "2", "--device", "cpu", "--figure", str(figure)])
    printed = capsys.readouterr().out
    for way in ("the answer alone", "with the working", "vote", "likelihood", "verifier"):
        assert way in printed
    assert figure.stat().st_size > 1000
    with pytest.raises(UserError, match="--questions is 0"):
        thinking.main([str(run), "--questions", "0"])
