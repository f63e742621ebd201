"""Batches: targets shifted by one, mixed by weight, repeatable from a saved position."""

import numpy as np
import pytest
import text_to_batches
import torch

from shared.errors import UserError
from shared.text.batches import NOT_COUNTED, Batches, evaluation_batches, shifted


def test_shapes_and_the_shift_by_one():
    inputs, targets = next(Batches([np.arange(100)], [1.0], batch_size=3, context_length=8, seed=0))
    assert inputs.shape == targets.shape == (3, 8)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)  # the corpus counts up by one


def test_every_window_can_be_drawn_and_none_reaches_past_the_end():
    ids = np.arange(12, dtype=np.uint8)
    batches = Batches([ids], [1.0], batch_size=64, context_length=9, seed=0)
    starts = {int(row[0]) for _ in range(20) for row in next(batches)[0]}
    assert starts == {0, 1, 2}


@pytest.mark.parametrize(("size", "length"), [(1010, 10), (40, 16)])
def test_a_round_brings_all_but_the_ends_once_and_the_next_cuts_elsewhere(size, length):
    batches, starts = Batches([np.arange(size)], [1.0], 1, length, seed=0), []
    for number in range(4):
        starts.append([])
        while batches.rounds[0][0] == number:
            starts[number].append(int(next(batches)[0][0, 0]))
        assert sorted(starts[number]) == list(range(min(starts[number]), size - length, length))
        assert min(starts[number]) < length
    assert starts[0] != sorted(starts[0]) or len(starts[0]) == 1
    assert len({min(one) for one in starts}) > 1


def test_corpora_are_mixed_by_weight():
    ones, twos = np.full(50, 1), np.full(50, 2)
    batches = Batches([ones, twos], [3.0, 1.0], batch_size=4000, context_length=2, seed=0)
    share = (next(batches)[0][:, 0] == 1).double().mean().item()
    assert share == pytest.approx(0.75, abs=0.03)


def test_the_same_seed_gives_the_same_batches_and_another_seed_others():
    def first(seed: int) -> torch.Tensor:
        return next(Batches([np.arange(1000)], [1.0], 8, 16, seed))[0]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_a_saved_position_goes_on_with_the_batch_that_would_have_come():
    batches = Batches([np.arange(1000), np.arange(500)], [1.0, 2.0], 4, 8, seed=0)
    next(batches)
    state = batches.state_dict()
    expected = [next(batches)[0] for _ in range(3)]
    again = Batches([np.arange(1000), np.arange(500)], [1.0, 2.0], 4, 8, seed=99)
    again.load_state_dict(state)
    assert all(torch.equal(inputs, next(again)[0]) for inputs in expected)


def test_a_position_saved_by_version_0_1_0_is_still_read():
    """It held only the generator, which draws the corpora."""

    def corpora_drawn(seed: int, state: dict | None = None) -> list[int]:
        corpora = [np.full(500, 1), np.full(500, 2)]
        batches = Batches(corpora, [1.0, 1.0], batch_size=32, context_length=2, seed=seed)
        batches.load_state_dict(state or batches.state_dict())
        return next(batches)[0][:, 0].tolist()

    state = {"generator": torch.Generator().manual_seed(5).get_state()}
    assert corpora_drawn(0, state) == corpora_drawn(5) != corpora_drawn(0)


def test_no_draw_touches_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(Batches([np.arange(100)], [1.0], 4, 8, seed=0))
    assert torch.equal(before, torch.get_rng_state())


def test_a_corpus_shorter_than_a_window_is_refused_with_both_numbers():
    with pytest.raises(UserError, match="has 8 training ids; a window needs 9"):
        Batches([np.arange(8)], [1.0], 1, 8, seed=0)
    next(Batches([np.arange(9)], [1.0], 1, 8, seed=0))  # just long enough


@pytest.mark.parametrize("questions", [0.0, 0.25, 1.0])
def test_questions_count_in_their_share_of_the_windows_and_replies_in_all(questions):
    ids = np.arange(1, 4001)
    replies = ids % 3 == 0
    batches = Batches([ids], [1.0], 400, 9, 0, [replies], [questions])
    inputs, targets = next(batches)
    assert torch.equal(inputs[:, 1:], inputs[:, :-1] + 1)  # inputs are never touched
    in_replies = (inputs + 1) % 3 == 0
    assert torch.equal(targets[in_replies], (inputs + 1)[in_replies])
    whole = (targets != NOT_COUNTED).all(dim=1)
    assert (targets[~whole][~in_replies[~whole]] == NOT_COUNTED).all()
    assert whole.double().mean().item() == pytest.approx(questions, abs=0.08)


def test_a_saved_position_also_knows_which_windows_count_as_a_whole():
    def batches(seed: int) -> Batches:
        return Batches([np.arange(1000)], [1.0], 4, 8, seed, [np.arange(1000) % 2 == 0], [0.5])

    begun, again = batches(0), batches(99)
    next(begun)
    again.load_state_dict(begun.state_dict())
    assert all(torch.equal(next(begun)[1], next(again)[1]) for _ in range(5))


def test_evaluation_windows_cover_the_text_once():
    pairs = list(evaluation_batches(np.arange(32), batch_size=2, context_length=10))
    targets = torch.cat([t.flatten() for _, t in pairs])
    assert targets.tolist() == list(range(1, 31))  # 31 is the rest that fills no window
    assert [tuple(i.shape) for i, _ in pairs] == [(2, 10), (1, 10)]


def test_fewer_windows_are_spread_over_the_whole_text():
    pairs = list(evaluation_batches(np.arange(1001), 100, 10, max_windows=3))
    starts = torch.cat([i[:, 0] for i, _ in pairs]).tolist()
    assert starts[0] == 0 and starts[-1] == 990 and len(starts) == 3


def test_a_short_validation_text_is_still_measured():
    ((inputs, targets),) = evaluation_batches(np.arange(5), 8, 100)
    assert inputs.tolist() == [[0, 1, 2, 3]] and targets.tolist() == [[1, 2, 3, 4]]
    assert list(evaluation_batches(np.arange(1), 8, 100)) == []


def test_shifted_by_hand():
    inputs, targets = shifted(torch.tensor([[7, 8, 9]]))
    assert inputs.tolist() == [[7, 8]] and targets.tolist() == [[8, 9]]


def test_the_script_tells_of_a_folder_of_notes_and_what_it_passed_over(tmp_path, capsys):
    for name in ("a.md", "b.md", "c.txt"):
        (tmp_path / name).write_text("one thought after another, and back again. " * 40)
    text_to_batches.main([f"markdown:{tmp_path}"])
    shown = capsys.readouterr().out
    assert "lossless: True" in shown and "c.txt" in shown
