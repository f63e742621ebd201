"""Several replies, one given: each rule worked by hand, and the numbers behind them."""

import io
import sys

import chat
import pytest
import torch

from shared.chat import candidates
from shared.chat.attempts import prompt_ids
from shared.chat.batch_generation import Reply, reply_batch
from shared.chat.candidates import (
    Candidate,
    Choice,
    by_likelihood,
    by_score,
    by_vote,
    draw_candidates,
    pick_named,
    stream_chosen,
)
from shared.chat.pairs import reply_ids
from shared.chat.sampling import SamplingSettings
from shared.chat.session import ChatSession, Piece
from shared.errors import UserError
from shared.text.transcript import Message
from shared.training.loss import token_losses

pytestmark = pytest.mark.usefixtures("one_thread")
HELLO = [Message("user", "hi")]
BOLD = SamplingSettings(temperature=1.0, top_p=1.0, max_new_bytes=8, seed=3)


def candidate(text: str, log_probability: float, finish_reason: str = "stop") -> Candidate:
    return Candidate(Reply(text, finish_reason), log_probability)


THREE_AND_TWO = [
    candidate("2+2=4 = 4", -0.9),
    candidate("2+2=5 = 5", -0.1),
    candidate("4", -0.5),
    candidate("1+3=4 = 4 ", -0.7),
    candidate("2+2=5 = 5", -0.2),
]


def test_votes_are_counted_by_answers_not_by_workings():
    assert by_vote(HELLO, THREE_AND_TWO) == 2  # three say 4, and the likeliest of them is given
    assert by_likelihood(HELLO, THREE_AND_TWO) == 1


def test_a_tie_goes_to_the_likelier_side_and_what_did_not_end_has_no_vote():
    tie = [candidate("4", -0.9), candidate("5", -0.3)]
    assert by_vote(HELLO, tie) == 1
    endless = [candidate("5", -0.1, "length")] * 3
    assert by_vote(HELLO, [*endless, candidate("4", -0.9)]) == 3
    assert by_vote(HELLO, endless) == 0


def test_a_function_of_ones_own_picks_the_best_of_k(monkeypatch, tmp_path):
    test = "reply[-1] in '02468' and messages[-1].content == 'hi'"
    (tmp_path / "my_verifier.py").write_text(f"def even(messages, reply):\n    return {test}\n")
    monkeypatch.syspath_prepend(tmp_path)
    pick = pick_named("my_verifier:even")
    assert pick(HELLO, [candidate("5", 0.0), candidate("4", -9.0), candidate("2", -1.0)]) == 1
    assert by_score(lambda messages, reply: len(reply))(HELLO, THREE_AND_TWO) == 3
    assert pick_named("vote") is by_vote


@pytest.mark.parametrize("name", ["votes", "no_such_module:f", "math:no_such_function", ":f"])
def test_a_rule_that_is_none_is_refused_by_name(name):
    with pytest.raises(UserError, match=name.partition(":")[2] or name):
        pick_named(name)


def test_candidates_are_replies_from_neighbouring_seeds(random_model, tokenizer):
    model = random_model(context_length=64)
    drawn = draw_candidates(model, tokenizer, HELLO, 4, BOLD)
    assert [each.reply for each in drawn] == reply_batch(model, tokenizer, [HELLO] * 4, BOLD)
    assert len({each.reply.text for each in drawn}) > 1


def test_a_log_probability_is_the_mean_over_the_replys_ids(random_model, tokenizer):
    model = random_model(context_length=64)
    [only] = draw_candidates(model, tokenizer, HELLO, 1, BOLD)
    prompt = prompt_ids(HELLO, tokenizer)
    reply = reply_ids(only.reply.text, tokenizer, only.reply.finish_reason == "stop")
    ids = torch.tensor([prompt + reply])
    losses = token_losses(model(ids[:, :-1]), ids[:, 1:])[0, len(prompt) - 1 :]
    assert only.log_probability == pytest.approx(-losses.mean().item(), rel=1e-4)


def test_replies_are_weighed_in_groups_that_memory_holds(random_model, tokenizer, monkeypatch):
    model, sizes = random_model(context_length=64), []
    together = draw_candidates(model, tokenizer, HELLO, 4, BOLD)
    model.register_forward_hook(lambda _, inputs, logits: sizes.append(logits[..., 0].numel()))
    monkeypatch.setattr(candidates, "READ_AT_ONCE", 80)  # two rows of a prompt of 20 and a reply
    apart = draw_candidates(model, tokenizer, HELLO, 4, BOLD)
    assert max(sizes[-2:]) <= 80 < sum(sizes[-2:])
    for one, other in zip(apart, together, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, rel=1e-4)


def test_a_conversation_longer_than_the_context_has_candidates_too(random_model, tokenizer):
    turns = [Message("user", "a" * 20), Message("assistant", "b" * 20)] * 3 + HELLO
    for each in draw_candidates(random_model(), tokenizer, turns, 2, BOLD):
        assert each.log_probability < 0


@pytest.mark.parametrize("count", [0, 65])
def test_a_count_out_of_range_is_refused(count, random_model, tokenizer):
    with pytest.raises(UserError, match=f"candidates is {count}; expected 1 to 64"):
        draw_candidates(random_model(), tokenizer, HELLO, count, BOLD)


def test_the_chosen_reply_comes_as_one_piece_that_tells_the_votes(
    tiny_model, tokenizer, monkeypatch
):
    """Three of five say 4; the prompt is the end-of-text id, `user: hi⏎` and `assistant:`."""
    monkeypatch.setattr(candidates, "draw_candidates", lambda *_: THREE_AND_TWO)
    [piece] = stream_chosen(tiny_model, tokenizer, HELLO, BOLD, Choice(5, by_vote))
    assert piece == Piece("4", "stop", prompt_bytes=1 + 9 + 10, drawn=5, agreed=3)
    [piece] = stream_chosen(tiny_model, tokenizer, HELLO, BOLD, Choice(5, by_likelihood))
    assert (piece.text, piece.agreed) == ("2+2=5 = 5", 2)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_once_it_is_over_no_candidate_grows(size, random_model, tokenizer):
    model = random_model(context_length=64)
    never = torch.full((256,), 0.0)
    never[tokenizer.end_of_text] = -torch.inf  # none ends by itself
    model.register_forward_hook(lambda _, __, logits: logits + never)
    asked = iter(range(size + 1))
    drawn = draw_candidates(model, tokenizer, HELLO, 3, BOLD, lambda: next(asked) == size)
    assert [each.reply[1:] for each in drawn] == [("length", size)] * 3
    whole = draw_candidates(model, tokenizer, HELLO, 3, BOLD)
    for early, late in zip(drawn, whole, strict=True):
        assert late.reply.text.startswith(early.reply.text.rstrip("\ufffd"))


def test_a_chat_gives_the_chosen_reply_and_remembers_it(
    random_model, tokenizer, monkeypatch, capsys
):
    session = ChatSession(random_model(context_length=64), tokenizer, BOLD)
    monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n"))
    chat.talk(session, Choice(3, by_likelihood))
    drawn = draw_candidates(session.model, tokenizer, HELLO, 3, BOLD)
    best = drawn[by_likelihood(HELLO, drawn)].reply.text
    assert session.messages == [*HELLO, Message("assistant", best)]
    assert "of 3 say so]" in capsys.readouterr().out
