"""Autograd: each operation, deep expressions and three layers by hand, against PyTorch."""

import math
import random

import pytest
import torch
from autograd import Value, in_order
from autograd_figures import depths
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_gradients import by_autograd, by_hand
from two_moons import MLP, accuracy, descend, mean_squared_error, two_moons

UNARY = {
    "exp": lambda x: (x * 0.3).exp(),
    "log": lambda x: (x * x + 1).log(),
    "tanh": lambda x: x.tanh(),
    "relu": lambda x: x.relu(),
    "power": lambda x: (x * x + 1) ** -1.5,
    "minus": lambda x: 3 - x,
    "over": lambda x: 2 / (x * x + 1),
}
BINARY = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "×": lambda x, y: x * y,
    "/": lambda x, y: x / (y * y + 1),
}


def test_a_value_used_twice_collects_both_gradients():
    x, w = Value(2.0), Value(3.0)
    loss = (x + w * x + -10) ** 2 * 0.5
    loss.backward()
    assert (loss.data, x.gradient, w.gradient) == (2.0, -8.0, -4.0)


def test_gradients_add_up_until_they_are_cleared():
    x = Value(3.0)
    for _ in range(2):
        (x * x).backward()
    assert x.gradient == 12.0


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
@pytest.mark.parametrize("at", [-1.3, 0.7])
def test_each_operation_has_pytorchs_value_and_gradients(name, at):
    numbers = (at,) if name in UNARY else (at, 0.4)
    operation = (UNARY | BINARY)[name]
    ours = [Value(number) for number in numbers]
    theirs = [torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in numbers]
    one, other = operation(*ours), operation(*theirs)
    one.backward()
    other.backward()
    assert one.data == pytest.approx(other.item())
    assert [x.gradient for x in ours] == pytest.approx([x.grad.item() for x in theirs])


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_deep_random_expressions_have_pytorchs_gradients(rng, operations):
    """Each operation may use any value made before it, so values are used again and again."""
    start = [rng.uniform(-1, 1) for _ in range(3)]
    plan = [
        (rng.choice([*UNARY, *BINARY]), rng.randrange(10**6), rng.randrange(10**6))
        for _ in range(operations)
    ]

    def built(numbers):
        made = list(numbers)
        for name, first, second in plan:
            x, y = made[first % len(made)], made[second % len(made)]
            result = UNARY[name](x) if name in UNARY else BINARY[name](x, y)
            made.append(result.tanh())  # keeps deep products in range
        return sum(made[1:], made[0])

    ours = [Value(number) for number in start]
    theirs = [torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in start]
    one, other = built(ours), built(theirs)
    one.backward()
    other.backward()
    assert one.data == pytest.approx(other.item())
    expected = [x.grad.item() for x in theirs]
    assert [x.gradient for x in ours] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_sum_deeper_than_pythons_stack_has_gradients():
    x = Value(1.0)
    total = x
    for _ in range(5000):
        total = total + x
    total.backward()
    assert x.gradient == 5001


def test_parts_come_before_what_they_make():
    x = Value(1.0)
    y = x * x
    result = y + x * y
    order = in_order(result)
    assert len(order) == len(set(order)) == 4
    assert all(order.index(p) < order.index(v) for v in order for p, _ in v.made_of)
    assert depths(result)[result] == 3


def test_a_network_learns_two_moons_to_98_percent():
    rng = random.Random(0)
    points = two_moons(40, 0.1, rng)
    model = MLP((2, 8, 1), rng)
    assert len(model.parameters()) == 2 * 8 + 8 + 8 + 1
    for step in range(160):
        chosen = [rng.randrange(40) for _ in range(8)]
        batch = [[column[i] for i in chosen] for column in points]
        descend(model, mean_squared_error(model, *batch), 1.0 * (1 - step / 160))
    assert accuracy(model, *points) >= 0.98


@pytest.mark.parametrize("sizes", [(1, 1, 2), (5, 8, 3)])
def test_three_layers_by_hand_have_pytorchs_gradients(sizes):
    positions, channels, vocabulary = sizes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(positions, channels, generator=generator, dtype=torch.float64)
    gain = torch.randn(channels, generator=generator, dtype=torch.float64)
    head = torch.randn(channels, vocabulary, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocabulary, (positions,), generator=generator)
    ours, theirs = (way(x, gain, head, targets) for way in (by_hand, by_autograd))
    assert ours[0].item() == pytest.approx(theirs[0].item())
    for name, gradient in ours[1].items():
        assert torch.allclose(gradient, theirs[1][name]), name


def test_a_logarithm_of_nothing_is_refused():
    with pytest.raises(ValueError):
        Value(0.0).log()
    assert Value(math.e).log().data == pytest.approx(1.0)
