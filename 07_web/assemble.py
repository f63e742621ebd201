"""Assembles the browser's hot loop: `matvec.wat`, a text, into `matvec.wasm`, bytes.

    python 07_web/assemble.py

Both are committed, so that the page needs no build step; a test assembles the text anew and
compares. Needs the test extras (wasmtime).
"""

from pathlib import Path

import wasmtime

from shared.errors import one_line_errors
from shared.files import atomic_file

TEXT = Path(__file__).with_name("page") / "engine" / "matvec.wat"
BYTES = TEXT.with_suffix(".wasm")


def assembled() -> bytes:
    """The bytes that the text stands for."""
    return bytes(wasmtime.wat2wasm(TEXT.read_text(encoding="utf-8")))


def main() -> None:
    """Writes the bytes beside the text."""
    with atomic_file(BYTES) as partial:
        partial.write_bytes(assembled())
    print(f"{BYTES.name}: {BYTES.stat().st_size:,} bytes")


if __name__ == "__main__":
    with one_line_errors():
        main()
