"""Judging: is the function under test right, and if not, which mistake is it?

A grading test draws inputs and says what should come. On a mismatch the known mistakes
are made on the same inputs; the one that gives what came is named.
"""

import random
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from differences import described, difference
from refusing import refusing
from torch import Tensor

Use = Callable[[Callable], Any]


class Mistaken(AssertionError):
    """What was expected, what came, and the likeliest mistake."""


class Answer:
    """The function under test.

    Args:
        mistakes: a sentence for each known mistake, and a function that makes it.
        refused: functions of PyTorch that it must not call.
    """

    def __init__(
        self, function: Callable, mistakes: Mapping[str, Callable], refused: tuple[str, ...] = ()
    ) -> None:
        self.function, self.mistakes, self.refused = function, mistakes, refused

    def gives(self, expected: Any, *arguments: Any) -> None:
        """Holds the function to its value for these arguments.

        Raises:
            Mistaken: it gives another.
        """
        called = ", ".join(map(described, arguments))
        self.used(
            lambda function: function(*deepcopy(arguments)), expected, f"called with {called}"
        )

    def used(self, use: Use, expected: Any, what: str = "") -> None:
        """Holds the function to what comes of using it, `use(function)`; `what` says how.

        Raises:
            Mistaken: something else comes.
        """
        with refusing(self.refused):
            got = use(self.function)
        wrong = difference(expected, got)
        if wrong is None:
            return
        lines = [wrong, *([what] if what else [])]
        raise Mistaken("\n".join([*lines, *self._likeliest(use, got)]))

    def _likeliest(self, use: Use, got: Any) -> list[str]:
        """The sentence of the mistake that gives just this, if one does."""
        for sentence, mistaken in self.mistakes.items():
            try:
                same = difference(use(mistaken), got) is None
            except Exception:  # a mistake may fail on these inputs: then it is another one
                continue
            if same:
                return [f"likely: {sentence}"]
        return []


class Draw:
    """Random inputs, all from one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.random = random.Random(seed)

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return self.random.randint(low, high)

    def between(self, low: float, high: float) -> float:
        """A number between the two."""
        return self.random.uniform(low, high)

    def normal(self, *shape: int) -> Tensor:
        """Normally distributed numbers."""
        return torch.randn(shape, generator=self.generator)

    def ids(self, *shape: int, below: int = 256) -> Tensor:
        """Ids, int64."""
        return torch.randint(below, shape, generator=self.generator)

    def text(self, words: int = 6) -> str:
        """Words with characters of one to four bytes in them."""
        letters = "aabcdeeeéßñ→字👋"
        return " ".join(
            "".join(self.random.choices(letters, k=self.random.randint(1, 5))) for _ in range(words)
        )


def grades(name: str) -> Callable[[Callable], Callable]:
    """Marks a test with the exercise that it grades."""

    def mark(test: Callable) -> Callable:
        test.grades = name
        return test

    return mark
