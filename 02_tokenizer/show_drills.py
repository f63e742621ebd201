"""Prints drills as they are trained on: a few of each skill, or of one.

python 02_tokenizer/show_drills.py
python 02_tokenizer/show_drills.py "counting letters" --count 10
"""

import argparse
import random
import sys

from shared.errors import UserError, one_line_errors
from shared.text.drills import SKILLS, make_exercise
from shared.text.transcript import Message, render


def main(arguments: list[str]) -> None:
    """Parses the command line and prints conversations with a blank line between them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("skill", nargs="?", help=f"one of: {', '.join(SKILLS)}; none: each")
    parser.add_argument("--count", type=int, default=2, help="how many of a skill (2)")
    parser.add_argument("--seed", type=int, default=0, help="another one, other drills (0)")
    parser.add_argument("--held-out", action="store_true", help="what training never has")
    options = parser.parse_args(arguments)
    if options.count < 1:
        raise UserError(f"--count {options.count}: expected 1 or more")
    for skill in [options.skill] if options.skill else SKILLS:
        show(skill, options.count, options.seed, options.held_out)


def show(skill: str, count: int, seed: int, held_out: bool) -> None:
    """Every second one with its working, half of each over random letters.

    Raises:
        UserError: no such skill.
    """
    rng = random.Random(seed)
    phrasing = "held-out" if held_out else "known"
    for number in range(count):
        exercise = make_exercise(
            skill,
            rng,
            held_out=held_out,
            working=number % 2 == 0,
            phrasing=phrasing,
            random_letters=number % 4 > 1,
        )
        print(f"# {skill}, size {exercise.size}, answer {exercise.answer}")
        print(render([*exercise.messages, Message("assistant", exercise.reply)]))


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
