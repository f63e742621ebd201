"""Scaling: known laws are found again, best sizes are the best ones, too little is refused."""

import json
import math
from pathlib import Path

import compare
import numpy as np
import power_law
import pytest
import scaling
from comparison_jobs import read_config
from power_law import Point, PowerLaw, fit, measured_speed

from shared.errors import UserError

KNOWN = PowerLaw(floor=1.2, a=60.0, alpha=0.34, b=400.0, beta=0.45, error=0.0)
SIZES, COUNTS = (1e5, 3e5, 1e6), (5e5, 1e6, 4e6)


def points(law: PowerLaw = KNOWN, sizes=SIZES, counts=COUNTS) -> list[Point]:
    return [Point(n, d, law.loss(n, d), 1e9 / n) for n in sizes for d in counts]


@pytest.fixture(scope="module")
def found() -> PowerLaw:
    return fit(points())


@pytest.fixture
def points_file(tmp_path: Path) -> str:
    names = {
        "parameters": "parameters",
        "tokens": "tokens",
        "loss": "bits_per_byte",
        "tokens_per_second": "tokens_per_second",
    }
    entries = [{new: getattr(p, old) for old, new in names.items()} for p in points()]
    (tmp_path / "points.json").write_text(json.dumps(entries))
    return str(tmp_path / "points.json")


def test_a_fit_finds_the_law_that_made_the_points(found):
    for name in ("floor", "a", "alpha", "b", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(KNOWN, name), rel=1e-3), name
    assert found.error < 1e-6


def test_one_run_that_went_wrong_hardly_moves_the_law():
    """The Huber loss: a squared one would follow the outlier."""
    spoilt = points(sizes=(*SIZES, 3e6), counts=(*COUNTS, 8e6))
    spoilt[5] = Point(spoilt[5].parameters, spoilt[5].tokens, 1.1 * spoilt[5].loss)
    law = fit(spoilt)
    assert law.alpha == pytest.approx(KNOWN.alpha, rel=0.05)
    assert law.beta == pytest.approx(KNOWN.beta, rel=0.05)


def test_one_number_of_tokens_gives_the_curve_of_sizes():
    law = fit(points(sizes=(1e5, 3e5, 1e6, 3e6), counts=(1e6,)))
    assert law.alpha == pytest.approx(KNOWN.alpha, rel=1e-3) and law.tokens == 1e6
    assert law.floor == pytest.approx(KNOWN.floor + KNOWN.b * 1e6**-KNOWN.beta, rel=1e-4)
    with pytest.raises(UserError, match="no best size follows"):
        law.best(1e12)


@pytest.mark.parametrize(
    "few",
    [
        points(sizes=(1e5, 1e6), counts=(1e6,)),
        points(sizes=(1e5, 1e6)),
        [Point(n, 1e11 / n, 2.0) for n in (1e5, 2e5, 3e5, 4e5, 5e5, 6e5, 7e5)],  # one for each D
    ],
)
def test_too_little_for_a_law_is_refused_in_words(few):
    with pytest.raises(UserError, match=r"token counts in \d+ pairs are too few: three sizes"):
        fit(few)


def test_the_best_size_of_a_budget_is_the_least_loss_along_it():
    flops = 1e14
    size, tokens = KNOWN.best(flops)
    assert 6 * size * tokens == pytest.approx(flops)
    tried = np.geomspace(1e4, 1e9, 200_001)
    losses = KNOWN.floor + KNOWN.a * tried**-KNOWN.alpha
    losses += KNOWN.b * (flops / 6 / tried) ** -KNOWN.beta
    assert size == pytest.approx(tried[losses.argmin()], rel=1e-3)


def test_the_best_size_of_a_time_is_that_of_its_flops_where_all_sizes_are_as_fast():
    size, tokens = KNOWN.best_in(100.0, lambda parameters: 1e12)
    assert (size, tokens) == pytest.approx(KNOWN.best(1e14), rel=2e-3)


def test_speed_is_read_between_the_measured_sizes_and_promised_no_higher_beyond():
    speed = measured_speed([Point(1e5, 1e6, 2.0, 1e4), Point(1e7, 1e6, 2.0, 1e3)])
    assert speed(1e5) == pytest.approx(6e9) and speed(1e7) == pytest.approx(6e10)
    assert speed(1e6) == pytest.approx(math.sqrt(6e9 * 6e10))
    assert speed(1e9) == pytest.approx(6e10) and speed(1e2) == pytest.approx(6e9)


def test_points_of_a_file_are_fitted_drawn_and_answer_for_a_budget(points_file, tmp_path, capsys):
    out = tmp_path / "out"
    scaling.main(["--points", points_file, "--budget-flops", "1e13", "--out", str(out)])
    shown = capsys.readouterr().out
    size, _ = KNOWN.best(1e13)
    best = next(line for line in shown.splitlines() if line.startswith("best: "))
    assert float(best.split()[1].replace(",", "")) == pytest.approx(size, rel=0.01)
    rule = next(line for line in shown.splitlines() if line.startswith("20 tokens"))
    assert f"{math.sqrt(1e13 / 120):,.0f} parameters" in rule
    assert "1.2000 + 60" in shown and "N^0.340" in shown
    assert (out / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_a_best_size_outside_of_the_measured_ones_is_called_so(points_file, tmp_path, capsys):
    scaling.main(["--points", points_file, "--hours", "1000", "--out", str(tmp_path)])
    assert "careful: parameters lie outside of those measured" in capsys.readouterr().out


@pytest.mark.slow
def test_it_trains_the_sizes_itself_through_a_comparison(tmp_path, monkeypatch, capsys):
    """What was trained is stood in for by a law, the rest is real."""
    out, done = tmp_path / "out", []

    def train(job, show, stopped):
        config = read_config(job.arguments[:-3])
        done.append((config.model.n_layers, config.model.d_model, config.model.n_heads, job.budget))
        (job.folder / "checkpoints" / "step-0000007").mkdir(parents=True)
        (job.folder / "card.md").write_text("| trained | 7 steps, 28 tokens |")

    def row(job):
        n = 1e5 * int(job.variant.overrides["model.n_layers"])
        d = 2048.0 * int(job.budget.split()[0])
        return {
            "variant": job.variant.name,
            "overrides": {},
            "seed": 0,
            "parameters": n,
            "tokens": d,
            "bits_per_byte": KNOWN.loss(n, d),
            "tokens_per_second": 1e4,
            "seconds": 1.0,
            "validation": {"t": 1.0},
            "device": "cpu",
            "versions": "torch",
            "curve": [{"step": 1, "tokens": d, "seconds": 1.0, "bits_per_byte": 2.0}],
        }

    monkeypatch.setattr(compare, "train", train)
    monkeypatch.setattr(compare.Job, "row", row)
    command = ["--config", "quick", "--sizes", "1x16,2x80,3x100", "--tokens", "0.4M,1M,2M"]
    scaling.main([*command, "--out", str(out)])
    assert done[::3] == [(1, 16, 1, "195 steps"), (2, 80, 2, "195 steps"), (3, 100, 1, "195 steps")]
    assert [budget for *_, budget in done[:3]] == ["195 steps", "488 steps", "977 steps"]
    assert "9 runs; typical distance" in capsys.readouterr().out
    done.clear()
    scaling.main([*command, "--out", str(out)])
    assert done == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "nothing to fit: give --sizes"),
        (["--sizes", "2x64"], "--sizes and --tokens go together"),
        (["--sizes", "2*64", "--tokens", "1M"], "expected layers x width such as 4x128"),
        (["--sizes", "2x63", "--tokens", "1M"], "channels; RoPE turns them in pairs"),
        (["--sizes", "2x64", "--tokens", "many"], "budget 'many tokens'"),
        (["--points", "/no/where.json"], "cannot read /no/where.json"),
        (["--budget-flops", "1", "--hours", "1"], "not allowed with"),
        (["--runs", "/no/where"], "neither a finished run"),
        (["--device", "cpu"], "changes nothing: there are no --sizes"),
    ],
)
def test_a_users_mistake_is_refused_by_name(arguments, line, tmp_path):
    with pytest.raises(UserError, match=line):
        scaling.main([*arguments, "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("text", ["{", "[1]", '[{"parameters": 1}]', '{"a": 1}'])
def test_a_points_file_of_another_form_is_refused(text, tmp_path):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(UserError, match="expected a list of objects"):
        scaling.main(["--points", str(tmp_path / "p.json"), "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("sizes", "tokens", "asked", "line"),
    [
        ("2x64,4x128", "1M", [], "2 sizes and 1 token counts in 2 pairs are too few"),
        ("2x64,4x128", "1M,2M,4M", [], "2 sizes and 3 token counts in 6 pairs are too few"),
        ("2x64,3x96,4x128", "1M", ["--budget-flops", "1e13"], "no best size follows"),
        ("2x64,3x96,4x128", "1M", ["--hours", "-1"], "a budget of -1.0: it must be above 0"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_it_trains(
    sizes, tokens, asked, line, tmp_path, monkeypatch
):
    monkeypatch.setattr(compare, "train", lambda *_: pytest.fail("trained for nothing"))
    grid = ["--config", "quick", "--sizes", sizes, "--tokens", tokens]
    with pytest.raises(UserError, match=line):
        scaling.main([*grid, *asked, "--out", str(tmp_path)])


def test_two_sizes_train_where_given_points_are_the_third(points_file, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "compare", lambda *_: False)  # as if stopped
    grid = ["--config", "quick", "--sizes", "2x64,4x128", "--tokens", "1M"]
    scaling.main([*grid, "--points", points_file, "--budget-flops", "1e13", "--out", str(tmp_path)])


def test_hours_need_a_measured_speed():
    with pytest.raises(UserError, match="give --budget-flops, not --hours"):
        power_law.measured_speed([Point(1e5, 1e6, 2.0)])
