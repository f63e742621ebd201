"""Live progress: what counts towards the rate, what is shown, and that it fits."""

import io
import math
import mmap
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from shared.model.counting import training_flops
from shared.training import live_progress as live
from shared.training import run_log
from shared.training.budget import Budget
from shared.training.loop import Record


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(clock, tiny_config) -> SimpleNamespace:
    """The parts of a run that its progress is read from, 1000 steps long."""
    return SimpleNamespace(
        budget=Budget(steps=1000, clock=clock),
        model=SimpleNamespace(config=tiny_config),
        bytes_per_token=1.0,
        device=torch.device("cpu"),
        precision=SimpleNamespace(dtype=torch.float32),
    )


def steps(run, clock, seconds=2.0, tokens=4096, losses=(2.0,) * 40, skipped=()):
    """Records of steps that take `seconds` each."""
    for step in run.budget.remaining_steps():
        clock.now += seconds
        loss = losses[min(step, len(losses)) - 1]
        yield Record(step, loss, 1.0, 1.0, tokens, run.budget.elapsed, step in skipped)


def follow(run, clock, number, records=None, **options):
    """Follows some steps; returns the progress after them and all that it drew."""
    drawn = []
    progress = live.LiveProgress(run, draw=lambda *a: drawn.append(a), clock=clock, **options)
    for record in progress.watch(records or steps(run, clock)):
        if record.step == number:
            break
    return progress, drawn


def test_pauses_between_steps_do_not_lower_the_rate(run, clock):
    progress = live.LiveProgress(run, None, lambda *a: None, clock)
    for record in progress.watch(steps(run, clock)):
        clock.now += 500  # an evaluation
        if record.step == 4:
            break
    assert progress.figures["tokens_per_second"] == pytest.approx(2048)


def test_the_rate_is_that_of_the_last_twenty_seconds():
    pace = live.Pace(window=20)
    pace.add(100, 1000.0)
    assert pace.rate == pytest.approx(0.1)
    for _ in range(10):
        pace.add(100, 2.0)
    assert pace.rate == pytest.approx(50)
    pace.add(100, 60.0)  # longer than the window: it alone counts
    assert pace.rate == pytest.approx(100 / 60)


def test_mfu_is_the_rate_times_the_work_of_a_token_over_the_peak(run, clock):
    work = training_flops(run.model.config)
    progress, _ = follow(run, clock, 3, peak_flops=4 * 2048 * work)
    assert progress.figures["mfu"] == pytest.approx(0.25)
    progress, drawn = follow(run, clock, 6, peak_flops=None)
    assert "mfu" not in progress.figures and "MFU" not in drawn[-1][2]


def test_skipped_steps_are_counted_and_leave_the_loss_alone(run, clock):
    losses = (2.0, 2.0, 900.0, 2.0)
    records = steps(run, clock, losses=losses, skipped={3})
    _, drawn = follow(run, clock, 4, records, peak_flops=None)
    assert "skipped" not in drawn[1][1] and "1 skipped" in drawn[3][1]
    assert drawn[3][2].startswith("loss 2.000 · 2.89 bits/byte")


def test_the_loss_shown_is_smooth_and_drawn_alike_by_the_curves(run, clock):
    losses = [3.0, 1.0, 5.0, 4.0]
    _, drawn = follow(run, clock, 4, steps(run, clock, losses=losses), peak_flops=None)
    expected = run_log._smoothed(list(enumerate(losses)))[-1][1]
    assert drawn[-1][2].startswith(f"loss {expected:.3f}")
    assert expected == pytest.approx(sum(losses) / 4)


def test_both_lines_of_the_bar_fit_into_80_columns(run, clock):
    """At the widest that a figure gets: a big GPU, a long run, a diverged loss."""
    run.budget = Budget(steps=10_000_000, clock=clock)
    run.budget.step, run.bytes_per_token = 1_234_566, 0.5
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, markup=False)
    with live.live_progress(run, console, 1e15, clock=clock) as progress:
        for record in progress.watch(steps(run, clock, tokens=1_999_800, losses=(12.345,))):
            progress.figures["memory"] = 139 * live.GIB
            shown = progress._where(record), progress._how()
            break
    assert shown[0] == "12% · step 1234567 · 0:00:14 left"
    assert shown[1].startswith("loss 12.345 · 35.62 bits/byte · 999.9k tokens/s · MFU ")
    assert shown[1].endswith("139.0 GiB") and len(shown[1]) <= 80
    plain = live.Text.from_ansi(file.getvalue()).plain
    assert shown[0] in plain and "loss 12.345 · 35.62 bits/byte" in plain
    assert "…" not in plain


def test_without_a_terminal_a_plain_line_every_ten_seconds(run, clock):
    file = io.StringIO()
    with live.live_progress(run, Console(file=file), 1e12, every=10, clock=clock) as progress:
        for record in progress.watch(steps(run, clock)):
            if record.step == 8:
                break
    lines = file.getvalue().splitlines()
    assert [line.split(" · ")[1] for line in lines] == ["step 1", "step 6", "step 8"]
    assert "\x1b" not in file.getvalue() and "\r" not in file.getvalue()
    for part in ("1% · step 8", "loss 2.000", "2.89 bits/byte", "2.0k tokens/s", "MFU", " GiB"):
        assert part in lines[-1]
    assert "0:33:04 left" in lines[-1]  # 992 steps of 2 s


def test_a_crash_leaves_the_last_line(run, clock):
    file = io.StringIO()
    with pytest.raises(RuntimeError), live.live_progress(run, Console(file=file), clock=clock) as p:
        for record in p.watch(steps(run, clock)):
            if record.step == 3:
                raise RuntimeError
    assert file.getvalue().splitlines()[-1].startswith("0% · step 3")


def test_measuring_the_peak_leaves_no_trace_in_later_random_numbers(run):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert live.measured_peak(run) > 1e6
    assert torch.equal(torch.rand(3), expected)


def test_a_dtype_that_the_device_cannot_multiply_has_no_peak(run):
    run.precision.dtype = torch.bool
    assert live.measured_peak(run) is None


def test_memory_is_what_the_process_holds_now(run):
    before, size = live.held_memory(run.device), 2**28
    with mmap.mmap(-1, size) as fresh:  # a tensor might take memory that was kept, see device.py
        for page in range(0, size, mmap.PAGESIZE):
            fresh[page] = 1
        assert live.held_memory(run.device) - before > 0.9 * size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (3725.9, "1:02:05"), (360_000, "100:00:00"), (math.inf, "?")],
)
def test_time_left_in_words(seconds, text):
    assert live.clock_text(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (26_130, "26.1k"), (1.25e6, "1.2M")]
)
def test_rates_in_words(number, text):
    assert live.short(number) == text


# --- the log and its curves


def test_the_curves_show_skipped_steps_rates_and_both_losses(tmp_path, monkeypatch):
    for step in range(1, 31):
        entry = {"step": step, "bits_per_byte": 8 / step, "lr_factor": 1 - step / 30}
        entry |= {"tokens_per_second": 2e4, "skipped": step == 7}
        run_log.append_metrics(tmp_path, entry | ({"bits_per_byte": 50.0} if step == 7 else {}))
    run_log.append_metrics(tmp_path, {"step": 30, "validation": {"text": 1.0}})
    figure = drawn(tmp_path, monkeypatch)
    losses, learning_rate, rates = figure.axes
    lines = {line.get_label(): line for line in losses.lines}
    assert list(lines["skipped steps"].get_xdata()) == [7]
    assert list(lines["skipped steps"].get_ydata()) == [run_log.HIGHEST]
    assert len(lines["training"].get_xdata()) == 29 and max(lines["training"].get_ydata()) <= 8
    assert list(lines["validation text"].get_ydata()) == [1.0]
    assert learning_rate.lines[0].get_ydata()[-1] == 0
    assert rates.get_ylabel() == "tokens/s" and rates.lines[0].get_ydata()[0] == 2e4


def test_an_old_log_without_the_newer_fields_is_still_drawn(tmp_path, monkeypatch):
    run_log.append_metrics(tmp_path, {"step": 1, "loss": 5.0, "bits_per_byte": 7.2})
    figure = drawn(tmp_path, monkeypatch)
    assert len(figure.axes) == 2
    assert "skipped steps" not in [line.get_label() for line in figure.axes[0].lines]


def drawn(folder, monkeypatch):
    """Draws the curves; returns the figure as it was saved."""
    from matplotlib import pyplot

    figures = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    path = run_log.draw_curves(folder, "a run")
    assert path.read_bytes().startswith(b"\x89PNG")
    monkeypatch.undo()
    pyplot.close(figures[0])
    return figures[0]
