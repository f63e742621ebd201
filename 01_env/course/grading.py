"""Grading: the tests of one exercise on one function, and what they say in a line or two."""

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

from exercise_table import Exercise
from judging import Answer, Draw, Mistaken
from learner_file import Unreadable, find, is_blank, load
from refusing import Refused

ROUNDS = 3  # of fresh inputs; what is right by luck in one is not in all


@dataclass(frozen=True)
class Verdict:
    """What the tests say."""

    status: Literal["done", "blank", "wrong"]
    message: str = ""


def grade_file(exercise: Exercise, seed: int) -> Verdict:
    """Grades what stands in the learner's file now."""
    try:
        if is_blank(find(exercise.file, exercise.name)):
            return Verdict("blank", "not written yet")
        function = getattr(load(exercise.file), exercise.name)
    except Unreadable as error:
        return Verdict("wrong", str(error))
    except Exception as error:
        return Verdict("wrong", told(error, exercise))
    return grade(exercise, function, seed)


def grade(exercise: Exercise, function: Callable, seed: int) -> Verdict:
    """Runs the exercise's tests on a function, each on a few draws."""
    shipped = shipped_answer(exercise)
    if (problem := unlike_signature(shipped.function, function)) is not None:
        return Verdict("wrong", problem)
    try:
        judge(exercise, Answer(function, shipped.mistakes, exercise.refused), seed)
    except Mistaken as error:
        return Verdict("wrong", str(error))
    except Exception as error:
        return Verdict("wrong", told(error, exercise))
    return Verdict("done")


def judge(exercise: Exercise, answer: Answer, seed: int) -> None:
    """Runs each of the exercise's tests on a few draws.

    Raises:
        Mistaken: an answer is wrong.
    """
    for test in tests_of(exercise):
        for offset in range(ROUNDS):
            test(answer, Draw(seed + offset))


def shipped_answer(exercise: Exercise) -> Answer:
    """The shipped code in the form that the exercise asks for, and the known mistakes.

    Nothing is refused to it: it may hand its work to PyTorch.
    """
    module = test_module(exercise)
    function = module.ADAPTERS.get(exercise.name) or exercise.shipped()
    return Answer(function, module.MISTAKES[exercise.name])


def tests_of(exercise: Exercise) -> list[Callable]:
    """The tests that are marked with this exercise, in the order of the file."""
    found = vars(test_module(exercise)).values()
    return [test for test in found if getattr(test, "grades", None) == exercise.name]


def test_module(exercise: Exercise) -> ModuleType:
    """The module of its step's grading tests."""
    return import_module(exercise.tests)


def unlike_signature(shipped: Callable, function: Callable) -> str | None:
    """One line if the two do not take the same arguments."""
    if not callable(function):
        return f"expected a function, got {type(function).__name__}"
    wanted, got = (list(inspect.signature(f).parameters) for f in (shipped, function))
    if wanted == got:
        return None
    return f"expected the arguments ({', '.join(wanted)}), got ({', '.join(got)})"


def told(error: Exception, exercise: Exercise) -> str:
    """An exception in one line, with the place in the learner's file where it came up."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename) == exercise.file]
    if isinstance(error, NotImplementedError) and own:
        return f"{own[-1].name}, which it calls, is not written yet"
    place = f"\n{exercise.file.name}, line {own[-1].lineno}: {own[-1].line}" if own else ""
    kind = "" if isinstance(error, Refused) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}{place}"
