"""Preferences: the loss on four numbers, gradients at reply ids alone, and pairs that are pairs."""

import copy
import math
from pathlib import Path

import pytest
import torch

from shared.chat.attempts import Attempt
from shared.chat.pairs import Pair, PairBatches, own_pairs, pair_rows, read_pairs
from shared.chat.preferences import PreferenceConfig, dpo_loss, orpo_loss, preference_loss
from shared.chat.reply_rows import ReplyRows, reply_log_probabilities, side_by_side
from shared.errors import UserError
from shared.text.exercise import Exercise
from shared.text.transcript import Message

PAIRS = Path(__file__).with_name("preferences.txt")
HI = [Message("user", "hi")]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


# chosen and rejected under the policy, then under the reference
FOUR = [(-10.0, -12.0, -11.0, -11.0), (-5.0, -4.0, -5.0, -4.0), (-30.0, -2.0, -20.0, -9.0)]


@pytest.mark.parametrize(("numbers", "margin"), [*zip(FOUR, (2.0, 0.0, -17.0), strict=True)])
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo_by_hand(numbers, margin, beta):
    """The margin: (-10 + 11) - (-12 + 11) = 2, and so on; trl 1.16.0 has the same formula."""
    policy, reference = torch.tensor(numbers).view(2, 2, 1)
    expected = -log_sigmoid(beta * margin)
    assert dpo_loss(policy, reference, beta).item() == pytest.approx(expected, rel=1e-6)


def test_dpo_pushes_most_where_it_is_wrong_most_and_never_ends():
    """The gradient of the chosen one is -beta · sigmoid(-beta · margin), of the rejected, plus."""
    policy = torch.tensor(FOUR).T[:2].clone().requires_grad_()  # (2, pairs)
    dpo_loss(policy, torch.tensor(FOUR).T[2:], 0.5).backward()
    shares = [0.5 / (1 + math.exp(0.5 * margin)) / 3 for margin in (2.0, 0.0, -17.0)]
    assert policy.grad[0].tolist() == pytest.approx([-share for share in shares])
    assert policy.grad[1].tolist() == pytest.approx(shares)


def test_orpo_by_hand():
    """Means of log 0.5 and log 0.2: odds 1 and 1/4, their ratio 4, sigmoid(log 4) = 4/5."""
    policy = torch.tensor([[3 * math.log(0.5)], [2 * math.log(0.2)]])
    found = orpo_loss(policy, torch.tensor([[3], [2]]), beta=0.1)
    assert found.item() == pytest.approx(math.log(2) - 0.1 * math.log(0.8), rel=1e-6)


def test_orpo_stays_a_number_where_a_reply_is_certain():
    policy = torch.tensor([[0.0], [-3.0]]).requires_grad_()
    loss = orpo_loss(policy, torch.ones(2, 1), beta=0.1)
    loss.backward()
    assert loss.isfinite() and policy.grad.isfinite().all()


def test_a_reply_is_as_likely_as_its_ids_one_after_another(tiny_model):
    """Greedy by hand: each id's probability from a pass over what stands before it."""
    ids, marks = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[False, False, True, True]])
    with torch.no_grad():
        found = reply_log_probabilities(tiny_model, ids, marks)
        steps = [tiny_model(ids[:, :t])[0, -1].softmax(-1)[ids[0, t]].log() for t in (2, 3)]
    assert found.tolist() == pytest.approx([sum(steps).item()], rel=1e-4)


def test_filling_and_neighbours_change_nothing_and_no_mark_is_certainty(tiny_model):
    rows = side_by_side([[1, 2, 3], [4], [9]], [[5], [6, 7, 8, 9, 10], []])
    alone = [side_by_side([[1, 2, 3]], [[5]]), side_by_side([[4]], [[6, 7, 8, 9, 10]])]
    with torch.no_grad():
        found = reply_log_probabilities(tiny_model, *rows)
        apart = [reply_log_probabilities(tiny_model, *row).item() for row in alone]
        other = rows.ids.masked_fill(~rows.replies & (torch.arange(6) > 3), 200)
        refilled = reply_log_probabilities(tiny_model, other, rows.replies)
    assert found.tolist() == pytest.approx([*apart, 0.0], rel=1e-4)
    assert torch.equal(found, refilled)


def test_a_mark_on_the_first_id_does_not_count(tiny_model):
    ids = torch.tensor([[5, 6, 7]])
    marked, bare = torch.tensor([[True, False, True]]), torch.tensor([[False, False, True]])
    with torch.no_grad():
        pair = [reply_log_probabilities(tiny_model, ids, marks) for marks in (marked, bare)]
    assert torch.equal(*pair)


@pytest.mark.parametrize("loss", ["dpo", "orpo"])
def test_gradients_come_from_positions_that_predict_reply_ids(tiny_model, loss):
    """Logits at any other position may be anything: nothing learns from them."""
    logits = []
    rows = side_by_side([[1, 2, 3], [1, 2, 3]], [[4, 5], [6, 7, 8]])
    reference = copy.deepcopy(tiny_model)

    def keep(_: object, __: object, found: torch.Tensor) -> None:
        found.retain_grad()
        logits.append(found)

    tiny_model.register_forward_hook(keep)
    config = PreferenceConfig(loss)
    preference_loss(tiny_model, reference, rows, config).backward()
    learns = logits[0].grad.abs().sum(dim=-1) > 0  # (2, T - 1)
    assert torch.equal(learns, rows.replies[:, 1:])
    assert all(parameter.grad is None for parameter in reference.parameters())


def test_at_the_start_dpo_is_log_two_and_a_step_parts_the_replies(tiny_model):
    rows = side_by_side([[1, 2, 3], [1, 2, 3]], [[4, 5], [6, 7, 8]])
    reference = copy.deepcopy(tiny_model)
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=1e-3)
    before = reply_log_probabilities(tiny_model, *rows)
    loss = preference_loss(tiny_model, reference, rows, PreferenceConfig(beta=0.1))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)
    loss.backward()
    optimizer.step()
    after = reply_log_probabilities(tiny_model, *rows)
    assert after[0] > before[0] and after[1] < before[1]


def test_both_losses_are_those_of_the_formulas_on_a_models_own_numbers(tiny_model, random_model):
    rows = side_by_side([[1, 2], [3], [1, 2], [3]], [[4, 5], [6], [7], [8, 9, 10]])
    reference = random_model(activation="gelu")
    with torch.no_grad():
        policy = reply_log_probabilities(tiny_model, *rows)
        frozen = reply_log_probabilities(reference, *rows)
        dpo = preference_loss(tiny_model, reference, rows, PreferenceConfig("dpo", 0.3))
        orpo = preference_loss(tiny_model, reference, rows, PreferenceConfig("orpo", 0.3))
    assert torch.equal(dpo, dpo_loss(policy.view(2, 2), frozen.view(2, 2), 0.3))
    lengths = torch.tensor([[2, 1], [1, 3]])
    assert torch.equal(orpo, orpo_loss(policy.view(2, 2), lengths, 0.3))


@pytest.mark.parametrize("fields", [{"beta": 0.0}, {"beta": math.nan}, {"loss": "ppo"}])
def test_settings_out_of_range_are_refused(fields):
    with pytest.raises(UserError, match="expected"):
        PreferenceConfig(**fields)


# The pairs


def test_the_file_holds_sixty_pairs_that_fit_a_small_context(tokenizer):
    pairs = read_pairs(PAIRS)
    assert len({pair.messages[0].content for pair in pairs}) == len(pairs) == 60
    assert all(len(pair.chosen) <= 120 for pair in pairs)
    assert 15 <= sum(not pair.rejected_ends for pair in pairs) <= 45
    ids = pair_rows(pairs, tokenizer, context_length=256).ids
    assert ids.shape[0] == 120 and ids.shape[1] <= 256


def test_a_pair_as_ids(tokenizer):
    pairs = [Pair(HI, "Hi!", "Oh oh", rejected_ends=False), Pair(HI, "Hi!", "No.")]
    rows = pair_rows(pairs, tokenizer, context_length=256)
    assert [tokenizer.decode(row[row > 0]) for row in rows.ids] == [
        "\x1euser: hi\nassistant: Hi!\n\x1e",
        "\x1euser: hi\nassistant: Hi!\n\x1e",
        "\x1euser: hi\nassistant: Oh oh",
        "\x1euser: hi\nassistant: No.\n\x1e",
    ]
    counted = [tokenizer.decode(i[m]) for i, m in zip(rows.ids, rows.replies, strict=True)]
    assert counted == [" Hi!\n\x1e", " Hi!\n\x1e", " Oh oh", " No.\n\x1e"]


def test_only_the_last_reply_of_a_conversation_counts(tokenizer):
    earlier = [Message("user", "a"), Message("assistant", "b"), *HI]
    rows = pair_rows([Pair(earlier, "c", "d")], tokenizer, context_length=256)
    assert tokenizer.decode(rows.ids[0][rows.replies[0]]) == " c\n\x1e"


def test_a_long_rejected_reply_is_cut_and_a_long_chosen_one_refused(tokenizer):
    rows = pair_rows([Pair(HI, "Hi!", "x" * 99)], tokenizer, context_length=40)
    assert rows.ids.shape == (2, 40)
    with pytest.raises(UserError, match="a pair of 122 ids outgrows the context of 40"):
        pair_rows([Pair(HI, "x" * 99, "Hi!")], tokenizer, context_length=40)


GOOD = "user: a\ngood: b\nbad: c\n"


def test_pairs_are_read_with_the_end_of_those_that_go_on_left_out(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(f"\n{GOOD}\n\nuser: d\ngood: e ...\nbad: f f f ...\n")
    first, second = read_pairs(path)
    assert first == Pair([Message("user", "a")], "b", "c")
    assert second == Pair([Message("user", "d")], "e ...", "f f f", rejected_ends=False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no pairs"),
        (GOOD + "\nUser: a\ngood: b\nbad: c\n", r"pairs.txt:5: expected 'user: ' and a text"),
        ("user: a\nbad: c\ngood: b\n", r"pairs.txt:2: expected 'good: '"),
        ("user: a\ngood: \nbad: c\n", r"pairs.txt:2: expected 'good: ' and a text"),
        ("user: a\ngood: b\n", r"pairs.txt:2: 2 lines; a pair has 3"),
        (GOOD + "bad: d\n", r"pairs.txt:4: 4 lines"),
        ("user: a\ngood: b\nbad: b\n", r"pairs.txt:3: the bad reply is the good one"),
    ],
)
def test_broken_pairs_are_refused_with_their_line(tmp_path, text, says):
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_pairs(path)


@pytest.mark.parametrize("content", [None, b"user: \xff\n"])
def test_a_file_that_cannot_be_read_is_told(tmp_path, content):
    path = tmp_path / "pairs.txt"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read pairs from"):
        read_pairs(path)


def attempt(text: str, right: bool, ended: bool = True) -> Attempt:
    return Attempt([1], [2], text, ended, right)


def test_own_pairs_come_from_groups_with_a_right_and_a_wrong_attempt():
    asked = Exercise("adding", HI, "7", "7", False, 1, False)
    groups = [
        [attempt("8", False, ended=False), attempt("7", True), attempt("9", False)],
        [attempt("7", True), attempt("7", True)],
        [attempt("8", False), attempt("9", False)],
    ]
    assert own_pairs([asked] * 3, groups) == [Pair(HI, "7", "8", rejected_ends=False)]


def batches(tokenizer, seed: int = 0, batch_size: int = 2) -> PairBatches:
    pairs = [Pair([Message("user", name)], "good", "bad") for name in "abcde"]
    return PairBatches(pairs, tokenizer, batch_size, 64, seed)


def asked(tokenizer, rows: ReplyRows) -> list[str]:
    """The questions of a batch, from its first half."""
    return [tokenizer.decode(row)[len("\x1euser: ")] for row in rows.ids[: len(rows.ids) // 2]]


def test_each_round_shows_every_pair_once_in_another_order(tokenizer):
    source = batches(tokenizer)
    rounds = [[name for _ in range(3) for name in asked(tokenizer, next(source))] for _ in range(3)]
    assert [sorted(names) for names in rounds] == [list("abcde")] * 3
    assert len({tuple(names) for names in rounds}) > 1


def test_pairs_go_on_where_they_were(tokenizer):
    whole, resumed = batches(tokenizer), batches(tokenizer)
    for _ in range(4):
        next(whole)
    resumed.load_state_dict(whole.state_dict())
    for _ in range(4):
        assert torch.equal(next(whole).ids, next(resumed).ids)


def test_no_pairs_and_too_long_ones_are_refused_before_training(tokenizer):
    with pytest.raises(UserError, match="no pairs to learn from"):
        PairBatches([], tokenizer, 2, 64, 0)
    with pytest.raises(UserError, match="outgrows"):
        PairBatches([Pair(HI, "x" * 99, "y")], tokenizer, 2, 64, 0)
