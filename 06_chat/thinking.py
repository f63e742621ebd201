"""Measures thinking longer: right answers against the bytes spent on one question.

python 06_chat/thinking.py                                   # the quick model, adding
python 06_chat/thinking.py RUN --skill subtracting --questions 100

Held-out questions. Without and with the working, one greedy reply each; then with the working at
a temperature, the best of k by vote, by likelihood, and by the verifier, which knows the answer.
"""

import random
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from shared.chat.batch_generation import reply_batch
from shared.chat.candidates import Candidate, by_likelihood, by_vote, draw_candidates
from shared.chat.sampling import SamplingSettings
from shared.device import pick_device
from shared.errors import UserError, one_line_errors
from shared.model.transformer import Transformer
from shared.text.drills import SKILLS, make_exercise, sizes
from shared.text.exercise import Exercise, check
from shared.text.tokenizer_file import Tokenizer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
FIGURE = Path(__file__).with_name("figures") / "thinking.png"
COUNTS = (1, 2, 4, 8, 16)
LONGEST = 120  # bytes of a reply

console = Console(highlight=False)


class Point(NamedTuple):
    """One way to answer, over all questions."""

    way: str
    candidates: int
    right: float
    """share of the questions"""
    spent: float
    """bytes drawn for one question, on average"""


def main(arguments: list[str]) -> None:
    """Parses the command line, measures, prints the table, draws the figure."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("run", nargs="?", default=str(QUICK_RUN), help="a run or checkpoint")
    parser.add_argument("--skill", default="adding", choices=SKILLS)
    parser.add_argument("--questions", type=int, default=150)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu")
    parser.add_argument("--figure", default=str(FIGURE), help="where to draw")
    options = parser.parse_args(arguments)
    if options.questions < 1:
        raise UserError(f"--questions is {options.questions}; expected at least 1")
    model, tokenizer = load_model(find_checkpoint(options.run), pick_device(options.device))
    begun = time.monotonic()
    asked = options.skill, options.questions, options.seed
    points = [greedy(model, tokenizer, *asked, working) for working in (False, True)]
    settings = SamplingSettings(options.temperature, max_new_bytes=LONGEST, seed=options.seed)
    points += several(model, tokenizer, questions(*asked, working=True), settings)
    table = Table("way", "k", "right, %", "bytes a question")
    for way, count, right, spent in points:
        table.add_row(way, str(count), f"{100 * right:.1f}", f"{spent:.0f}")
    console.print(table)
    draw(points, options.skill, Path(options.figure))
    console.print(f"{time.monotonic() - begun:.0f} s; drawn: {options.figure}")


def questions(skill: str, count: int, seed: int, working: bool) -> list[Exercise]:
    """Held-out exercises, the sizes that can be held out taking turns."""
    rng, found = random.Random(f"thinking {skill} {seed}"), []
    while len(found) < count:
        for size in sizes(skill):
            one = make_exercise(skill, rng, held_out=True, working=working, size=size)
            found += [] if one.closed else [one]
    return found[:count]


def greedy(
    model: Transformer, tokenizer: Tokenizer, skill: str, count: int, seed: int, working: bool
) -> Point:
    """One greedy reply each, with the working or without."""
    exercises = questions(skill, count, seed, working)
    settings = SamplingSettings(temperature=0.0, max_new_bytes=LONGEST)
    replies = reply_batch(model, tokenizer, [each.messages for each in exercises], settings)
    right = [check(e, r.text) for e, r in zip(exercises, replies, strict=True)]
    spent = sum(len(reply.text.encode()) for reply in replies)
    way = "greedy, with the working" if working else "greedy, the answer alone"
    return Point(way, 1, sum(right) / count, spent / count)


def several(
    model: Transformer, tokenizer: Tokenizer, exercises: list[Exercise], settings: SamplingSettings
) -> list[Point]:
    """Of the same candidates the first k, for every k, and every rule."""
    drawn = [
        draw_candidates(model, tokenizer, exercise.messages, max(COUNTS), settings)
        for exercise in track(exercises, "drawing", console=console)
    ]
    rules = {"vote": by_vote, "likelihood": by_likelihood, "verifier": None}
    points = []
    for way, rule in rules.items():
        for k in COUNTS:
            groups = [group[:k] for group in drawn]
            right = [found(e, g, rule) for e, g in zip(exercises, groups, strict=True)]
            spent = sum(len(each.reply.text.encode()) for group in groups for each in group)
            points.append(Point(way, k, sum(right) / len(right), spent / len(right)))
    return points


def found(exercise: Exercise, group: Sequence[Candidate], rule: Callable | None) -> bool:
    """Whether the candidate that the rule picks is right; without a rule, whether any is."""
    if rule is None:
        return any(check(exercise, each.reply.text) for each in group)
    return check(exercise, group[rule(exercise.messages, group)].reply.text)


def draw(points: list[Point], skill: str, place: Path) -> None:
    """Right answers against bytes spent, a line for each rule."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for way in dict.fromkeys(point.way for point in points):
        its = [point for point in points if point.way == way]
        spent, right = [p.spent for p in its], [100 * p.right for p in its]
        axes.plot(spent, right, marker="o", label=way)
        for point, x, y in zip(its, spent, right, strict=True):
            if way == "verifier":  # the other lines have their points below these
                label = f"k = {point.candidates}"
                axes.annotate(label, (x, y), (-4, 6), textcoords="offset points", fontsize=7)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set(
        xlabel="bytes drawn for one question",
        ylabel="right, %",
        ylim=(-4, 100),
        title=f"{skill}, held-out operands",
    )
    axes.legend(fontsize=8)
    place.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(place, dpi=150, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
