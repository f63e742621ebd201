"""A learner's file: which functions are blank, what they ask for, and the way back to a blank.

Nothing here runs the file, except `load`.
"""

import ast
import hashlib
import sys
from pathlib import Path
from types import ModuleType

BLANK = "raise NotImplementedError"


class Unreadable(Exception):
    """The file cannot be read as Python; the message says in one line where."""


def parse(path: Path) -> ast.Module:
    """The file's syntax tree.

    Raises:
        Unreadable: it does not parse, or is not there.
    """
    try:
        return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise Unreadable(
            f"{path.name}, line {error.lineno} does not parse ({error.msg}): {line}"
        ) from error
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path.name} cannot be read: {error}") from error


def find(path: Path, name: str) -> ast.FunctionDef:
    """The function of that name at the top of the file; of two the last, as Python has it.

    Raises:
        Unreadable: there is none.
    """
    found = [n for n in parse(path).body if isinstance(n, ast.FunctionDef) and n.name == name]
    if not found:
        raise Unreadable(f"{path.name} has no function {name}: was it renamed?")
    return found[-1]


def written(function: ast.FunctionDef) -> list[ast.stmt]:
    """The statements below the docstring."""
    return function.body[ast.get_docstring(function) is not None :]


def is_blank(function: ast.FunctionDef) -> bool:
    """Whether it still is as it was handed out."""
    return [ast.unparse(statement) for statement in written(function)] == [BLANK]


def task(path: Path, name: str) -> str:
    """What is asked: the line number, the signature and the docstring."""
    function = find(path, name)
    head = f"{name}({ast.unparse(function.args)})"
    head += f" -> {ast.unparse(function.returns)}" if function.returns else ""
    place = f"{path.parent.name}/{path.name}, line {function.lineno}"
    return f"{place}\n\n{head}\n\n{ast.get_docstring(function) or ''}"


def fingerprint(path: Path, name: str) -> str:
    """Changes with what the function does, not with its comments or its layout."""
    return hashlib.sha256(ast.unparse(find(path, name)).encode()).hexdigest()[:16]


def blanked(path: Path, name: str) -> str:
    """The whole file's text with that function blank again."""
    statements = written(find(path, name))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    first, last = statements[0].lineno - 1, statements[-1].end_lineno
    return "".join([*lines[:first], f"    {BLANK}\n", *lines[last:]])


def load(path: Path) -> ModuleType:
    """Runs the file as it is now, under its own name.

    Raises:
        Unreadable: it does not parse.
    """
    parse(path)
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    sys.modules[path.stem] = module
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module
