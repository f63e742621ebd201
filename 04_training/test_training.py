"""Training: the loss is right, the step is PyTorch's, the loop learns and can be resumed."""

import inspect
import json
import math
import os
import pickle
from functools import partial

import numpy as np
import overfit
import pytest
import torch
from torch.nn import functional as F

from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.batches import NOT_COUNTED, Batches, shifted
from shared.training.budget import Budget, parse_budget
from shared.training.checkpoint import STATE_FILE, load_model, restore_state, save_checkpoint
from shared.training.checkpoint_folder import SUMS_FILE, find_checkpoint, list_checkpoints
from shared.training.loop import TrainingDiverged, gradient, train
from shared.training.loss import bits_per_byte, cross_entropy, evaluate
from shared.training.optimizer import build_adamw, build_muon, scale_learning_rates
from shared.training.precision import Precision
from shared.training.sampler import continue_text
from shared.training.schedule import warmup_cosine, warmup_stable_decay
from shared.training.strategy import OneProcess

CPU = torch.device("cpu")
TEXT = (b"abcdefgh" * 40 + b"01234567" * 40) * 2


def make_parts(config, steps=20, accumulation=1, batch_size=4, optimizer="adamw", seed=0):
    """Everything `train` takes, and what a checkpoint keeps of it."""
    torch.manual_seed(seed)
    model = Transformer(config)
    build = partial(build_adamw, learning_rate=1e-2, weight_decay=0.1)
    if optimizer == "muon":
        build = partial(build_muon, learning_rate=1e-2, muon_learning_rate=0.02, weight_decay=0.1)
    ids = np.frombuffer(TEXT, dtype=np.uint8)
    parts = {
        "optimizers": build(model),
        "batches": Batches([ids], [1.0], batch_size, 16, seed=seed),
        "budget": Budget(steps=steps),
        "precision": Precision(CPU),
    }
    return model, parts, OneProcess(CPU, accumulation)


def run(model, parts, strategy, until=None):
    """Trains to the end of the budget, or for `until` steps; returns the losses."""
    losses = []
    records = train(
        model,
        parts["optimizers"],
        parts["batches"],
        parts["budget"],
        warmup_cosine,
        parts["precision"],
        strategy,
    )
    for record in records:
        losses.append(record.loss)
        if len(losses) == until:
            break
    return losses


# --- the loss


def test_cross_entropy_by_hand():
    logits = torch.tensor([[[math.log(3.0), 0.0]]])  # shares 3/4 and 1/4
    assert cross_entropy(logits, torch.tensor([[0]])).item() == pytest.approx(math.log(4 / 3))
    assert cross_entropy(logits, torch.tensor([[1]])).item() == pytest.approx(math.log(4))


def test_cross_entropy_equals_pytorchs_forward_and_gradients():
    logits = (10 * torch.randn(3, 5, 256)).requires_grad_()
    theirs = logits.detach().clone().requires_grad_()
    targets = torch.randint(256, (3, 5))
    ours = cross_entropy(logits, targets)
    reference = F.cross_entropy(theirs.flatten(0, 1), targets.flatten())
    ours.backward()
    reference.backward()
    assert ours.item() == pytest.approx(reference.item(), rel=1e-6)
    assert torch.allclose(logits.grad, theirs.grad, atol=1e-8)


def test_targets_that_do_not_count_leave_no_trace_and_each_window_has_one_say():
    logits = torch.randn(3, 4, 5, requires_grad=True)
    targets = torch.randint(5, (3, 4))
    targets[0, 1:], targets[1, :2], targets[2, :] = NOT_COUNTED, NOT_COUNTED, NOT_COUNTED
    windows = [F.cross_entropy(logits[row], targets[row]) for row in (0, 1)]  # (T, V), (T,)
    loss = cross_entropy(logits, targets)
    torch.testing.assert_close(loss, sum(windows) / 3)  # nothing counts in the third
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(gradient.any(dim=-1), targets != NOT_COUNTED)


def test_huge_logits_do_not_overflow():
    logits = torch.tensor([[[1e4, -1e4]]])
    assert cross_entropy(logits, torch.tensor([[1]])).item() == pytest.approx(2e4)


def test_bits_per_byte_of_knowing_nothing_is_eight():
    assert bits_per_byte(math.log(256)) == pytest.approx(8)
    assert bits_per_byte(math.log(256), bytes_per_token=4) == pytest.approx(2)


def test_evaluation_gives_the_loss_of_every_token_once_and_in_order(tiny_model):
    ids = torch.randint(256, (3, 9))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    expected = F.cross_entropy(tiny_model(inputs).transpose(1, 2), targets, reduction="none")
    uneven = [(inputs[:2], targets[:2]), (inputs[2:], targets[2:])]
    torch.testing.assert_close(evaluate(tiny_model, uneven, CPU), expected.detach().flatten())
    assert evaluate(tiny_model, [], CPU).shape == (0,)


# --- optimizer and schedule


def test_one_adamw_step_by_hand(tiny_config):
    """At the first step both moments equal the gradient, so each weight moves by the rate."""
    model = Transformer(tiny_config)
    (adamw,) = build_adamw(model, learning_rate=0.1, weight_decay=0.5)
    matrix, gain = model.head.weight, model.final_norm.weight
    before = matrix.detach().clone(), gain.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    adamw.step()
    assert torch.allclose(matrix, before[0] * (1 - 0.1 * 0.5) - 0.1, atol=1e-5)
    assert torch.allclose(gain, before[1] - 0.1, atol=1e-5)  # gains do not decay


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_has_exactly_one_optimizer(name, tiny_config):
    model, parts, _ = make_parts(tiny_config, optimizer=name)
    groups = [group for optimizer in parts["optimizers"] for group in optimizer.param_groups]
    owned = [id(p) for group in groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())
    for group in groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] > 0) == (parameter.dim() == 2)


def test_the_schedule_multiplies_each_groups_own_rate(tiny_config):
    _, parts, _ = make_parts(tiny_config, optimizer="muon")
    muon, adamw = parts["optimizers"]
    scale_learning_rates([muon, adamw], 0.5)
    assert muon.param_groups[0]["lr"] == pytest.approx(0.01)
    assert adamw.param_groups[0]["lr"] == pytest.approx(0.005)
    scale_learning_rates([muon, adamw], 1.0)
    assert muon.param_groups[0]["lr"] == pytest.approx(0.02)  # factors do not pile up


def test_cosine_by_hand():
    factor = partial(warmup_cosine, warmup_share=0.2, final=0.1)
    assert factor(0.0) < 0.01
    assert factor(0.1) == pytest.approx(0.5, abs=0.01)
    assert factor(0.2) == pytest.approx(1.0)
    assert factor(0.6) == pytest.approx(0.55)  # half way down from 1 to 0.1
    assert factor(1.0) == pytest.approx(0.1)


def test_stable_decay_by_hand():
    factor = partial(warmup_stable_decay, warmup_share=0.1, decay_share=0.4)
    assert factor(0.3) == factor(0.6) == 1.0
    assert factor(0.8) == pytest.approx(0.5)
    assert factor(1.0) == pytest.approx(0.0)


@pytest.mark.parametrize("schedule", [warmup_cosine, warmup_stable_decay])
def test_schedules_rise_once_and_fall_once(schedule):
    factors = [schedule(step / 1000) for step in range(1001)]
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert all(0 <= factor <= 1 for factor in factors)


# --- the loop


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_loop_learns(optimizer, tiny_config):
    model, parts, strategy = make_parts(tiny_config, steps=30, optimizer=optimizer)
    losses = run(model, parts, strategy)
    assert losses[0] == pytest.approx(math.log(256), rel=0.02)
    assert losses[-1] < 2.0  # ln 16 = 2.8 knows which bytes there are, but no order


def test_accumulated_micro_batches_equal_one_large_batch(tiny_config):
    def gradients(batch_size, accumulation):
        model, parts, _ = make_parts(tiny_config, batch_size=8)
        inputs, targets = next(parts["batches"])
        size = 8 // accumulation
        pieces = iter(zip(inputs.split(size), targets.split(size), strict=True))
        strategy = OneProcess(CPU, accumulation)
        loss, tokens = gradient(model, pieces, parts["precision"], strategy)
        assert tokens == 8 * 16
        return loss, [parameter.grad for parameter in model.parameters()]

    (one_loss, one), (many_loss, many) = gradients(8, 1), gradients(2, 4)
    assert many_loss == pytest.approx(one_loss, rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one, many, strict=True))


def test_gradients_are_clipped_to_the_norm(tiny_config):
    model, parts, strategy = make_parts(tiny_config)
    gradient(model, parts["batches"], parts["precision"], strategy)
    before = parts["precision"].clip(parts["optimizers"], model.parameters(), 0.01)
    after = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert before > 0.01 and after.item() == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_no_number_stops_with_the_step_and_leaves_the_weights(tiny_config):
    model, parts, strategy = make_parts(tiny_config)
    run(model, parts, strategy, until=3)
    with torch.no_grad():
        model.head.weight[0, 0] = math.nan
    before = model.embedding.weight.detach().clone()
    with pytest.raises(TrainingDiverged, match="step 4: loss nan"):
        run(model, parts, strategy)
    assert torch.equal(model.embedding.weight, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_the_same_loss_roughly_and_keeps_float32_weights(
    dtype, tiny_config
):
    """The third gradient is long, and float16 overflows there: that step does not move."""
    model, parts, strategy = make_parts(tiny_config)
    parts["precision"] = Precision(CPU, dtype)
    losses = run(model, parts, strategy, until=3)
    other_model, other_parts, _ = make_parts(tiny_config)
    exact = run(other_model, other_parts, strategy, until=3)
    assert losses == pytest.approx(exact, rel=0.02) and losses != exact
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_an_overflow_in_one_optimizers_gradients_moves_no_weight_at_all(tiny_config):
    """With float16, clipping by a norm that is no number spoils the other gradients too."""
    model, parts, strategy = make_parts(tiny_config, optimizer="muon")
    precision = Precision(CPU, torch.float16)
    gradient(model, parts["batches"], precision, strategy)
    model.blocks[0].attention.query.weight.grad[0, 0] = math.nan
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    norm = precision.clip(parts["optimizers"], model.parameters(), 1.0).item()
    scale = precision.scaler.get_scale()
    precision.step(parts["optimizers"], move=math.isfinite(norm))
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert precision.scaler.get_scale() < scale
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_step_of_a_budget_in_steps_is_spent_at_rate_zero(tiny_config):
    """The rate would be zero at the end of the run, and the last step begins before it."""
    for steps in (1, 4):
        model, parts, strategy = make_parts(tiny_config, steps=steps)
        records = train(
            model,
            parts["optimizers"],
            parts["batches"],
            parts["budget"],
            warmup_stable_decay,
            parts["precision"],
            strategy,
        )
        before = None
        for record in records:
            weight = model.head.weight.detach().clone()
            assert record.lr_factor > 0 and (before is None or not torch.equal(weight, before))
            before = weight
        assert record.step == steps


# --- budgets


def test_a_budget_of_steps():
    budget = Budget(steps=3)
    assert list(budget.remaining_steps()) == [1, 2, 3]
    assert budget.progress == 1 and list(budget.remaining_steps()) == []


def test_a_budget_of_seconds_ends_before_it_is_overdrawn_even_when_steps_slow_down():
    now = [0.0]
    budget = Budget(seconds=100, clock=lambda: now[0])
    for step in budget.remaining_steps():
        now[0] += 3.0 if step < 10 else 6.0
    assert 88 <= budget.elapsed <= 103
    assert budget.progress > 0.88


@pytest.mark.parametrize("slowdown", [1, 2, 4])
def test_a_budget_holds_with_evaluations_and_saving_when_the_machine_slows_midway(slowdown):
    """Ends within 2% or two steps and an evaluation, with the learning rate landed."""
    now, steps = [0.0], 0
    budget = Budget(seconds=1000, clock=lambda: now[0])

    def speed() -> float:
        return slowdown if now[0] > 400 else 1

    for _ in budget.remaining_steps():
        steps += 1
        factor = warmup_stable_decay(budget.progress)
        now[0] += 2.0 * speed()
        if steps % 60 == 0:
            now[0] += 5.0 * speed()  # validates on a fifth of the windows and saves
            budget.reserve = 20.0 * speed()
    now[0] += 20.0 * speed()  # validates on all of them
    tolerance = max(0.02 * 1000, 2 * 2.0 * slowdown + 20.0 * slowdown)
    assert 1000 - tolerance <= now[0] <= 1000 + tolerance
    assert factor < 0.03


def test_a_reserve_ends_the_steps_earlier_but_takes_at_most_a_fifth():
    now = [0.0]
    budget = Budget(seconds=100, clock=lambda: now[0])
    budget.reserve = 10
    for _ in budget.remaining_steps():
        now[0] += 1.0
    assert now[0] == 90
    budget.reserve = 1000
    assert budget.progress == 1 and budget._seconds_for_steps == 80


def test_seconds_of_earlier_sittings_count():
    now = [0.0]
    budget = Budget(seconds=10, clock=lambda: now[0])
    budget.load_state_dict({"step": 40, "elapsed": 8.0})
    steps = []
    for step in budget.remaining_steps():
        steps.append(step)
        now[0] += 0.5
    assert steps == [41, 42, 43, 44]


def test_the_time_left_is_never_negative():
    ticks = iter(range(1000))
    budget = Budget(steps=2, clock=lambda: float(next(ticks)))
    assert budget.seconds_left == float("inf")
    for _ in budget.remaining_steps():
        assert budget.seconds_left >= 0
    assert budget.seconds_left == 0


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), ("6h", 21600)])
def test_budgets_in_seconds_are_read(text, seconds):
    assert parse_budget(text).total_seconds == seconds


def test_budgets_in_steps_are_read():
    assert parse_budget("2000 steps").total_steps == 2000


@pytest.mark.parametrize("text", ["", "6", "6 days", "-5s", "0s", "h", "1e3s"])
def test_other_budgets_are_refused(text):
    with pytest.raises(UserError, match="expected such as '2000 steps'"):
        parse_budget(text)


# --- checkpoints and resuming


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_n_steps_and_resume_and_n_steps_equal_2n_steps_bit_for_bit(
    optimizer, tiny_config, tokenizer, tmp_path
):
    model, parts, strategy = make_parts(tiny_config, optimizer=optimizer)
    whole = run(model, parts, strategy)

    half, half_parts, _ = make_parts(tiny_config, optimizer=optimizer)
    losses = run(half, half_parts, strategy, until=10)
    place = save_checkpoint(tmp_path, 10, half, tokenizer, {}, half_parts)

    torch.manual_seed(999)
    resumed, resumed_parts, _ = make_parts(tiny_config, optimizer=optimizer, seed=5)
    restore_state(place, resumed_parts)
    resumed.load_state_dict(load_model(place)[0].state_dict())
    losses += run(resumed, resumed_parts, strategy)

    assert losses == whole
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def save_one(tiny_config, tokenizer, folder, step=5, keep=2):
    model, parts, strategy = make_parts(tiny_config)
    run(model, parts, strategy, until=2)
    return save_checkpoint(folder, step, model, tokenizer, {"budget": "x"}, parts, keep), model


def test_a_checkpoint_holds_what_it_says_and_nothing_half_written(tiny_config, tokenizer, tmp_path):
    place, model = save_one(tiny_config, tokenizer, tmp_path)
    assert {file.name for file in place.iterdir()} == {
        "model.safetensors",
        "model.json",
        "tokenizer.json",
        "config.json",
        "training_state.pt",
        "checksums.json",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000005"]
    again, its_tokenizer = load_model(tmp_path / "step-0000005")
    assert torch.equal(again.head.weight, model.head.weight) and not again.training
    assert its_tokenizer.vocab_size == 256
    assert json.loads((place / "config.json").read_text()) == {"budget": "x"}


def test_a_failed_save_leaves_the_earlier_checkpoint_alone(
    tiny_config, tokenizer, tmp_path, monkeypatch
):
    place, _ = save_one(tiny_config, tokenizer, tmp_path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_one(tiny_config, tokenizer, tmp_path, step=6)
    assert list(tmp_path.iterdir()) == [place]
    assert load_model(place)[0].config == tiny_config


def test_only_the_newest_checkpoints_are_kept(tiny_config, tokenizer, tmp_path):
    for step in (1, 9_999_999, 10_000_000):  # one digit more comes first by name
        save_one(tiny_config, tokenizer, tmp_path / "checkpoints", step, keep=2)
    kept = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert kept == ["step-9999999", "step-10000000"]
    assert find_checkpoint(tmp_path).name == "step-10000000"
    assert find_checkpoint(tmp_path / "checkpoints" / "step-9999999").name == "step-9999999"


def test_saving_a_step_again_never_takes_its_whole_checkpoint_away(
    tiny_config, tokenizer, tmp_path, monkeypatch
):
    """A kill while one folder takes another's place would leave neither, and `keep` is 1."""
    place, _ = save_one(tiny_config, tokenizer, tmp_path, keep=1)

    def killed(*arguments):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(type(place), "rename", killed)
        save_one(tiny_config, tokenizer, tmp_path, keep=1)
    assert load_model(place)[0].config == tiny_config
    (place / "model.json").write_text("{}")  # a broken one is replaced
    save_one(tiny_config, tokenizer, tmp_path, keep=1)
    assert load_model(place)[0].config == tiny_config


@pytest.mark.parametrize("file", ["model.safetensors", "training_state.pt", "model.json"])
def test_a_changed_byte_is_refused_by_name(file, tiny_config, tokenizer, tmp_path):
    place, _ = save_one(tiny_config, tokenizer, tmp_path)
    data = bytearray((place / file).read_bytes())
    data[len(data) // 2] ^= 1
    (place / file).write_bytes(bytes(data))
    with pytest.raises(UserError, match=f"broken: {file} changed"):
        load_model(place)


def test_a_folder_without_a_checkpoint_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"train one first, with full_run\.py"):
        find_checkpoint(tmp_path)


def test_no_pickle_is_ever_trusted(tiny_config, tokenizer, tmp_path):
    """A training state that would run code on loading is refused, even with a fitting checksum."""

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    place, _ = save_one(tiny_config, tokenizer, tmp_path / "c")
    (place / STATE_FILE).write_bytes(pickle.dumps(Evil(), protocol=2))
    (place / SUMS_FILE).unlink()
    _, parts, _ = make_parts(tiny_config)
    with pytest.raises(UserError, match="cannot resume from"):
        restore_state(place, parts)
    assert not (tmp_path / "owned").exists()


# --- samples and the script


def test_continue_text_is_greedy_at_temperature_zero_and_seeded_above(tiny_model):
    greedy = continue_text(tiny_model, [1, 2, 3], 8)
    assert greedy[:3] == [1, 2, 3] and len(greedy) == 11
    with torch.no_grad():
        best = int(tiny_model(torch.tensor([[1, 2, 3]]))[0, -1].argmax())
    assert greedy[3] == best
    warm = partial(continue_text, tiny_model, [1, 2, 3], 12, temperature=1.0)
    assert warm(seed=1) == warm(seed=1) != warm(seed=2)


def test_continue_text_goes_on_past_the_context(tiny_model):
    assert len(continue_text(tiny_model, [5], 40)) == 41


def test_one_sample_is_learned_by_heart(capsys):
    """Below 0.01 nats, and said back byte for byte."""
    overfit.main()
    shown = capsys.readouterr().out
    assert "below 0.01 nats: True; reproduced exactly: True" in shown


def test_the_loop_written_out_gives_the_losses_of_the_promoted_one():
    _, losses = overfit.overfit(max_steps=12)
    torch.manual_seed(0)
    ids = torch.tensor([list(overfit.SAMPLE.encode())])
    config = ModelConfig(context_length=ids.shape[1], n_layers=2, d_model=64, n_heads=4)
    model = Transformer(config)
    optimizers = build_adamw(model, overfit.RATE, weight_decay=0.0)
    batches, budget = iter(lambda: shifted(ids), None), Budget(steps=12)
    records = train(
        model, optimizers, batches, budget, warmup_cosine, Precision(CPU), OneProcess(CPU)
    )
    assert [record.loss for record in records] == pytest.approx(losses, rel=1e-6)


def test_the_loop_fits_one_screen():
    assert len(inspect.getsource(train).splitlines()) <= 40
