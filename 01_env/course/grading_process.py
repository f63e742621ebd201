"""One warm process that grades: PyTorch is imported once, the learner's file at each verdict.

A loop without end in the learner's code ends that process, not this one.
"""

import inspect
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import astuple
from importlib import import_module
from multiprocessing.connection import Connection

from exercise_table import ROOT, Exercise, all_exercises

START_SECONDS = 120.0  # imports on a slow, busy machine
LIMIT_SECONDS = 5.0


class GradingProcess:
    """Grades in another process, and starts a new one when that one hangs or ends.

    Args:
        limit: seconds that one verdict may take.
    """

    def __init__(self, limit: float = LIMIT_SECONDS) -> None:
        self.limit = limit
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.ready = False

    def verdict(self, exercise: Exercise, seed: int) -> tuple[str, str]:
        """Status and message of the exercise as it stands in the learner's file."""
        try:
            return self._ask("grade", exercise, seed)
        except TimeoutError:
            problem = f"no answer after {self.limit:g} seconds: a loop without end?"
        except EOFError:
            problem = "your code ended Python: an exit() in it?"
        self.close()
        self._start()
        return "wrong", problem

    def solution(self, exercise: Exercise) -> str:
        """The shipped code's source."""
        return self._ask("solution", exercise)

    def _ask(self, *request: str | int | Exercise) -> tuple[str, str] | str:
        if not self.ready:
            self._receive(START_SECONDS)
            self.ready = True
        self.connection.send(request)
        return self._receive(self.limit)

    def _receive(self, seconds: float) -> tuple[str, str] | str:
        if not self.connection.poll(seconds):
            raise TimeoutError
        return self.connection.recv()

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def serve(connection: Connection) -> None:
    """The other process: answers one request after another until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors this small gain nothing from a second
    step_folders = sorted({str(exercise.folder) for exercise in all_exercises()})
    sys.path[:0] = [*step_folders, str(ROOT)]  # siblings import each other, as under pytest
    from grading import grade_file

    for exercise in all_exercises():
        import_module(exercise.tests)
    # An optimizer's first step loads this: two seconds that no verdict should take.
    threading.Thread(target=import_module, args=("torch._dynamo",), daemon=True).start()
    connection.send("ready")
    answers: dict[str, Callable] = {
        "grade": lambda exercise, seed: astuple(grade_file(exercise, seed)),
        "solution": lambda exercise: inspect.getsource(exercise.shipped()),
    }
    while True:
        try:
            kind, *arguments = connection.recv()
        except EOFError:
            return
        connection.send(answers[kind](*arguments))
