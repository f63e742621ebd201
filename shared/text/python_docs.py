"""The text every Python already carries: help topics and standard-library docstrings.

About 2 MB of English about programming, read from the running interpreter, so
that training works with no network and nothing has to be redistributed.
Promoted by 02_tokenizer.
"""

import ast
import os
import sysconfig
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from shared.text.corpora import Document

# Test suites and vendored or generated trees hold few sentences worth reading.
SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "_pyrepl"}


def read_python_docs() -> Iterator[Document]:
    """Each help topic, then each standard-library module's docstrings, in name order.

    The text depends on the Python version; the order does not depend on the system.
    """
    for name in sorted(topics):
        yield Document(f"topics/{name}", topics[name].strip().encode("utf-8", "replace"))
    library = Path(sysconfig.get_path("stdlib"))
    for relative in _modules(library):
        text = docstrings(library / relative)
        if text:
            name = ".".join(relative.with_suffix("").parts)
            yield Document(name, text.encode("utf-8", "replace"))


def _modules(library: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(library):
        folders[:] = [name for name in folders if name not in SKIPPED]
        here = Path(folder).relative_to(library)
        found += [here / file for file in files if file.endswith(".py")]
    return sorted(found, key=lambda path: path.parts)


def docstrings(path: Path) -> str:
    """A module's docstrings, each under the name of what it describes; "" if none."""
    try:
        with warnings.catch_warnings():  # old modules hold invalid escape sequences
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return ""
    parts = [ast.get_docstring(tree) or "", *_described(tree)]
    return "\n\n".join(part for part in parts if part.strip())


def _described(tree: ast.AST) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                signature = "" if isinstance(node, ast.ClassDef) else f"({ast.unparse(node.args)})"
                yield f"{node.name}{signature}\n{text}"


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements of a module, level by level, as `ast.walk` meets them.

    Expressions define nothing that has a docstring, and they are most of a tree: without
    them all of the library is read in 3.9 s of one core, with them in 6.1.
    """
    waiting = deque([tree])
    while waiting:
        node = waiting.popleft()
        yield node
        for inside in ("body", "handlers", "orelse", "finalbody", "cases"):
            waiting.extend(getattr(node, inside, ()))
