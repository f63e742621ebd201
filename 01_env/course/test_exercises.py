"""The grading is real: every blank fails, every shipped solution passes, every mistake is named."""

import pytest
from exercise_table import Exercise, all_exercises
from grading import judge, shipped_answer
from judging import Answer, Mistaken

pytestmark = pytest.mark.usefixtures("one_thread")
EXERCISES = pytest.mark.parametrize("exercise", all_exercises(), ids=lambda e: e.name)
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
