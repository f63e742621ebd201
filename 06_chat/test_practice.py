"""Practice: a group by hand, gradients where they belong, and nothing to learn where all agree."""

import random

import pytest
import torch

from shared.chat.attempts import Attempt, prompt_ids, sample_groups
from shared.chat.batch_generation import reply_batch
from shared.chat.practice import (
    TO_END,
    Practice,
    PracticeBatch,
    PracticeConfig,
    advantages,
    practice_loss,
)
from shared.chat.reply_rows import reply_log_probabilities, side_by_side
from shared.chat.sampling import SamplingSettings
from shared.errors import UserError
from shared.text.exercise import Exercise
from shared.text.transcript import Message


def question(text: str = "hi", answer: str = "7") -> Exercise:
    return Exercise("adding", [Message("user", text)], answer, answer, False, 1, False)


def batch_of(rewards: list[float], only_passed: bool = False) -> PracticeBatch:
    """One group: one reply of one or two ids for each reward."""
    rows = side_by_side([[1, 2, 3]] * len(rewards), [[4 + n, 9][: 1 + n % 2] for n in range(4)])
    pushes = advantages(torch.tensor([rewards]), only_passed)[0]
    return PracticeBatch(rows, pushes, len(rewards), sum(rewards) / len(rewards))


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]),
        ([1, 1, 0, 0], [0.5, 0.5, -0.5, -0.5]),
        ([1, 1, 1, 1], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_advantages_of_a_group_of_four_by_hand(rewards, expected):
    both = torch.tensor([rewards, [1, 0, 1, 0]], dtype=torch.float32)
    assert advantages(both).tolist() == [expected, [0.5, -0.5, 0.5, -0.5]]
    assert torch.equal(advantages(both, only_passed=True), both)


@pytest.mark.parametrize("right", range(9))
def test_a_groups_advantages_are_worth_k_p_times_1_minus_p(right):
    """Their squares sum to it: most at one half, nothing at either end."""
    share = right / 8
    found = advantages(torch.tensor([[1.0] * right + [0.0] * (8 - right)]))
    assert found.square().sum().item() == pytest.approx(8 * share * (1 - share))
    assert found.sum().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("only_passed", [False, True])
def test_the_loss_of_a_group_of_four_by_hand(tiny_model, only_passed):
    batch = batch_of([1.0, 0.0, 0.0, 0.0], only_passed)
    with torch.no_grad():
        logs = reply_log_probabilities(tiny_model, *batch.rows).tolist()
        found = practice_loss(tiny_model, batch).item()
    by_hand = -(0.75 * logs[0] - 0.25 * (logs[1] + logs[2] + logs[3])) / 4
    assert found == pytest.approx(-logs[0] / 4 if only_passed else by_hand, rel=1e-5)


@pytest.mark.parametrize("rewards", [[1.0] * 4, [0.0] * 4])
def test_a_group_that_agrees_gives_exactly_zero_gradient(tiny_model, rewards):
    practice_loss(tiny_model, batch_of(rewards)).backward()
    assert all(not parameter.grad.any() for parameter in tiny_model.parameters())


def test_what_passed_alone_pushes_nothing_down(tiny_model):
    """All wrong: no gradient. All right: the mean of minus log p, as in plain training."""
    practice_loss(tiny_model, batch_of([0.0] * 4, only_passed=True)).backward()
    assert all(not parameter.grad.any() for parameter in tiny_model.parameters())
    batch = batch_of([1.0] * 4, only_passed=True)
    logs = reply_log_probabilities(tiny_model, *batch.rows)
    assert torch.equal(practice_loss(tiny_model, batch), -logs.sum() / 4)


def test_gradients_come_from_positions_that_predict_reply_ids(tiny_model):
    logits = []

    def keep(_: object, __: object, found: torch.Tensor) -> None:
        found.retain_grad()
        logits.append(found)

    tiny_model.register_forward_hook(keep)
    batch = batch_of([1.0, 0.0, 0.0, 1.0])
    practice_loss(tiny_model, batch).backward()
    learns = logits[0].grad.abs().sum(dim=-1) > 0  # (B, T - 1)
    assert torch.equal(learns, batch.rows.replies[:, 1:])


@pytest.mark.parametrize("at_once", [1, 3, 4, 9])
def test_parts_of_a_batch_add_up_to_it(tiny_model, at_once):
    batch = batch_of([1.0, 0.0, 0.0, 1.0])
    practice_loss(tiny_model, batch).backward()
    whole = [parameter.grad.clone() for parameter in tiny_model.parameters()]
    tiny_model.zero_grad()
    parts = list(batch.in_parts(at_once))
    for part in parts:
        practice_loss(tiny_model, part).backward()
    assert len(parts) == -(-4 // at_once)
    for parameter, gradient in zip(tiny_model.parameters(), whole, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6 * gradient.abs().max().item())


def test_a_part_is_no_wider_than_its_longest_row():
    parts = list(batch_of([1.0, 0.0, 0.0, 1.0]).in_parts(1))
    assert [part.rows.ids.shape[1] for part in parts] == [4, 5, 4, 5]


# The attempts

BOLD = SamplingSettings(temperature=1, top_p=1, max_new_bytes=12, seed=3)


@pytest.fixture
def ending_model(random_model, tokenizer):
    """A model of random weights, with room for a question, that ends one reply in three or so."""
    model = random_model(context_length=64)
    model.head.weight.data[tokenizer.end_of_text] *= 3
    return model


def test_attempts_are_the_replies_that_a_chat_would_give(ending_model, tokenizer):
    exercises = [question("a" * size) for size in (1, 20, 4)]
    groups = sample_groups(ending_model, tokenizer, exercises, 3, BOLD)
    conversations = [exercise.messages for exercise in exercises for _ in range(3)]
    replies = reply_batch(ending_model, tokenizer, conversations, BOLD)
    flat = [attempt for group in groups for attempt in group]
    assert [len(group) for group in groups] == [3, 3, 3]
    assert [a.text for a in flat] == [reply.text for reply in replies]
    assert [a.ended for a in flat] == [reply.finish_reason == "stop" for reply in replies]
    assert {a.ended for a in flat} == {True, False}
    assert len({tuple(a.reply) for a in groups[0]}) == 3  # each draws for itself


def test_an_attempt_holds_every_id_that_was_drawn(ending_model, tokenizer):
    (group,) = sample_groups(ending_model, tokenizer, [question()], 8, BOLD)
    for attempt in group:
        assert attempt.prompt == prompt_ids([Message("user", "hi")], tokenizer)
        assert attempt.ended == (attempt.reply[-1] == tokenizer.end_of_text)
        assert attempt.ended or len(attempt.reply) == 12


def test_what_does_not_end_is_wrong_whatever_it_says(ending_model, tokenizer):
    groups = sample_groups(ending_model, tokenizer, [question()], 8, BOLD, lambda *_: True)
    assert [a.right for a in groups[0]] == [a.ended for a in groups[0]]


def test_the_judge_hears_each_exercise_with_its_own_replies(ending_model, tokenizer):
    heard = []

    def judge(exercise: Exercise, reply: str) -> bool:
        heard.append((exercise.answer, reply))
        return False

    exercises = [question(answer="1"), question(answer="2")]
    groups = sample_groups(ending_model, tokenizer, exercises, 8, BOLD, judge)
    said = [(str(n), a.text) for n, group in enumerate(groups, 1) for a in group if a.ended]
    assert heard == said and {answer for answer, _ in heard} == {"1", "2"}


def test_a_reply_stops_where_the_context_ends(random_model, tokenizer):
    settings = SamplingSettings(temperature=1, top_p=1, max_new_bytes=50, seed=0)
    (group,) = sample_groups(random_model(), tokenizer, [question("hey")], 2, settings)
    assert [len(a.prompt) + len(a.reply) for a in group] == [32, 32]
    with pytest.raises(UserError, match="a question has 34 ids, the context 32"):
        sample_groups(random_model(), tokenizer, [question("hi" * 8)], 2, settings)
    with pytest.raises(UserError, match="samples is 0"):
        sample_groups(random_model(), tokenizer, [question()], 0, settings)


# The batches


def judge_short(exercise: Exercise, reply: str) -> bool:
    """Takes a reply that ended before its second byte."""
    return len(reply) < 2


def practice(model, tokenizer, **fields) -> Practice:
    config = PracticeConfig(**({"questions": 2, "samples": 8, "max_new_bytes": 4} | fields))

    def ask(rng: random.Random) -> Exercise:
        return question("".join(rng.choices("abc", k=3)), answer="seven")

    return Practice(model, tokenizer, ask, config, seed=1, judge=judge_short)


def test_a_batch_keeps_the_replies_that_push(ending_model, tokenizer, monkeypatch):
    """Two groups of two: one with a right reply, one without; only the first is kept."""
    groups = [
        [Attempt([1, 2], [3], "7", True, True), Attempt([1, 2], [4, 5], "8", True, False)],
        [Attempt([6], [7], "8", True, False), Attempt([6], [8], "9", True, False)],
    ]
    monkeypatch.setattr("shared.chat.practice.sample_groups", lambda *_: groups)
    batch = next(practice(ending_model, tokenizer))
    assert batch.rows.ids.tolist() == [[1, 2, 3, 0], [1, 2, 4, 5]]
    assert batch.advantages.tolist() == [0.5, -0.5]
    assert (batch.tried, batch.right) == (4, 0.25)
    batch = next(practice(ending_model, tokenizer, only_passed=True))
    assert batch.rows.ids.tolist() == [[1, 2, 3]] and batch.advantages.tolist() == [1.0]


def test_a_batch_in_which_all_agree_is_empty_and_teaches_nothing(ending_model, tokenizer):
    source = practice(ending_model, tokenizer)
    source.judge = lambda *_: False
    batch = next(source)
    assert len(batch.advantages) == 0 == batch.right and batch.tried == 16
    assert list(batch.in_parts(4)) == []
    loss = practice_loss(ending_model, batch)
    loss.backward()
    assert not loss and all(not p.grad.any() for p in ending_model.parameters())


def test_a_reply_is_given_up_soon_after_the_longest_right_one(ending_model, tokenizer):
    source = practice(ending_model, tokenizer, max_new_bytes=500)
    source.judge = lambda exercise, reply: len(reply) % 2 == 0
    batch = next(source)
    assert batch.rows.replies.sum(dim=1).max() <= len("seven") + TO_END


def test_a_model_in_training_samples_without_dropout_and_stays_in_training(random_model, tokenizer):
    model, seen = random_model(context_length=64, dropout=0.5).train(), []
    model.register_forward_hook(lambda called, *_: seen.append(called.training))
    next(practice(model, tokenizer))
    assert seen and not any(seen) and model.training


def test_practice_goes_on_where_it_was(ending_model, tokenizer):
    whole, resumed = (practice(ending_model, tokenizer, max_new_bytes=20) for _ in range(2))
    whole.judge = resumed.judge = lambda *_: True
    first = next(whole)
    resumed.load_state_dict(whole.state_dict())
    one, other = next(whole), next(resumed)
    assert torch.equal(one.rows.ids, other.rows.ids) and one.right == other.right
    assert len(first.advantages) > 0 < len(one.advantages)
    assert first.rows.ids.tolist() != one.rows.ids.tolist()


@pytest.mark.parametrize("only_passed", [False, True])
def test_practice_makes_right_replies_more_frequent(ending_model, tokenizer, only_passed):
    """From nothing but yes or no: to end before the second byte."""
    source = practice(ending_model, tokenizer, samples=16, max_new_bytes=2, only_passed=only_passed)
    shares = []
    for batch in (next(source) for _ in range(10)):
        shares.append(batch.right)
        ending_model.zero_grad()
        practice_loss(ending_model, batch).backward()
        with torch.no_grad():
            for parameter in ending_model.parameters():
                parameter -= 0.2 * parameter.grad
    assert sum(shares[:3]) / 3 < 0.5 < 0.85 < sum(shares[-3:]) / 3


@pytest.mark.parametrize("name", ["questions", "samples", "max_new_bytes"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(UserError, match=f"{name} is 0"):
        PracticeConfig(**{name: 0})
