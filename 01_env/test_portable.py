"""What is written here can be checked out, imported and read on Windows and macOS, too."""

import ast
import os
import re
from functools import cache
from pathlib import Path

from test_layout import ROOT, all_python_files, tree_of

# Files that a checkout holds: what the steps make, and what tools keep, left out.
MADE = re.compile(
    r"(^|/)(\.git|\.venv|__pycache__|\.\w+_cache|\.hypothesis|site)/|_run/(data|runs)/"
)
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "123")}
LONGEST = 100  # Windows allows 260 characters, those of the folder above among them
POSIX_NAMES = {
    *("os.fork", "os.getuid", "os.killpg", "os.mkfifo", "os.setsid"),
    *("signal.SIGKILL", "signal.SIGALRM", "signal.SIGHUP", "signal.SIGUSR1", "signal.pause"),
}


@cache
def paths() -> list[str]:
    found: list[str] = []
    for folder, folders, files in os.walk(ROOT):
        inside = Path(folder).relative_to(ROOT)
        # What is made holds far more files than what is written: it is not even entered.
        folders[:] = [name for name in folders if not MADE.search(f"{(inside / name).as_posix()}/")]
        found += [(inside / name).as_posix() for name in files]
    return [path for path in found if not MADE.search(path)]


@cache
def nodes_of_no_tests() -> list[tuple[Path, ast.AST]]:
    """Calls and attributes in the Python files that are no tests."""
    files = [path for path in all_python_files() if not path.name.startswith("test_")]
    nodes = ((path, node) for path in files for node in ast.walk(tree_of(path)))
    return [(path, node) for path, node in nodes if isinstance(node, ast.Call | ast.Attribute)]


def test_no_two_files_differ_by_capitals_alone():
    lower = [path.lower() for path in paths()]
    assert len(lower) == len(set(lower)) > 300


def test_every_path_can_be_one_on_windows():
    for path in paths():
        assert len(path) <= LONGEST, path
        for part in path.split("/"):
            assert not set(part) & set('<>:"\\|?*') and not part.endswith((".", " ")), path
            assert part.partition(".")[0].lower() not in RESERVED, path


def test_lines_end_alike_on_every_system():
    """Git would turn them into two characters on Windows: texts would get other bytes."""
    rules = (ROOT / ".gitattributes").read_text(encoding="utf-8").splitlines()
    assert "* text=auto eol=lf" in rules
    for path in paths():
        if path.endswith((".py", ".txt", ".md", ".toml", ".yaml", ".js", ".html", ".css")):
            assert b"\r" not in (ROOT / path).read_bytes(), path


def test_no_file_imports_at_its_top_what_windows_lacks():
    """In a function, or where its absence is caught, it may stand."""
    lacking = re.compile(r"^(?:import|from) (?:fcntl|grp|pty|pwd|resource|termios|tty)\b", re.M)
    for path in all_python_files():
        assert not lacking.search(path.read_text(encoding="utf-8")), path


def test_scripts_use_no_name_that_windows_lacks_and_fork_nothing():
    for path, node in nodes_of_no_tests():
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            assert name not in POSIX_NAMES, path
            assert name not in ("multiprocessing.Process", "multiprocessing.Pool"), path
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get_context":
            assert [argument.value for argument in node.args] == ["spawn"], path


def test_text_files_are_read_and_written_in_utf_8_whatever_the_system_prefers():
    for path, node in nodes_of_no_tests():
        if isinstance(node, ast.Call) and reads_or_writes_text(node):
            given = [key.value for key in node.keywords if key.arg == "encoding"]
            given += [each for each in node.args if getattr(each, "value", "") == "utf-8"]
            assert given, f"{path}:{node.lineno} names no encoding"


def reads_or_writes_text(call: ast.Call) -> bool:
    """True for `.read_text()`, `.write_text()`, and `open()` without a `b` in its mode."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
        return True
    if not (isinstance(call.func, ast.Name) and call.func.id == "open"):
        return False
    return not any("b" in str(getattr(mode, "value", "")) for mode in call.args[1:])
