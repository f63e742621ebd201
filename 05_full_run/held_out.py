"""Bits a byte of a model on the documents that a config holds back: the same for every model.

python 05_full_run/held_out.py 05_full_run/published
python 05_full_run/held_out.py RUN --config quick --out FOLDER
"""

import shlex
import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path

import full_run

from shared.device import device_label, pick_device
from shared.errors import UserError, one_line_errors
from shared.files import atomic_file, make_folder, user_path
from shared.model.transformer import Transformer
from shared.privacy import without_folders
from shared.text.token_file import load_corpus
from shared.text.tokenizer_file import Tokenizer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.loss import evaluate
from shared.training.run_config import DataConfig
from shared.training.run_options import config_path
from shared.training.validation import corpus_losses, mean_bits, shown

WINDOWS = 16  # that go through the model together
PAGE_FILE = "held_out.md"


def main(arguments: list[str]) -> None:
    """Parses the command line, measures, prints, and writes a page if it is told where."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model", help="a run, a checkpoint or a published folder")
    parser.add_argument(
        "--config", default="published", help="whose sources, and what it holds back"
    )
    parser.add_argument("--out", metavar="FOLDER", help=f"write {PAGE_FILE} there, too")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu")
    options = parser.parse_args(arguments)
    data = full_run.config_of(config_path(options.config, full_run.CONFIGS), []).data
    device = pick_device(options.device)
    model, tokenizer = load_model(find_checkpoint(options.model), device)
    rows = measure(model, tokenizer, data, full_run.DATA)
    for row in rows:
        print("{:32} {:>9} documents {:>11} bytes {:>7} bits a byte".format(*row))
    if options.out:
        out = user_path(options.out)
        make_folder(out)
        command = shlex.join(["python", "05_full_run/held_out.py", *without_folders(arguments)])
        with atomic_file(out / PAGE_FILE) as partial_file:
            partial_file.write_text(page(rows, command, device_label(device)), encoding="utf-8")


def measure(
    model: Transformer, tokenizer: Tokenizer, data: DataConfig, folder: Path
) -> list[tuple[str, str, str, str]]:
    """A row for each source that holds documents back: its name, documents, bytes, bits a byte.

    Of a source whose replies alone are learned, they alone are measured.

    Raises:
        UserError: a source cannot be read, or none of them holds anything back.
    """
    device = next(model.parameters()).device
    ask = partial(evaluate, model, device=device)
    rows = []
    for source in data.all_sources():
        corpus = load_corpus(source, folder, tokenizer, data.valid_fraction)
        if len(corpus.validation) < 2:
            continue
        losses = corpus_losses(corpus, ask, WINDOWS, model.config.context_length)
        bits = mean_bits([corpus], {corpus.name: losses})[corpus.name]
        held = (corpus.manifest[what]["validation"] for what in ("documents", "bytes"))
        name = corpus.name if corpus.validation_replies is None else f"{corpus.name}, replies"
        rows.append((name, *(f"{count:,}" for count in held), shown(bits)))
    if not rows:
        raise UserError("this config holds nothing back: data.valid_fraction is 0")
    return rows


def page(rows: list[tuple[str, str, str, str]], command: str, device: str) -> str:
    """The rows as a table in Markdown, below the command that measured them."""
    head = ("documents held back of", "documents", "bytes", "bits a byte")
    lines = [head, ("---", "---:", "---:", "---:"), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"# On documents never trained on\n\n`{command}` ({device})\n\n{table}\n"


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
