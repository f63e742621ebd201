"""Optimizers: the plain steps are PyTorch's, and do what the notes say of them."""

import math
from copy import deepcopy
from functools import partial

import optimizers_by_hand
import pytest
import torch
from optimizers_by_hand import (
    adamw_step,
    matrix_with,
    momentum_step,
    muon_step,
    newton_schulz,
    race,
    sgd_step,
)
from torch import Tensor
from torch.optim import SGD, AdamW, Muon
from training_figures import factors_of_a_run

from shared.model.transformer import Transformer
from shared.training.muon import StackedMuon
from shared.training.optimizer import build_adamw, build_muon, scale_learning_rates

SHAPES = [(24, 8), (8, 24), (16, 16)]  # tall, wide, square
BAND = (0.68, 1.21)  # where singular values of at least 0.0015 of the length arrive
plain_muon = partial(muon_step, dtype=torch.float32)


@pytest.fixture
def muon_in_float32(monkeypatch):
    """Lets PyTorch's Newton-Schulz round as little as ours, so that 1e-5 can be asked."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())


def side_by_side(step, make_optimizer, shape, steps) -> tuple[Tensor, Tensor, Tensor]:
    """The start, our weight and PyTorch's after the same gradients, the rate falling."""
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs, memory = start.clone(), torch.nn.Parameter(start.clone()), {}
    optimizer = make_optimizer([theirs])
    for done in range(steps):
        rate = 0.1 * (1 - done / steps)
        gradient = torch.randn(shape) * 10.0 ** (done % 5 - 2)
        theirs.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        step(ours, gradient, memory, rate)
    return start, ours, theirs.detach()


# --- equal to PyTorch


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_plain_adamw_is_pytorchs_over_twenty_steps(weight_decay, fused):
    make = partial(AdamW, betas=(0.9, 0.95), weight_decay=weight_decay, fused=fused)
    step = partial(adamw_step, weight_decay=weight_decay)
    start, ours, theirs = side_by_side(step, make, (6, 4), 20)
    assert torch.allclose(ours, theirs, atol=1e-6, rtol=0)
    assert (ours - start).abs().min() > 1e-3


def test_plain_descent_and_momentum_are_pytorchs():
    for step, keep in ((sgd_step, 0.0), (momentum_step, 0.9)):
        _, ours, theirs = side_by_side(step, partial(SGD, lr=0.1, momentum=keep), (6, 4), 20)
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_muon_is_pytorchs_for_tall_wide_and_square(shape, muon_in_float32):
    make = partial(Muon, weight_decay=0.3, momentum=0.95)
    step = partial(plain_muon, weight_decay=0.3)
    _, ours, theirs = side_by_side(step, make, shape, 10)
    assert torch.allclose(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_muon_is_pytorchs_in_bfloat16_up_to_its_rounding(shape):
    make = partial(Muon, weight_decay=0.3, momentum=0.95)
    start, ours, theirs = side_by_side(partial(muon_step, weight_decay=0.3), make, shape, 10)
    assert (ours - theirs).norm() < 0.02 * (theirs - start).norm()


def test_stacked_muon_is_pytorchs_for_matrices_of_many_shapes(muon_in_float32):
    """Tall and wide ones of the same sides share a stack, one has no gradient, and one waits."""
    torch.manual_seed(0)
    shapes = [(24, 8), (8, 24), (16, 16), (24, 8), (16, 16), (5, 7)]
    start = [torch.randn(shape) for shape in shapes]
    sides = [[torch.nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2)]
    theirs = Muon(sides[0], lr=0.1, weight_decay=0.3)
    ours = StackedMuon(sides[1], lr=0.1, weight_decay=0.3, products=torch.float32)
    for step in range(6):
        gradients = [torch.randn(shape) for shape in shapes]
        for side in sides:
            for place, (matrix, gradient) in enumerate(zip(side, gradients, strict=True)):
                absent = place == 3 or (place == 4 and step < 2)
                matrix.grad = None if absent else gradient.clone()
        if step == 3:  # a checkpoint of one is a checkpoint of the other
            ours.load_state_dict(deepcopy(theirs.state_dict()))
        theirs.step()
        ours.step()
    for before, one, other in zip(start, *sides, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
        assert torch.equal(before, other) == (before is start[3])


def test_stacked_muon_without_gradients_moves_nothing_and_takes_no_option_that_it_would_ignore():
    matrix = torch.nn.Parameter(torch.ones(2, 3))
    StackedMuon([matrix]).step()
    assert torch.equal(matrix, torch.ones(2, 3))
    with pytest.raises(TypeError, match="nesterov"):
        StackedMuon([matrix], nesterov=False)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_promoted_optimizers_take_the_plain_steps(name, tiny_config, muon_in_float32):
    """On a whole model: who gets Muon, who decays, and with which rate."""
    torch.manual_seed(0)
    model = Transformer(tiny_config)
    start = {key: weight.clone() for key, weight in model.state_dict().items()}
    muon = name == "muon"
    rates, exact = (0.01, 0.05, 0.3), torch.float32
    optimizers = build_muon(model, *rates, exact) if muon else build_adamw(model, 0.01, 0.3)
    scale_learning_rates(optimizers, 0.5)
    memories = {key: {} for key in start}
    for _ in range(3):
        for key, parameter in model.named_parameters():
            parameter.grad = torch.randn_like(parameter)
            decay = 0.3 if parameter.dim() == 2 else 0.0
            hidden = muon and parameter.dim() == 2 and key.startswith("blocks.")
            step, rate = (plain_muon, 0.025) if hidden else (adamw_step, 0.005)
            step(start[key], parameter.grad, memories[key], rate, decay)
        for optimizer in optimizers:
            optimizer.step()
    for key, parameter in model.named_parameters():
        assert torch.allclose(start[key], parameter, atol=1e-5), key


# --- by hand, and what the notes promise


def test_two_adamw_steps_by_hand():
    weight, memory = torch.tensor([1.0]), {}
    adamw_step(weight, torch.tensor([3.0]), memory, rate=0.1)
    assert weight.item() == pytest.approx(1 * 0.99 - 0.1)
    adamw_step(weight, torch.tensor([-1.0]), memory, rate=0.1)
    ratio = (0.17 / 0.19) / math.sqrt(0.4775 / 0.0975)
    assert weight.item() == pytest.approx(0.89 * 0.99 - 0.1 * ratio)


@pytest.mark.parametrize("size", [0.1, 1e6])
@pytest.mark.parametrize("step", [adamw_step, plain_muon])
def test_the_gradients_size_does_not_matter_to_the_first_step(step, size):
    torch.manual_seed(0)
    gradient, moved = torch.randn(6, 4), []
    for scale in (1.0, size):
        weight = torch.zeros(6, 4)
        step(weight, scale * gradient, {}, 0.1)
        moved.append(weight)
    assert torch.allclose(*moved, atol=1e-5) and moved[0].norm() > 0.1


def test_one_newton_schulz_step_by_hand():
    """diag(3, 4) has length 5; 0.6 and 0.8 then go through 3.4445 s - 4.775 s^3 + 2.0315 s^5."""
    once = newton_schulz(torch.diag(torch.tensor([3.0, 4.0])), steps=1, dtype=torch.float32)
    assert torch.allclose(once, torch.diag(torch.tensor([1.1933, 0.9765])), atol=1e-4)


@pytest.mark.parametrize("rows", [16, 64])
def test_five_steps_bring_uneven_singular_values_into_the_band(rows):
    strengths = torch.logspace(0, -2.6, 16)  # the smallest is 400 times smaller
    matrix = matrix_with(strengths, rows, torch.Generator().manual_seed(0))
    for x in (matrix, 1e4 * matrix.T):
        values = torch.linalg.svdvals(newton_schulz(x, dtype=torch.float32))
        assert BAND[0] < values.min() and values.max() < BAND[1]
        rough = torch.linalg.svdvals(newton_schulz(x).float())
        assert BAND[0] - 0.05 < rough.min() and rough.max() < BAND[1] + 0.05
    four = torch.linalg.svdvals(newton_schulz(matrix, steps=4, dtype=torch.float32))
    assert four.min() < BAND[0]


def test_the_band_holds_for_every_singular_value_in_it():
    a, b, c = optimizers_by_hand.COEFFICIENTS
    values = torch.logspace(math.log10(0.0015), 0, 100_001, dtype=torch.float64)
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    assert BAND[0] - 0.001 < values.min() and values.max() < BAND[1]


def test_a_matrix_of_zeros_stays_zero_and_a_missing_direction_stays_missing():
    assert torch.equal(newton_schulz(torch.zeros(3, 4)), torch.zeros(3, 4).bfloat16())
    single = torch.outer(torch.tensor([1.0, 2.0, 2.0]), torch.tensor([3.0, 4.0]))
    values = torch.linalg.svdvals(newton_schulz(single, dtype=torch.float32))
    assert values[0] > BAND[0] and values[1] < 1e-3


def test_muon_does_not_care_how_the_bowl_is_turned_and_adamw_does(monkeypatch):
    monkeypatch.setattr(optimizers_by_hand, "RATES", optimizers_by_hand.RATES[::2])
    muon, adamw = (optimizers_by_hand.OPTIMIZERS[name] for name in ("muon", "adamw"))
    assert 0.2 < race(muon, True, 100) / race(muon, False, 100) < 5
    assert race(adamw, True, 100) > 20 * race(adamw, False, 100)


# --- the script and the figure


def test_the_script_tells_all_of_it(monkeypatch, capsys):
    monkeypatch.setattr(optimizers_by_hand, "RUNS", (10, 20))  # ten lengths take seconds
    optimizers_by_hand.main()
    shown = capsys.readouterr().out
    for line in (
        "-1.0    0.170     0.48  |  0.89             2.21   0.404  | 0.8407",
        "after step 5        1.096   0.925   0.753   0.685",
        "muon      2,048 numbers: mean (64, 32)",
        "A RACE DOWN A BOWL",
        "over 20",
    ):
        assert line in shown


@pytest.mark.parametrize("slow_down", [1.0, 3.0])
def test_a_run_counted_in_seconds_ends_near_rate_zero_at_any_pace(slow_down):
    factors = factors_of_a_run(seconds=100, pace=0.1, slow_down=slow_down)
    assert len(factors) == pytest.approx(1000 if slow_down == 1 else 667, abs=3)
    assert max(factors) == 1.0 and factors[-1] < 0.02
