"""The notes' table "From byte to reply" against the code: every file and every name is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTES = Path(__file__).with_name("notes.md")
HEADING = "## From byte to reply"


def steps() -> list[tuple[str, str]]:
    """(file, function) of every row of the table, in order."""
    section = NOTES.read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("|")]
    return [(row[0].strip(" `"), row[1].strip(" `")) for row in rows[2:]]


def python_names(tree: ast.AST, prefix: str = "") -> set[str]:
    """Dotted names of all functions, classes and methods, nested ones included."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        inner = f"{prefix}{node.name}." if isinstance(node, kinds) else prefix
        names |= {inner.removesuffix(".")} if isinstance(node, kinds) else set()
        names |= python_names(node, inner)
    return names


def is_defined(file: Path, name: str) -> bool:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return name in python_names(ast.parse(text))
    return re.search(rf"\bfunction\*? {re.escape(name)}\(", text) is not None


def test_the_table_goes_from_the_page_through_the_model_and_back():
    files = [file for file, _ in steps()]
    assert files[0] == files[-1] == "07_web/page/chat.js"
    assert {"shared/text/tokenizer.py", "shared/model/transformer.py"} <= set(files)


@pytest.mark.parametrize(("file", "function"), steps())
def test_every_function_on_the_way_from_byte_to_reply_is_where_the_notes_say(file, function):
    assert (ROOT / file).is_file(), f"the notes name {file}, which does not exist"
    assert is_defined(ROOT / file, function), f"the notes name {function}, not defined in {file}"
