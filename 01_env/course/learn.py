"""The course: shows an exercise, grades it each time its file is saved, and says what is wrong.

    python 01_env/course/learn.py              # or: make learn
    python 01_env/course/learn.py --check 03   # or: make check STEP=03; all steps without a number

`--check` prints one scoreboard and exits with 0 if all is done, with 1 if not.
"""

import argparse
import random
import sys
from pathlib import Path

from course_state import CourseState, load_state, save_state
from exercise_table import Exercise, exercises_of
from grading_process import GradingProcess
from lesson import SEEDS, Lesson, indented
from terminal_keys import ReadKey, single_keys

from shared.errors import UserError, one_line_errors

POLL_SECONDS = 0.2


def learn(seed: int | None) -> None:
    """Goes on where the learner left off, until q is pressed.

    Raises:
        UserError: there is no terminal to press keys in.
    """
    if not sys.stdin.isatty():
        raise UserError("make learn needs a terminal; make check STEP=03 does not")
    state = load_state()
    process = GradingProcess()
    try:
        with single_keys() as read_key:
            lesson = Lesson(state, process, lambda question: confirmed(question, read_key), seed)
            watch(lesson, read_key)
    finally:
        process.close()
        save_state(state)


def watch(lesson: Lesson, read_key: ReadKey) -> None:
    """Shows the exercise at hand, grades when its file has changed, obeys keys in between."""
    seen = saved_at(lesson.at.file)
    lesson.show()
    while (key := read_key(POLL_SECONDS).lower()) != "q":
        if key in lesson.keys:
            before = lesson.at.file
            lesson.keys[key]()
            save_state(lesson.state)
            if lesson.at.file != before or key == "r":
                seen = saved_at(lesson.at.file)
        elif saved_at(lesson.at.file) != seen:
            seen = saved_at(lesson.at.file)
            lesson.grade()
            save_state(lesson.state)


def saved_at(file: Path) -> int:
    """When it was saved; editors that write a new file leave none for a moment."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def confirmed(question: str, read_key: ReadKey) -> bool:
    """Whether the next key is a y."""
    print(question, end="", flush=True)
    while not (key := read_key(POLL_SECONDS)):
        pass
    print(key)
    return key.lower() == "y"


def check(exercises: list[Exercise], state: CourseState, seed: int) -> bool:
    """Grades them all and prints the scoreboard; True if all are done."""
    process, passed = GradingProcess(), 0
    try:
        for exercise in exercises:
            status, message = process.verdict(exercise, seed)
            state.note(exercise, status == "done")
            passed += status == "done"
            print(f"{exercise.folder.name:12}  {exercise.name:20}  {status}", flush=True)
            if status == "wrong":
                print(indented(message))
    finally:
        process.close()
    print(f"\n{passed} of {len(exercises)} done, seed {seed}")
    return passed == len(exercises)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", nargs="?", const="", metavar="STEP", help="one scoreboard")
    parser.add_argument("--seed", type=int, help="of the inputs; without it new ones every time")
    asked = parser.parse_args()
    if asked.check is None:
        learn(asked.seed)
        return
    state = load_state()
    seed = random.randrange(SEEDS) if asked.seed is None else asked.seed
    all_done = check(exercises_of(asked.check), state, seed)
    save_state(state)
    sys.exit(0 if all_done else 1)


if __name__ == "__main__":
    with one_line_errors():
        main()
