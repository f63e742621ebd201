"""Grades `write_full_run.py`: each exercise by its definition, and the mistakes that it knows.

Under pytest the function under test is the shipped one; `make learn` and `make check` call the
same tests with the learner's. Whoever is still writing: what stands here tells much.
"""

from judging import Answer, Draw, grades

from shared.training.plan import Plan


@grades("tokens_per_parameter")
def test_tokens_in_a_budget(answer: Answer, draw: Draw):
    parameters, seen, hours = draw.whole(10**5, 10**6), draw.between(5, 30), draw.between(2, 9)
    speed = seen * parameters / (hours * 60 * 60)
    answer.gives(seen, speed, parameters, hours)


@grades("largest_batch")
def test_the_largest_micro_batch_leaves_a_fifth_free(answer: Answer, draw: Draw):
    for together, fitting in ((27_720, 30), (24, 10), (5, 40)):
        per_window = draw.whole(50, 90)
        fixed = round(4.2 * per_window)
        available = round((fixed + (fitting + 0.5) * per_window) / 0.8)
        expected = max(n for n in range(1, fitting + 1) if together % n == 0)
        answer.gives(expected, fixed, per_window, available, together)


def plan(parameters: int = 1, speed: float = 1.0, memory: tuple[int, int, int] = (1, 1, 1)) -> Plan:
    """A plan of which only some numbers matter."""
    fixed, per_window, available = memory
    return Plan(parameters, speed, fixed, per_window, 1, available)


def shipped_tokens(tokens_per_second: float, parameters: int, hours: float = 6.0) -> float:
    """The shipped plan's."""
    return plan(parameters, tokens_per_second).tokens_per_parameter(hours)


def shipped_batch(fixed: int, per_window: int, available: int, together: int) -> int:
    """The shipped plan's."""
    return plan(memory=(fixed, per_window, available)).largest_batch(together)


ADAPTERS = {"tokens_per_parameter": shipped_tokens, "largest_batch": shipped_batch}

MISTAKES = {
    "tokens_per_parameter": {
        "an hour has 3,600 seconds": lambda speed, parameters, hours: (
            shipped_tokens(speed, parameters, hours) / 60
        ),
        "tokens in all: divide by the parameters": lambda speed, parameters, hours: shipped_tokens(
            speed, 1, hours
        ),
        "parameters for each token: the other way round": lambda speed, parameters, hours: (
            1 / shipped_tokens(speed, parameters, hours)
        ),
    },
    "largest_batch": {
        "nothing is left free: a fifth of the memory is the system's": lambda f, w, a, together: (
            shipped_batch(f, w, round(a / 0.8), together)
        ),
        "what training takes whatever the batch is not counted": lambda f, w, a, together: (
            shipped_batch(0, w, a, together)
        ),
        "it does not divide the windows of a step: the pieces would be unequal": (
            lambda f, w, a, together: min(together, int((0.8 * a - f) // w))
        ),
    },
}
