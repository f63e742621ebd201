"""How fast is our BPE, beside the plain version and the Rust library `tokenizers`?

    python 02_tokenizer/bpe_benchmark.py FILE.txt
    python 02_tokenizer/bpe_benchmark.py                 # on the Python docs

Ratios are taken in one run on one text. Needs the test extras.
"""

import sys
import time
from collections.abc import Callable

import byte_pair_encoding as plain
import tokenizers
from rich.console import Console
from rich.table import Table

from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.text.bpe_training import train_bpe
from shared.text.python_docs import read_python_docs

SMALL, SMALL_VOCABULARY, VOCABULARY = 130_000, 500, 8192


def main(arguments: list[str]) -> None:
    """Times training and encoding, prints one table."""
    text = read(arguments)
    console = Console()
    table = Table(title=f"{len(text.encode()):,} bytes of text, one run")
    for column in ("what", "plain", "ours", "tokenizers (Rust)"):
        table.add_column(column, justify="left" if column == "what" else "right")
    small = text[:SMALL]
    table.add_row(
        f"train {SMALL_VOCABULARY} ids on {SMALL // 1000} kB",
        f"{seconds(lambda: plain.train(list(small.encode()), SMALL_VOCABULARY - 257)):.2f} s",
        f"{seconds(lambda: train_bpe([small], SMALL_VOCABULARY)):.2f} s",
        f"{seconds(lambda: train_library(small, SMALL_VOCABULARY)):.2f} s",
    )
    table.add_row(
        f"train {VOCABULARY} ids on all",
        "-",
        f"{seconds(lambda: train_bpe([text], VOCABULARY)):.1f} s",
        f"{seconds(lambda: train_library(text, VOCABULARY)):.1f} s",
    )
    ours = train_bpe([text], VOCABULARY)
    theirs = train_library(text, VOCABULARY)
    rates = [
        len(text.encode()) / 1e6 / seconds(lambda f=f: f(text))
        for f in (ours.encode, theirs.encode)
    ]
    table.add_row("encode all, MB/s", "-", *(f"{rate:.1f}" for rate in rates))
    console.print(table)


def read(arguments: list[str]) -> str:
    """The file named, or the Python docs."""
    if not arguments:
        return "\n\n".join(document.data.decode() for document in read_python_docs())
    path = user_path(arguments[0])
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    return path.read_text(encoding="utf-8", errors="replace")


def train_library(text: str, vocab_size: int) -> tokenizers.ByteLevelBPETokenizer:
    """The library's own training, on the lines of the text."""
    made = tokenizers.ByteLevelBPETokenizer()
    lines = text.splitlines(keepends=True)
    made.train_from_iterator(lines, vocab_size=vocab_size, show_progress=False)
    return made


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
