"""A lesson: the exercise at hand, and what each key does with it.

It prints and returns at once; who waits for keys and for saved files is `learn.py`.
"""

import random
from collections.abc import Callable, Sequence

from course_state import CourseState
from exercise_table import Exercise, all_exercises
from grading_process import GradingProcess
from learner_file import Unreadable, blanked, task

from shared.files import atomic_file

KEYS = "h hint   n next   b back   l list   r reset   s solution   q quit"
BAR = 30
SEEDS = 1_000_000


class Lesson:
    """One sitting.

    Args:
        state: changed as the learner goes on.
        process: what grades.
        confirm: asks a question, returns whether the answer was yes.
        seed: of the inputs; none: other inputs at each verdict.
        exercises: all there are.
    """

    def __init__(
        self,
        state: CourseState,
        process: GradingProcess,
        confirm: Callable[[str], bool],
        seed: int | None = None,
        exercises: Sequence[Exercise] = (),
    ) -> None:
        self.state, self.process, self.confirm, self.seed = state, process, confirm, seed
        self.all = exercises or all_exercises()
        unfinished = (e for e in self.all if not state.is_finished(e))
        known = (e for e in self.all if e.name == state.at)
        self.at: Exercise = next(known, next(unfinished, self.all[0]))
        self.keys = {"h": self.hint, "n": self.next, "b": self.back, "l": self.list}
        self.keys |= {"r": self.reset, "s": self.solution}

    def show(self) -> None:
        """What is to be written, where it is explained, how far the learner is."""
        self.state.at = self.at.name
        siblings = [e for e in self.all if e.step == self.at.step]
        number = f"exercise {siblings.index(self.at) + 1} of {len(siblings)}"
        print(f"\n{'-' * 78}\n{self.at.folder.name} · {number} · {self.progress()}\n")
        try:
            print(task(self.at.file, self.at.name))
        except Unreadable as error:
            print(error)
        page, first, last = self.at.lines_that_explain()
        print(f"\nexplained in {self.at.folder.name}/{page.name}, lines {first} to {last}")
        print("finished" if self.state.is_finished(self.at) else "graded each time you save")
        print(KEYS)

    def progress(self) -> str:
        """A bar over all steps."""
        done = sum(map(self.state.is_finished, self.all))
        full = BAR * done // len(self.all)
        return f"[{'#' * full}{'.' * (BAR - full)}] {done} of {len(self.all)}"

    def grade(self) -> None:
        """Runs the tests of the exercise at hand and says what they found."""
        seed = random.randrange(SEEDS) if self.seed is None else self.seed
        status, message = self.process.verdict(self.at, seed)
        self.state.note(self.at, status == "done")
        if status == "done":
            print(f"\n{self.at.name}: done (seed {seed})   {self.progress()}   n: go on")
        else:
            print(f"\n{self.at.name}: not yet (seed {seed})\n{indented(message)}")

    def hint(self) -> None:
        """One hint more than before; after the third all of them again."""
        shown = min(self.state.hints.get(self.at.name, 0) + 1, len(self.at.hints))
        self.state.hints[self.at.name] = shown
        for number, text in enumerate(self.at.hints[:shown], 1):
            print(f"\nhint {number} of {len(self.at.hints)}: {text}")

    def next(self) -> None:
        """On to the next exercise, whether this one is finished or not."""
        self._go(+1)

    def back(self) -> None:
        """Back to the one before."""
        self._go(-1)

    def _go(self, by: int) -> None:
        place = self.all.index(self.at) + by
        self.at = self.all[min(max(place, 0), len(self.all) - 1)]
        self.show()

    def list(self) -> None:
        """All exercises: finished ones are marked, the one at hand is pointed at."""
        print()
        for exercise in self.all:
            mark = "x" if self.state.is_finished(exercise) else " "
            here = "  <- here" if exercise is self.at else ""
            print(f"  [{mark}] {exercise.folder.name}  {exercise.name}{here}")

    def reset(self) -> None:
        """The function becomes a blank again, if the learner agrees."""
        if not self.confirm(f"What you wrote in {self.at.name} will be gone. Reset it? (y/n) "):
            return
        try:
            text = blanked(self.at.file, self.at.name)
        except Unreadable as error:
            print(error)
            return
        with atomic_file(self.at.file) as partial:
            partial.write_text(text, encoding="utf-8")
        self.state.note(self.at, passed=False)
        print(f"{self.at.name} is blank again")

    def solution(self) -> None:
        """The shipped code, for who has finished or has read all hints and insists."""
        if not self.state.is_finished(self.at):
            if self.state.hints.get(self.at.name, 0) < len(self.at.hints):
                print("\nafter you have finished, or after all three hints (h)")
                return
            if not self.confirm("You would learn more from finding it. Show it? (y/n) "):
                return
        print(f"\n{self.at.solution.replace(':', ', ')}\n\n{self.process.solution(self.at)}")


def indented(text: str) -> str:
    """Each line two spaces to the right."""
    return "\n".join(f"  {line}" for line in text.splitlines())
