"""The house's own rules: which module belongs to which step, and what it may import."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT / "shared"

# Module -> the milestone that promotes it. Rooms in the order in which they may be imported.
TABLE = {
    "errors": 1,
    "device": 1,
    "files": 2,
    "privacy": 2,
    "text.tokenizer": 2,
    "text.file_tree": 2,
    "text.corpora": 2,
    "text.hub": 2,
    "text.python_docs": 2,
    "text.primer": 2,
    "text.operands": 2,
    "text.exercise": 2,
    "text.drills_letters": 2,
    "text.drills_numbers": 2,
    "text.drills_order": 2,
    "text.drills_memory": 2,
    "text.drills_manners": 2,
    "text.drills": 2,
    "text.drill_conversations": 2,
    "text.sources": 2,
    "text.splits": 2,
    "text.token_file": 2,
    "text.batches": 2,
    "text.transcript": 2,
    "text.conversations": 2,
    "text.pretokens": 2,
    "text.bpe": 2,
    "text.own_tokenizer": 2,
    "text.bpe_training": 2,
    "text.bpe_files": 2,
    "text.tokenizer_file": 2,
    "text.pretrained": 2,
    "text.engine_tokenizer": 2,
    "text.chat_template": 2,
    "text.text_spans": 2,
    "text.byte_table": 2,
    "text.repeats": 2,
    "text.replies": 2,
    "model.config": 3,
    "model.fast_paths": 3,
    "model.norms": 3,
    "model.positions": 3,
    "model.causal_attention": 3,
    "model.sliding_window": 3,
    "model.row_blocks": 3,
    "model.moe": 3,
    "model.feedforward": 3,
    "model.heads": 3,
    "model.transformer": 3,
    "model.weights": 3,
    "model.packing": 3,
    "model.presets": 3,
    "model.counting": 3,
    "model.interop": 3,
    "model.interop_names": 3,
    "model.interop_settings": 3,
    "model.interop_folder": 3,
    "model.gguf_file": 3,
    "training.loss": 4,
    "training.optimizer": 4,
    "training.muon": 4,
    "training.schedule": 4,
    "training.clipping": 4,
    "training.budget": 4,
    "training.precision": 4,
    "training.strategy": 4,
    "training.loop": 4,
    "training.checkpoint": 4,
    "training.checkpoint_folder": 4,
    "training.sampler": 4,
    "training.run_config": 5,
    "training.run_options": 5,
    "training.run_log": 5,
    "training.snapshots": 5,
    "training.loss_history": 5,
    "training.run": 5,
    "training.run_parts": 5,
    "training.card": 5,
    "training.run_folder": 5,
    "training.run_building": 5,
    "training.live_progress": 5,
    "training.sitting": 5,
    "training.plan": 5,
    "training.compiled": 5,
    "training.stop_signal": 5,
    "training.trackers": 5,
    "training.counting_model": 4,
    "training.distributed": 5,
    "training.processes": 5,
    "training.yardsticks": 5,
    "training.validation": 5,
    "chat.sampling": 6,
    "chat.kv_cache": 6,
    "chat.speculation": 6,
    "chat.stacked": 6,
    "chat.generation": 6,
    "chat.session": 6,
    "chat.row_cache": 6,
    "chat.continuous_batch": 6,
    "chat.batch_generation": 6,
    "chat.lora": 6,
    "chat.adapter_file": 6,
    "chat.reply_rows": 6,
    "chat.attempts": 6,
    "chat.pairs": 6,
    "chat.preferences": 6,
    "chat.practice": 6,
    "chat.candidates": 6,
}
ROOMS = ["", "text", "model", "training", "chat"]
LOOKS_AHEAD = {
    "benchmark_contenders.py": 6,  # its table holds training and generation
    "course_state.py": 2,  # the course stands before all steps, and writes files
    "lesson.py": 2,
    "mine.py": 6,  # what it replaces is trained with, and chatted with
    "fitting.py": 2,
    "test_mine.py": 6,
}
STEPS = [
    "01_env",
    "02_tokenizer",
    "03_attention",
    "04_training",
    "05_full_run",
    "06_chat",
    "07_web",
]


def all_python_files() -> list[Path]:
    folders = [SHARED, *(ROOT / step for step in STEPS)]
    return [ROOT / "conftest.py", *(path for folder in folders for path in folder.rglob("*.py"))]


@cache
def tree_of(path: Path) -> ast.Module:
    """A Python file, parsed once for all tests."""
    return ast.parse(path.read_bytes())


def all_pages() -> list[Path]:
    return [page for where in ("", "0*/", "0*/*/") for page in ROOT.glob(f"{where}*.md")]


def shared_modules() -> dict[str, Path]:
    paths = (path for path in SHARED.rglob("*.py") if path.name != "__init__.py")
    return {".".join(path.relative_to(SHARED).with_suffix("").parts): path for path in paths}


def shared_imports(path: Path) -> set[str]:
    """Names of `shared` modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively, which hides what it imports"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shared."):
            module = node.module.removeprefix("shared.")
            of_a_room = module in ROOMS
            found |= {f"{module}.{a.name}" for a in node.names} if of_a_room else {module}
        elif isinstance(node, ast.ImportFrom) and node.module == "shared":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("shared.") for a in node.names if "shared." in a.name}
    return found


def room(module: str) -> int:
    return ROOMS.index(module.rpartition(".")[0])


def test_every_shared_module_stands_in_the_table_and_names_its_milestone():
    modules = shared_modules()
    assert set(modules) == set(TABLE)
    for name, path in modules.items():
        docstring = ast.get_docstring(tree_of(path))
        assert docstring.splitlines()[-1] == f"Promoted by {STEPS[TABLE[name] - 1]}.", name


def test_imports_point_one_way_between_milestones_and_rooms():
    for name, path in shared_modules().items():
        for other in shared_imports(path):
            assert TABLE[other] <= TABLE[name], f"{name} imports {other} of a later milestone"
            assert room(other) <= room(name), f"{name} imports {other} of a later room"


def test_shared_modules_import_in_no_circle():
    graph = {name: shared_imports(path) for name, path in shared_modules().items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"a circle: {' -> '.join((*trail, name))}"
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_steps_import_nothing_that_a_later_step_promotes():
    for number, step in enumerate(STEPS, start=1):
        for path in (ROOT / step).rglob("*.py"):
            latest = LOOKS_AHEAD.get(path.name, number)
            for other in shared_imports(path):
                assert TABLE[other] <= latest, f"{path} imports {other}"


def test_shared_spells_no_milestones_folder():
    for name, path in shared_modules().items():
        text = path.read_text().replace(f"Promoted by {STEPS[TABLE[name] - 1]}.", "")
        assert not re.findall("|".join(STEPS), text), name


def test_files_that_commands_links_and_sentences_name_are_there():
    named = re.compile(r"\b(?:0\d_\w+|shared)(?:/\w+)*/\w+\.(?:py|md)\b")
    for page in [*all_pages(), *all_python_files()]:
        for path in named.findall(page.read_text()):
            assert (ROOT / path).is_file(), f"{page} names {path}"


def test_links_between_pages_lead_to_files_and_headings():
    for page in all_pages():
        for path, heading in links(page):
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page} links to {path}"
            assert not heading or heading in anchors(target), f"{page} links to {path}#{heading}"


def test_notes_link_to_every_page_beside_them():
    for notes in ROOT.glob("0*/notes.md"):
        linked = {(notes.parent / path).resolve() for path, _ in links(notes)}
        beside = {page for page in all_pages() if notes.parent in page.parents} - {notes}
        assert beside <= linked, f"{notes} links to none of {beside - linked}"


def links(page: Path) -> list[tuple[str, str]]:
    """(path, heading) of each link to another page or file here; either may be empty."""
    return re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", without_code(page))


def anchors(page: Path) -> set[str]:
    """The names that hosting sites give to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_shared_knows_no_web():
    for name, path in shared_modules().items():
        assert "flask" not in path.read_text().lower(), name


def test_files_stay_short():
    for path in all_python_files():
        if not path.name.startswith("test_"):
            assert len(path.read_text().splitlines()) <= 250, path


def test_functions_stay_short():
    for path in all_python_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert own_lines(node) <= 40, f"{path}: {node.name}"


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, those of functions inside it left out."""
    inner = (n for n in ast.walk(function) if isinstance(n, ast.FunctionDef) and n is not function)
    return length_of(function) - sum(map(length_of, inner))


def length_of(node: ast.stmt) -> int:
    return node.end_lineno - node.lineno + 1


def test_file_names_are_unique_and_shadow_no_module():
    stems = [path.stem for path in all_python_files() if path.name != "__init__.py"]
    assert len(stems) == len(set(stems)), sorted(s for s in stems if stems.count(s) > 1)
    here = {path.stem for path in all_python_files()} - {"conftest", "__init__"}
    inside_package = {name.rpartition(".")[2] for name in shared_modules()}
    scripts = here - inside_package
    assert not scripts & set(sys.stdlib_module_names)
    assert not scripts & set(packages_distributions())


def test_every_step_has_its_rooms():
    for step in STEPS:
        assert (ROOT / step / "notes.md").is_file(), step
        assert list((ROOT / step).glob("test_*.py")), step


def test_every_public_function_of_shared_has_a_docstring():
    for name, path in shared_modules().items():
        for node in tree_of(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"


def test_a_script_run_from_a_folder_with_another_shared_still_gets_ours(tmp_path: Path):
    other = tmp_path / "shared"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemExit('the wrong shared package')")
    script = ROOT / "02_tokenizer" / "show_drills.py"  # one that imports no torch
    code = f"import runpy; runpy.run_path({str(script)!r}); import shared; print(shared.__file__)"
    probe = tmp_path / "elsewhere" / "probe.py"
    probe.parent.mkdir()
    probe.write_text(code)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(probe)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == SHARED / "__init__.py"
