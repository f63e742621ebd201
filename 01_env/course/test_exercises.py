"""The grading is real: every blank fails, every shipped solution passes, every mistake is named."""

import doctest
import inspect
from pathlib import Path

import pytest
import torch
from course_state import PLACE
from exercise_table import Exercise, all_exercises, anchor, headings_in
from grading import judge, shipped_answer
from judging import Answer, Mistaken
from learner_file import blanked, find, is_blank, load, task
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("one_thread")
EXERCISES = pytest.mark.parametrize("exercise", all_exercises(), ids=lambda e: e.name)
FILES = {exercise.file: exercise for exercise in all_exercises()}
SEED = 11


@EXERCISES
def test_the_shipped_solution_passes_and_each_known_mistake_is_named(exercise: Exercise):
    shipped = shipped_answer(exercise)
    judge(exercise, shipped, SEED)
    assert len(shipped.mistakes) >= 2
    for sentence, mistaken in shipped.mistakes.items():
        with pytest.raises(Mistaken) as caught:
            judge(exercise, Answer(mistaken, shipped.mistakes), SEED)
        assert f"likely: {sentence}" in str(caught.value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_task_is_a_blank_with_the_solutions_arguments_and_a_true_example(
    file: Path, tmp_path: Path
):
    """Of a learner's own file the blanks are looked at that a reset would make."""
    blank = tmp_path / file.name
    blank.write_bytes(file.read_bytes())
    tasks = [e for e in all_exercises() if e.file == file]
    for exercise in tasks:
        blank.write_text(blanked(blank, exercise.name), encoding="utf-8")
    assert PLACE.exists() or blank.read_bytes() == file.read_bytes(), "a solution in the open"
    module = load(blank)
    assert [name for name in vars(module) if name in {e.name for e in tasks}] == [
        exercise.name for exercise in tasks
    ], "file and table are in the same order"
    for exercise in tasks:
        assert is_blank(find(blank, exercise.name))
        blank_one, solution = getattr(module, exercise.name), shipped_answer(exercise).function
        assert list(inspect.signature(blank_one).parameters) == list(
            inspect.signature(solution).parameters
        )
        assert examples_fail(blank_one, solution) == 0, (
            f"{exercise.name}: see what is printed above"
        )
        with pytest.raises(NotImplementedError):
            judge(exercise, Answer(blank_one, {}), SEED)


def examples_fail(blank, solution) -> int:
    """Runs a task's examples on the solution; how many fail, and -1 if there are none."""
    names = blank.__globals__ | {blank.__name__: solution}
    found = doctest.DocTestParser().get_doctest(blank.__doc__, names, blank.__name__, None, None)
    return doctest.DocTestRunner().run(found).failed if found.examples else -1


def test_hints_and_explanations_are_there_and_hold_no_solution():
    assert len({exercise.name for exercise in all_exercises()}) == len(all_exercises())
    for exercise in all_exercises():
        assert len(set(exercise.hints)) == 3 and all(exercise.hints), exercise.name
        page, first, last = exercise.lines_that_explain()
        told = page.read_text(encoding="utf-8").splitlines()[first - 1 : last]
        assert anchor(told[0]) == exercise.explained.partition("#")[2]
        assert len(told) > 4 and headings_in(told) == [1]
        told += [*exercise.hints, task(exercise.file, exercise.name)]
        assert all(hasattr(torch, n) or hasattr(functional, n) for n in exercise.refused)
        for line in code_of(exercise):
            assert not any(line in text for text in told), f"{exercise.name}: {line}"


def test_a_comment_in_a_code_block_is_no_heading():
    assert headings_in("# one|```|# a comment|```|## two".split("|")) == [1, 5]


def code_of(exercise: Exercise) -> list[str]:
    """The lines of the shipped solution that do something and could be copied."""
    tree = inspect.getsource(exercise.shipped()).split('"""')[-1]
    return [line.strip() for line in tree.splitlines() if len(line.strip()) > 30]
