"""What the notes measure: a broken model that passes, and the first steps with a warmup."""

import torch
from overfit import GOAL
from overfit_broken import overfit_with
from warmup_effect import run_losses


def test_the_loss_of_an_overfit_test_does_not_miss_the_mask_but_speaking_does(one_thread):
    sample = "ab ac ad ba bc bd ca"  # no letter settles the next one
    outcome = overfit_with("no mask", sample, max_steps=80)
    assert outcome.loss < GOAL
    assert outcome.said != sample


def test_a_warmup_starts_at_the_same_loss_and_changes_it_less_at_first(one_thread):
    ids = torch.arange(2_000) * 7 % 256
    abrupt, gentle = (run_losses(ids, 32, 0.01, share, seed=0, stop=2) for share in (0.0, 0.1))
    assert abrupt[0] == gentle[0]
    assert abs(gentle[1] - gentle[0]) < abs(abrupt[1] - abrupt[0])
