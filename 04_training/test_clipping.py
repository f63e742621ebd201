"""What is done about gradients that are far too long."""

import torch

from shared.training.budget import Budget
from shared.training.clipping import Clipping
from shared.training.loop import train
from shared.training.precision import Precision
from shared.training.strategy import OneProcess


class Line(torch.nn.Module):
    """Logits for two ids, each its own weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.size = 1.0

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return (self.size * self.weight).expand(*ids.shape, 2)


def trained(skip_above: float | None) -> tuple[list[bool], list[float]]:
    """Thirty steps, of which step 25 has a gradient 50 times as long."""
    model, clipping = Line(), Clipping(max_norm=100.0, skip_above=skip_above)
    cpu = torch.device("cpu")
    batch = torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    optimizer.param_groups[0]["base_lr"] = 1e-3
    skipped, weights = [], []
    for record in train(
        model,
        [optimizer],
        iter(lambda: batch, None),
        Budget(steps=30),
        lambda progress: 1.0,
        Precision(cpu),
        OneProcess(cpu),
        clipping,
    ):
        skipped.append(record.skipped)
        weights.append(model.weight[1].item())
        model.size = 50.0 if record.step == 24 else 1.0
    return skipped, weights


def test_a_spike_is_skipped_and_said_and_moves_nothing():
    skipped, weights = trained(skip_above=5.0)
    assert [step for step, was in enumerate(skipped, start=1) if was] == [25]
    assert weights[24] == weights[23] and weights[25] > weights[24]


def test_without_the_policy_the_same_spike_moves_the_weights():
    skipped, weights = trained(skip_above=None)
    assert not any(skipped)
    assert weights[24] - weights[23] > 10 * (weights[23] - weights[22])


def test_the_first_steps_are_never_spikes_and_a_spike_does_not_raise_the_bar():
    clipping = Clipping(skip_above=4.0)
    assert not any(clipping.skips(norm) for norm in (100.0, *[1.0] * 20))
    assert clipping.skips(50.0) and clipping.skips(50.0)
    assert not clipping.skips(3.9) and clipping.skips(4.1)


def test_gradients_that_stay_long_are_accepted_after_eight():
    clipping = Clipping(skip_above=4.0)
    assert not any(clipping.skips(1.0) for _ in range(20))
    assert [clipping.skips(50.0) for _ in range(10)] == [True] * 7 + [False] * 3


def test_it_goes_on_from_what_was_saved():
    clipping, again = Clipping(skip_above=4.0), Clipping(skip_above=4.0)
    for _ in range(20):
        clipping.skips(1.0)
    again.load_state_dict(clipping.state_dict())
    assert again.skips(5.0) and not Clipping(skip_above=4.0).skips(5.0)
