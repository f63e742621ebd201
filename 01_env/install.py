"""Installs what the steps need; if it cannot, says in one line what is missing and what to do.

    python3 01_env/install.py                          # makes .venv, installs into it
    python3 01_env/install.py --editable '.[test]'     # options of pip: here what tests need, too

Inside a virtual environment it installs there. All that pip says stands in the environment's
install.log. Any Python 3 can run this file: an old one has to be told that it is old.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
LOG_FILE = "install.log"
AGAIN = "then run the same command again"
TOO_OLD = "Python 3.11 or later is needed and this is {version}: get one from python.org, " + AGAIN

# What pip writes when it fails, and what that means. The first that is found counts: a full disk
# or a lost network is followed by complaints about what they prevented.
REASONS = (
    (
        r"No space left on device|\[Errno 28\]|Disk quota exceeded|not enough space on the disk",
        "the disk is full ({free:.1f} GB free in {fullest}): the packages take 2 GB, on Linux with "
        "the CUDA build of torch several more. Make room, or set "
        "TMPDIR if only that is full, " + AGAIN,
    ),
    (
        r"MemoryError|Cannot allocate memory|\bKilled\b|can't start new thread",
        "memory ran out while installing: close other programs, " + AGAIN,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "a certificate on the way to the package index is not trusted, as behind some companies' "
        "proxies: set PIP_CERT to the company's certificate file, " + AGAIN,
    ),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError"
        r"|Temporary failure in name resolution|Network is unreachable|Connection refused"
        r"|Connection reset|ConnectionError|Max retries exceeded|Connection timed out",
        "no network: pip cannot reach the package index. Connect (behind a proxy: set "
        "HTTPS_PROXY), " + AGAIN,
    ),
    (
        r"Failed building wheel for|(?:unable to execute|command) '?\S*(?:gcc|clang"
        r"|cc|cl\.exe)'|Microsoft Visual C\+\+|No such file or directory: '(?:gcc|cc|clang)'"
        r"|Unknown compiler|Could not build wheels",
        "{name} does not come ready-made for {here}, and there is no compiler that can build it: "
        "use Python 3.11 to 3.13, or install a compiler (macOS: xcode-select --install; Debian "
        "and Ubuntu: apt install build-essential), " + AGAIN,
    ),
    (
        r"No matching distribution found for",
        "there is no {name} for {here}: use a 64-bit Python 3.11 to 3.13, " + AGAIN + " (for Macs "
        "with an Intel chip PyTorch makes no builds any more)",
    ),
    (
        r"Permission denied|\[Errno 13\]|Read-only file system",
        "{folder} cannot be written to: make it yours, or set VENV to another folder, " + AGAIN,
    ),
    (r"No module named pip\b", "{folder} has no pip: remove that folder, " + AGAIN),
)


class SetUpError(Exception):
    """Why nothing, or not all, was installed; one line."""


def main(arguments: list) -> None:
    """Makes the environment if there is none, and installs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only-venv", metavar="FOLDER", help="make this environment, no more")
    options, for_pip = parser.parse_known_args(arguments)
    if sys.version_info < OLDEST:
        raise SetUpError(TOO_OLD.format(version=platform.python_version()))
    if options.only_venv:
        make_venv(Path(options.only_venv))
        return
    inside = sys.prefix != sys.base_prefix
    folder = Path(sys.prefix if inside else os.environ.get("VENV", ROOT / ".venv"))
    python = python_in(folder)
    if not python.exists():
        make_venv(folder)
    print("installing (torch is the large one) ...", flush=True)
    pip_install(python, folder, for_pip or ["--editable", "."])
    print(f"installed: {python} runs the steps")


def python_in(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(folder: Path) -> None:
    """Makes a virtual environment; leaves none behind if it fails.

    Raises:
        SetUpError: the disk is full, or the place cannot be written to.
    """
    print(f"making {folder} with Python {platform.python_version()}", flush=True)
    existed = folder.exists()
    try:
        venv.create(folder, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "output", None) or str(error).encode()
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise SetUpError(explain(said.decode(errors="replace"), 1, folder)) from error


def pip_install(python: Path, folder: Path, options: list) -> None:
    """Runs pip from the repository's root, and keeps what it says.

    Raises:
        SetUpError: pip failed.
    """
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command = [*pip, "--constraint", "constraints.txt", *options]
    done = subprocess.run(
        command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    said = done.stdout.decode(errors="replace")
    try:
        (folder / LOG_FILE).write_text(said, encoding="utf-8")
    except OSError:
        said += "\n[Errno 28]" if shutil.disk_usage(existing(folder)).free < 1e6 else ""
    if done.returncode:
        raise SetUpError(explain(said, done.returncode, folder))


def explain(said: str, status: int, folder: Path) -> str:
    """What pip's words mean, and what to do, in one line."""
    if status in (-9, 137):  # ended by the system, which lacks memory
        said = "MemoryError"
    name = re.search(r"(?:Failed building wheel|No matching distribution found) for (\S+)", said)
    places = (existing(folder), Path(tempfile.gettempdir()))
    free, fullest = min((shutil.disk_usage(place).free, str(place)) for place in places)
    for pattern, meaning in REASONS:
        if re.search(pattern, said):
            return meaning.format(
                free=free / 1e9,
                fullest=fullest,
                folder=folder,
                name=name.group(1) if name else "a package",
                here=f"Python {platform.python_version()} on {platform.system()} "
                f"{platform.machine()}",
            )
    last = [line for line in said.splitlines() if line.strip()][-1:] or ["it said nothing"]
    return f"pip failed: {last[0].strip()[:200]} (all of it: {folder / LOG_FILE})"


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.resolve()
    return folder if folder.exists() else existing(folder.parent)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetUpError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
