"""Atomic writes: whole or not at all."""

import os
import shutil

import pytest

from shared import files
from shared.errors import UserError
from shared.files import HOST, MARK, atomic_file, atomic_folder, remove_folder, sweep


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "place") as partial:
            (partial / content).write_text(content)
            assert not (tmp_path / "place" / "new").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["new"]


def test_a_failure_leaves_the_old_folder_and_no_rest(tmp_path):
    with atomic_folder(tmp_path / "place") as partial:
        (partial / "kept").write_text("x")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "place") as partial:
        (partial / "half").write_text("x")
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["kept"]


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path):
    path = tmp_path / "notes.txt"
    with atomic_file(path) as partial:
        partial.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as partial:
        partial.write_text("new, but")
        _ = 1 / 0
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_crash_in_the_middle_of_removing_leaves_nothing_of_that_name(tmp_path, monkeypatch):
    """Killed while files are being removed: what is left must not look like the folder."""
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1" / "weights").write_text("x")
    monkeypatch.setattr(shutil, "rmtree", lambda *arguments, **options: None)
    remove_folder(tmp_path / "step-1")
    assert not (tmp_path / "step-1").exists()
    assert all(MARK in path.name for path in tmp_path.iterdir())


def test_only_what_a_dead_process_of_ours_left_of_this_very_target_is_swept(tmp_path):
    dead = 2**22 + 1  # above the largest process number of Linux and of macOS
    swept = {f".out.{HOST}-{dead}{MARK}", f".out.{HOST}-{dead}{MARK}.md"}
    kept = {
        ".holiday.2019.partial",
        ".thesis.31999.partial.tex",
        f".out.{dead}.partial",
        f".out.{HOST}-{dead}.partial",
        f".other.{HOST}-{dead}{MARK}",
        f".out.0badf00d-{dead}{MARK}",
        f".out.{HOST}-{os.getppid()}{MARK}",
        f".step-12x.{HOST}-{dead}{MARK}",
    }
    for name in swept | kept:
        (tmp_path / name).mkdir()
    with atomic_folder(tmp_path / "out"):
        pass
    with atomic_file(tmp_path / "out.json") as partial:
        partial.write_text("{}")
    assert {path.name for path in tmp_path.iterdir()} == kept | {"out", "out.json"}
    sweep(tmp_path, r"step-\d+")
    assert kept <= {path.name for path in tmp_path.iterdir()}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    for write in (files.atomic_file, files.atomic_folder):
        with pytest.raises(UserError, match="cannot write"), write(blocked / "inside"):
            raise AssertionError("the block must not run")
