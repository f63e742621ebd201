"""The table of exercises: what is asked where, what explains it, and which shipped code answers it.

Each step's part stands in its folder: `exercises.toml`. An exercise is named after the function
that is to be written in the step's `write_*.py`.
"""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from shared.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Exercise:
    """One function to be written."""

    name: str
    folder: Path
    explained: str
    """page and heading, as in a link: `notes.md#why-softmax`"""
    solution: str
    """module and attribute of the shipped code"""
    hints: tuple[str, str, str]
    refused: tuple[str, ...] = ()
    """functions of PyTorch that would be the whole answer"""

    @property
    def step(self) -> str:
        """Number of its step: "03"."""
        return self.folder.name[:2]

    @property
    def file(self) -> Path:
        """Where it is to be written."""
        return next(self.folder.glob("write_*.py"))

    @property
    def tests(self) -> str:
        """Module of its grading tests."""
        return f"test_{self.file.stem}"

    def shipped(self) -> Callable:
        """The shipped code that answers it, which may take its arguments in another form."""
        module, _, attribute = self.solution.partition(":")
        found = import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
        return found

    def lines_that_explain(self) -> tuple[Path, int, int]:
        """The page, and the first and the last line of what stands under the heading there.

        Raises:
            StopIteration: there is no such heading.
        """
        name, _, wanted = self.explained.partition("#")
        page = self.folder / name
        lines = page.read_text(encoding="utf-8").splitlines()
        headings = headings_in(lines)
        first = next(n for n in headings if anchor(lines[n - 1]) == wanted)
        return page, first, next((n - 1 for n in headings if n > first), len(lines))


def headings_in(lines: list[str]) -> list[int]:
    """Numbers, from 1, of a page's headings; a comment inside a code block is none."""
    found, in_code = [], False
    for number, line in enumerate(lines, 1):
        in_code ^= line.startswith("```")
        if line.startswith("#") and not in_code:
            found.append(number)
    return found


def anchor(heading: str) -> str:
    """The name that hosting sites give to a heading."""
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")


@cache
def all_exercises() -> tuple[Exercise, ...]:
    """Every exercise, in the order in which they are met."""
    tables = sorted(ROOT.glob("0*/exercises.toml"))
    return tuple(exercise for table in tables for exercise in exercises_in(table))


def exercises_in(table: Path) -> list[Exercise]:
    """The exercises of one step."""
    rows = tomllib.loads(table.read_text(encoding="utf-8"))
    return [
        Exercise(name, table.parent, **{k: tuple(v) if isinstance(v, list) else v for k, v in row})
        for name, row in ((name, row.items()) for name, row in rows.items())
    ]


def exercises_of(step: str) -> list[Exercise]:
    """The exercises of a step, "03" or "3"; all of them for an empty name.

    Raises:
        UserError: that step has none.
    """
    found = [e for e in all_exercises() if not step or e.step == step.zfill(2)]
    if not found:
        steps = ", ".join(sorted({e.step for e in all_exercises()}))
        raise UserError(f"step {step!r} has no exercises: expected one of {steps}")
    return found


def exercise_named(name: str) -> Exercise:
    """The exercise of that name; names are unique over all steps."""
    return next(e for e in all_exercises() if e.name == name)
