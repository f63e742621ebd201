"""Setting up: what can go wrong ends in one line that says what to do."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import install
import pytest

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = "/".join(("05_full_run", "published", "card.md"))  # not there in every checkout
POSIX_MAKE = pytest.mark.skipif(
    os.name == "nt" or shutil.which("make") is None, reason="needs make and a POSIX shell"
)
# What pip wrote, and what a person should read.
FAILURES = {
    "OSError: [Errno 28] No space left on device": "the disk is full (",
    "WARNING: Retrying after 'NewConnectionError('[Errno -2] Name or service not known')'\n"
    "ERROR: No matching distribution found for hatchling>=1.26": "no network",
    "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]": "set PIP_CERT",
    "  File 'heapq.py'\nMemoryError": "memory ran out",
    "error: [Errno 2] No such file or directory: 'gcc'\n"
    "  ERROR: Failed building wheel for regex\nCould not build wheels": "regex does not come ready",
    "error: Microsoft Visual C++ 14.0 or greater is required.": "install a compiler",
    "ERROR: No matching distribution found for torch==2.13.0": "there is no torch==2.13.0 for",
    "[Errno 13] Permission denied: '/opt/venv/lib'": "cannot be written to",
    "/opt/venv/bin/python: No module named pip": "has no pip: remove that folder",
    "ERROR: something new\n": "pip failed: ERROR: something new (all of it: ",
    "": "pip failed: it said nothing",
}


@pytest.mark.parametrize("said", FAILURES)
def test_a_failed_installation_is_explained_in_one_line(said, tmp_path):
    line = install.explain(said, 1, tmp_path)
    assert FAILURES[said] in line and "\n" not in line and "{" not in line


def test_a_pip_that_the_system_ended_lacked_memory(tmp_path):
    assert "memory ran out" in install.explain("", -9, tmp_path)


@pytest.fixture
def pip_that_ends(tmp_path, monkeypatch):
    """Puts another program in pip's place: it prints its arguments, and its status is given."""

    def put(status: int) -> None:
        code = f"import sys\nprint(*sys.argv[1:])\nsys.exit({status})\n"
        (tmp_path / "fake" / "pip").mkdir(parents=True)
        (tmp_path / "fake" / "pip" / "__main__.py").write_text(code)
        (tmp_path / "fake" / "pip" / "__init__.py").touch()
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))

    return put


def test_what_pip_said_is_kept(pip_that_ends, tmp_path):
    pip_that_ends(1)
    with pytest.raises(install.SetUpError, match=r"pip failed: install .*--editable"):
        install.pip_install(Path(sys.executable), tmp_path, ["--editable", "."])
    said = (tmp_path / install.LOG_FILE).read_text()
    assert "--constraint constraints.txt --editable ." in said


def test_an_old_python_is_told_so(monkeypatch):
    """It must be able to read the file first: Python 3.7 can."""
    ast.parse(Path(install.__file__).read_bytes(), feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", (3, 9, 6))
    for name in ("make_venv", "pip_install"):  # or a check that is gone would install for real
        monkeypatch.setattr(install, name, lambda *_: pytest.fail("installs"))
    with pytest.raises(install.SetUpError, match=r"Python 3\.11 or later is needed and this is"):
        install.main([])


def test_an_environment_that_could_not_be_made_leaves_no_half_of_it(tmp_path, monkeypatch):
    def fill_the_disk(folder, with_pip):
        (folder / "bin").mkdir(parents=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(install.venv, "create", fill_the_disk)
    with pytest.raises(install.SetUpError, match="the disk is full"):
        install.main(["--only-venv", str(tmp_path / "venv")])
    assert list(tmp_path.iterdir()) == []


@POSIX_MAKE
def test_make_says_that_python_is_old_and_makes_nothing(tmp_path):
    """All the names that make tries stand for a Python 3.9."""
    for name in ("python", "python3", *(f"python3.{n}" for n in range(11, 15))):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    told = make("setup", f"VENV={tmp_path / 'venv'}", env={**os.environ, "PATH": path})
    assert told.returncode == 2
    assert told.stderr.startswith("error: no Python 3.11 or later with venv was found: install one")
    assert not (tmp_path / "venv").exists()


@POSIX_MAKE
def test_make_help_begins_with_what_a_newcomer_needs():
    first, second, *_ = make("help").stdout.splitlines()
    assert first == "begin here:" and second.startswith("  make web ")


@POSIX_MAKE
@pytest.mark.skipif((ROOT / PUBLISHED).is_file(), reason="the published weights are here")
def test_without_published_weights_make_demo_says_what_to_do_and_installs_nothing(tmp_path):
    told = make("demo", f"VENV={tmp_path / 'venv'}")
    assert told.returncode == 2 and told.stdout == ""
    first, *_ = told.stderr.splitlines()
    assert first.startswith("error: no published weights in this checkout: make web trains")
    assert not (tmp_path / "venv").exists()


@POSIX_MAKE
def test_make_weights_goes_on_where_it_was_and_never_tunes_what_is_not_finished(tmp_path):
    """A stand-in for Python leaves nothing; files stand for what the stages would have left."""
    places = {name: tmp_path / name.lower() for name in ("BASE", "TUNED", "READY")}
    (venv := tmp_path / "venv" / "bin").mkdir(parents=True)
    (venv / "python").write_text("#!/bin/sh\n")
    (venv / "python").chmod(0o755)
    (venv.parent / ".installed").write_text("")
    asked = [f"VENV={venv.parent}", *(f"{name}={place}" for name, place in places.items())]
    scripts = ["published_texts", "full_run", "finetune", "held_out", "exam", "samples"]

    def planned() -> list[str]:
        lines = make("weights", "-n", *asked, "SITTING=9m").stdout
        return re.findall(r"^\S+python 0\d_\w+/(\w+)\.py", lines, flags=re.MULTILINE)

    assert planned() == [*scripts, "publish_weights"]
    told = make("weights", *asked)
    assert told.returncode == 2 and "not finished yet: the same command goes on" in told.stderr
    assert "full_run" in told.stdout and "finetune" not in told.stdout
    for place, left in (("BASE", 2), ("TUNED", 3)):
        places[place].mkdir()
        (places[place] / "card.md").write_text("")
        assert planned() == [*scripts[left:], "publish_weights"]
    (places["TUNED"] / "ledger.md").write_text("")
    assert planned() == ["held_out", "samples", "publish_weights"]


def make(*arguments: str, env: dict | None = None) -> subprocess.CompletedProcess:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
